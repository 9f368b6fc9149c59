"""Engines under test: real ones on this machine, each started once."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS = Path(__file__).parents[1]


@pytest.fixture(autouse=True, scope="session")
def _importable() -> Iterator[None]:
    """Let the engines' workers import the workloads, and find this Python."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(TESTS), prepend=os.pathsep)
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        yield


@pytest.fixture(scope="session")
def spark() -> Iterator[Any]:
    """A Spark session of the user's."""
    from pyspark.sql import SparkSession

    settings = {
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.log.level": "FATAL",
    }
    session = SparkSession.builder.master("local[2,4]").appName("somebody's").config(map=settings).getOrCreate()
    yield session
    session.stop()


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[str]:
    """A Ray that this process is connected to; yields its address."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="ERROR", log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(params=["pyspark", "ray"])
def engine(request: pytest.FixtureRequest) -> str:
    """The name of a distributor, whose engine is up and used by others, too."""
    request.getfixturevalue({"pyspark": "spark", "ray": "ray_cluster"}[request.param])
    return str(request.param)
