"""What people are shown is run: the snippets of docs/python.md, and the examples that need no cluster."""

from __future__ import annotations

import ast
import asyncio
import csv
import inspect
import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds.flags import flags_of
from async_img2ds.options import DeliveryOptions, FetchOptions
from test_run import write_list

if TYPE_CHECKING:
    from origin import Origin

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "python.md").read_text()
SNIPPETS = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)


@pytest.fixture(scope="module")
def folder(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the lists that the page speaks of, and what snippets before have made of them."""
    folder = tmp_path_factory.mktemp("python")
    urls = write_list(folder / "urls.txt", origin, 20)
    with (folder / "pairs.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("url", "caption", "place"), *((url, f"picture {url[-2:]}", 7) for url in urls)])
    return folder


@pytest.fixture
def _on_loopback(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let what is run here ask this machine, as if it were the web, and from the folder of the lists."""
    defaults = {**(FetchOptions.__init__.__kwdefaults__ or {}), "allow_net": ("127.0.0.0/8",)}
    monkeypatch.setattr(FetchOptions.__init__, "__kwdefaults__", defaults)
    monkeypatch.chdir(folder)


def run(*blocks: str) -> None:
    """Run *blocks* as cells of a notebook, in which one may wait."""
    names: dict[str, Any] = {"__name__": "__main__"}

    async def run_all() -> None:
        for block in blocks:
            code = compile(block, "<snippet>", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            if inspect.iscoroutine(waiting := eval(code, names)):  # noqa: S307  the project's own
                await waiting

    asyncio.run(run_all())


@pytest.mark.usefixtures("_on_loopback")
@pytest.mark.parametrize("number", range(len(SNIPPETS)))
def test_snippet_runs(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    """It ends without an error, and has something to print."""
    snippet = SNIPPETS[number]
    if "from torch" in snippet and find_spec("torch") is None:
        pytest.skip("PyTorch is not installed")
    run(snippet)

    assert capsys.readouterr().out.strip()


def test_page_has_every_option_of_delivery() -> None:
    """One that is new is told of."""
    for flag in flags_of(DeliveryOptions):
        assert f"| `{flag.name}` |" in PAGE


def example(name: str, folder: Path, *words: str) -> str:
    """Return what an example prints."""
    command = [sys.executable, "-W", "error", str(ROOT / "examples" / name), *words, "allow_net=127.0.0.0/8"]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, cwd=folder, timeout=120)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_simple_example_runs(folder: Path) -> None:
    """It says how many images there are, what failed, and what a shard has."""
    out = example("simple.py", folder, "urls.txt", "simple", "retries=0", "processes_count=1")

    assert "16 of 20 rows have an image" in out
    assert "1  http_status_4xx" in out
    assert "00000.tar: 32 files" in out


def test_streaming_example_runs(folder: Path) -> None:
    """To the end of the list, or for as many steps as it is told."""
    out = example("streaming.py", folder, "urls.txt", "retries=0")
    left = example("streaming.py", folder, "urls.txt", "retries=0", "steps=1")

    assert "step 2: 8 images" in out
    assert "'not_image': 1" in out
    assert "step 1" in left
    assert "step 2" not in left


def cells() -> list[dict[str, Any]]:
    """Return the cells of the notebook."""
    loaded = json.loads((ROOT / "examples" / "notebook.ipynb").read_text())["cells"]
    assert isinstance(loaded, list)
    return loaded


@pytest.mark.usefixtures("_on_loopback")
def test_cells_of_the_notebook_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """One after another, with a list that is given to it."""
    monkeypatch.setenv("URL_LIST", "urls.txt")
    monkeypatch.setenv("OPTIONS", "retries=0")
    run(*("".join(cell["source"]) for cell in cells() if cell["cell_type"] == "code"))

    assert "16 of 20 rows have an image" in capsys.readouterr().out


def test_notebook_is_kept_without_outputs() -> None:
    """What it shows is made when it is run."""
    assert not [cell["id"] for cell in cells() if cell.get("outputs") or cell.get("execution_count")]
