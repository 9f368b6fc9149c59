"""What the comparison with img2dataset needs: img2dataset, an origin with odd pictures, and lists."""

from __future__ import annotations

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

import photographs as pictures
from compat import lists as list_files
from compat import odd_pictures
from compat.commands import COMMANDS
from compat.settings import SETTINGS
from compat.tools import Tools

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from compat.tools import Pair
    from origin import Origin

_VARIABLE: Final = "IMG2DATASET"
_LINES: Final = pytest.StashKey[list[str]]()


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the origin serves: photographs, and what is odd."""
    folder = tmp_path_factory.mktemp("pictures")
    pictures.write_all(folder)
    odd_pictures.write_all(folder)
    return folder


@pytest.fixture(scope="session")
def original(photographs: Path) -> Callable[[str], bytes | None]:
    """Return the bytes behind a URL of the origin, None if there are none."""
    contents = {path.name: path.read_bytes() for path in photographs.iterdir()}
    return lambda url: contents.get(url.rpartition("/")[2])


@pytest.fixture(scope="session")
def lists(tmp_path_factory: pytest.TempPathFactory, photographs: Path, origin: Origin) -> Path:
    """A folder with the lists of ``lists.py``."""
    folder = tmp_path_factory.mktemp("lists")
    list_files.write_all(folder, photographs, origin)
    return folder


@pytest.fixture(scope="session")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Tools:
    """Both programs; img2dataset is the one that the environment names."""
    if not (name := os.environ.get(_VARIABLE)):
        pytest.skip(f"{_VARIABLE} names no img2dataset to compare with; nox -s compat installs one")
    program = Path(name).absolute()
    assert program.exists(), f"{_VARIABLE} is {name}, which is not there"
    return Tools(program, tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def writes_tfrecords(tools: Tools) -> bool:
    """Whether img2dataset's environment has what its TFRecords need."""
    command = [str(tools.img2dataset.parent / "python"), "-c", "import tensorflow, tensorflow_io"]
    return subprocess.run(command, check=False, capture_output=True).returncode == 0


@pytest.fixture(scope="session")
def both(
    tools: Tools,
    lists: Path,
    writes_tfrecords: bool,  # noqa: FBT001  a fixture's value
    request: pytest.FixtureRequest,
) -> Iterator[Callable[[str], Pair]]:
    """Return what both programs made of a setting, of ``settings.py`` or ``commands.py``.

    All settings that the session will ask for are run ahead, two at a time: img2dataset spends most of its time on
    imports, one after the other.
    """

    def run(name: str) -> Pair:
        setting = (SETTINGS | COMMANDS)[name]
        return tools.run(name, setting.command(lists), output=setting.output)

    asked = [getattr(item, "callspec", None) for item in request.session.items]
    names = dict.fromkeys(spec.params["setting"] for spec in asked if spec and "setting" in spec.params)
    with ThreadPoolExecutor(2) as ahead:
        runs = {name: ahead.submit(run, name) for name in names if writes_tfrecords or name != "output-tfrecord"}

        def outcome(name: str) -> Pair:
            if name == "output-tfrecord" and not writes_tfrecords:
                pytest.skip("img2dataset's environment has no tensorflow and tensorflow_io, so it writes no TFRecords")
            if name not in runs:
                runs[name] = ahead.submit(run, name)
            return runs[name].result()

        yield outcome
        ahead.shutdown(cancel_futures=True)


@pytest.fixture(scope="session")
def told(pytestconfig: pytest.Config) -> Callable[[str], None]:
    """Add a line to what the session says at its end."""
    return pytestconfig.stash.setdefault(_LINES, []).append


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what was measured."""
    if lines := config.stash.get(_LINES, []):
        terminalreporter.section("measured")
        for line in lines:
            terminalreporter.line(line)
