"""aimg2ds manifest: what a dataset has, written down."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from async_img2ds import startup
from async_img2ds.cli.figures import size
from async_img2ds.cli.logs import begin_logging
from async_img2ds.cli.outcome import say, told_by_status
from async_img2ds.options import ManifestOptions

if TYPE_CHECKING:
    from async_img2ds.dataset.manifest import ManifestReport

__all__ = ["list_files"]


def list_files(**words: Any) -> None:  # noqa: ANN401  what was said of the options
    """Write down what a dataset has: a manifest, sums that sha256sum checks, and the index of its tars for wids."""
    with told_by_status():
        options = ManifestOptions(**words)
        startup.keep_pandas_out()
        from async_img2ds.dataset.manifest import run_manifest

        startup.settle()
        begin_logging()
        report = run_manifest(options)
    say(_listed(report, options.output_folder))


def _listed(report: ManifestReport, folder: str) -> str:
    """Return what was written down, in words and figures."""
    lines = [
        f"{report.shards:,} shards, {report.rows:,} rows, {report.successes:,} images in {report.files:,} files and "
        f"folders of {size(report.bytes)}, in {report.seconds:.1f} s"
    ]
    if report.indexed:
        lines.append(f"indexes of {report.indexed:,} tars made")
    if report.missing:
        lines.append(f"{report.missing:,} shards below the highest are not there, or not finished, and not in it")
    if report.folders_unlisted:
        lines.append(
            f"the samples of {report.folders_unlisted:,} folders are not in _sha256sums, as the stats files have "
            "one sum for all of a folder; --compute reads them"
        )
    return "\n".join([*lines, f"written: {', '.join(report.written)}", f"dataset: {folder}"])
