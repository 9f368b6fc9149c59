"""Which part of the shards is this machine's, where many do one list and none of them asks another.

Decided by the shards' numbers alone, and by what the scheduler that started this process has told it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from async_img2ds.errors import OptionsError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALL", "SCHEDULERS", "Scheduler", "Share", "ranks_beside", "share_among"]


@dataclass(frozen=True, slots=True)
class Share:
    """The shards that are done by one *rank*, from 0, of *world_size* that share a list.

    They make one dataset, so they must be alike in *making*: a digest of what shapes it.
    """

    rank: int = 0
    world_size: int = 1
    making: str = ""

    @property
    def is_all(self) -> bool:
        """Whether there are no others."""
        return self.world_size == 1

    def has(self, shard_id: int) -> bool:
        """Whether the shard *shard_id* is among them.

        Of each *world_size* shards in a row every rank has one. Which one changes from row to row without a rhythm that
        lists could have, too: where each file ends in a short shard, no rank gets all of those.
        """
        row, place = divmod(shard_id, self.world_size)
        return (place + _mixed(row)) % self.world_size == self.rank

    def __str__(self) -> str:
        return f"rank {self.rank} of {self.world_size}"


ALL: Final = Share()

_BITS: Final = 2**64 - 1


def _mixed(number: int) -> int:
    """Return 64 bits in which each bit of *number* counts: splitmix64's (Steele, Lea, Flood 2014, figure 15)."""
    mixed = (number + 1) * 0x9E3779B97F4A7C15 & _BITS
    mixed = (mixed ^ mixed >> 30) * 0xBF58476D1CE4E5B9 & _BITS
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & _BITS
    return mixed ^ mixed >> 31


@dataclass(frozen=True, slots=True)
class Scheduler:
    """What a scheduler tells each process that it starts, by the names of environment variables.

    A task of an array may itself be several processes, each with its *place* among so many *places*.
    """

    name: str
    rank: str
    world_size: str | None = None
    first: str | None = None
    step: str | None = None
    beside: str | None = None
    place: str | None = None
    places: str | None = None


# In this order: one may have been started by the next. Their documentation: torchrun ("Environment Variables"),
# Kubernetes ("Indexed completion mode", which does not tell how many there are), Slurm ("sbatch", "srun": a batch
# script has a SLURM_PROCID, too, but is one process whatever was asked for), Open MPI ("Environment variables"),
# MPICH (PMI).
SCHEDULERS: Final = (
    Scheduler("torchrun", "RANK", "WORLD_SIZE", beside="LOCAL_WORLD_SIZE"),
    Scheduler("Kubernetes", "JOB_COMPLETION_INDEX"),
    Scheduler(
        "a Slurm job array",
        "SLURM_ARRAY_TASK_ID",
        "SLURM_ARRAY_TASK_COUNT",
        first="SLURM_ARRAY_TASK_MIN",
        step="SLURM_ARRAY_TASK_STEP",
        place="SLURM_PROCID",
        places="SLURM_STEP_NUM_TASKS",
    ),
    Scheduler("Open MPI", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", beside="OMPI_COMM_WORLD_LOCAL_SIZE"),
    Scheduler("MPI", "PMI_RANK", "PMI_SIZE"),
    Scheduler("srun", "SLURM_PROCID", "SLURM_STEP_NUM_TASKS"),
)


def share_among(
    rank: int | None, world_size: int | None, environment: Mapping[str, str]
) -> tuple[Share, Scheduler | None]:
    """Return the share of *rank* among *world_size*, and the scheduler that has told what of these is None.

    Raises:
        OptionsError: one of the two is not known, or the rank is none of that many.

    """
    told_by = None
    if rank is None or world_size is None:
        told_by = next((each for each in SCHEDULERS if each.rank in environment), None)
        if told_by is not None:
            rank, world_size = _told(told_by, environment, rank, world_size)
    if rank is None:
        known = ", ".join(each.rank for each in SCHEDULERS)
        raise OptionsError(f"distributor rank: give --rank, as the scheduler has set none of {known}")
    if world_size is None:
        raise OptionsError("distributor rank: give --world_size, the number of ranks, which the scheduler does not say")
    if not 0 <= rank < world_size:
        where = f" (told by {told_by.name}, as {told_by.rank})" if told_by else ""
        raise OptionsError(f"rank: ranks go from 0 to world_size - 1, which is {world_size - 1}; got {rank}{where}")
    return Share(rank, world_size), told_by


def _told(
    scheduler: Scheduler, environment: Mapping[str, str], rank: int | None, world_size: int | None
) -> tuple[int, int | None]:
    """Return rank and world size, those that are None as *scheduler* says them.

    The numbers of an array may begin anywhere. Where it is said how many ranks there are, they are meant as they stand:
    of an array of which some tasks are run again, the scheduler knows only those.
    """

    def number(name: str | None, default: int) -> int:
        said = environment.get(name, str(default)) if name else str(default)
        try:
            return int(said)
        except ValueError:
            raise OptionsError(f"distributor rank: {name} is {said!r}, which is no number") from None

    places = number(scheduler.places, 1)
    if rank is None:
        task = number(scheduler.rank, 0)
        if world_size is None:
            task = (task - number(scheduler.first, 0)) // max(1, number(scheduler.step, 1))
        rank = task * places + (number(scheduler.place, 0) if places > 1 else 0)
    if world_size is None and scheduler.world_size is not None and scheduler.world_size in environment:
        world_size = number(scheduler.world_size, 1) * places
    return rank, world_size


def ranks_beside(scheduler: Scheduler | None, environment: Mapping[str, str]) -> int:
    """Return how many ranks this machine runs, this one included, as far as *scheduler* tells."""
    said = environment.get(scheduler.beside, "") if scheduler and scheduler.beside else ""
    return max(1, int(said)) if said.isdecimal() else 1
