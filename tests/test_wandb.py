"""What a run reports to Weights & Biases, and that nothing wrong there is wrong here."""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from async_img2ds import MissingExtraError, OptionsError, download

if TYPE_CHECKING:
    from pathlib import Path

    from origin import Origin


class FakeWandb(ModuleType):
    """Stands for the package: the service behind it is not to be had on one machine."""

    def __init__(self, refusal: Exception | None = None, breaks: Exception | None = None) -> None:
        super().__init__("wandb")
        self.refusal, self.breaks = refusal, breaks
        self.begun: dict[str, Any] = {}
        self.logged: list[dict[str, Any]] = []
        self.finished = 0

    def init(self, **settings: Any) -> FakeWandb:
        if self.refusal is not None:
            raise self.refusal
        self.begun = settings
        return self

    def log(self, metrics: dict[str, Any]) -> None:
        if self.breaks is not None:
            raise self.breaks
        self.logged.append(metrics)

    def finish(self) -> None:
        self.finished += 1

    @staticmethod
    def Table(columns: list[str], data: list[list[Any]]) -> list[dict[str, Any]]:  # noqa: N802  as in the real package
        return [dict(zip(columns, row, strict=True)) for row in data]


@pytest.fixture
def options(origin: Origin, tmp_path: Path) -> dict[str, Any]:
    """A run of three shards: four images, two that are not there."""
    names = ["rocket.jpg", "nope.jpg", "coffee.png", "rocket.jpg", "nope.jpg", "rocket.jpg"]
    (tmp_path / "urls.txt").write_text("".join(origin.url(name) + "\n" for name in names))
    return {
        "url_list": tmp_path / "urls.txt",
        "output_folder": tmp_path / "out",
        "number_sample_per_shard": 2,
        "allow_net": "127.0.0.0/8",
        "progress": "none",
        "processes_count": 1,
        "enable_wandb": True,
        "wandb_project": "pictures",
    }


def test_figures_of_each_shard_and_of_all_are_reported(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    """The names are those of img2dataset's dashboards; the table of statuses has its messages."""
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())
    download(**options, header="Authorization: secret")

    assert wandb.begun["project"] == "pictures"
    assert wandb.begun["config"]["number_sample_per_shard"] == 2
    assert "secret" not in str(wandb.begun["config"])
    assert len(wandb.logged) == 4
    *shards, last = wandb.logged
    assert [entry["total/count"] for entry in shards] == [2, 4, 6]
    assert shards[-1]["total/success"] == pytest.approx(4 / 6)
    assert shards[-1]["total/failed_to_download"] == pytest.approx(2 / 6)
    assert shards[-1]["total/failed_to_resize"] == 0
    assert sorted(entry["worker/success"] for entry in shards) == [0.5, 0.5, 1]
    assert all(entry["worker/count"] == 2 and entry["worker/img_per_sec"] > 0 for entry in shards)
    assert last["status"] == [
        {"status": "success", "frequency": pytest.approx(4 / 6), "count": 4},
        {"status": "HTTP Error 404: Not Found", "frequency": pytest.approx(2 / 6), "count": 2},
    ]
    assert wandb.finished == 1


def test_nothing_is_reported_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """Wandb is not even begun."""
    monkeypatch.setitem(sys.modules, "wandb", wandb := FakeWandb())
    download(**options | {"enable_wandb": False})

    assert not wandb.begun


def test_run_is_refused_where_nobody_is_logged_in(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """Before anything is created, and with what to type."""
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(refusal=RuntimeError("api_key not configured")))

    with pytest.raises(OptionsError, match=r"api_key not configured.*wandb login"):
        download(**options)
    assert not options["output_folder"].exists()


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]) -> None:
    """The same where it is not installed."""
    monkeypatch.setitem(sys.modules, "wandb", None)

    with pytest.raises(MissingExtraError, match=r"async-img2ds\[wandb\]"):
        download(**options)
    assert not options["output_folder"].exists()


def test_service_that_breaks_does_not_break_the_run(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It is said once, and the dataset is complete."""
    monkeypatch.setitem(sys.modules, "wandb", FakeWandb(breaks=BrokenPipeError("gone")))
    report = download(**options)

    assert report.complete
    assert report.shards_done == 3
    said = [record.message for record in caplog.records if "avif" not in record.message]
    assert said == ["wandb: gone; the run goes on without"]
