"""What wandb itself keeps of a run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from async_img2ds import download
from processes import wait_until

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from origin import Origin


def test_wandb_takes_the_figures_and_the_table(origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real package, offline: metrics under img2dataset's names, and the statuses as a table."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    (tmp_path / "urls.txt").write_text(f"{origin.url('rocket.jpg')}\n{origin.url('nope.jpg')}\n")
    download(
        url_list=tmp_path / "urls.txt",
        output_folder=tmp_path / "out",
        allow_net="127.0.0.0/8",
        progress="none",
        enable_wandb=True,
    )
    [run] = (tmp_path / "wandb").glob("offline-run-*")
    [log] = run.glob("*.wandb")
    last_table = max((run / "files" / "media" / "table").glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
    wait_until(lambda: b"total/success" in log.read_bytes())  # wandb's own process writes it

    assert b"worker/img_per_sec" in log.read_bytes()
    rows = sorted(json.loads(last_table.read_text())["data"])
    assert rows == [["HTTP Error 404: Not Found", 0.5, 1], ["success", 0.5, 1]]
