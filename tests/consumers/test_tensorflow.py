"""TensorFlow reads the TFRecord files that were written without it."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from consumers.made import SIZE

if TYPE_CHECKING:
    from consumers.made import Maker

pytestmark = pytest.mark.skipif(find_spec("tensorflow") is None, reason="TensorFlow has no wheel for this machine")


def read(paths: list[str]) -> list[dict[str, Any]]:
    """Return the records of *paths* as TensorFlow sees them."""
    script = Path(__file__).with_name("read_with_tensorflow.py")
    out = subprocess.run([sys.executable, str(script), *paths], check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def test_every_record_is_parsed_and_decoded(maker: Maker) -> None:
    """The pipeline of a training script finds each feature by its kind; what is null takes the default."""
    made = maker.dataset("tfrecord")
    found = {record["key"]: record for record in read(made.paths("*.tfrecord"))}

    assert found.keys() == made.successes.keys()
    for key, row in made.successes.items():
        assert found[key].pop("jpg")[:2] == [SIZE, SIZE]
        assert found[key] == {
            "key": key,
            "txt": row["caption"] or "",
            "url": row["url"],
            "status": "success",
            "error_message": "",
            "width": SIZE,
            "tags": row["tags"] or [],
            "score": -1 if row["score"] is None else row["score"],
            "hash": row["hash"] or 0,
        }


def test_damaged_record_is_noticed(maker: Maker, tmp_path: Path) -> None:
    """TensorFlow checks the checksums, so the test above says that they are right: a flipped bit is refused."""
    content = bytearray(Path(maker.dataset("tfrecord").paths("*.tfrecord")[0]).read_bytes())
    content[len(content) // 2] ^= 1
    damaged = tmp_path / "damaged.tfrecord"
    damaged.write_bytes(content)

    assert read([str(damaged)])[-1] == {"error": "DataLossError"}
