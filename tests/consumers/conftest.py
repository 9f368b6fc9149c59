"""What reads our datasets: the libraries of PyTorch, Hugging Face, TensorFlow, DuckDB and Polars, offline.

They are gigabytes, so these tests run by ``nox -s consumers`` and not with the others.
"""

from __future__ import annotations

import importlib.metadata
import os
from typing import TYPE_CHECKING

import pytest

from consumers.made import Maker

if TYPE_CHECKING:
    from origin import Origin

LIBRARIES = (
    *("datasets", "duckdb", "polars", "pyarrow", "tensorflow-cpu", "tfrecord", "torch", "webdataset"),
    *("webshart", "wids"),
)

os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported


def pytest_configure(config: pytest.Config) -> None:
    """Let these libraries warn: what they deprecate is not ours to mend."""
    config.addinivalue_line("filterwarnings", "default")


def pytest_report_header() -> str:
    """Say which versions were read with."""
    found = {dist.name.replace("_", "-"): dist.version for dist in importlib.metadata.distributions()}
    return "read with: " + ", ".join(f"{name} {found[name]}" for name in LIBRARIES if name in found)


@pytest.fixture(scope="session")
def maker(origin: Origin, tmp_path_factory: pytest.TempPathFactory) -> Maker:
    """Where datasets are made."""
    return Maker(origin, tmp_path_factory.mktemp("made"))
