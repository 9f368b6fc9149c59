"""Options of what is done with a dataset that is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from async_img2ds.errors import MAY_HEAL, NOT_FETCHED, ErrorClass, OptionsError
from async_img2ds.flags import Checked, Flag, flags_of, option
from async_img2ds.options.keywords import grouped
from async_img2ds.options.stages import A_DAY_S, FetchOptions, RunOptions, check_not_hub, progress_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "AgainOptions",
    "ManifestOptions",
    "PURGE_GROUPS",
    "PurgeOptions",
    "PushOptions",
    "RETRY_GROUPS",
    "RemovalOptions",
    "ReportOptions",
    "RetryOptions",
    "SummaryOptions",
    "VerifyOptions",
    "check_one_run",
    "dataset_folder",
    "later_flags",
]


def dataset_folder() -> Any:  # noqa: ANN401  as option() itself
    """Declare the option that names the dataset."""
    return option(help="The dataset's folder, on disk or at any fsspec URL.")


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyOptions(Checked):
    """How to check a dataset."""

    output_folder: str = dataset_folder()
    deep: bool = option(default=False, help="Decode every image and read every JSON, too.")
    repair: bool = option(
        default=False, help="Remove the shards that have defects, so that the run that made them fetches them again."
    )
    processes_count: int | None = option(
        None, least=1, help="Processes that read. Default: the cores this process may use."
    )
    progress: str = progress_kind()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.repair:
            check_not_hub(self.output_folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class SummaryOptions(Checked):
    """How to add up a dataset."""

    output_folder: str = dataset_folder()
    json: bool = option(default=False, help="Print one JSON object, for programs.")
    progress: str = progress_kind()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportOptions(Checked):
    """How to show a dataset as a page."""

    output_folder: str = dataset_folder()
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
    progress: str = progress_kind()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.watch and self.output_file is not None:
            raise OptionsError("watch serves the page and writes none; leave out output_file or watch")
        if not self.watch and self.output_file is None:
            check_not_hub(self.output_folder, "--output_file FILE puts the page on a disk")
        if self.open and not self.watch and "://" in (self.output_file or self.output_folder):
            raise OptionsError("open shows a page that is on this machine; name a file on a disk with --output_file")


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestOptions(Checked):
    """How to write down what a dataset has."""

    output_folder: str = dataset_folder()
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
    progress: str = progress_kind()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        check_not_hub(self.output_folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class PushOptions(Checked):
    """How to put a dataset on the Hugging Face Hub."""

    output_folder: str = dataset_folder()
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
    progress: str = progress_kind()

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        if self.partial and self.prune:
            raise OptionsError("prune takes what is not finished here for what is no more; leave out prune or partial")


@dataclass(frozen=True, slots=True, kw_only=True)
class AgainOptions(Checked):
    """What to fetch again."""

    output_folder: str = dataset_folder()
    error_class: tuple[str, ...] = option(
        tuple(sorted(MAY_HEAL)),
        choices=tuple(sorted(set(ErrorClass) - NOT_FETCHED)),
        also="class",
        help="Rows that failed for these reasons are fetched again. Repeatable. Default: those that may have passed, "
        "such as time-outs, resets, 429 and 5xx.",
    )

    def __post_init__(self) -> None:
        Checked.__post_init__(self)
        check_not_hub(self.output_folder)
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
        check_one_run(self.run)


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovalOptions(Checked):
    """What to remove."""

    output_folder: str = dataset_folder()
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
        check_not_hub(self.output_folder)
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
        check_one_run(self.run)


RETRY_GROUPS: Final[Mapping[str, type[Any]]] = {"again": AgainOptions, "fetch": FetchOptions, "run": RunOptions}

PURGE_GROUPS: Final[Mapping[str, type[Any]]] = {"removal": RemovalOptions, "run": RunOptions}


def later_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a command takes which changes a dataset that is there."""
    return tuple(flag for flag in flags_of(group) if not flag.shapes and flag.name not in _NOT_AGAIN)


def _later(keywords: Mapping[str, Any], groups: Mapping[str, type[Any]]) -> dict[str, Any]:
    """Return the *groups* of such a command, built from flat *keywords*."""
    return grouped(keywords, groups, {name: later_flags(group) for name, group in groups.items()})


def check_one_run(options: RunOptions) -> None:
    """Refuse what is for fetching alone."""
    if options.distributor == "rank":
        raise OptionsError("distributor rank is for fetching: a dataset that is there is changed by one run at a time")
