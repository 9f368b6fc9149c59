"""Turn lists of image URLs into image datasets ready for machine learning.

``download(url_list=…, output_folder=…)`` does the whole job and returns a :class:`RunReport`;
``await download_async(…)`` is the same from a running event loop. Importing this package is cheap: what a name needs
is imported when the name is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from async_img2ds.checkup.doctor import DoctorReport, doctor
    from async_img2ds.dataset.manifest import ManifestReport, manifest
    from async_img2ds.dataset.purge import PurgeReport, purge
    from async_img2ds.dataset.push import PushReport, push
    from async_img2ds.dataset.retry import RetryReport, retry
    from async_img2ds.dataset.summary import Summary, summary
    from async_img2ds.dataset.verify import VerifyReport, verify
    from async_img2ds.errors import (
        AsyncImg2dsError,
        ErrorClass,
        InputError,
        LocalFault,
        MissingExtraError,
        OptionsError,
        StorageError,
        WorkerError,
    )
    from async_img2ds.lists.partition import PartitionReport, partition
    from async_img2ds.options import (
        DeliveryOptions,
        FetchOptions,
        ImageOptions,
        InputOptions,
        Options,
        OutputOptions,
        RunOptions,
    )
    from async_img2ds.page.report import DatasetReport, report
    from async_img2ds.prospect import SurveyReport, survey
    from async_img2ds.records import Defect, RunReport, Status
    from async_img2ds.run import download, download_async
    from async_img2ds.streaming.calls import stream, stream_async
    from async_img2ds.streaming.sample import StreamSample

__all__ = [
    # the work
    "download",
    "download_async",
    "RunReport",
    "stream_async",
    "stream",
    "StreamSample",
    "retry",
    "RetryReport",
    "purge",
    "PurgeReport",
    "verify",
    "VerifyReport",
    "partition",
    "PartitionReport",
    "survey",
    "SurveyReport",
    "doctor",
    "DoctorReport",
    "Defect",
    "summary",
    "Summary",
    "report",
    "DatasetReport",
    "manifest",
    "ManifestReport",
    "push",
    "PushReport",
    "Status",
    "ErrorClass",
    # its options
    "Options",
    "InputOptions",
    "FetchOptions",
    "ImageOptions",
    "OutputOptions",
    "RunOptions",
    "DeliveryOptions",
    # what can go wrong
    "AsyncImg2dsError",
    "OptionsError",
    "MissingExtraError",
    "InputError",
    "StorageError",
    "WorkerError",
    "LocalFault",
    "__version__",
]

_HOMES = {
    "download": "run",
    "download_async": "run",
    "RunReport": "records",
    "stream_async": "streaming.calls",
    "stream": "streaming.calls",
    "StreamSample": "streaming.sample",
    "retry": "dataset.retry",
    "RetryReport": "dataset.retry",
    "purge": "dataset.purge",
    "PurgeReport": "dataset.purge",
    "verify": "dataset.verify",
    "VerifyReport": "dataset.verify",
    "partition": "lists.partition",
    "PartitionReport": "lists.partition",
    "survey": "prospect",
    "SurveyReport": "prospect",
    "doctor": "checkup.doctor",
    "DoctorReport": "checkup.doctor",
    "Defect": "records",
    "report": "page.report",
    "DatasetReport": "page.report",
    "manifest": "dataset.manifest",
    "ManifestReport": "dataset.manifest",
    "push": "dataset.push",
    "PushReport": "dataset.push",
    "summary": "dataset.summary",
    "Summary": "dataset.summary",
    "Status": "records",
    "ErrorClass": "errors",
    "Options": "options",
    "InputOptions": "options",
    "FetchOptions": "options",
    "ImageOptions": "options",
    "OutputOptions": "options",
    "RunOptions": "options",
    "DeliveryOptions": "options",
    "AsyncImg2dsError": "errors",
    "OptionsError": "errors",
    "MissingExtraError": "errors",
    "InputError": "errors",
    "StorageError": "errors",
    "WorkerError": "errors",
    "LocalFault": "errors",
}


def __getattr__(name: str) -> object:
    if name == "__version__":
        from importlib.metadata import version

        return version("async-img2ds")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
