"""What must be there, or must not be, before a run begins: refused before anything is started, created or deleted."""

from __future__ import annotations

import importlib.util
import logging
import os
from operator import attrgetter
from typing import TYPE_CHECKING, Final, cast

from async_img2ds.errors import AsyncImg2dsError, InputOutOfReach, MissingExtraError, OptionsError
from async_img2ds.options import DEFAULT_DISALLOWED_DIRECTIVES
from async_img2ds.policy.host_rules import NO_RULES, HostRules
from async_img2ds.sources import parse_source
from async_img2ds.storage import file_system, folder_system, is_out_of_reach, protocols

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from async_img2ds.inputs.streams import ListFile
    from async_img2ds.options import FetchOptions, ImageOptions, Options

__all__ = [
    "EXTRAS",
    "check_apart",
    "check_fetching",
    "check_image_library",
    "check_importable",
    "check_installed",
    "check_shared",
    "host_rules",
    "lines_of",
    "proxies_in",
]

logger = logging.getLogger(__name__)

# An option and a choice of it that needs more than the package's own dependencies → what is imported for it, and the
# extra that installs it. File systems say so themselves, when they are opened.
EXTRAS: Final[Mapping[tuple[str, str], tuple[str, str]]] = {
    ("output.output_format", "tfrecord"): ("google_crc32c", "tfrecord"),
    ("run.distributor", "pyspark"): ("pyspark", "spark"),
    ("run.distributor", "ray"): ("ray", "ray"),
}

# What other programs heed, and a machine may have set without anybody's knowing. A proxy hides where a request goes,
# and with it whether that may be asked.
_PROXIES: Final = ("http_proxy", "https_proxy", "all_proxy")


def check_installed(options: Options) -> None:
    """Refuse *options* that need what is not installed here.

    Raises:
        OptionsError: there is no image library, or it was built without what is asked of it.
        MissingExtraError: an optional package is missing.

    """
    check_fetching(options.fetch, options.image)
    for (option, choice), (module, extra) in EXTRAS.items():
        if attrgetter(option)(options) == choice:
            check_importable(f"{option.rpartition('.')[2]} {choice}", module, extra)


def proxies_in(environment: Mapping[str, str]) -> list[str]:
    """Return the variables of *environment* that name proxies, which are not heeded."""
    return [name for name in _PROXIES if environment.get(name) or environment.get(name.upper())]


def check_fetching(fetch: FetchOptions, image: ImageOptions) -> None:
    """Refuse options of fetching and of images that need what is not installed here, and say which may surprise.

    Raises:
        OptionsError: there is no image library, or it was built without what is asked of it.
        MissingExtraError: an optional package is missing.

    """
    _check_image_library(image)
    if proxies := proxies_in(os.environ):
        said = "--proxy is used instead" if fetch.proxy else "every host is asked directly, unless by --proxy"
        logger.warning("%s is set and not used: %s", " and ".join(proxies), said)
    _say_what_is_not_obeyed(fetch)
    for kind in {parse_source(source).kind for source in fetch.allow_sources}:
        _check_source(kind)


def _check_source(kind: str) -> None:
    """Refuse a kind of source of which the file system is not installed, or does not know whom to ask."""
    try:
        file_system(f"{kind}:///")
    except AsyncImg2dsError:
        raise
    except Exception as error:  # each file system has errors of its own
        raise OptionsError(f"allow_sources {kind}: {str(error) or type(error).__name__}") from error


def _say_what_is_not_obeyed(options: FetchOptions) -> None:
    """Say at the start which owners' wishes the user has chosen not to heed; each stats file keeps that, too."""
    if options.optout == "none":
        logger.warning("--optout none: reservations of owners keep no image out, as you have chosen")
    elif not options.directives:
        logger.warning("--disallowed_header_directives []: X-Robots-Tag keeps no image out, as you have chosen")
    elif left_out := sorted(set(DEFAULT_DISALLOWED_DIRECTIVES).difference(options.directives)):
        said = ", ".join(left_out)
        logger.warning("--disallowed_header_directives: X-Robots-Tag: %s keeps no image out, as you have chosen", said)
    if options.tls_mode == "off":
        logger.warning("--tls off: no certificate is looked at, so anybody on the way may change what comes")


