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
    stream,
    stream_async,
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


async def streamed() -> int:
    """Take samples as they come, as bytes of a file."""
    async for sample in stream_async(["https://example.org/x.jpg"], caption_col="text"):
        if sample.image is None:
            print(sample.error_class, sample.error_message)
        else:
            return len(sample.image)
    return 0


def trained() -> tuple[int, ...]:
    """Take them decoded, in a loop that blocks."""
    for sample in stream("pairs.parquet", input_format="parquet", decode="numpy", failures=False):
        if sample.image is not None:
            return sample.image.shape
    for shown in stream("urls.txt", decode="pil"):
        if shown.image is not None:
            return shown.image.size
    return ()


def rearranged() -> int:
    """Write a list anew."""
    report: PartitionReport = partition("urls.txt", output_folder="by-host")
    return report.rows
