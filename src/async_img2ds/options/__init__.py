"""Every option: its name, default, help and check, declared once.

A field of a group here is at once a keyword of ``download``, a flag of ``aimg2ds fetch`` and a line of its help.
Each stage of the program is handed its own group and sees no other. Values are refused here, before
anything is started, created or deleted.
"""

from __future__ import annotations

from async_img2ds.options.datasets import (
    PURGE_GROUPS,
    RETRY_GROUPS,
    ManifestOptions,
    PurgeOptions,
    PushOptions,
    ReportOptions,
    RetryOptions,
    SummaryOptions,
    VerifyOptions,
    later_flags,
)
from async_img2ds.options.fetching import GROUPS, POSITIONAL, Options, flags, parameters, shaped_as
from async_img2ds.options.lists import (
    PARTITION_GROUPS,
    PLAN_GROUPS,
    PartitionOptions,
    PlanOptions,
    SurveyOptions,
    partition_flags,
)
from async_img2ds.options.machines import DOCTOR_GROUPS, DoctorOptions, doctor_flags
from async_img2ds.options.stages import (
    DEFAULT_DISALLOWED_DIRECTIVES,
    INPUT_FORMATS,
    RESERVED_COLUMNS,
    FetchOptions,
    ImageOptions,
    InputOptions,
    OutputOptions,
    RunOptions,
)
from async_img2ds.options.streams import DeliveryOptions, StreamOptions, stream_parameters

__all__ = [
    "DEFAULT_DISALLOWED_DIRECTIVES",
    "DOCTOR_GROUPS",
    "DeliveryOptions",
    "DoctorOptions",
    "FetchOptions",
    "GROUPS",
    "INPUT_FORMATS",
    "ImageOptions",
    "InputOptions",
    "ManifestOptions",
    "Options",
    "OutputOptions",
    "PARTITION_GROUPS",
    "PLAN_GROUPS",
    "POSITIONAL",
    "PURGE_GROUPS",
    "PartitionOptions",
    "PlanOptions",
    "PurgeOptions",
    "PushOptions",
    "RESERVED_COLUMNS",
    "RETRY_GROUPS",
    "ReportOptions",
    "RetryOptions",
    "RunOptions",
    "StreamOptions",
    "SummaryOptions",
    "SurveyOptions",
    "VerifyOptions",
    "doctor_flags",
    "flags",
    "later_flags",
    "parameters",
    "partition_flags",
    "shaped_as",
    "stream_parameters",
]
