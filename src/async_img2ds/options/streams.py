"""Options of a stream of samples, which makes no dataset."""

from __future__ import annotations

from dataclasses import dataclass
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final, Self

from async_img2ds.errors import OptionsError
from async_img2ds.flags import Checked, Flag, flags_of, option
from async_img2ds.options.fetching import flags
from async_img2ds.options.keywords import grouped
from async_img2ds.options.stages import (
    FetchOptions,
    ImageOptions,
    InputOptions,
    check_fetch,
    check_image,
    check_input,
    check_together,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DeliveryOptions", "STREAM_GROUPS", "StreamOptions", "stream_flags", "stream_parameters"]


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
        return cls(**grouped(keywords, STREAM_GROUPS, allowed))

    def __post_init__(self) -> None:
        check_input(self.input)
        check_fetch(self.fetch)
        check_image(self.image)
        check_together(self.input, self.image)
        if self.delivery.decode and self.image.disable_all_reencoding:
            raise OptionsError("disable_all_reencoding keeps bodies as they came, and decode does not; choose one")


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


def stream_flags(group: type[Any]) -> tuple[Flag, ...]:
    """Return the options of *group* that a stream takes."""
    return tuple(flag for flag in flags_of(group) if flag.name not in _NOT_FOR_A_STREAM)


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
