"""The settings under which both programs are run: a list and the words behind it, by name.

One run for each, of which all tests see the same outcome. The names of lists are those of ``lists.py``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from compat.tools import OUTPUT

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["FILTERS", "INPUT_FORMATS", "MODES", "OUTPUT_FORMATS", "SETTINGS", "Setting", "pixel_setting"]

MODES: Final = ("no", "keep_ratio", "center_crop", "border", "keep_ratio_largest")
# One name for each interpolation; the others are synonyms of these.
FILTERS: Final = ("nearest", "bilinear", "bicubic", "area", "lanczos")
OUTPUT_FORMATS: Final = ("files", "webdataset", "parquet", "tfrecord", "dummy")
INPUT_FORMATS: Final = (
    *("txt", "txt.gz", "csv", "csv.gz", "tsv", "tsv.gz", "json", "json.gz", "jsonl", "jsonl.gz", "parquet"),
)


@dataclass(frozen=True)
class Setting:
    """A list by its name, the words of the command line behind it, and the folder that the dataset goes to.

    Attributes:
        listed: the list's name, None where the words name it.
        words: what is typed; LISTS stands for the folder of the lists.
        output: the output folder.

    """

    listed: str | None
    words: tuple[str, ...] = ()
    output: str = OUTPUT

    def command(self, lists: Path) -> list[str]:
        """Return the words that both programs are given."""
        words = [word.replace("LISTS", str(lists)) for word in self.words]
        if self.listed is None:
            return words
        return [str(lists / self.listed), *words, "--processes_count", "1", "--output_folder", self.output]


_PARQUET: Final = ("--input_format", "parquet")
_RICH: Final = (*_PARQUET, "--caption_col", "caption", "--number_sample_per_shard", "50")
_CARRIED: Final = ("--save_additional_columns", '["id","score","tags","note","flag"]')
# No row with a truth gets into its TFRecords, since protobuf tells truths from whole numbers.
_WITHOUT_TRUTHS: Final = ("--save_additional_columns", '["id","score","tags","note"]')
_WEBDATASET: Final = ("--output_format", "webdataset")
_LOSSLESS: Final = ("--encode_format", "png", "--encode_quality", "1")


def pixel_setting(mode: str, filter_name: str) -> str:
    """Return the name of the setting that shows what a mode and a filter make of pixels."""
    return f"pixels-{mode}-{filter_name}"


def _settings() -> dict[str, Setting]:
    settings: dict[str, Setting] = {}
    for name in OUTPUT_FORMATS:
        carried = _WITHOUT_TRUTHS if name == "tfrecord" else _CARRIED
        # A list without differing rows for the format of which there is nothing but counts to see.
        settings[f"output-{name}"] = (
            Setting("few.txt", ("--output_format", name))
            if name == "dummy"
            else Setting("pictures.parquet", (*_RICH, *carried, "--output_format", name))
        )
    for mode in MODES[1:]:
        bigger = (*_WEBDATASET, "--resize_mode", mode, "--resize_only_if_bigger")
        settings[f"mode-{mode}-bigger"] = Setting("pictures.txt", bigger)
    for mode in MODES:
        for name in FILTERS if mode != "no" else ("area",):
            words = ("--resize_mode", mode, "--downscale_interpolation", name, "--upscale_interpolation", name)
            settings[pixel_setting(mode, name)] = Setting("pictures.txt", (*_WEBDATASET, *_LOSSLESS, *words))
    synonyms = ("--upscale_interpolation", "Cubic", "--downscale_interpolation", "linear")
    settings["pixels-synonyms"] = Setting("pictures.txt", (*_WEBDATASET, *_LOSSLESS, *synonyms))
    # A pixel wide: with an area of pixels far from the others'.
    settings["lines"] = Setting("lines.txt", ("--resize_mode", "keep_ratio", "--image_size", "64"))
    return settings | _encoding() | _filtering() | _hashing() | _sharding() | _reading() | _blurring()


def _encoding() -> dict[str, Setting]:
    kept = (*_WEBDATASET, "--skip_reencode", "--resize_mode")
    bigger = "--resize_only_if_bigger"
    return {
        "jpg-50": Setting(
            "pictures.txt",
            (
                *("--encode_quality", "50", "--image_size", "97", "--resize_mode", "center_crop"),
                "--output_format",
                "parquet",
            ),
        ),
        "png": Setting("pictures.txt", (*_WEBDATASET, "--encode_format", "png", "--encode_quality", "6")),
        "webp": Setting("pictures.txt", (*_WEBDATASET, "--encode_format", "webp")),
        "webp-lossless": Setting(
            "pictures.txt", (*_WEBDATASET, "--encode_format", "webp", "--encode_quality", "101", "--image_size", "120")
        ),
        "skip-reencode-jpg": Setting("pictures.txt", (*kept, "no")),
        "skip-reencode-png": Setting("pictures.txt", (*kept, "no", "--encode_format", "png", "--encode_quality", "6")),
        "skip-reencode-webp": Setting("pictures.txt", (*kept, "no", "--encode_format", "webp")),
        "skip-reencode-bigger": Setting("pictures.txt", (*kept, "keep_ratio", bigger)),
        "skip-reencode-border": Setting("pictures.txt", (*kept, "border", bigger, "--image_size", "400")),
        "no-reencoding": Setting(
            "pictures.txt",
            (*_WEBDATASET, "--disable_all_reencoding", "True", "--encode_format", "webp", "--min_image_size", "9999"),
        ),
    }


def _filtering() -> dict[str, Setting]:
    def filtered(least: int, area: int, ratio: float) -> Setting:
        words = ("--min_image_size", str(least), "--max_image_area", str(area), "--max_aspect_ratio", str(ratio))
        return Setting("pictures.txt", words)

    # 256 by 256, 256 by 512 and 512 by 512 lie on the bounds of the second.
    return {"all-filters": filtered(120, 200_000, 1.5), "filters-at-the-bounds": filtered(256, 262_144, 2)}


def _hashing() -> dict[str, Setting]:
    verified = ("--save_additional_columns", '["id"]', *_WEBDATASET)
    return {
        "verify-sha256": Setting(
            "hashes.parquet", (*_PARQUET, "--caption_col", "caption", *verified, "--verify_hash", '["digest","sha256"]')
        ),
        "verify-md5": Setting(
            "hashes.csv", ("--input_format", "csv", *verified, "--compute_hash", "md5", "--verify_hash", "[md5,md5]")
        ),
    }


def _sharding() -> dict[str, Setting]:
    def sharded(rows: int, digits: int, *words: str) -> Setting:
        return Setting("few.txt", ("--number_sample_per_shard", str(rows), "--oom_shard_count", str(digits), *words))

    return {
        "shards-of-1": Setting("six.txt", ("--number_sample_per_shard", "1", "--oom_shard_count", "0", *_WEBDATASET)),
        "shards-of-3": sharded(3, 1, "--compute_hash", "md5"),
        "shards-of-10": sharded(10, 8, *_WEBDATASET, "--compute_hash", "sha512"),
        "shards-of-11": sharded(
            11, 3, "--output_format", "parquet", "--compute_hash", "None", "--extract_exif", "False"
        ),
        "shards-of-1000": sharded(1000, 5, *_WEBDATASET, "--compute_hash", "None"),
    }


def _reading() -> dict[str, Setting]:
    words = (*_WEBDATASET, "--number_sample_per_shard", "5")
    rich = ("--url_col", "link", "--caption_col", "text", "--save_additional_columns", '["number","share","note"]')
    settings = {
        f"input-{name}": Setting(
            f"list.{name}", ("--input_format", name, *words, *(() if name.startswith("txt") else rich))
        )
        for name in INPUT_FORMATS
    }
    return settings | {
        "input-folder-parquet": Setting("folder-parquet", (*_PARQUET, *words, *rich)),
        "input-folder-txt.gz": Setting("folder-txt.gz", ("--input_format", "txt.gz", *words)),
        "input-nested-parquet": Setting(
            "nested.parquet",
            (*_PARQUET, "--save_additional_columns", '["names","numbers","shares","pair","small","large","word"]'),
        ),
        "input-large-strings": Setting("large.parquet", (*_PARQUET, "--caption_col", "caption")),
        "input-categories": Setting("categories.parquet", (*_PARQUET, "--caption_col", "caption")),
        "input-nested-jsonl": Setting(
            "nested.jsonl",
            ("--input_format", "jsonl", "--save_additional_columns", '["names","numbers","shares","pair"]'),
        ),
    }


def _blurring() -> dict[str, Setting]:
    def blurred(*words: str) -> Setting:
        return Setting("boxes.parquet", (*_PARQUET, "--bbox_col", "faces", *_LOSSLESS, *_WEBDATASET, *words))

    return {
        "blur-border": blurred("--save_additional_columns", '["id"]'),
        "blur-center_crop": blurred("--resize_mode", "center_crop", "--output_format", "files"),
        "blur-no": blurred("--resize_mode", "no"),
    }


SETTINGS: Final = _settings()
