"""TFRecords: the features of each sample are img2dataset's, and TensorFlow reads them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Any, Final

import pytest

from compat.datasets import EXTENSIONS, OUR_COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from compat.tfrecords import Feature
    from compat.tools import Pair, Run, Tools

# What stands beside the metadata.
_BESIDE: Final = (*EXTENSIONS, "txt")


@pytest.fixture(scope="module")
def ours(tools: Tools, lists: Path) -> Run:
    """Our TFRecords, with columns of many types."""
    columns = '["names","numbers","shares","small","large","word"]'
    words = ("--input_format", "parquet", "--save_additional_columns", columns, "--output_format", "tfrecord")
    run = tools.ours("tfrecords", [str(lists / "nested.parquet"), *words, "--output_folder", "dataset"])
    assert run.status == 0, run.said
    return run


@pytest.mark.parametrize("setting", ["output-tfrecord"])
def test_features_are_the_same(setting: str, both: Callable[[str], Pair]) -> None:
    """Names, kinds and values, but for the image, which the tests of pixels compare.

    A missing number is an empty text with img2dataset and no feature here: one whose kind changes cannot be parsed.
    """
    pair = both(setting)
    theirs, ours = (
        {key: _without(features, *EXTENSIONS, *OUR_COLUMNS, "exif") for key, features in run.dataset.features.items()}
        for run in (pair.theirs, pair.ours)
    )
    for key, features in theirs.items():
        for name, value in pair.theirs.dataset.rows[key].items():
            if value is None and name == "score":
                assert features.pop(name) == ("bytes", [b""])
    common = theirs.keys() & ours.keys()

    assert len(common) > 50
    assert {key: ours[key] for key in common} == {key: theirs[key] for key in common}


def test_features_follow_the_types_of_the_metadata(ours: Run) -> None:
    """Whole numbers and truths are int64, numbers float, lists lists of these, all else bytes.

    This is img2dataset's rule, written down: its TFRecords need TensorFlow, which is not everywhere to be had.
    A missing text is an empty one.
    """
    features = ours.dataset.features
    texts = {name for name, kind in ours.dataset.columns if kind == "string"}

    assert features
    for key, found in features.items():
        row = ours.dataset.rows[key]
        told = {name: value for name, value in row.items() if value is not None or name in texts}
        assert _without(found, *_BESIDE) == {name: _feature(value) for name, value in told.items()}


def test_a_list_that_is_empty_costs_no_sample(ours: Run) -> None:
    """img2dataset looks at the first of no items, and loses the sample."""
    key = next(key for key, row in ours.dataset.rows.items() if row["names"] == [] and row["status"] == "success")

    assert key in ours.dataset.features


def test_tensorflow_reads_ours(ours: Run, tools: Tools, writes_tfrecords: bool) -> None:  # noqa: FBT001  a fixture
    """Checksums, framing and protobuf are those that its own reader expects."""
    if not writes_tfrecords:
        pytest.skip("img2dataset's environment has no tensorflow")
    script = (
        "import sys, tensorflow as tf\n"
        "for record in tf.data.TFRecordDataset(sys.argv[1]):\n"
        "    print(tf.train.Example.FromString(record.numpy()).features.feature['key'].bytes_list.value[0].decode())\n"
    )
    [path] = ours.dataset.folder.glob("*.tfrecord")
    command = [str(tools.img2dataset.parent / "python"), "-c", script, str(path)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout

    assert sorted(said.split()) == sorted(ours.dataset.features)


def _without(features: dict[str, Feature], *names: str) -> dict[str, Feature]:
    return {name: feature for name, feature in features.items() if name not in names}


def _feature(value: Any) -> Feature:
    """Return the feature that img2dataset makes of a value."""
    values = value if isinstance(value, list) else [value]
    if values and isinstance(values[0], int):
        return "int64", [int(each) for each in values]
    if values and isinstance(values[0], float):
        return "float", [float(each) for each in values]
    return "bytes", [b"" if each is None else str(each).encode() for each in values]
