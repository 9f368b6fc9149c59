"""The snippets of docs/formats.md, run as they stand there."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds import manifest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from consumers.made import Maker

PAGE = Path(__file__).parents[2] / "docs" / "formats.md"
# The heading above a snippet → the dataset that it is about; one about the tables reads those of any format.
DATASETS: dict[str, dict[str, Any]] = {
    "files": {"output_format": "files"},
    "webdataset": {"output_format": "webdataset"},
    "webdataset with tar_index": {"output_format": "webdataset", "tar_index": True},
    "webdataset with Hugging Face": {"output_format": "webdataset"},
    "parquet": {"output_format": "parquet"},
    "parquet with hf_image": {"output_format": "parquet", "hf_image": True},
    "tfrecord": {"output_format": "tfrecord"},
    "The table: NNNNN.parquet": {"output_format": "webdataset"},
    "_manifest, _sha256sums, _wids": {"output_format": "webdataset"},
}


def snippets() -> Iterator[Any]:
    """Yield each snippet of the page with the heading above it."""
    heading = ""
    for part in re.split(r"^(#+ .*)$", PAGE.read_text(), flags=re.MULTILINE):
        if part.startswith("#"):
            heading = part.strip("# ")
        for number, code in enumerate(re.findall(r"```python\n(.*?)```", part, flags=re.DOTALL)):
            yield pytest.param(heading, code, id=f"{heading}-{number}")


@pytest.mark.parametrize(("heading", "code"), list(snippets()))
def test_snippet_runs(maker: Maker, tmp_path: Path, heading: str, code: str) -> None:
    """It ends without an error, and has something to print."""
    if "import tensorflow" in code and find_spec("tensorflow") is None:
        pytest.skip("TensorFlow has no wheel for this machine")
    folder = maker.dataset(**DATASETS[heading]).folder
    if "_wids" in heading:
        manifest(str(folder), progress="none")
    (tmp_path / "dataset").symlink_to(folder)
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "huggingface")}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, check=True, stdout=subprocess.PIPE)

    assert done.stdout.strip()


def test_every_format_has_a_snippet() -> None:
    """No heading lost its code, or the test above would pass for nothing."""
    assert {param.values[0] for param in snippets()} == DATASETS.keys()
