"""Every option: its name, default, help and check, declared once.

A field here is at once a keyword of ``download``, a flag of ``aimg2ds fetch`` and a line of its help.
Each stage of the program is handed its own group and sees no other. Values are refused here, before
anything is started, created or deleted.
"""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, replace
from inspect import Parameter
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from async_img2ds.errors import MAY_HEAL, NOT_FETCHED, ErrorClass, OptionsError, redacted
from async_img2ds.flags import JUST_ABOVE_ZERO, Checked, Flag, flags_of, option
from async_img2ds.headers import parse_header
from async_img2ds.nets import check_server, parse_net, parse_proxy
from async_img2ds.ranks import ALL, Share, ranks_beside, share_among
from async_img2ds.recipes import RECIPES
from async_img2ds.settings import in_file, to_toml
from async_img2ds.sources import parse_source

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = [
    "DEFAULT_DISALLOWED_DIRECTIVES",
    "POSITIONAL",
    "FetchOptions",
    "AgainOptions",
    "DoctorOptions",
    "DeliveryOptions",
    "Flag",
    "ImageOptions",
    "InputOptions",
    "ManifestOptions",
    "Options",
    "OutputOptions",
    "ListOptions",
    "PartitionOptions",
    "PushOptions",
    "PlanOptions",
    "RETRY_GROUPS",
    "ReportOptions",
    "RetryOptions",
    "RunOptions",
    "StreamOptions",
    "SummaryOptions",
    "SurveyOptions",
    "VerifyOptions",
    "doctor_flags",
    "flags",
    "parameters",
    "later_flags",
    "stream_flags",
    "stream_parameters",
    "partition_flags",
]

# No wait makes sense beyond it, and timers overflow at infinity.
A_DAY_S: Final = 86_400

# img2dataset's four defaults, from its README ("Opt-out directives"), and a proposal that means the same (noml.info).
DEFAULT_DISALLOWED_DIRECTIVES: Final = ("noai", "noimageai", "noindex", "noimageindex", "noml")

INTERPOLATIONS: Final = ("nearest", "linear", "bilinear", "cubic", "bicubic", "area", "lanczos", "lanczos4")

# Columns that the program itself writes; an input column cannot be carried under one of these names.
RESERVED_COLUMNS: Final = (
    *("key", "caption", "url", "width", "height", "original_width", "original_height", "status", "error_message"),
    *("exif", "md5", "sha256", "sha512", "error_class", "http_status", "attempts", "final_url"),
    *("optout", "tls_verified", "fetched_at", "address", "content_type", "etag", "last_modified", "body_bytes"),
)


# Formats of lists. Text may be compressed; the other three compress their own parts and are read by position.
INPUT_FORMATS: Final = (
    *(text + packed for text in ("txt", "csv", "tsv", "json", "jsonl") for packed in ("", ".gz", ".zst")),
    *("parquet", "arrow", "feather"),
)


def _dataset() -> Any:  # noqa: ANN401  as option() itself
    return option(help="The dataset's folder, on disk or at any fsspec URL.")


