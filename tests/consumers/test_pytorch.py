"""PyTorch's loaders over webdataset and TFRecord, with worker processes as in training."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import webdataset as wds
from PIL import Image
from tfrecord.torch.dataset import TFRecordDataset

from consumers.made import SIZE, first_shard_fails

if TYPE_CHECKING:
    from consumers.made import Made, Maker


def pattern_of(made: Made) -> str:
    """Return the shards in the notation of braces that training scripts use."""
    names = [Path(path).stem for path in made.paths("*.tar")]
    return f"{made.folder}/{{{names[0]}..{names[-1]}}}.tar"


def test_webdataset_decodes_every_sample(maker: Maker) -> None:
    """Shards by a pattern of braces, images as Pillow's, JSON as mappings, captions as text."""
    made = maker.dataset("webdataset")
    samples = list(wds.WebDataset(pattern_of(made), shardshuffle=False).decode("pil"))

    assert [sample["__key__"] for sample in samples] == sorted(
        (sample["__key__"] for sample in samples), key=lambda key: key[:5]
    )
    found = {sample["__key__"]: sample for sample in samples}
    assert found.keys() == made.successes.keys()
    for key, row in made.successes.items():
        assert found[key]["jpg"].size == (SIZE, SIZE)
        assert found[key]["txt"] == (row["caption"] or "")
        assert {name: found[key]["json"][name] for name in row} == row


def test_web_loader_yields_batches_of_tensors(maker: Maker) -> None:
    """Two worker processes share the shards; each sample comes once, in batches of tensors."""
    made = maker.dataset("webdataset")
    dataset = (
        wds.WebDataset(pattern_of(made), shardshuffle=100, nodesplitter=wds.split_by_node, seed=1)
        .shuffle(20)
        .decode("torchrgb")
        .to_tuple("jpg", "txt", "__key__")
        .batched(8)
    )
    batches = list(wds.WebLoader(dataset, batch_size=None, num_workers=2))

    assert sorted(key for *_, keys in batches for key in keys) == sorted(made.successes)
    assert {tuple(images.shape[1:]) for images, *_ in batches} == {(3, SIZE, SIZE)}
    assert all(images.dtype == torch.float32 and 0 <= images.min() <= images.max() <= 1 for images, *_ in batches)


def test_shard_without_images_is_passed_over(maker: Maker) -> None:
    """A tar of no members is an empty shard to webdataset, also where it is the first."""
    made = maker.dataset("webdataset", first_shard_fails)
    loader = torch.utils.data.DataLoader(wds.WebDataset(pattern_of(made), shardshuffle=False), batch_size=None)

    assert {sample["__key__"] for sample in loader} == made.successes.keys()


class Folder:
    """The images of the format files, as a beginner would read them."""

    def __init__(self, folder: Path) -> None:
        self.paths = sorted(folder.glob("*/*.jpg"))

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> tuple[str, Image.Image, dict[str, Any]]:
        path = self.paths[index]
        return path.stem, Image.open(path).convert("RGB"), json.loads(path.with_suffix(".json").read_bytes())


def test_files_are_a_dataset_of_twenty_lines(maker: Maker) -> None:
    """Image and JSON lie side by side under the sample's key."""
    made = maker.dataset("files")
    loader = torch.utils.data.DataLoader(Folder(made.folder), batch_size=8, num_workers=2, collate_fn=list)
    found = {key: (image.size, record["url"]) for batch in loader for key, image, record in batch}

    assert found == {key: ((SIZE, SIZE), row["url"]) for key, row in made.successes.items()}


def test_tfrecords_are_read_by_a_loader(maker: Maker) -> None:
    """A public reader for PyTorch checks the kinds and hands out images that decode."""
    made = maker.dataset("tfrecord")
    kinds = {"key": "byte", "jpg": "byte", "txt": "byte", "width": "int"}
    found = {}
    for path in made.paths("*.tfrecord"):
        for sample in torch.utils.data.DataLoader(TFRecordDataset(path, None, kinds), batch_size=None):
            found[bytes(sample["key"]).decode()] = sample

    assert found.keys() == made.successes.keys()
    for key, row in made.successes.items():
        assert Image.open(io.BytesIO(bytes(found[key]["jpg"]))).size == (SIZE, SIZE)
        assert bytes(found[key]["txt"]).decode() == (row["caption"] or "")
        assert int(found[key]["width"]) == SIZE
