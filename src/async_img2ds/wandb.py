"""Report a run to Weights & Biases: the metrics and the table of statuses that img2dataset's users have there.

What wandb does happens in a thread of its own, and once it has begun nothing that goes wrong in it ends a run.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final

from async_img2ds.blocking import DaemonThread
from async_img2ds.errors import MissingExtraError, OptionsError, redacted
from async_img2ds.options import GROUPS, flags
from async_img2ds.records import MESSAGES_MAX, Done, Tally

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from concurrent.futures import Future

    from async_img2ds.options import Options
    from async_img2ds.records import Report

__all__ = ["tracking"]

logger = logging.getLogger(__name__)

# As img2dataset has them: the table is sent at most this often, and shows so many statuses.
TABLE_S: Final = 60.0
TABLE_ROWS: Final = 100
# The end of a run waits this long for what has not been sent yet.
END_S: Final = 60.0


@asynccontextmanager
async def tracking(options: Options) -> AsyncIterator[Callable[[Report], None]]:
    """Yield what to call with each report of a run; it returns at once, and does nothing unless wandb is enabled.

    Raises:
        MissingExtraError: wandb is not installed.
        OptionsError: wandb does not begin, most often because nobody is logged in.

    """
    if not options.run.enable_wandb:
        yield lambda _report: None
        return
    thread = DaemonThread("wandb")  # one that hangs cannot keep the program from ending
    try:
        tracker = await asyncio.wrap_future(thread.submit(_begin, options))

        def track(report: Report) -> None:
            if isinstance(report, Done):
                thread.submit(tracker.take, report)

        try:
            yield track
        finally:
            await _ended(thread.submit(tracker.end))
    finally:
        thread.shutdown()


async def _ended(ending: Future[None]) -> None:
    try:
        async with asyncio.timeout(END_S):
            await asyncio.wrap_future(ending)
    except TimeoutError:
        logger.warning("wandb does not take the last figures; the dataset is what it is without them")


def _begin(options: Options) -> _Tracker:
    try:
        import wandb
    except ImportError as error:
        raise MissingExtraError("enable_wandb", "wandb") from error
    config: dict[str, Any] = {}
    for group in GROUPS:
        config |= asdict(getattr(options, group))
    for flag in flags():
        if flag.secret and config[flag.name]:
            config[flag.name] = "given, and not told"
        elif isinstance(config[flag.name], str):
            config[flag.name] = redacted(config[flag.name])
        elif isinstance(config[flag.name], tuple):
            config[flag.name] = [redacted(str(word)) for word in config[flag.name]]
    try:
        run = wandb.init(project=options.run.wandb_project, config=config)
    except Exception as error:  # wandb has a tree of errors of its own
        raise OptionsError(
            f"enable_wandb: {str(error).strip().rstrip('.') or type(error).__name__}. Type 'wandb login' first, "
            "or set WANDB_MODE=offline, or leave enable_wandb out"
        ) from error
    return _Tracker(run, wandb.Table)


@dataclass(slots=True)
class _Tracker:
    """The metrics of one run, added up."""

    run: Any
    make_table: Callable[..., Any]
    began: float = field(default_factory=time.monotonic)
    total: Tally = field(default_factory=Tally)
    statuses: Counter[str] = field(default_factory=Counter)
    failed: bool = False
    _table_due: float = 0.0

    def take(self, report: Done) -> None:
        """Log the figures of a shard, and of all so far."""
        self.total.merge(report.tally)
        self.statuses.update(report.tally.messages)
        if len(self.statuses) > MESSAGES_MAX:
            self.statuses = Counter(dict(self.statuses.most_common(MESSAGES_MAX // 2)))
        now = time.monotonic()
        metrics = _metrics("worker", report.tally, report.seconds) | _metrics("total", self.total, now - self.began)
        if now >= self._table_due:
            self._table_due = now + TABLE_S
            metrics["status"] = self._table()
        self._send(lambda: self.run.log(metrics))

    def end(self) -> None:
        """Log the table for the last time, and finish."""
        self._send(lambda: self.run.log({"status": self._table()}))
        self._send(self.run.finish)

    def _table(self) -> Any:  # noqa: ANN401  wandb's own
        count = max(1, self.total.count)
        rows = [[text, times / count, times] for text, times in self.statuses.most_common(TABLE_ROWS)]
        return self.make_table(columns=["status", "frequency", "count"], data=rows)

    def _send(self, call: Callable[[], object]) -> None:
        try:
            call()
        except Exception as error:  # noqa: BLE001  whatever it is, the dataset matters more
            if not self.failed:
                logger.warning("wandb: %s; the run goes on without", str(error).strip() or type(error).__name__)
            self.failed = True


def _metrics(prefix: str, tally: Tally, seconds: float) -> dict[str, float]:
    count = max(1, tally.count)
    return {
        f"{prefix}/img_per_sec": tally.count / max(1e-9, seconds),
        f"{prefix}/success": tally.successes / count,
        f"{prefix}/failed_to_download": tally.failed_to_download / count,
        f"{prefix}/failed_to_resize": tally.failed_to_resize / count,
        f"{prefix}/count": tally.count,
    }