def _progress() -> Any:  # noqa: ANN401  as option() itself
    return option(
        "auto",
        choices=("auto", "rich", "plain", "none"),
        help="How progress is shown; auto: rich on a terminal, else plain lines.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class InputOptions(Checked):
    """What to fetch."""

    SHAPE: ClassVar[bool] = True

    url_list: tuple[str, ...] = option(
        whole=("path", '["a.txt","b.txt"]'),
        shapes=False,  # but for its rows, which are compared by themselves
        help="The list of URLs: a file, a folder of files, a pattern such as 'data/*.parquet', "
        "or several in a list; on disk or at any fsspec URL.",
    )
    recipe: str | None = option(
        None,
        choices=tuple(RECIPES),
        shapes=False,
        help="A public dataset whose options to use; what is given beside it counts more.",
    )
    input_format: str = option(
        "txt", choices=INPUT_FORMATS, shapes=False, help="Format of the list; in a folder, also the file ending."
    )
    url_col: str = option("url", shapes=False, help="Column that holds the URL (all formats but txt).")
    caption_col: str | None = option(None, help="Column that holds the caption; stored with each image.")
    bbox_col: str | None = option(
        None,
        help="Column of boxes to blur: lists of [x_min, y_min, x_max, y_max], fractions 0 to 1 of the image as its "
        "file has it. Carried into the metadata, too.",
    )
    optout_col: str | None = option(
        None,
        help="Column that says which rows are reserved, and not to be fetched: anything there but nothing, false, 0 or "
        "no. Carried into the metadata, too.",
    )
    save_additional_columns: tuple[str, ...] = option((), help="Further columns to carry into the metadata, as a list.")
    verify_hash: tuple[str, ...] | None = option(
        None,
        help="Column of the hash that the bytes received must have, and its kind, which must be that of compute_hash: "
        '["md5","md5"].',
    )
    number_sample_per_shard: int = option(10_000, least=1, help="Rows in a shard.")
    shard_across_files: bool = option(
        default=False,
        help="Cut shards from all files as from one, so that only the very last is short; by default the last of "
        "each file is.",
    )

    dedupe: bool = option(
        default=False,
        help="Fetch each URL of the list once: rows with a URL that came before fail as duplicate. "
        "Takes 8 to 24 bytes of memory for each URL.",
    )
    partition_by: str | None = option(
        None,
        choices=("host",),
        shapes=False,  # but for the order of rows, which are compared by themselves
        help="Before anything is fetched, write the list anew beside the dataset, each host's rows in few shards that "
        "lie far apart, so that of many machines few ask a host at a time.",
    )
    temp_folder: str | None = option(
        None,
        shapes=False,
        help="Folder on this machine's disk for temporary files, of partition_by some four times a list in Parquet. "
        "Default: where the list goes; if that is elsewhere, or for a sample, the system's.",
    )

    @property
    def carried_columns(self) -> tuple[str, ...]:
        """The columns of the list that are carried into the metadata beside caption and URL, in order."""
        further = (name for name in (self.bbox_col, self.optout_col) if name)
        return tuple(dict.fromkeys((*self.save_additional_columns, *further)))

    def carrier_of(self, column: str) -> str:
        """Return the option that asks for *column*, one of those carried."""
        if column in self.save_additional_columns:
            return "save_additional_columns"
        return "bbox_col" if column == self.bbox_col else "optout_col"


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
    row_timeout_s: float | None = option(
        None,
        least=JUST_ABOVE_ZERO,
        most=A_DAY_S,
        help="Seconds that all attempts on one URL may take together; waiting in between does not count. "
        "Default: three times what one may take.",
    )
    retries: int = option(
        2, least=0, help="Further attempts after a failure that can heal (time-outs, resets, 429, 5xx)."
    )
    thread_count: int | None = option(
        None,
        least=1,
        unset="auto",
        help="URLs under way at a time in each process. Default: auto, as many as keep its core busy, 64 to 1024.",
    )
    max_per_host: int = option(
        64,
        least=1,
        help="URLs under way at a time on one host of the list, over all processes of this machine, each of which "
        "gets as many; where there are fewer than processes they take turns.",
    )
    max_rate_per_host: float | None = option(
        None,
        least=JUST_ABOVE_ZERO,
        help="Requests a second to one host of the list, over all processes of this machine. "
        "Default: as many as it answers without asking for patience.",
    )
    crawl_delay: float = option(
        0.0,
        least=0.0,
        most=A_DAY_S,
        help="Seconds between two requests to one host of the list, on average over all processes of this machine.",
    )
    body_bytes_max: int = option(
        32 * 2**20, least=1, help="Bytes one image may have; a longer body is cut off and its row fails."
    )
    in_flight_bytes_max: int = option(
        128 * 2**20,
        least=1,
        help="Bytes of bodies held at a time in each process; beyond it reading pauses, with up to half a megabyte "
        "more for each connection.",
    )
    redirects_max: int = option(10, least=0, help="Redirects followed for one URL.")
    user_agent_token: str | None = option(
        None, help="Name added to the User-Agent, and looked for in X-Robots-Tag headers."
    )
    contact: str = option(
        "https://pypi.org/project/async-img2ds/",
        help="Where a site owner can read about or reach whoever runs this; sent in the User-Agent.",
    )
    optout: str = option(
        "headers",
        choices=("none", "headers", "strict"),
        shapes=True,
        help="Which reservations of owners keep their images out. headers: X-Robots-Tag, TDM-Reservation, "
        "Content-Usage; strict: also robots.txt, tdmrep.json, and what the image's own metadata says; none: no one.",
    )
    disallowed_header_directives: tuple[str, ...] | None = option(
        None,
        shapes=True,
        help="X-Robots-Tag directives that keep an image out, as a list; [] for none. "
        "Default: noai, noimageai, noindex, noimageindex, noml; none counts as noindex.",
    )
    tls: str = option(
        "verify",
        choices=("verify", "record", "off"),
        help="What to do with a TLS certificate that is no good, expired or forged. verify: the row fails; record: its "
        "image is kept, and tls_verified says so; off: certificates are not looked at.",
    )
    ignore_ssl_certificate: bool = option(default=False, help="The same as --tls off.")
    allow_net: tuple[str, ...] = option(
        (),
        help="Networks to allow beside public addresses, as CIDR or CIDR:port, "
        "for example 127.0.0.0/8 or [::1]/128:8080. Repeatable.",
    )
    allow_sources: tuple[str, ...] = option(
        (),
        whole=("source", '["s3://bucket","file:/data/images"]'),
        help="Places to read images from beside the web, for rows such as s3://bucket/key, file:///path or /path: s3, "
        "gs or az, alone or with a bucket and a folder, or file:/folder. Repeatable.",
    )
    dns_servers: tuple[str, ...] = option(
        (), help="Name servers to ask instead of the system's, as address or address:port."
    )
    ip_version: str = option("any", choices=("any", "4", "6"), help="Which version of IP to use.")
    header: tuple[str, ...] = option(
        (),
        whole=("header", '["Accept-Language: de","DNT: 1"]'),
        secret=True,
        help="A header to send to every host, as 'Name: value'; for single hosts there is --hosts_file. Repeatable.",
    )
    hosts_file: str | None = option(
        None,
        help="A TOML file of what differs for single hosts: max_per_host, max_rate_per_host, crawl_delay, headers, "
        "refuse.",
    )
    proxy: str | None = option(
        None,
        secret=True,
        help="A proxy to send every request through, as http://[user:password@]host:port. Names are looked up here, "
        "too, so that only public addresses are asked for.",
    )

    @property
    def attempt_deadline_s(self) -> float:
        """Seconds one attempt may take in all.

        Six times the silence allowed: 60 s at the default, a third of Scrapy's DOWNLOAD_TIMEOUT, and time for
        32 MiB at 550 kB/s.
        """
        return self.attempt_timeout_s if self.attempt_timeout_s is not None else 6 * self.timeout

    @property
    def row_deadline_s(self) -> float:
        """Seconds all attempts on one URL may take together: as long as the default number of them at the most."""
        return self.row_timeout_s if self.row_timeout_s is not None else 3 * self.attempt_deadline_s

    @property
    def tls_mode(self) -> str:
        """What is done with certificates, whichever way it is said."""
        return "off" if self.ignore_ssl_certificate else self.tls

    @property
    def directives(self) -> frozenset[str]:
        """The X-Robots-Tag directives that keep an image out, in lower case."""
        chosen = self.disallowed_header_directives
        return frozenset(word.strip().lower() for word in (DEFAULT_DISALLOWED_DIRECTIVES if chosen is None else chosen))


@dataclass(frozen=True, slots=True, kw_only=True)
class ImageOptions(Checked):
    """What to make of each image."""

    SHAPE: ClassVar[bool] = True

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
    decode_also: tuple[str, ...] = option(
        (),
        choices=("tiff", "jp2"),
        help="Formats to decode beside JPEG, PNG, WebP, GIF, BMP and AVIF, whose decoders are less well tested against "
        "hostile files. Repeatable.",
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
        help="Decode JPEGs at full size before reducing them by area; "
        "by default at half, quarter or eighth size where at least 2.25 times the target is left.",
    )
    apply_exif_orientation: bool = option(
        default=False,
        help="Turn images upright as their EXIF orientation says; by default they are stored as they are in the file.",
    )
    convert_to_srgb: bool = option(
        default=False,
        help="Convert colours to sRGB by the image's ICC profile; by default the profile is dropped.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(Checked):
    """Where the dataset goes."""

    output_folder: str = option("images", help="Folder for the dataset, on disk or at any fsspec URL.")
    output_format: str = option(
        "files",
        choices=("files", "webdataset", "parquet", "tfrecord", "dummy"),
        shapes=True,
        help="How the images are stored.",
    )
    hf_image: bool = option(
        default=False,
        shapes=True,
        help="parquet: store the images as a column that Hugging Face datasets decodes, a struct of bytes and path.",
    )
    tar_index: bool = option(
        default=False,
        shapes=True,
        help="webdataset: say in NNNNN.json where in the tar each member lies, so that single samples can be read by "
        "range, as webshart does.",
    )
    provenance: bool = option(
        default=False,
        shapes=True,
        help="Store of each image when and from which address it came, and its Content-Type, ETag, Last-Modified and "
        "number of bytes.",
    )
    ordered: bool = option(
        default=False,
        help="Write the rows of a shard in the order of the list, not as they come: the same answers then make the "
        "same files, byte for byte. Up to a shard of images is held in memory.",
    )
    oom_shard_count: int = option(5, least=0, most=20, shapes=True, help="Digits of the shard number.")
    incremental_mode: str = option(
        "incremental",
        choices=("incremental", "overwrite", "extend", "extend_new"),
        help="What to do where a dataset lies already. incremental: fetch the shards that are not there; "
        "overwrite: delete it; extend: add all rows; extend_new: add rows with new URLs.",
    )
    resume_within_shard: bool | None = option(
        None,
        unset="auto",
        help="Keep what was fetched of a shard on this machine's disk until it is finished, so that a kill does not "
        "cost it again. Default: auto, where the dataset is on this machine.",
    )
    resume_anyway: bool = option(
        default=False,
        help="Go on with a dataset although it was begun with other URLs, or with options that make other images of "
        "them; by default that is refused.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions(Checked):
    """How the work is spread."""

    processes_count: int | None = option(
        None, least=1, help="Workers at a time. Default: the cores this process may use, or all of the cluster."
    )
    distributor: str = option(
        "multiprocessing",
        choices=("multiprocessing", "rank", "pyspark", "ray"),
        help="What runs the workers: processes on this machine, those of one rank of many that share the list, "
        "Apache Spark (extra: spark) or Ray (extra: ray).",
    )
    rank: int | None = option(
        None,
        least=0,
        help="Which of the machines that share the list this is, from 0; implies --distributor rank. Default for that: "
        "as Slurm, torchrun, MPI or a Kubernetes indexed Job say.",
    )
    world_size: int | None = option(
        None, least=1, help="How many machines share the list. Default for --distributor rank: as the scheduler says."
    )
    ranks_per_node: int | None = option(
        None,
        least=1,
        help="How many ranks run on this machine, and share its cores and what it may ask of a host. "
        "Default: as torchrun or MPI say, else one.",
    )
    subjob_size: int = option(1000, least=1, help="Shards in one Spark job (pyspark only).")
    ray_cpus: float = option(
        1.0, least=JUST_ABOVE_ZERO, help="CPUs that each actor takes of a Ray cluster, and has threads for (ray only)."
    )
    ray_resources: tuple[str, ...] = option(
        (),
        help="What else each actor takes, as name=amount: memory=4e9 (bytes), or a resource of the cluster's own, "
        "which keeps actors to nodes that have it (ray only). Repeatable.",
    )
    ray_placement: str = option(
        "default",
        choices=("default", "spread"),
        help="Where actors are placed (ray only). default: where Ray likes, which fills nodes up; "
        "spread: evenly over nodes.",
    )
    max_shard_retry: int = option(1, least=0, help="Further tries of a shard that failed as a whole.")
    grace_s: float = option(
        20.0, least=0, most=A_DAY_S, help="Seconds that open shards get to finish after Ctrl-C or SIGTERM."
    )
    enable_wandb: bool = option(default=False, help="Report figures and statuses to Weights & Biases (extra: wandb).")
    wandb_project: str = option("img2dataset", help="The wandb project to report to.")
    metrics_port: int | None = option(
        None,
        least=1,
        most=65535,
        help="Serve figures to Prometheus at this port, under /metrics (extra: metrics). Of several ranks on a "
        "machine each needs its own.",
    )
    metrics_address: str = option(
        "127.0.0.1", help="Address of this machine to serve them at; 0.0.0.0 lets other machines ask."
    )
    config: str | None = option(
        None,
        help="TOML file of options. The command line counts more, then variables such as AIMG2DS_IMAGE_SIZE. "
        "A run leaves its own in the output folder: .aimg2ds.toml.",
    )
    log_format: str = option(
        "text",
        choices=("text", "json"),
        help="json: progress, warnings and the summary at the end are JSON objects, one a line, for programs.",
    )
    quiet: bool = option(default=False, help="Print nothing but warnings and errors.")
    verbose: bool = option(default=False, help="Say of each shard when it is done, and show every process.")
    explain: bool = option(
        default=False,
        help="Say how long it may take at the worst, and at the end what it waited for and what would make it faster.",
    )
    progress: str = _progress()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        for name in ("rank", "world_size", "ranks_per_node"):
            if getattr(self, name) is not None and self.distributor not in ("multiprocessing", "rank"):
                raise OptionsError(
                    f"{name} is for --distributor rank; {self.distributor} shares the list out by itself"
                )
        for word in self.ray_resources:
            _resource(word)
        if None not in (self.rank, self.world_size):
            share_among(self.rank, self.world_size, {})

    @property
    def display(self) -> str:
        """The kind of display, as :func:`async_img2ds.progress.show_progress` knows them."""
        if self.quiet:
            return "none"
        return "json" if self.log_format == "json" and self.progress != "none" else self.progress

    @property
    def is_terse(self) -> bool:
        """Whether nothing is to be said to a person but warnings and errors."""
        return self.quiet or self.log_format == "json"

    @property
    def resources(self) -> dict[str, float]:
        """What each actor of Ray takes beside CPUs, by name."""
        return dict(map(_resource, self.ray_resources))

    @property
    def is_rank(self) -> bool:
        """Whether this is one of many that share the list."""
        return self.distributor == "rank" or self.rank is not None or self.world_size is not None

    @property
    def share(self) -> Share:
        """The shards that are this machine's; all, if :meth:`placed` has said nothing else."""
        return ALL if self.rank is None or self.world_size is None else Share(self.rank, self.world_size)

    def placed(self, environment: Mapping[str, str]) -> Self:
        """Return them with what the scheduler has told in *environment*, if this is a rank of many.

        Raises:
            OptionsError: it is not known which, or of how many.

        """
        if not self.is_rank:
            return self
        share, told_by = share_among(self.rank, self.world_size, environment)
        beside = self.ranks_per_node or ranks_beside(told_by, environment)
        return replace(self, distributor="rank", rank=share.rank, world_size=share.world_size, ranks_per_node=beside)


def _resource(word: str) -> tuple[str, float]:
    """Read what ray_resources says of one resource."""
    name, _, said = word.partition("=")
    try:
        amount = float(said)
    except ValueError:
        amount = math.nan
    if not (name.strip() and 0 < amount < math.inf):
        raise OptionsError(f"ray_resources takes name=amount, such as memory=4e9; got {word!r}")
    if name.strip() in ("CPU", "GPU"):
        raise OptionsError(f"ray_resources: CPUs are said by ray_cpus, and no GPU is of use; got {word!r}")
    return name.strip(), amount


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions(Checked):
    """How to check a dataset."""

    output_folder: str = _dataset()
    deep: bool = option(default=False, help="Decode every image and read every JSON, too.")
    repair: bool = option(
        default=False, help="Remove the shards that have defects, so that the run that made them fetches them again."
    )
    processes_count: int | None = option(
        None, least=1, help="Processes that read. Default: the cores this process may use."
    )
    progress: str = _progress()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.repair:
            _check_not_hub(self.output_folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryOptions(Checked):
    """How to add up a dataset."""

    output_folder: str = _dataset()
    json: bool = option(default=False, help="Print one JSON object, for programs.")
    progress: str = _progress()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(Checked):
    """How to show a dataset as a page."""

    output_folder: str = _dataset()
    output_file: str | None = option(
        None, help="Where the page goes, on disk or at any fsspec URL. Default: _report.html in the dataset's folder."
    )
    open: bool = option(default=False, help="Open the page in a browser.")
    watch: bool = option(
        default=False,
        help="Write no file, but serve the page to this machine alone, made anew as shards are finished, until Ctrl-C.",
    )
    port: int = option(8737, least=0, most=65_535, help="Port at which --watch serves; 0 takes any that is free.")
    every_s: float = option(
        10.0,
        least=1.0,
        most=A_DAY_S,
        help="With --watch the page is made anew after so many seconds at the earliest.",
    )
    thumbnails: int = option(
        240, least=0, most=1000, help="Show so many images, small, as far as two megabytes go; 0 for none."
    )
    seed: int = option(0, least=0, help="Another one draws other shards, rows and images.")
    progress: str = _progress()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.watch and self.output_file is not None:
            raise OptionsError("watch serves the page and writes none; leave out output_file or watch")
        if not self.watch and self.output_file is None:
            _check_not_hub(self.output_folder, "--output_file FILE puts the page on a disk")
        if self.open and not self.watch and "://" in (self.output_file or self.output_folder):
            raise OptionsError("open shows a page that is on this machine; name a file on a disk with --output_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions(Checked):
    """How to write down what a dataset has."""

    output_folder: str = _dataset()
    compute: bool = option(
        default=False,
        help="Read the files of which the stats files do not tell, and compute their sums: those of img2dataset's "
        "shards, and each sample of output_format files.",
    )
    tar_index: bool = option(
        default=False,
        help="Make the index of each tar that has none, as a fetch with --tar_index does, from the headers of its "
        "members.",
    )
    progress: str = _progress()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        _check_not_hub(self.output_folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions(Checked):
    """How to put a dataset on the Hugging Face Hub."""

    output_folder: str = _dataset()
    destination: str = option(
        help="The dataset on the Hub that it becomes, as hf://datasets/ORG/NAME or, for a branch, "
        "hf://datasets/ORG/NAME@BRANCH; both are made if they are not there."
    )
    private: bool = option(
        default=False, help="Make the repository private, if it is not there; refuse one that is public."
    )
    partial: bool = option(default=False, help="Put the finished shards there although there are others.")
    prune: bool = option(
        default=False,
        help="Delete from the branch the files that are called like those of shards and are not this "
        "dataset's, as of one that was fetched anew with larger shards.",
    )
    contact: str | None = option(
        None, help="Whom to ask to have images removed, for the card. Default: the Community tab of the page."
    )
    progress: str = _progress()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.partial and self.prune:
            raise OptionsError("prune takes what is not finished here for what is no more; leave out prune or partial")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainOptions(Checked):
    """What to fetch again."""

    output_folder: str = _dataset()
    error_class: tuple[str, ...] = option(
        tuple(sorted(MAY_HEAL)),
        choices=tuple(sorted(set(ErrorClass) - NOT_FETCHED)),
        also="class",
        help="Rows that failed for these reasons are fetched again. Repeatable. Default: those that may have passed, "
        "such as time-outs, resets, 429 and 5xx.",
    )

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        _check_not_hub(self.output_folder)
        if not self.error_class:
            raise OptionsError("error_class names no reason; leave it out to mean those that may have passed")


# What makes no sense for rows that are done again: how a dataset is shaped is told by itself, and figures of a
# run over a part of it would be taken for those of the whole.
_NOT_AGAIN: Final = frozenset(
    {"enable_wandb", "wandb_project", "metrics_port", "metrics_address", "config", "explain"}
    | {"rank", "world_size", "ranks_per_node"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryOptions:
    """How to fetch failed rows of a dataset again."""

    again: AgainOptions
    fetch: FetchOptions
    run: RunOptions

    @classmethod
    def of(cls, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords, as :func:`retry` takes them.

        Raises:
            OptionsError: a name is unknown, or a value is not one that its option accepts.

        """
        return cls(**_later(keywords, RETRY_GROUPS))

    def __post_init__(self) -> None:
        _check_one_run(self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalOptions(Checked):
    """What to remove."""

    output_folder: str = _dataset()
    hosts: str | None = option(
        None,
        help="A file of host names and addresses, one a line, on disk or at any fsspec URL: images from them, and from "
        "all names below them, are removed.",
    )
    urls: str | None = option(
        None,
        help="A file of URLs, one a line: images that were asked for there, or that redirects led to there, are "
        "removed.",
    )

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        _check_not_hub(self.output_folder)
        if self.hosts is None and self.urls is None:
            raise OptionsError("nothing is named that should be removed; give --hosts FILE, --urls FILE, or both")


@dataclass(frozen=True, slots=True, kw_only=True)
class PurgeOptions:
    """How to remove images from a dataset."""

    removal: RemovalOptions
    run: RunOptions

    @classmethod
    def of(cls, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords, as :func:`purge` takes them.

        Raises:
            OptionsError: a name is unknown, or a value is not one that its option accepts.

        """
        return cls(**_later(keywords, PURGE_GROUPS))

    def __post_init__(self) -> None:
        _check_one_run(self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class ListOptions(Checked):
    """Where the list goes."""

    output_folder: str = option("by-host", help="Folder for the new list, on disk or at any fsspec URL.")
    partition_by: str = option(
        "host",
        choices=("host",),
        help="What is kept together. host: the URLs of a host are in few shards, which lie far apart.",
    )
    progress: str = option("plain", choices=("plain", "none"), help="How progress is shown.")

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        _check_not_hub(self.output_folder, "hf upload ORG/NAME FOLDER --repo-type dataset")


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionOptions:
    """How to write a list anew."""

    input: InputOptions
    output: ListOptions

    @classmethod
    def of(cls, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords, as :func:`partition` takes them.

        Raises:
            OptionsError: a name is unknown, or a value is not one that its option accepts.

        """
        allowed = {name: partition_flags(group) for name, group in PARTITION_GROUPS.items()}
        known = {flag.name: flag for of_group in allowed.values() for flag in of_group}
        if recipe := known["recipe"].accept(keywords.get("recipe")):
            fit = {name: value for name, value in RECIPES[str(recipe)].items() if name in known}
            keywords = {**fit, **keywords}
        return cls(**_grouped(keywords, PARTITION_GROUPS, allowed))

    def __post_init__(self) -> None:
        _check_input(self.input)


@dataclass(frozen=True, slots=True, kw_only=True)
class SurveyOptions(Checked):
    """How to look at a list."""

    sample: int = option(
        0,
        least=0,
        most=100_000,
        help="Fetch so many rows, drawn at random, as a fetch with the other options would, and estimate the rest by "
        "them: 500 is a good number. By default nobody is asked for anything.",
    )
    seed: int = option(0, least=0, help="Another one draws other rows.")
    json: bool = option(default=False, help="Print one JSON object, for programs.")


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckupOptions(Checked):
    """What to look at."""

    names: tuple[str, ...] = option(
        ("example.com", "example.net", "example.org", "iana.org", "icann.org"),
        help="Names to look up, as a list, if no list of URLs is given whose hosts are; [] for none. "
        "Default: five that are there for such purposes.",
    )
    temp_folder: str | None = option(
        None, help="Folder for temporary files that is looked at. Default: the system's, as TMPDIR says."
    )
    json: bool = option(default=False, help="Print one JSON object, for programs.")


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorOptions:
    """What to look at on a machine; *input* is the list whose hosts are looked up, if there is one."""

    checkup: CheckupOptions
    input: InputOptions | None
    fetch: FetchOptions
    output: OutputOptions
    run: RunOptions

    @classmethod
    def of(cls, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords, as :func:`doctor` takes them.

        Raises:
            OptionsError: a name is unknown, or a value is not one that its option accepts.

        """
        groups = {name: group for name, group in DOCTOR_GROUPS.items() if name != "input" or keywords.get("url_list")}
        allowed = {name: doctor_flags(group) for name, group in DOCTOR_GROUPS.items()}
        given = _grouped(keywords, groups, allowed)
        return cls(**{"input": None, **given})

    def __post_init__(self) -> None:
        _check_fetch(self.fetch)


@dataclass(frozen=True, slots=True, kw_only=True)
class DeliveryOptions(Checked):
    """How samples come out of a stream."""

    decode: str | None = option(
        None,
        choices=("numpy", "pil"),
        help="What an image is. None: the bytes of a file, as a dataset has it; numpy: a uint8 array of height, width "
        "and three colours; pil: an image of Pillow in RGB.",
    )
    ordered: bool = option(
        default=False,
        help="Samples come in the order of the list, not as they are ready: one that is slow holds up those behind it.",
    )
    failures: bool = option(
        default=True, help="Rows without an image come out, too, and say why; without it they are left out."
    )
    provenance: bool = option(
        default=False,
        help="Say of each image when and from which address it came, and its Content-Type, ETag and Last-Modified.",
    )
    samples_ahead_max: int = option(
        1024,
        least=1,
        help="Samples that may wait to be taken, those under way included; beyond it fetching pauses.",
    )
    bytes_ahead_max: int = option(
        128 * 2**20,
        least=1,
        help="Bytes that their images may have; how large those under way will be is told from those before.",
    )
    image_threads: int | None = option(
        None, least=1, help="Threads that make images. Default: one for each core that this process may use."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamOptions:
    """How to fetch images without making a dataset of them."""

    input: InputOptions
    fetch: FetchOptions
    image: ImageOptions
    delivery: DeliveryOptions

    @classmethod
    def of(cls, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords, as :func:`stream_async` takes them, and a ``url_list``.

        Raises:
            OptionsError: a name is unknown or of no use to a stream, or a value is not one that its option accepts.

        """
        allowed = {name: stream_flags(group) for name, group in STREAM_GROUPS.items()}
        known = {flag.name: flag for of_group in allowed.values() for flag in of_group}
        for name in keywords:
            if name not in known and any(flag.name == name for flag in flags()):
                raise OptionsError(
                    f"{name} is for datasets: a stream writes nothing, and runs in the process that asks for it; "
                    "leave it out, or call download()"
                )
        if (decode := known["decode"].accept(keywords.get("decode"))) and (useless := _ENCODING & keywords.keys()):
            raise OptionsError(f"{min(useless)}: nothing is encoded with decode {decode}; leave one of them out")
        if recipe := known["recipe"].accept(keywords.get("recipe")):
            fit = {name: value for name, value in RECIPES[str(recipe)].items() if name in known}
            keywords = {**fit, **keywords}
        return cls(**_grouped(keywords, STREAM_GROUPS, allowed))

    def __post_init__(self) -> None:
        _check_input(self.input)
        _check_fetch(self.fetch)
        _check_image(self.image)
        _check_together(self.input, self.image)
        if self.delivery.decode and self.image.disable_all_reencoding:
            raise OptionsError("disable_all_reencoding keeps bodies as they came, and decode does not; choose one")


# Whose rank it is, and from what file options came, is no option of the next run.
_NOT_KEPT: Final = frozenset({"rank", "config"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """All options, in the groups that the stages are handed."""

    input: InputOptions
    fetch: FetchOptions
    image: ImageOptions
    output: OutputOptions
    run: RunOptions

    @classmethod
    def of(cls, *values: Any, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords, as ``download(url_list=…, image_size=…)`` takes them.

        Values may be of their own type or words as typed on a command line. *values* are those of the first names in
        :data:`POSITIONAL`.

        Raises:
            OptionsError: a name is unknown or given twice, or a value is not one that its option accepts.

        """
        if len(values) > len(POSITIONAL):
            raise OptionsError(f"at most {len(POSITIONAL)} options can be given by position; got {len(values)}")
        for name, value in zip(POSITIONAL, values, strict=False):
            if name in keywords:
                raise OptionsError(f"{name} is given twice: by position and by name")
            keywords[name] = value
        known = {flag.name: flag for flag in flags()}
        if config := known["config"].accept(keywords.get("config")):
            keywords = {**in_file(str(config), known.values()), **keywords}
        if recipe := known["recipe"].accept(keywords.get("recipe")):
            keywords = {**RECIPES[str(recipe)], **keywords}
        given = _grouped(keywords, GROUPS, {name: flags_of(group) for name, group in GROUPS.items()})
        return cls(**given)

    def settings(self) -> str:
        """Return the options as the TOML file that ``config`` reads, without secrets and what is one machine's."""
        grouped = [(getattr(self, name), flag) for name, group in GROUPS.items() for flag in flags_of(group)]
        values = [(flag, getattr(group, flag.name)) for group, flag in grouped if flag.name not in _NOT_KEPT]
        kept_back = {}
        for flag, value in values:
            words = [word for word in (value if isinstance(value, tuple) else [value]) if isinstance(word, str)]
            if words and flag.secret:
                kept_back[flag.name] = "given, and kept by nobody"
            elif any(redacted(word) != word for word in words):
                kept_back[flag.name] = "given with a password, and kept by nobody"
        return to_toml(values, kept_back)

    def shape(self) -> dict[str, Any]:
        """Return the options that change what a dataset holds, given the same answers, as values of JSON."""
        shaping = (
            (flag.name, getattr(getattr(self, group_name), flag.name))
            for group_name, group in GROUPS.items()
            for flag in flags_of(group)
            if flag.shapes
        )
        shape = {
            name: list(value) if isinstance(value, tuple) else None if value == math.inf else value
            for name, value in shaping
        }
        return {**shape, "disallowed_header_directives": sorted(self.fetch.directives)}  # whichever way they are said

    def __post_init__(self) -> None:
        _check_input(self.input)
        _check_fetch(self.fetch)
        _check_image(self.image)
        _check_output(self)
        if self.run.is_rank:
            _check_rank(self)


GROUPS: Final[Mapping[str, type[Any]]] = {
    "input": InputOptions,
    "fetch": FetchOptions,
    "image": ImageOptions,
    "output": OutputOptions,
    "run": RunOptions,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """How to look at a list before a fetch of it, and the options of that fetch."""

    survey: SurveyOptions
    fetch: Options

    @classmethod
    def of(cls, *values: Any, **keywords: Any) -> Self:  # noqa: ANN401  each value is checked against its own field
        """Build from flat keywords and positions, as :func:`survey` takes them.

        Raises:
            OptionsError: a name is unknown or given twice, or a value is not one that its option accepts.

        """
        own = {flag.name: keywords.pop(flag.name) for flag in flags_of(SurveyOptions) if flag.name in keywords}
        return cls(survey=SurveyOptions(**own), fetch=Options.of(*values, **keywords))


RETRY_GROUPS: Final[Mapping[str, type[Any]]] = {"again": AgainOptions, "fetch": FetchOptions, "run": RunOptions}
PURGE_GROUPS: Final[Mapping[str, type[Any]]] = {"removal": RemovalOptions, "run": RunOptions}
PARTITION_GROUPS: Final[Mapping[str, type[Any]]] = {"input": InputOptions, "output": ListOptions}
PLAN_GROUPS: Final[Mapping[str, type[Any]]] = {"survey": SurveyOptions, **GROUPS}
DOCTOR_GROUPS: Final[Mapping[str, type[Any]]] = {
    "checkup": CheckupOptions,
    "input": InputOptions,
    "fetch": FetchOptions,
    "output": OutputOptions,
    "run": RunOptions,
}
STREAM_GROUPS: Final[Mapping[str, type[Any]]] = {
    "input": InputOptions,
    "fetch": FetchOptions,
    "image": ImageOptions,
    "delivery": DeliveryOptions,
}

# What makes no sense for a list whose rows come out as they are done.
_NOT_FOR_A_STREAM: Final = frozenset({"partition_by", "temp_folder"})
# What says how pixels become a file.
_ENCODING: Final = frozenset({"encode_format", "encode_quality", "skip_reencode"})

# What makes no sense for a list that is written anew: it is one, each of its rows is kept, and how is said there.
_NOT_FOR_A_LIST: Final = frozenset({"shard_across_files", "dedupe", "partition_by"})


def partition_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a command takes which writes a list anew."""
    return tuple(flag for flag in flags_of(group) if group is not InputOptions or flag.name not in _NOT_FOR_A_LIST)


# What of a fetch its machine can be looked at for.
_FOR_A_MACHINE: Final = frozenset(
    {"url_list", "input_format", "url_col", "dns_servers", "ip_version", "thread_count"}
    | {"output_folder", "processes_count"}
)


def doctor_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a command takes which looks at a machine; none of them is required."""
    flags = (flag for flag in flags_of(group) if group is CheckupOptions or flag.name in _FOR_A_MACHINE)
    return tuple(replace(flag, default=()) if flag.required else flag for flag in flags)


def stream_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a stream takes."""
    return tuple(flag for flag in flags_of(group) if flag.name not in _NOT_FOR_A_STREAM)


def later_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a command takes which changes a dataset that is there."""
    return tuple(flag for flag in flags_of(group) if not flag.shapes and flag.name not in _NOT_AGAIN)


def _later(keywords: Mapping[str, Any], groups: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Return the *groups* of such a command, built from flat *keywords*."""
    return _grouped(keywords, groups, {name: later_flags(group) for name, group in groups.items()})


def _check_not_hub(output_folder: str, command: str = "aimg2ds push FOLDER hf://datasets/ORG/NAME") -> None:
    """Refuse to write to the Hub file by file; *command* is what puts a folder there."""
    if "hf://" in output_folder:
        raise OptionsError(
            "output_folder: at hf:// each file that is written is a commit of a git repository, and a run writes "
            f"thousands; write to a disk or an object store, and put it there when it is finished: {command}"
        )


def _check_one_run(options: RunOptions) -> None:
    if options.distributor == "rank":
        raise OptionsError("distributor rank is for fetching: a dataset that is there is changed by one run at a time")


def shaped_as(made_with: Mapping[str, Any], output_folder: str, fetch: FetchOptions, run: RunOptions) -> Options:
    """Return the options of a run, else by *fetch* and *run*, that makes what was *made_with* these.

    Raises:
        OptionsError: it was made by another version, which knew other options.

    """
    known = {flag.name: (name, flag) for name, group in GROUPS.items() for flag in flags_of(group) if flag.shapes}
    groups: dict[str, dict[str, Any]] = {name: {} for name in GROUPS}
    for name, value in made_with.items():
        if name not in known:
            raise OptionsError(f"output_folder: what lies there was made with {name}, which this version has not")
        group, flag = known[name]
        groups[group][name] = flag.default if value is None and not flag.optional else value  # infinity
    return Options(
        input=InputOptions(url_list=(output_folder,), input_format="parquet", **groups["input"]),
        fetch=replace(fetch, **groups["fetch"]),
        image=ImageOptions(**groups["image"]),
        output=OutputOptions(output_folder=output_folder, **groups["output"]),
        run=run,
    )


def _grouped(
    keywords: Mapping[str, Any], groups: Mapping[str, type[Any]], flags: Mapping[str, tuple[Flag, ...]]
) -> dict[str, Any]:
    """Return the *groups* built from flat *keywords*, of those *flags* that each takes."""
    known = {flag.name: flag for of_group in flags.values() for flag in of_group}
    for name in keywords:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            raise OptionsError(f"there is no option {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""))
    if "url_list" in known and known["url_list"].required and "url_list" not in keywords:
        raise OptionsError("url_list is required: the file or folder that lists the URLs, or several")
    return {
        name: group(**{flag.name: keywords[flag.name] for flag in flags[name] if flag.name in keywords})
        for name, group in groups.items()
    }


# The parameters of img2dataset's download() in its order (its main.py), for calls that give them by position.
POSITIONAL: Final = (
    *("url_list", "image_size", "output_folder", "processes_count", "resize_mode", "resize_only_if_bigger"),
    *("upscale_interpolation", "downscale_interpolation", "encode_quality", "encode_format", "skip_reencode"),
    *("output_format", "input_format", "url_col", "caption_col", "bbox_col", "thread_count"),
    *("number_sample_per_shard", "extract_exif", "save_additional_columns", "timeout", "enable_wandb"),
    *("wandb_project", "oom_shard_count", "compute_hash", "verify_hash", "distributor", "subjob_size", "retries"),
    *("disable_all_reencoding", "min_image_size", "max_image_area", "max_aspect_ratio", "incremental_mode"),
    *("max_shard_retry", "user_agent_token", "disallowed_header_directives", "ignore_ssl_certificate"),
)


def _check_input(options: InputOptions) -> None:
    columns = options.save_additional_columns
    for name in options.carried_columns:
        if name in RESERVED_COLUMNS:
            raise OptionsError(
                f"{options.carrier_of(name)} cannot carry {name!r}: "
                "the dataset has a column of that name; rename it in the list"
            )
    if len(set(columns)) != len(columns):
        raise OptionsError(f"save_additional_columns names a column twice: {list(columns)}")
    if options.verify_hash is not None and len(options.verify_hash) != 2:  # noqa: PLR2004  named in the text
        raise OptionsError(f"verify_hash takes a column and a kind of hash; got {list(options.verify_hash)}")
    if options.input_format.startswith("txt") and (
        options.carried_columns or options.caption_col or options.verify_hash
    ):
        raise OptionsError(
            "a txt list has URLs only: leave out caption_col, bbox_col, optout_col, verify_hash and "
            "save_additional_columns, or set input_format to what the list is"
        )


def _check_rank(options: Options) -> None:
    if options.output.incremental_mode != "incremental":
        raise OptionsError(
            f"incremental_mode {options.output.incremental_mode} begins at what lies in the folder, which each rank "
            "finds in another state; leave it out, and give an empty folder, or one in which this list was begun"
        )
    if options.input.partition_by:
        raise OptionsError(
            "partition_by: all ranks read one list; write it once with aimg2ds partition, then have them fetch that"
        )


def _check_output(options: Options) -> None:
    output_format, image = options.output.output_format, options.image.encode_format
    _check_not_hub(options.output.output_folder)
    if options.output.incremental_mode == "extend_new" and output_format == "dummy":
        raise OptionsError("incremental_mode extend_new reads the dataset's tables, and output_format dummy has none")
    if options.input.partition_by and options.output.incremental_mode in ("extend", "extend_new"):
        raise OptionsError(
            f"partition_by: a dataset has one list beside it, and incremental_mode {options.output.incremental_mode} "
            "adds another; make that by itself with aimg2ds partition, then fetch it without partition_by"
        )
    if options.output.hf_image and output_format != "parquet":
        raise OptionsError(f"hf_image is about the image column of output_format parquet; got {output_format}")
    if options.output.tar_index and output_format != "webdataset":
        raise OptionsError(f"tar_index is about the tars of output_format webdataset; got {output_format}")
    taken = {"parquet": {image}, "tfrecord": {image, "txt"} if options.input.caption_col else {image}}
    for name in options.input.carried_columns:
        if name in taken.get(output_format, ()):
            raise OptionsError(
                f"{options.input.carrier_of(name)} cannot carry {name!r}: output_format {output_format} has the images "
                "or captions under that name; rename it in the list"
            )
    _check_together(options.input, options.image)


def _check_together(options: InputOptions, image: ImageOptions) -> None:
    if options.verify_hash and options.verify_hash[1] != image.compute_hash:
        raise OptionsError(
            f"verify_hash and compute_hash must be the same but got {options.verify_hash[1]} and {image.compute_hash}"
        )
    if options.bbox_col and image.disable_all_reencoding:
        raise OptionsError(
            "bbox_col: what is stored as it came cannot be blurred; leave out bbox_col or disable_all_reencoding"
        )


def _check_fetch(options: FetchOptions) -> None:
    for name in ("user_agent_token", "contact"):
        if not (getattr(options, name) or "").isprintable():
            raise OptionsError(f"{name} takes one line of printable text; got {getattr(options, name)!r}")
    if options.ignore_ssl_certificate and options.tls == "record":
        raise OptionsError("ignore_ssl_certificate looks at no certificate, of which tls record would tell; choose one")
    for server in options.dns_servers:
        check_server(server)
    for net in options.allow_net:
        parse_net(net)
    for source in options.allow_sources:
        parse_source(source)
    for header in options.header:
        parse_header(header)
    if options.proxy is not None:
        parse_proxy(options.proxy)


def _check_image(options: ImageOptions) -> None:
    for name in ("apply_exif_orientation", "convert_to_srgb"):
        if options.disable_all_reencoding and getattr(options, name):
            raise OptionsError(
                f"{name}: nothing is changed in what is stored as it came; leave out {name} or disable_all_reencoding"
            )
    top = {"png": 9, "jpg": 100}.get(options.encode_format, math.inf)
    if options.encode_quality > top:
        meaning = "is a compression level, 0 to 9" if options.encode_format == "png" else "is a quality, 0 to 100"
        raise OptionsError(f"encode_quality for {options.encode_format} {meaning}; got {options.encode_quality}")


def parameters() -> list[Parameter]:
    """Return the options as parameters of a function: those that may go by position in their order, then the others."""
    known = {flag.name: flag for flag in flags()}
    in_order = [*POSITIONAL, *(name for name in known if name not in POSITIONAL)]
    return [
        Parameter(
            name,
            Parameter.POSITIONAL_OR_KEYWORD if name in POSITIONAL else Parameter.KEYWORD_ONLY,
            annotation=known[name].type,
            default=Parameter.empty if known[name].required else known[name].default,
        )
        for name in in_order
    ]


def stream_parameters() -> list[Parameter]:
    """Return the options of a stream as parameters of a function, to be given by name."""
    return [
        Parameter(
            flag.name,
            Parameter.KEYWORD_ONLY,
            annotation=flag.type | None if flag.required else flag.type,
            default=None if flag.required else flag.default,
        )
        for group in STREAM_GROUPS.values()
        for flag in stream_flags(group)
    ]


def flags() -> Iterator[Flag]:
    """Yield every option of every group, in the order of the help."""
    for group in GROUPS.values():
        yield from flags_of(group)
