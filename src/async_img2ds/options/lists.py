"""Options of what is done with a list before it is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Self

from async_img2ds.flags import Checked, Flag, flags_of, option
from async_img2ds.options.fetching import GROUPS, Options
from async_img2ds.options.keywords import grouped
from async_img2ds.options.stages import InputOptions, check_input, check_not_hub

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "ListOptions",
    "PARTITION_GROUPS",
    "PLAN_GROUPS",
    "PartitionOptions",
    "PlanOptions",
    "SurveyOptions",
    "partition_flags",
]


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
        check_not_hub(self.output_folder, "hf upload ORG/NAME FOLDER --repo-type dataset")


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
        return cls(**grouped(keywords, PARTITION_GROUPS, allowed))

    def __post_init__(self) -> None:
        check_input(self.input)


PARTITION_GROUPS: Final[Mapping[str, type[Any]]] = {"input": InputOptions, "output": ListOptions}

# What makes no sense for a list that is written anew: it is one, each of its rows is kept, and how is said there.
_NOT_FOR_A_LIST: Final = frozenset({"shard_across_files", "dedupe", "partition_by"})


def partition_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a command takes which writes a list anew."""
    return tuple(flag for flag in flags_of(group) if group is not InputOptions or flag.name not in _NOT_FOR_A_LIST)


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


PLAN_GROUPS: Final[Mapping[str, type[Any]]] = {"survey": SurveyOptions, **GROUPS}
