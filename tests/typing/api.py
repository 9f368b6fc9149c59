"""The public names as a user's type checker sees them: checked by mypy, never run."""

from __future__ import annotations

from async_img2ds import (
    ErrorClass,
    InputError,
    Options,
    OptionsError,
    PartitionReport,
    RunReport,
    download,
    download_async,
    partition,
)


def script() -> float:
    """Call it from a script and look at the report."""
    try:
        report = download(url_list="urls.txt", output_folder="images", image_size=384)
    except (OptionsError, InputError) as error:
        raise SystemExit(str(error)) from error
    if not report.complete:
        print(report.shards_lost)
    return report.images_per_second


async def notebook() -> int:
    """Call it from a running loop."""
    report: RunReport = await download_async(url_list="urls.txt")
    return report.error_classes.get(ErrorClass.DNS_NXDOMAIN, 0)


def options() -> int:
    """Build options without running anything."""
    chosen: Options = Options.of(url_list="urls.txt", resize_mode="keep_ratio")
    return chosen.image.image_size


def rearranged() -> int:
    """Write a list anew."""
    report: PartitionReport = partition("urls.txt", output_folder="by-host")
    return report.rows
