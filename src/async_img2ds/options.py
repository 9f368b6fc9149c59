"""Every option: its name, default, help and check, declared once.

A field here is at once a keyword of ``download``, a flag of ``aimg2ds fetch`` and a line of its help.
Each stage of the program is handed its own group and sees no other. Values are refused here, before
anything is started, created or deleted.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from async_img2ds.errors import OptionsError
from async_img2ds.flags import JUST_ABOVE_ZERO, Checked, Flag, flags_of, option
from async_img2ds.nets import check_server, parse_net

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "DEFAULT_DISALLOWED_DIRECTIVES",
    "FetchOptions",
    "Flag",
    "ImageOptions",
    "InputOptions",
    "Options",
    "OutputOptions",
    "RunOptions",
    "flags",
]

# No wait makes sense beyond it, and timers overflow at infinity.
A_DAY_S: Final = 86_400

# img2dataset's four defaults, from its README ("Opt-out directives").
DEFAULT_DISALLOWED_DIRECTIVES: Final = ("noai", "noimageai", "noindex", "noimageindex")

INTERPOLATIONS: Final = ("nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4")

# Columns that the program itself writes; an input column cannot be carried under one of these names.
RESERVED_COLUMNS: Final = (
    *("key", "caption", "url", "width", "height", "original_width", "original_height", "status", "error_message"),
    *("exif", "md5", "sha256", "sha512", "error_class", "http_status", "attempts"),
)


# Formats of lists. Text may be compressed; the other three compress their own parts and are read by position.
INPUT_FORMATS: Final = (
    *(text + packed for text in ("txt", "csv", "tsv", "json", "jsonl") for packed in ("", ".gz", ".zst")),
    *("parquet", "arrow", "feather"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions(Checked):
    """What to fetch."""

    url_list: tuple[str, ...] = option(
        paths=True,
        help="The list of URLs: a file, a folder of files, a pattern such as 'data/*.parquet', "
        "or several in a list; on disk or at any fsspec URL.",
    )
    input_format: str = option(
        "txt", choices=INPUT_FORMATS, help="Format of the list; in a folder, also the file ending."
    )
    url_col: str = option("url", help="Column that holds the URL (all formats but txt).")
    caption_col: str | None = option(None, help="Column that holds the caption; stored with each image.")
    save_additional_columns: tuple[str, ...] = option((), help="Further columns to carry into the metadata, as a list.")
    number_sample_per_shard: int = option(10_000, least=1, help="Rows in a shard.")
    shard_across_files: bool = option(
        default=False,
        help="Cut shards from all files as from one, so that only the very last is short; by default the last of "
        "each file is.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchOptions(Checked):
    """How to ask for the images."""

    timeout: float = option(
        10.0,
        least=JUST_ABOVE_ZERO,
        most=A_DAY_S,
        help="Seconds of silence after which a connection is given up, when connecting and between two reads.",
    )
    attempt_timeout_s: float | None = option(
        None,
        least=JUST_ABOVE_ZERO,
        most=A_DAY_S,
        help="Seconds one attempt may take in all: name look-up, connection, redirects and body. "
        "Default: six times --timeout.",
    )
    retries: int = option(
        2, least=0, help="Further attempts after a failure that can heal (time-outs, resets, 429, 5xx)."
    )
    thread_count: int = option(256, least=1, help="URLs under way at a time in each process.")
    max_per_host: int = option(
        64,
        least=1,
        help="URLs under way at a time on one host of the list, over all processes; at least one in each.",
    )
    body_bytes_max: int = option(
        32 * 2**20, least=1, help="Bytes one image may have; a longer body is cut off and its row fails."
    )
    in_flight_bytes_max: int = option(
        128 * 2**20, least=1, help="Bytes of bodies held at a time in each process; beyond it reading pauses."
    )
    redirects_max: int = option(10, least=0, help="Redirects followed for one URL.")
    user_agent_token: str | None = option(
        None, help="Name added to the User-Agent, and looked for in X-Robots-Tag headers."
    )
    contact: str = option(
        "https://pypi.org/project/async-img2ds/",
        help="Where a site owner can read about or reach whoever runs this; sent in the User-Agent.",
    )
    disallowed_header_directives: tuple[str, ...] | None = option(
        None,
        help="X-Robots-Tag directives that keep an image out, as a list; [] for none. "
        "Default: noai, noimageai, noindex, noimageindex.",
    )
    allow_net: tuple[str, ...] = option(
        (),
        help="Networks to allow beside public addresses, as CIDR or CIDR:port, "
        "for example 127.0.0.0/8 or [::1]/128:8080. Repeatable.",
    )
    dns_servers: tuple[str, ...] = option(
        (), help="Name servers to ask instead of the system's, as address or address:port."
    )

    @property
    def attempt_deadline_s(self) -> float:
        """Seconds one attempt may take in all.

        Six times the silence allowed: 60 s at the default, a third of Scrapy's DOWNLOAD_TIMEOUT, and time for
        32 MiB at 550 kB/s.
        """
        return self.attempt_timeout_s if self.attempt_timeout_s is not None else 6 * self.timeout

    @property
    def directives(self) -> frozenset[str]:
        """The X-Robots-Tag directives that keep an image out, in lower case."""
        chosen = self.disallowed_header_directives
        return frozenset(word.strip().lower() for word in (DEFAULT_DISALLOWED_DIRECTIVES if chosen is None else chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions(Checked):
    """What to make of each image."""

    image_size: int = option(256, least=1, most=65_500, help="Target side in pixels.")
    resize_mode: str = option(
        "border",
        choices=("no", "keep_ratio", "center_crop", "border", "keep_ratio_largest"),
        help="How the image is brought to its size.",
    )
    resize_only_if_bigger: bool = option(default=False, help="Leave an image alone that is not bigger than the target.")
    upscale_interpolation: str = option("lanczos", choices=INTERPOLATIONS, help="Interpolation to enlarge with.")
    downscale_interpolation: str = option("area", choices=INTERPOLATIONS, help="Interpolation to reduce with.")
    encode_quality: int = option(
        95, least=0, help="jpg: quality 0-100; webp: 0-100, above 100 lossless; png: compression 0-9."
    )
    encode_format: str = option("jpg", choices=("jpg", "png", "webp"), help="Format of the stored images.")
    skip_reencode: bool = option(
        default=False, help="Keep the original bytes when the format matches and no pixel changes."
    )
    disable_all_reencoding: bool = option(
        default=False, help="Store every body as it came, without decoding or filtering."
    )
    min_image_size: int = option(0, least=0, help="Refuse images whose shorter side, in pixels, is below this.")
    max_image_area: float = option(math.inf, least=0, help="Refuse images of more pixels than this.")
    max_aspect_ratio: float = option(
        math.inf, least=1, help="Refuse images whose longer side is more than this many times the shorter."
    )
    extract_exif: bool = option(default=True, help="Store the EXIF tags of the original as JSON.")
    compute_hash: str | None = option(
        "sha256", choices=("md5", "sha256", "sha512"), help="Hash of the original bytes to store, or None."
    )
    exact_decode: bool = option(
        default=False,
        help="Decode JPEGs at full size before reducing them; "
        "by default at half, quarter or eighth size where at least twice the target is left.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(Checked):
    """Where the dataset goes."""

    output_folder: str = option("images", help="Folder for the dataset, on disk or at any fsspec URL.")
    output_format: str = option(
        "files", choices=("files", "webdataset", "parquet", "dummy"), help="How the images are stored."
    )
    oom_shard_count: int = option(5, least=0, most=20, help="Digits of the shard number.")
    incremental_mode: str = option(
        "incremental", choices=("incremental",), help="incremental: fetch only the shards that are not there yet."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(Checked):
    """How the work is spread."""

    processes_count: int | None = option(
        None, least=1, help="Worker processes. Default: the cores this process may use."
    )
    distributor: str = option("multiprocessing", choices=("multiprocessing",), help="What runs the workers.")
    max_shard_retry: int = option(1, least=0, help="Further tries of a shard that failed as a whole.")
    grace_s: float = option(
        20.0, least=0, most=A_DAY_S, help="Seconds that open shards get to finish after Ctrl-C or SIGTERM."
    )
    progress: str = option(
        "auto",
        choices=("auto", "rich", "plain", "none"),
        help="How progress is shown; auto: rich on a terminal, else plain lines.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options, in the groups that the stages are handed."""

    input: InputOptions
    fetch: FetchOptions
    image: ImageOptions
    output: OutputOptions
    run: RunOptions

    @classmethod
    def of(cls, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords, as ``download(url_list=…, image_size=…)`` takes them.

        Values may be of their own type or words as typed on a command line.

        Raises:
            OptionsError: a name is unknown, or a value is not one that its option accepts.

        """
        known = {flag.name for flag in flags()}
        for name in keywords:
            if name not in known:
                near = difflib.get_close_matches(name, known, n=1)
                raise OptionsError(f"there is no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
        if "url_list" not in keywords:
            raise OptionsError("url_list is required: the file or folder that lists the URLs, or several")
        groups = {
            group_name: group(**{flag.name: keywords[flag.name] for flag in flags_of(group) if flag.name in keywords})
            for group_name, group in GROUPS.items()
        }
        return cls(**groups)

    def __post_init__(self) -> None:
        _check_input(self.input)
        _check_fetch(self.fetch)
        _check_image(self.image)
        _check_columns(self)


GROUPS: Final[Mapping[str, type[Any]]] = {
    "input": InputOptions,
    "fetch": FetchOptions,
    "image": ImageOptions,
    "output": OutputOptions,
    "run": RunOptions,
}


def _check_input(options: InputOptions) -> None:
    columns = options.save_additional_columns
    for name in columns:
        if name in RESERVED_COLUMNS:
            raise OptionsError(
                f"save_additional_columns cannot carry {name!r}: "
                "the dataset has a column of that name; rename it in the list"
            )
    if len(set(columns)) != len(columns):
        raise OptionsError(f"save_additional_columns names a column twice: {list(columns)}")
    if options.input_format.startswith("txt") and (columns or options.caption_col):
        raise OptionsError(
            "a txt list has URLs only: "
            "leave out caption_col and save_additional_columns, or set input_format to what the list is"
        )


def _check_columns(options: Options) -> None:
    image = options.image.encode_format
    if options.output.output_format == "parquet" and image in options.input.save_additional_columns:
        raise OptionsError(
            f"save_additional_columns cannot carry {image!r}: it is the column of the images; rename it in the list"
        )


def _check_fetch(options: FetchOptions) -> None:
    for name in ("user_agent_token", "contact"):
        if not (getattr(options, name) or "").isprintable():
            raise OptionsError(f"{name} takes one line of printable text; got {getattr(options, name)!r}")
    for server in options.dns_servers:
        check_server(server)
    for net in options.allow_net:
        parse_net(net)


def _check_image(options: ImageOptions) -> None:
    top = {"png": 9, "jpg": 100}.get(options.encode_format, math.inf)
    if options.encode_quality > top:
        meaning = "is a compression level, 0 to 9" if options.encode_format == "png" else "is a quality, 0 to 100"
        raise OptionsError(f"encode_quality for {options.encode_format} {meaning}; got {options.encode_quality}")


def flags() -> Iterator[Flag]:
    """Yield every option of every group, in the order of the help."""
    for group in GROUPS.values():
        yield from flags_of(group)