def check_importable(what: str, module: str, extra: str) -> None:
    """Refuse *what* needs *module* where it is not installed.

    Raises:
        MissingExtraError: the package of the *extra* is missing.

    """
    if importlib.util.find_spec(module) is None:
        raise MissingExtraError(what, extra)


def check_image_library() -> None:
    """Refuse to go on without any image library.

    Raises:
        OptionsError: there is none.

    """
    if importlib.util.find_spec("PIL") is None:
        raise OptionsError(
            "no image library is installed. Type one of these two lines:\n"
            "  pip install 'async-img2ds[simd]'     # pillow-simd: faster, compiled on this machine\n"
            "  pip install 'async-img2ds[pillow]'   # Pillow: ready to use"
        )


def _check_image_library(options: ImageOptions) -> None:
    check_image_library()
    from async_img2ds.images import codec

    if options.convert_to_srgb and not codec.converts_profiles():
        raise OptionsError(
            f"convert_to_srgb: {codec.library()} was built without littlecms; "
            "install its headers (apt-get install liblcms2-dev) and rebuild, or take the extra 'pillow'"
        )
    for name in options.decode_also:
        if not codec.can_decode(name, options.decode_also):
            raise OptionsError(
                f"decode_also: {codec.library()} was built without a decoder for {name}; "
                "install its headers and rebuild, or take the extra 'pillow'"
            )
    if missing := codec.missing_formats():
        if options.encode_format in missing:
            raise OptionsError(
                f"encode_format: {codec.library()} was built without {options.encode_format}; "
                "install its headers and rebuild, or take the extra 'pillow'"
            )
        logger.warning(
            "%s was built without %s: such images will fail as decode_unsupported", codec.library(), ", ".join(missing)
        )


def check_shared(output_folder: str) -> None:
    """Refuse an output folder that the workers would not share.

    Raises:
        OptionsError: it is in the memory of one process.

    """
    fs, _ = folder_system(output_folder)
    if "memory" in protocols(fs):
        raise OptionsError("output_folder: memory:// is each process's own, and workers are others; choose a folder")


def host_rules(url: str | None) -> HostRules:
    """Return what the hosts_file says, on disk or at any fsspec URL; without one there are no rules.

    Raises:
        OptionsError: it cannot be read, or says what no rule can be.
        InputOutOfReach: it is at a server that does not answer.

    """
    return NO_RULES if url is None else HostRules.parse(_text_of("hosts_file", url))


def lines_of(option: str, url: str | None) -> list[str]:
    """Return the lines of the text file that *option* names, on disk or at any fsspec URL; without one there are none.

    Raises:
        OptionsError: it cannot be read.
        InputOutOfReach: it is at a server that does not answer.

    """
    return [] if url is None else _text_of(option, url).splitlines()


def _text_of(option: str, url: str) -> str:
    try:
        fs, path = file_system(url)
        return cast("bytes", fs.cat_file(path)).decode()
    except AsyncImg2dsError:
        raise
    except Exception as error:  # each file system has errors of its own; to the user they are one thing
        kind = InputOutOfReach if is_out_of_reach(error) else OptionsError
        raise kind(f"{option}: {url} cannot be read: {str(error) or type(error).__name__}") from error


def check_apart(files: Iterable[ListFile], output_folder: str) -> None:
    """Refuse to write where lists are looked for, or over one: what is made has files that would be taken for lists.

    Raises:
        OptionsError: the output folder is the folder of one of *files*.

    """
    fs, path = folder_system(output_folder)
    for file in files:
        folder, _, name = os.path.realpath(file.path).rpartition("/")
        if type(file.fs) is not type(fs) or os.path.realpath(path) not in (folder, os.path.realpath(file.folder)):
            continue
        if file.found:
            raise OptionsError(
                "output_folder is the folder of the list: what is written there would be read as lists, too; "
                "choose another"
            )
        if name.partition(".")[0].isdigit():
            raise OptionsError(
                f"output_folder is the folder of the list, and a shard may be called {name}, too; choose another"
            )
