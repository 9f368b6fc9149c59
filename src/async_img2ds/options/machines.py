"""Options of a look at a machine."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Self

from async_img2ds.flags import Checked, Flag, flags_of, option
from async_img2ds.options.keywords import grouped
from async_img2ds.options.stages import FetchOptions, InputOptions, OutputOptions, RunOptions, check_fetch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CheckupOptions", "DOCTOR_GROUPS", "DoctorOptions", "doctor_flags"]


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
        given = grouped(keywords, groups, allowed)
        return cls(**{"input": None, **given})

    def __post_init__(self) -> None:
        check_fetch(self.fetch)


DOCTOR_GROUPS: Final[Mapping[str, type[Any]]] = {
    "checkup": CheckupOptions,
    "input": InputOptions,
    "fetch": FetchOptions,
    "output": OutputOptions,
    "run": RunOptions,
}

# What of a fetch its machine can be looked at for.
_FOR_A_MACHINE: Final = frozenset(
    {"url_list", "input_format", "url_col", "dns_servers", "ip_version", "thread_count"}
    | {"output_folder", "processes_count"}
)


def doctor_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a command takes which looks at a machine; none of them is required."""
    flags = (flag for flag in flags_of(group) if group is CheckupOptions or flag.name in _FOR_A_MACHINE)
    return tuple(replace(flag, default=()) if flag.required else flag for flag in flags)
