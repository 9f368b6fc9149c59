"""What is sent to a worker. Little is imported for it: whoever sends it needs neither client nor image library."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from async_img2ds.policy.host_rules import NO_RULES
from async_img2ds.policy.removal import Removal

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from concurrent.futures import Future

    from async_img2ds.options import Options
    from async_img2ds.policy.host_rules import HostRules
    from async_img2ds.records import Report, Shard
    from async_img2ds.storage import Store

__all__ = ["Machine", "ShardWork"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What a worker may take of its machine: it is one of *processes* alike, and may use *cores* cores."""

    processes: int
    cores: int

    @property
    def threads(self) -> int:
        """The threads that make images.

        One more than its cores where others work beside it: as workers take whole shards, one ends before another, and
        its core is taken over. Over three shards in two processes that saved a fifth of the time, for the same CPU.
        """
        return self.cores + (self.processes > 1)


@dataclass(frozen=True, slots=True)
class ShardWork:
    """What a distributor runs in each of its workers: all of *options*, into *store*, on *machine*.

    *host_rules* is what the options' hosts_file says, which is read once, by whoever starts the run; *removal* is what
    was asked to be removed from the dataset, and is not asked for.
    """

    options: Options
    store: Store
    machine: Machine
    host_rules: HostRules = NO_RULES
    removal: Removal = field(default_factory=Removal)

    def __call__(self, shards: Iterator[Shard], emit: Callable[[Report], None], stop: Future[None]) -> None:
        """Do *shards* until they end, reporting each.

        Args:
            shards: asked for one at a time, from a thread, when there is room for another.
            emit: called from the loop for each report.
            stop: when it is resolved, open shards are dropped at once and this returns.

        """
        from async_img2ds.worker.process import work

        work(self, shards, emit, stop)
