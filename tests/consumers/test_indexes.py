"""Samples at random: wids by the index of shards, webshart by the index of each tar."""

from __future__ import annotations

import io
import json
import shutil
from typing import TYPE_CHECKING, Any

import pytest
import webshart
import wids
from PIL import Image

from async_img2ds import manifest
from async_img2ds.storage import WIDS
from consumers.made import SIZE, first_shard_fails

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from consumers.made import Made, Maker


def plain(sample: dict[str, Any]) -> dict[str, Any]:
    """Return a sample as it lies in the tar: wids decodes by a name that it calls deprecated, unless it is told how."""
    return sample


@pytest.mark.parametrize("rows", [None, first_shard_fails])
@pytest.mark.parametrize("where", ["in place", "cached"])
def test_wids_reads_every_sample_by_its_place(
    maker: Maker, tmp_path: Path, rows: Callable[[int], dict[str, Any]] | None, where: str
) -> None:
    """As many as the index says, those of the rows in order; a shard without samples is passed over."""
    made = maker.dataset("webdataset", rows, ordered=True)
    manifest(str(made.folder), progress="none")
    cache = made.folder if where == "in place" else tmp_path
    dataset = wids.ShardListDataset(str(made.folder / WIDS), cache_dir=str(cache), keep=True, transformations=plain)
    samples = [dataset[at] for at in range(len(dataset))]
    dataset.close()

    assert [sample["__key__"] for sample in samples] == sorted(made.successes)
    for sample in samples:
        row = made.successes[sample["__key__"]]
        assert Image.open(sample[".jpg"]).size == (SIZE, SIZE)
        assert json.load(sample[".json"])["url"] == row["url"]
        assert sample[".txt"].read().decode() == (row["caption"] or "")
        assert sample["__shard__"].endswith(f"/{sample['__key__'][:5]}.tar")


@pytest.fixture(params=["by the run", "later"])
def indexed(maker: Maker, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Made, Path]:
    """A dataset with an index of each tar, made as it was fetched or of its tars."""
    if request.param == "by the run":
        made = maker.dataset("webdataset", tar_index=True)
        return made, made.folder
    made = maker.dataset("webdataset")
    shutil.copytree(made.folder, tmp_path / "copy")
    manifest(str(tmp_path / "copy"), tar_index=True, progress="none")
    return made, tmp_path / "copy"


def test_webshart_reads_single_samples(indexed: tuple[Made, Path]) -> None:
    """Image and JSON of each, by its place in a shard, and nothing else of the tar."""
    made, folder = indexed
    dataset = webshart.discover_dataset(str(folder))
    loader = webshart.TarDataLoader(dataset)
    found = {}
    for shard in range(dataset.num_shards):
        reader = dataset.open_shard(shard)
        for place, name in enumerate(dataset.list_samples_in_shard(shard)):
            key, _, ending = name.partition(".")
            if ending == "jpg":
                found[key] = (
                    loader.load_sample(shard, place),
                    json.loads(reader.read_sample_json(place)),
                )

    assert found.keys() == made.successes.keys()
    for key, (entry, record) in found.items():
        assert Image.open(io.BytesIO(entry.data)).size == (SIZE, SIZE)
        assert record["url"] == made.successes[key]["url"]


def test_webshart_gathers_images_of_one_shape(indexed: tuple[Made, Path]) -> None:
    """By the sizes in the index, so that no image is read for it."""
    made, folder = indexed
    loader = webshart.TarDataLoader(webshart.discover_dataset(str(folder)))
    shards = loader.list_shard_sample_aspect_buckets(list(range(len(made.paths("*.tar")))), key="geometry-tuple")
    found = [each for shard in shards for bucket in shard["buckets"].values() for each in bucket]

    assert sorted(each["filename"] for each in found) == sorted(f"{key}.jpg" for key in made.successes)
    assert {(each["width"], each["height"]) for each in found} == {(SIZE, SIZE)}


def test_webshart_iterates_over_all_files(maker: Maker) -> None:
    """In the order of the shards, with one of which the tar is empty among them."""
    made = maker.dataset("webdataset", first_shard_fails, tar_index=True)
    entries = list(webshart.TarDataLoader(webshart.discover_dataset(str(made.folder))))

    assert {entry.path for entry in entries} == {
        f"{key}.{ending}" for key in made.successes for ending in ("jpg", "json", "txt")
    }
