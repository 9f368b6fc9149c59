"""``stream_async`` and ``stream``: what a program calls."""

from __future__ import annotations

import importlib.util
from functools import partial
from inspect import Parameter, Signature
from typing import TYPE_CHECKING, Any, Final, Literal, overload

from async_img2ds.blocking import InThread
from async_img2ds.errors import OptionsError
from async_img2ds.options import StreamOptions, stream_parameters
from async_img2ds.preflight import check_fetching
from async_img2ds.streaming.listed import Listed, check_listed, is_of_files
from async_img2ds.streaming.stream import samples_of
from async_img2ds.worker.process import loop_factory

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    import numpy as np
    from numpy.typing import NDArray

    from async_img2ds.images.codec import Pixels
    from async_img2ds.streaming.sample import StreamSample

__all__ = ["stream", "stream_async"]

# Samples on their way from the thread in which they are made, beside those that wait there: enough that neither side
# waits for the other's thread to wake up for each of them.
ON_THE_WAY_MAX: Final = 16


@overload
def stream_async(
    urls: Listed | None = None,
    *,
    decode: None = None,
    **options: Any,  # noqa: ANN401  checked against their fields
) -> AsyncGenerator[StreamSample[bytes]]: ...
@overload
def stream_async(
    urls: Listed | None = None,
    *,
    decode: Literal["numpy"],
    **options: Any,  # noqa: ANN401  checked against their fields
) -> AsyncGenerator[StreamSample[NDArray[np.uint8]]]: ...
@overload
def stream_async(
    urls: Listed | None = None,
    *,
    decode: Literal["pil"],
    **options: Any,  # noqa: ANN401  checked against their fields
) -> AsyncGenerator[StreamSample[Pixels]]: ...
def stream_async(urls: Listed | None = None, **options: Any) -> AsyncGenerator[StreamSample[Any]]:
    """Fetch the images of a URL list, and hand them over as they are done: no files, in the running event loop.

    ``async for sample in stream_async(urls):`` yields each row of the list once, in the order in which they are done.
    Hosts, reservations, retries and sizes are treated as by :func:`download`, whose options for lists, fetching and
    images are taken as keywords, and those of :class:`DeliveryOptions`. When samples are taken more slowly than made,
    fetching pauses. Leaving the loop ends all that was begun; to wait for that, have the loop in
    ``async with contextlib.aclosing(…)``.

    A loop that computes for seconds between two samples holds up all that is fetched, so that servers seem silent: what
    trains had better call :func:`stream`.

    Args:
        urls: where the URLs are: an iterable or an async iterable of URLs, or of mappings with a column ``url_col``,
            which need not end; a table of pyarrow, pandas or Polars; or a path as ``url_list`` takes it. In place of it
            there may be ``url_list``, for several files.
        options: by name, as the signature has them.

    Raises:
        OptionsError: an option cannot be used. That a column is not there is told when the first sample is asked for.

    While samples are taken, behind those of all rows before it:
        InputError: the list cannot be read.
        LocalFault: this machine could not fetch, for an hour on end.
    What an iterable of the program's own raises comes as it is.

    """
    listed, checked = _checked(urls, options)
    return samples_of(listed, checked)


@overload
def stream(
    urls: Listed | None = None,
    *,
    decode: None = None,
    **options: Any,  # noqa: ANN401  checked against their fields
) -> InThread[StreamSample[bytes]]: ...
@overload
def stream(
    urls: Listed | None = None,
    *,
    decode: Literal["numpy"],
    **options: Any,  # noqa: ANN401  checked against their fields
) -> InThread[StreamSample[NDArray[np.uint8]]]: ...
@overload
def stream(
    urls: Listed | None = None,
    *,
    decode: Literal["pil"],
    **options: Any,  # noqa: ANN401  checked against their fields
) -> InThread[StreamSample[Pixels]]: ...
def stream(urls: Listed | None = None, **options: Any) -> InThread[StreamSample[Any]]:
    """Do what :func:`stream_async` does for code that blocks, in a thread beside it.

    What it returns is an iterator, to be used once: ``for sample in stream(urls):``. Leaving the loop, ``close()`` or
    the end of a ``with`` block ends its thread and all that was begun. An async iterable runs in that thread.
    """
    listed, checked = _checked(urls, options)
    ahead = min(ON_THE_WAY_MAX, checked.delivery.samples_ahead_max)
    return InThread(partial(samples_of, listed, checked), ahead, loop_factory())


def _checked(urls: Listed | None, options: dict[str, Any]) -> tuple[Listed | None, StreamOptions]:
    """Return the list, None if it is files that the options name, and the options."""
    if (urls is None) == (options.get("url_list") is None):
        raise OptionsError("a stream takes one list: URLs, a table or a path, or else url_list, several paths")
    check_listed(urls, is_said_how="input_format" in options or "recipe" in options)
    if urls is None or is_of_files(urls):
        listed, checked = None, StreamOptions.of(**({} if urls is None else {"url_list": urls}) | options)
    elif "input_format" in options:
        raise OptionsError("input_format says how files are read, and this list is none; leave it out")
    else:
        # As if it were read from a table; the name is never opened.
        listed, checked = urls, StreamOptions.of(**options, url_list="rows", input_format="arrow")
    check_fetching(checked.fetch, checked.image)
    if checked.delivery.decode == "numpy" and importlib.util.find_spec("numpy") is None:
        raise OptionsError("decode numpy needs NumPy: pip install numpy")
    return listed, checked


_URLS: Final = Parameter("urls", Parameter.POSITIONAL_OR_KEYWORD, default=None, annotation=Listed | None)
vars(stream)["__signature__"] = Signature([_URLS, *stream_parameters()])
vars(stream_async)["__signature__"] = Signature([_URLS, *stream_parameters()])
