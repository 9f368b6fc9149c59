"""All options of a fetch, and as parameters of a function."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from inspect import Parameter
from typing import TYPE_CHECKING, Any, Final, Self

from async_img2ds.errors import OptionsError, redacted
from async_img2ds.flags import Flag, flags_of
from async_img2ds.options.keywords import grouped
from async_img2ds.options.stages import (
    FetchOptions,
    ImageOptions,
    InputOptions,
    OutputOptions,
    RunOptions,
    check_fetch,
    check_image,
    check_input,
    check_not_hub,
    check_together,
)
from async_img2ds.settings import in_file, to_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["GROUPS", "Options", "POSITIONAL", "flags", "parameters", "shaped_as"]

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
        return cls(**grouped(keywords, GROUPS, {name: flags_of(group) for name, group in GROUPS.items()}))

    def settings(self) -> str:
        """Return the options as the TOML file that ``config`` reads, without secrets and what is one machine's."""
        each = [(getattr(self, name), flag) for name, group in GROUPS.items() for flag in flags_of(group)]
        values = [(flag, getattr(group, flag.name)) for group, flag in each if flag.name not in _NOT_KEPT]
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
        check_input(self.input)
        check_fetch(self.fetch)
        check_image(self.image)
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


def flags() -> Iterator[Flag]:
    """Yield every option of every group, in the order of the help."""
    for group in GROUPS.values():
        yield from flags_of(group)


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


def _check_output(options: Options) -> None:
    output_format, image = options.output.output_format, options.image.encode_format
    check_not_hub(options.output.output_folder)
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
    check_together(options.input, options.image)


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
