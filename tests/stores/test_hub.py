"""Lists on Hugging Face's hub, as its own library reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from stores import hub
from stores.program import Program
from stores.servers import Place
from test_run import metadata

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from origin import Origin


@pytest.fixture
def program(web: Origin, tmp_path: Path) -> Iterator[Program]:
    """The program, led to a hub with two lists in a folder."""
    (tmp_path / "hub" / "data").mkdir(parents=True)
    for part in range(2):
        urls = [web.url(f"rocket.jpg?{part}{n}") for n in range(5)]
        table = pa.table({"url": urls, "caption": [f"rocket {part}{n}" for n in range(5)]})
        pq.write_table(table, tmp_path / "hub" / "data" / f"train-{part}.parquet")
    with hub.serving(tmp_path / "hub") as address:
        variables = {"HF_ENDPOINT": address, "HF_HUB_DISABLE_TELEMETRY": "1", "HF_HOME": str(tmp_path / "home")}
        yield Program(Place("hf", f"hf://datasets/{hub.REPOSITORY}", 0, None, variables, 0), tmp_path)


@pytest.mark.parametrize(
    ("named", "rows"), [("data/train-1.parquet", 5), ("data/*.parquet", 10), ("data", 10), ("data/", 10)]
)
def test_list_is_read_from_the_hub(program: Program, tmp_path: Path, named: str, rows: int) -> None:
    """A file, a pattern, or a folder, with the columns that it has."""
    out = tmp_path / "out"
    options: dict[str, Any] = {"input_format": "parquet", "caption_col": "caption", "output_format": "webdataset"}
    program.fetch(f"{program.place.root}/{named}", str(out), **options)

    assert [(row["status"], row["caption"][:6]) for row in metadata(out)] == rows * [("success", "rocket")]


def test_list_that_is_not_on_the_hub_is_refused(program: Program, tmp_path: Path) -> None:
    """In words, before anything is begun."""
    said = program.fetch(f"{program.place.root}/data/none.parquet", str(tmp_path / "out"), status=2)

    assert "none.parquet does not exist" in said
    assert not (tmp_path / "out").exists()
