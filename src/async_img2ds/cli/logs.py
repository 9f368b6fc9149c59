"""What is logged, and the end of a command, for people or for programs."""

from __future__ import annotations

import logging
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from async_img2ds.options import RunOptions

__all__ = ["begin_logging", "end_in_json"]


def begin_logging(voice: RunOptions | None = None) -> None:
    """Log to standard error as *voice* says, by default warnings as they are."""
    logging.basicConfig(level=logging.WARNING, format="%(message)s")
    if voice is not None and voice.verbose:
        logging.getLogger("async_img2ds").setLevel(logging.INFO)
    if voice is not None and voice.log_format == "json":
        for handler in logging.getLogger().handlers:
            handler.setFormatter(_Json())


class _Json(logging.Formatter):
    """Each record as a JSON object in a line."""

    def format(self, record: logging.LogRecord) -> str:
        told = {
            "event": "log",
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(told).decode()


def end_in_json(report: Any) -> str:  # noqa: ANN401  any of the reports, which are dataclasses
    """Return what a command has come to as a JSON object."""
    told = {"event": "end", "time": datetime.now(UTC).isoformat(timespec="milliseconds"), **asdict(report)}
    return orjson.dumps({**told, "complete": report.complete}, option=orjson.OPT_NON_STR_KEYS).decode()
