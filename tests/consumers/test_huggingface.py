"""Hugging Face ``datasets`` reads the tars and the tables, and decodes their images."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import datasets
import pyarrow.parquet as pq
import pytest
from PIL import Image as PillowImage

from async_img2ds import manifest
from async_img2ds.lists.partition import BESIDE
from consumers.made import SIZE, first_shard_fails, values_come_late
from fake_hub import fake_hub
from samples import LISTED, write

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from consumers.made import Made, Maker


def load(builder: str, made: Made, pattern: str, cache: Path, **options: Any) -> Any:
    return datasets.load_dataset(
        builder, data_files=made.paths(pattern), split="train", cache_dir=str(cache), **options
    )


def features_of_tars(made: Made) -> Any:
    """Return the features of the tars, from the table beside the first."""
    columns = datasets.Features.from_arrow_schema(pq.read_schema(made.paths("*.parquet")[0]))
    text = datasets.Value("string")
    return datasets.Features(
        {"jpg": datasets.Image(), "json": dict(columns), "txt": text, "__key__": text, "__url__": text}
    )


def check_samples(samples: Any, made: Made) -> None:
    """Check that *samples* of tars are all there, with their images, captions and values."""
    found = {sample["__key__"]: sample for sample in samples}
    assert found.keys() == made.successes.keys()
    for key, row in made.successes.items():
        sample = found[key]
        assert isinstance(sample["jpg"], PillowImage.Image)
        assert sample["jpg"].size == (SIZE, SIZE)
        assert sample["txt"] == (row["caption"] or "")
        assert {name: sample["json"][name] for name in row} == row


@pytest.mark.parametrize("streaming", [False, True], ids=["built", "streamed"])
def test_webdataset_builder_finds_every_sample(maker: Maker, tmp_path: Path, *, streaming: bool) -> None:
    """Images, captions and JSON of all shards come out as they are, nulls included."""
    made = maker.dataset("webdataset")
    loaded = load("webdataset", made, "*.tar", tmp_path, streaming=streaming)

    check_samples(loaded, made)
    assert isinstance(loaded.features["jpg"], datasets.Image)


@pytest.mark.parametrize("rows", [first_shard_fails, values_come_late])
@pytest.mark.parametrize("streaming", [False, True], ids=["built", "streamed"])
def test_webdataset_builder_takes_features_where_it_cannot_guess_them(
    maker: Maker, tmp_path: Path, rows: Callable[[int], dict[str, Any]], *, streaming: bool
) -> None:
    """Told the features of the table, it needs no sample in the first shard, and no value in its first samples.

    It guesses them from the first five samples of the first tar.
    """
    made = maker.dataset("webdataset", rows)
    loaded = load("webdataset", made, "*.tar", tmp_path, streaming=streaming, features=features_of_tars(made))

    check_samples(loaded, made)


def test_image_column_is_decoded(maker: Maker, tmp_path: Path) -> None:
    """With hf_image the column of images is one of images without a word, null where a row failed."""
    made = maker.dataset("parquet", hf_image=True)
    loaded = load("parquet", made, "*.parquet", tmp_path)
    found = {row["key"]: row for row in loaded}

    assert isinstance(loaded.features["jpg"], datasets.Image)
    assert found.keys() == made.rows.keys()
    for key, row in made.rows.items():
        image = found[key]["jpg"]
        assert {name: found[key][name] for name in row} == row
        assert (image is None) == (row["error_class"] is not None)
        assert image is None or image.size == (SIZE, SIZE)
    assert [column["path"] for column in loaded.cast_column("jpg", datasets.Image(decode=False))["jpg"] if column] == [
        f"{row['key']}.jpg" for row in loaded if row["jpg"]
    ]


def test_every_type_of_column_is_declared(tmp_path: Path) -> None:
    """What the schema declares is what ``datasets`` itself makes of each Arrow type; for maps it has nothing."""
    path = write("parquet", tmp_path, listed=LISTED.drop_columns("names"), hf_image=True) / "00012.parquet"
    schema = pq.read_schema(path)
    theirs = datasets.Features.from_arrow_schema(schema.remove_metadata())
    declared = datasets.Features.from_dict(json.loads(schema.metadata[b"huggingface"])["info"]["features"])

    assert declared == {**theirs, "jpg": datasets.Image()}
    assert list(declared) == schema.names


def test_plain_table_becomes_images_when_cast(maker: Maker, tmp_path: Path) -> None:
    """Without hf_image the column is bytes, and one line makes them images."""
    made = maker.dataset("parquet")
    loaded = load("parquet", made, "*.parquet", tmp_path)
    images = loaded.filter(lambda status: status == "success", input_columns="status").cast_column(
        "jpg", datasets.Image()
    )

    assert {row["key"] for row in loaded} == made.rows.keys()
    assert {row["key"]: row["jpg"].size for row in images} == dict.fromkeys(made.successes, (SIZE, SIZE))


def test_table_beside_the_images_is_a_dataset(maker: Maker, tmp_path: Path) -> None:
    """The metadata of every row, failed ones included, can be loaded alone, also where a shard has no image."""
    made = maker.dataset("webdataset", first_shard_fails)
    found = {row["key"]: row for row in load("parquet", made, "*.parquet", tmp_path)}

    assert {key: {name: found[key][name] for name in row} for key, row in made.rows.items()} == made.rows


@pytest.mark.parametrize("output_format", ["parquet", "webdataset"])
def test_what_lies_beside_the_shards_is_not_read(maker: Maker, tmp_path: Path, output_format: str) -> None:
    """Of a folder without a word on its files it reads the tables, whatever is written down beside them."""
    made = maker.dataset(output_format, partition_by="host")
    folder = tmp_path / "copy"
    shutil.copytree(made.folder, folder)
    manifest(str(folder), progress="none")
    loaded = datasets.load_dataset(str(folder), split="train", cache_dir=str(tmp_path / "cache"))

    assert (folder / BESIDE).is_dir()
    assert sorted(row["url"] for row in loaded) == sorted(row["url"] for row in made.rows.values())


def pushed(made: Made, folder: Path) -> Path:
    """Return a folder in *folder* with what the Hub has when *made* was put there, its card included."""
    words = [sys.executable, "-m", "async_img2ds", "push", str(made.folder), "hf://datasets/org/name"]
    with fake_hub() as hub:
        environment = {**os.environ, **hub.environment(folder / "home"), "HF_HUB_OFFLINE": "0"}
        subprocess.run([*words, "--progress", "none"], env=environment, check=True, capture_output=True)
        for path, content in hub.repos["org/name"].files.items():
            (folder / "hub" / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / "hub" / path).write_bytes(content)
    return folder / "hub"


def load_pushed(made: Made, folder: Path, **options: Any) -> Any:
    """Load what the Hub has as its card says, without a word on what that is."""
    return datasets.load_dataset(str(pushed(made, folder)), split="train", cache_dir=str(folder / "cache"), **options)


@pytest.mark.parametrize("rows", [None, first_shard_fails, values_come_late])
@pytest.mark.parametrize("streaming", [False, True], ids=["built", "streamed"])
def test_card_says_how_pushed_tars_are_read(
    maker: Maker, tmp_path: Path, rows: Callable[[int], dict[str, Any]] | None, *, streaming: bool
) -> None:
    """Which files have the samples, and their types, which could not be guessed from every first shard."""
    made = maker.dataset("webdataset", rows)
    loaded = load_pushed(made, tmp_path, streaming=streaming)

    check_samples(loaded, made)
    assert isinstance(loaded.features["jpg"], datasets.Image)


@pytest.mark.parametrize("options", [{}, {"hf_image": True}], ids=["bytes", "images"])
@pytest.mark.parametrize("streaming", [False, True], ids=["built", "streamed"])
def test_card_says_how_pushed_tables_are_read(
    maker: Maker, tmp_path: Path, options: dict[str, Any], *, streaming: bool
) -> None:
    """Their images are decoded, also where the tables have them as bytes, and null where a row failed."""
    made = maker.dataset("parquet", **options)
    loaded = load_pushed(made, tmp_path, streaming=streaming)
    found = {row["key"]: row for row in loaded}

    assert found.keys() == made.rows.keys()
    for key, row in made.rows.items():
        image = found[key]["jpg"]
        assert {name: found[key][name] for name in row} == row
        assert (image is None) == (row["error_class"] is not None)
        assert image is None or image.size == (SIZE, SIZE)


def test_card_names_the_tables_beside_records(maker: Maker, tmp_path: Path) -> None:
    """The records themselves it cannot read."""
    made = maker.dataset("tfrecord")
    found = {row["key"]: row for row in load_pushed(made, tmp_path)}

    assert {key: {name: found[key][name] for name in row} for key, row in made.rows.items()} == made.rows


def test_torch_tensors_come_out_of_the_image_column(maker: Maker, tmp_path: Path) -> None:
    """What was loaded feeds a PyTorch loader."""
    torch = pytest.importorskip("torch")
    made = maker.dataset("parquet", hf_image=True)
    loaded = load("parquet", made, "*.parquet", tmp_path)
    images = loaded.filter(lambda status: status == "success", input_columns="status")
    batches = list(
        torch.utils.data.DataLoader(
            images.select_columns(["jpg", "width"]).with_format("torch"), batch_size=None, num_workers=2
        )
    )

    assert len(batches) == len(made.successes)
    assert {batch["jpg"].shape[-1] for batch in batches} <= {SIZE, 3}
    assert {int(batch["width"]) for batch in batches} == {SIZE}
