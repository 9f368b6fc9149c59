"""The examples that need an engine or Jupyter, run as a person would run them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from test_run import write_list

if TYPE_CHECKING:
    from origin import Origin

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def url_list(origin: Origin, tmp_path: Path) -> Path:
    """A list of twenty URLs, four of them broken."""
    write_list(tmp_path / "urls.txt", origin, 20)
    return tmp_path / "urls.txt"


@pytest.mark.parametrize(
    ("name", "said"), [("pyspark_cluster.py", " http_status_4xx|"), ("ray_cluster.py", "1 shards with 20 rows")]
)
def test_example_of_an_engine_runs(name: str, said: str, url_list: Path) -> None:
    """It starts the engine on this machine, fetches, and looks at the dataset."""
    options = ("retries=0", "progress=none", "allow_net=127.0.0.0/8")
    command = [sys.executable, str(EXAMPLES / name), str(url_list), str(url_list.parent / "images"), *options]
    ran = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300)

    assert ran.returncode == 0, ran.stderr
    assert "16 of 20 rows have an image" in ran.stdout
    assert said in ran.stdout


def test_notebook_runs(url_list: Path) -> None:
    """In a kernel of its own, by nbconvert; it shows a sheet of pictures and what failed, and complains of nothing."""
    made = url_list.with_name("made.ipynb")
    command = [sys.executable, "-m", "nbconvert", "--to", "notebook", "--execute", "--output", str(made)]
    environment = {**os.environ, "URL_LIST": str(url_list), "OPTIONS": "retries=0 allow_net=127.0.0.0/8"}
    subprocess.run([*command, str(EXAMPLES / "notebook.ipynb")], check=True, env=environment, timeout=300)
    outputs: list[dict[str, Any]] = [
        output for cell in json.loads(made.read_text())["cells"] for output in cell.get("outputs", ())
    ]
    said = "".join("".join(output.get("text", ())) for output in outputs)

    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert "image/png" in {kind for output in outputs for kind in output.get("data", ())}
    assert "not_image" in said
    assert "16 of 20 rows have an image" in said
