"""What each stage of a run is told: a group for each, which sees no other."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

from async_img2ds.errors import OptionsError
from async_img2ds.flags import JUST_ABOVE_ZERO, Checked, option
from async_img2ds.headers import parse_header
from async_img2ds.nets import check_server, parse_net, parse_proxy
from async_img2ds.ranks import ALL, Share, ranks_beside, share_among
from async_img2ds.recipes import RECIPES
from async_img2ds.sources import parse_source

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "A_DAY_S",
    "DEFAULT_DISALLOWED_DIRECTIVES",
    "FetchOptions",
    "INPUT_FORMATS",
    "INTERPOLATIONS",
    "ImageOptions",
    "InputOptions",
    "OutputOptions",
    "RESERVED_COLUMNS",
    "RunOptions",
    "check_fetch",
    "check_image",
    "check_input",
    "check_not_hub",
    "check_together",
    "progress_kind",
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


def progress_kind() -> Any:  # noqa: ANN401  as option() itself
    """Declare the option that says how progress is shown."""
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
    progress: str = progress_kind()

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


def check_input(options: InputOptions) -> None:
    """Refuse columns that cannot be carried, or that the list cannot have."""
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


def check_fetch(options: FetchOptions) -> None:
    """Refuse what is no server, network, source, header or proxy, and what contradicts itself."""
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


def check_image(options: ImageOptions) -> None:
    """Refuse what would change images that are stored as they came, and qualities that the format has not."""
    for name in ("apply_exif_orientation", "convert_to_srgb"):
        if options.disable_all_reencoding and getattr(options, name):
            raise OptionsError(
                f"{name}: nothing is changed in what is stored as it came; leave out {name} or disable_all_reencoding"
            )
    top = {"png": 9, "jpg": 100}.get(options.encode_format, math.inf)
    if options.encode_quality > top:
        meaning = "is a compression level, 0 to 9" if options.encode_format == "png" else "is a quality, 0 to 100"
        raise OptionsError(f"encode_quality for {options.encode_format} {meaning}; got {options.encode_quality}")


def check_together(options: InputOptions, image: ImageOptions) -> None:
    """Refuse columns of the list that *image* has no use for."""
    if options.verify_hash and options.verify_hash[1] != image.compute_hash:
        raise OptionsError(
            f"verify_hash and compute_hash must be the same but got {options.verify_hash[1]} and {image.compute_hash}"
        )
    if options.bbox_col and image.disable_all_reencoding:
        raise OptionsError(
            "bbox_col: what is stored as it came cannot be blurred; leave out bbox_col or disable_all_reencoding"
        )


def check_not_hub(output_folder: str, command: str = "aimg2ds push FOLDER hf://datasets/ORG/NAME") -> None:
    """Refuse to write to the Hub file by file; *command* is what puts a folder there."""
    if "hf://" in output_folder:
        raise OptionsError(
            "output_folder: at hf:// each file that is written is a commit of a git repository, and a run writes "
            f"thousands; write to a disk or an object store, and put it there when it is finished: {command}"
        )
