"""Which files a URL list is: what paths, folders, patterns and lists of them name, in order."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.errors import AsyncImg2dsError, InputError, InputOutOfReach, redacted
from async_img2ds.inputs.streams import ListFile
from async_img2ds.options import INPUT_FORMATS
from async_img2ds.storage import file_system, in_a_line, is_out_of_reach, protocols

if TYPE_CHECKING:
    from collections.abc import Iterable

    from async_img2ds.options import InputOptions

__all__ = ["COMPRESSIONS", "files_of", "split_format"]

logger = logging.getLogger(__name__)

COMPRESSIONS: Final = {"gz": "gzip", "zst": "zstd"}


def split_format(input_format: str) -> tuple[str, str | None]:
    """Return the format of what is in the files, and what they are compressed by: ``csv.gz`` → csv, gzip."""
    name, _, ending = input_format.partition(".")
    return name, COMPRESSIONS.get(ending)


def files_of(options: InputOptions) -> list[ListFile]:
    """Return the files of the list: as they were named, those of a folder or a pattern sorted.

    Raises:
        InputError: one of the names leads to nothing, or one file is named twice.
        InputOutOfReach: where it leads to does not answer.

    """
    found: list[ListFile] = []
    named: list[ListFile] = []
    for url in options.url_list:
        try:
            files, by_ending = _files_at(url, options.input_format)
        except AsyncImg2dsError:
            raise
        except Exception as error:  # each file system has errors of its own; to the user they are one thing
            if is_out_of_reach(error):
                said = in_a_line(error.__cause__ or error)
                raise InputOutOfReach(f"url_list: {url} cannot be read now: {said}") from error
            raise InputError(f"url_list: {url} cannot be read: {str(error) or type(error).__name__}") from error
        found += files
        named += [] if by_ending else files
    _refuse_twice(found)
    _warn_of_endings(named, options.input_format)
    return found


def _files_at(url: str, input_format: str) -> tuple[list[ListFile], bool]:
    """Return the files that *url* names, and whether they were chosen by their ending."""
    fs, path = file_system(url)
    info = _info(fs, path)
    if info is None:
        return _matching(fs, path, url, input_format), False
    # To HTTP every address is a file, and only its last character tells a folder.
    if info["type"] == "directory" or path.endswith("/"):
        return _in_folder(fs, path, url, input_format), True
    return [_list_file(fs, info, input_format)], False


def _info(fs: Any, path: str) -> dict[str, Any] | None:  # noqa: ANN401  fsspec's file systems are untyped
    try:
        return dict(fs.info(path))
    except FileNotFoundError as error:
        if is_out_of_reach(error):  # by HTTP's file system nothing is there, whatever the reason
            raise
        return None


def _in_folder(fs: Any, path: str, url: str, input_format: str) -> list[ListFile]:  # noqa: ANN401  as above
    entries = [entry for entry in fs.ls(path, detail=True) if not _hidden(entry["name"]) and _is_file(fs, entry)]
    files = [entry for entry in entries if entry["name"].endswith(f".{input_format}")]
    if not files:
        others = sorted({ending for entry in entries if (ending := _ending(entry["name"]))})
        raise InputError(
            f"url_list: no file ending in .{input_format} in the folder {url}; input_format says which ending"
            + (f", and there are some ending in .{', .'.join(others)}" if others else "")
        )
    return [
        _list_file(fs, entry, input_format, found=True) for entry in sorted(files, key=lambda entry: str(entry["name"]))
    ]


def _matching(fs: Any, path: str, url: str, input_format: str) -> list[ListFile]:  # noqa: ANN401  as above
    if not any(character in path for character in "*?["):
        raise InputError(f"url_list: {url} does not exist")
    asked_for_hidden = _base(path).startswith((".", "_"))
    entries = [entry for entry in fs.glob(path, detail=True).values() if asked_for_hidden or not _hidden(entry["name"])]
    files = [entry for entry in entries if _is_file(fs, entry)]
    if not files:
        hint = """; a list of files is written '["a.txt","b.txt"]'""" if url.startswith("[") else ""
        raise InputError(f"url_list: there is no file {url}, and none that matches it as a pattern{hint}")
    return [
        _list_file(fs, entry, input_format, found=True) for entry in sorted(files, key=lambda entry: str(entry["name"]))
    ]


def _list_file(fs: Any, info: dict[str, Any], input_format: str, *, found: bool = False) -> ListFile:  # noqa: ANN401
    path = str(info["name"])
    name = path if "file" in protocols(fs) else redacted(str(fs.unstrip_protocol(path)))
    size = info.get("size")  # which an HTTP server may not say
    return ListFile(fs, path, name, None if size is None else int(size), split_format(input_format)[1], found)


def _is_file(fs: Any, entry: dict[str, Any]) -> bool:  # noqa: ANN401  as above
    """Whether an entry of a folder is a file, or leads to one: Hugging Face's cache has links only."""
    return entry["type"] == "file" or (entry["type"] != "directory" and bool(fs.isfile(entry["name"])))


def _base(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


def _hidden(path: str) -> bool:
    """Whether a file is none of the list's, whatever is asked for: hidden, or a mark such as Spark's ``_SUCCESS``."""
    name = _base(path)
    return name.startswith(".") or (name.startswith("_") and "." not in name)


def _ending(path: str) -> str | None:
    """Return the longest ending of *path* that is a format's name."""
    return max((ending for ending in INPUT_FORMATS if path.endswith(f".{ending}")), key=len, default=None)


def _refuse_twice(files: Iterable[ListFile]) -> None:
    """Refuse to read a file twice: its images would be fetched and stored twice, which nobody asks for on purpose."""
    seen = set()
    for file in files:
        if (key := (file.fs, file.path)) in seen:
            raise InputError(f"url_list names {file.name} twice; name each file once, by itself or by a pattern")
        seen.add(key)


_SAME: Final = {"feather": "arrow"}


def _warn_of_endings(files: Iterable[ListFile], input_format: str) -> None:
    read_as = split_format(input_format)[0]
    for file in files:
        ending = _ending(file.path)
        says = split_format(ending)[0] if ending else read_as
        if _SAME.get(says, says) != _SAME.get(read_as, read_as):
            logger.warning(
                "url_list: %s is read as %s; if it is what its name says, set --input_format %s",
                file.name,
                input_format,
                ending,
            )
            return  # of many files one says it all
