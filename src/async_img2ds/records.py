"""The frozen values that travel from stage to stage: Shard → Row → Body → Encoded → Sample → Report."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

from async_img2ds.errors import ErrorClass, Trace
from async_img2ds.histograms import bucket_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "Again",
    "Body",
    "Checked",
    "Defect",
    "Done",
    "Encoded",
    "FileSum",
    "Load",
    "Lost",
    "Progress",
    "Report",
    "Row",
    "RunReport",
    "Sample",
    "Shard",
    "Spent",
    "Status",
    "Tally",
    "image_bytes",
]


class Status(StrEnum):
    """The three outcomes of a row, as img2dataset names them."""

    SUCCESS = "success"
    FAILED_TO_DOWNLOAD = "failed_to_download"
    FAILED_TO_RESIZE = "failed_to_resize"


@dataclass(frozen=True, slots=True)
class Quarantine:
    """Images that have to do with the end of a process, by what their bytes hash to and by the keys of their rows.

    Of *suspects* it is not known which it was; *guilty* and *guilty_keys* say of each how it ended one by itself.
    """

    suspects: frozenset[bytes] = frozenset()
    suspect_keys: frozenset[str] = frozenset()
    guilty: Mapping[bytes, ErrorClass] = field(default_factory=dict)
    guilty_keys: Mapping[str, ErrorClass] = field(default_factory=dict)

    def verdict(self, digest: bytes, key: str) -> ErrorClass | None:
        """Return how the image ends processes, None if it is not known to."""
        return self.guilty.get(digest) or self.guilty_keys.get(key)

    def plus(self, other: Quarantine) -> Quarantine:
        """Return what both know."""
        return Quarantine(
            self.suspects | other.suspects,
            self.suspect_keys | other.suspect_keys,
            {**self.guilty, **other.guilty},
            {**self.guilty_keys, **other.guilty_keys},
        )


@dataclass(frozen=True, slots=True)
class Shard:
    """A numbered piece of the URL list: the unit of work, of retry and of resume.

    Attributes:
        id: position among all shards of the list, from 0.
        rows: the rows as an Arrow IPC stream, so that the same bytes can travel to any process or engine.
        row_count: how many rows that is.
        attempt: how often the shard was tried before.
        repeats: the rows, by position, whose URL the list has before and that are not to be fetched because of it.
        again: what is to be done of it if it is finished already.

    """

    id: int
    rows: bytes
    row_count: int
    attempt: int = 0
    repeats: frozenset[int] = frozenset()
    again: Again | None = None
    quarantine: Quarantine = field(default_factory=Quarantine)


@dataclass(frozen=True, slots=True)
class Again:
    """What is to be done again of a finished shard: some *rows*, by position; the others stay what they are.

    They are fetched, or else lose their images: *removes*. It is the shard whose stats file has the sha256 *base*, in
    hex; if its rows are *in_order*, they stay so.
    """

    rows: frozenset[int]
    base: str
    in_order: bool
    removes: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the URL list.

    Attributes:
        index: its position in the shard.
        key: its key in the dataset.
        url: the URL as it was written.
        boxes: what to blur in its image, as the list has it.
        digest: the hash that the bytes received must have; only looked at where hashes are verified.
        withheld: why it is not asked for at all, if so: the list has it before, or reserves it, or it was removed.

    """

    index: int
    key: str
    url: str | None
    boxes: object = None
    digest: str | None = None
    withheld: ErrorClass | None = None


@dataclass(frozen=True, slots=True)
class Body:
    """What a server sent for a URL: the body, after *attempts* requests, from *final_url* if a redirect led there.

    Of a body whose first bytes show that it is no image there may be no more than these. The last attempt *took_s*
    seconds, redirects included.
    """

    content: bytes
    http_status: int
    attempts: int
    final_url: str | None = None
    trace: Trace = field(default_factory=Trace)
    took_s: float | None = None


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image as it will be stored. Sizes are in pixels, None where the bytes were kept without decoding.

    Where pixels are wanted and no file, *pixels* is what was made of them, and *image* is empty.
    """

    image: bytes
    width: int | None
    height: int | None
    original_width: int | None
    original_height: int | None
    exif: str | None
    digest: str | None
    pixels: Any = None


@dataclass(frozen=True, slots=True)
class Sample:
    """The outcome of one row: an image, or the reason why there is none.

    The last attempt to fetch it *took_s* seconds; None where none was made, or an earlier run has made it.
    """

    row: Row
    status: Status
    encoded: Encoded | None = None
    error_class: ErrorClass | None = None
    error_message: str | None = None
    http_status: int | None = None
    attempts: int = 0
    body_bytes: int = 0
    final_url: str | None = None
    trace: Trace = field(default_factory=Trace)
    took_s: float | None = None


def image_bytes(sample: Sample) -> int:
    """Return how many bytes the image of *sample* has, 0 if it has none."""
    return len(sample.encoded.image) if sample.encoded else 0


@dataclass(frozen=True, slots=True)
class FileSum:
    """A file of a shard: its *bytes* and their *sha256* in hex.

    Of a folder *files* is how many it has, *bytes* those of all, and *sha256* that of what ``sha256sum *`` prints in
    it: for each file, by name, its sum, two spaces, its name and a line feed.
    """

    bytes: int
    sha256: str
    files: int | None = None


# img2dataset keeps at most this many distinct messages a shard, and its readers expect no more.
MESSAGES_MAX = 100_000
# As many as img2dataset shows of them.
MESSAGES_CONDENSED = 100


@dataclass(slots=True)
class Tally:
    """Counts over samples: of one shard while it runs, or of many added up. The one record that changes.

    *latencies_ms* counts how long the last attempts took, in milliseconds, and *body_sizes* the bytes of each body: by
    the buckets of :mod:`async_img2ds.histograms`.
    """

    count: int = 0
    successes: int = 0
    failed_to_download: int = 0
    failed_to_resize: int = 0
    body_bytes: int = 0
    image_bytes: int = 0
    messages: Counter[str] = field(default_factory=Counter)
    error_classes: Counter[str] = field(default_factory=Counter)
    latencies_ms: Counter[int] = field(default_factory=Counter)
    body_sizes: Counter[int] = field(default_factory=Counter)

    def add(self, sample: Sample) -> None:
        """Count one sample."""
        self.count += 1
        self.body_bytes += sample.body_bytes
        if sample.took_s is not None:
            self.latencies_ms[bucket_of(1000 * sample.took_s)] += 1
        if sample.body_bytes:
            self.body_sizes[bucket_of(sample.body_bytes)] += 1
        if sample.encoded is not None:
            self.successes += 1
            self.image_bytes += len(sample.encoded.image)
            self.messages[Status.SUCCESS.value] += 1
            return
        if sample.status is Status.FAILED_TO_DOWNLOAD:
            self.failed_to_download += 1
        else:
            self.failed_to_resize += 1
        self.error_classes[(sample.error_class or ErrorClass.INTERNAL).value] += 1
        message = sample.error_message or ""
        if message in self.messages or len(self.messages) < MESSAGES_MAX:
            self.messages[message] += 1

    def merge(self, other: Tally) -> None:
        """Add the counts of *other*, but for its messages, which are unbounded over a long run."""
        self.count += other.count
        self.successes += other.successes
        self.failed_to_download += other.failed_to_download
        self.failed_to_resize += other.failed_to_resize
        self.body_bytes += other.body_bytes
        self.image_bytes += other.image_bytes
        self.error_classes.update(other.error_classes)
        self.latencies_ms.update(other.latencies_ms)
        self.body_sizes.update(other.body_sizes)

    def plus(self, other: Tally) -> Tally:
        """Return the counts of both, with all messages."""
        both = self.condensed()
        both.merge(other)
        both.messages = self.messages + other.messages
        return both

    def condensed(self) -> Tally:
        """Return a copy with only the most frequent messages: the stats file has them all, and they may be many."""
        copy = Tally()
        copy.merge(self)
        copy.messages = Counter(dict(self.messages.most_common(MESSAGES_CONDENSED)))
        return copy


@dataclass(frozen=True, slots=True)
class Load:
    """How busy a worker is at a moment.

    Attributes:
        in_flight: rows under way.
        window: how many may be.
        waiting: rows that have not begun.
        fetching: of those under way, rows being fetched, or between two attempts.
        transforming: rows whose bodies wait for a thread or are in one.
        writing: rows that wait for their sample to be taken for writing.
        hosts_aside: hosts that do not answer and are looked after now and then only.
        memory_bytes: resident memory of the process, 0 where that is not known.
        limit: what the worker waits for, a :class:`async_img2ds.policy.limits.Limit`; empty for one that is idle.

    """

    in_flight: int = 0
    window: int = 0
    waiting: int = 0
    fetching: int = 0
    transforming: int = 0
    writing: int = 0
    hosts_aside: int = 0
    memory_bytes: int = 0
    limit: str = ""


@dataclass(frozen=True, slots=True)
class Progress:
    """What a worker has in hand: the counts of its open shards so far, and how busy it is."""

    worker: int
    tally: Tally
    load: Load = field(default_factory=Load)


@dataclass(frozen=True, slots=True)
class Spent:
    """Where a worker's time went, in seconds: what limited it, and what stages its rows were in, added up over rows."""

    limits: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """A shard that is committed.

    *tally* holds its counts, *seconds* how long it was open, and *spent* where its worker's time went since the one
    before.
    """

    worker: int
    shard_id: int
    tally: Tally
    seconds: float
    spent: Spent = field(default_factory=Spent)


@dataclass(frozen=True, slots=True)
class Defect:
    """Something wrong in a dataset: *what*, with the *file* or folder, of the sample *key* if it is of one."""

    file: str
    what: str
    key: str | None = None

    def __str__(self) -> str:
        return f"{self.file}: {self.key + ' ' if self.key else ''}{self.what}"


@dataclass(frozen=True, slots=True)
class Checked(Done):
    """A finished shard that was read again: what is wrong with it, and its *columns*, in words."""

    defects: tuple[Defect, ...] = ()
    columns: str = ""


@dataclass(frozen=True, slots=True)
class Lost:
    """A shard that was not committed: *reason* is one line, *traceback* the whole story if there is one.

    It *ends* more than itself where no other shard would fare better: the worker that has tried it, or the run.
    """

    worker: int
    shard_id: int
    reason: str
    traceback: str = ""
    ends: Literal["shard", "worker", "run"] = "shard"


Report = Progress | Done | Lost


@dataclass(frozen=True, slots=True)
class RunReport:
    """How a run ended: what ``download`` returns.

    Attributes:
        count: rows of all shards committed by this run.
        successes: of these, rows with an image.
        failed_to_download: rows whose image was not received.
        failed_to_resize: rows whose bytes did not become an image.
        error_classes: failed rows by reason.
        bytes_received: bodies received, in bytes.
        bytes_written: encoded images, in bytes.
        shards_done: shards committed by this run.
        shards_skipped: shards that an earlier run had committed.
        rows_known: rows left out because the dataset has their URLs (incremental_mode extend_new).
        shards_lost: shards that could not be committed, by number, with the reason. A second run tries them again.
        limits: what the run waited for, as shares of its time, the largest first: CPU, network, hosts' politeness, DNS,
            disk, or the list's end.
        stages: how long a row was being fetched, transformed and written on average, in seconds; waiting for another
            attempt, for a thread or for the writer is in it, waiting for the first turn is not.
        seconds: wall time of the run.
        interrupted: whether the run was asked to stop before the end of the list.

    """

    count: int
    successes: int
    failed_to_download: int
    failed_to_resize: int
    error_classes: Mapping[str, int]
    bytes_received: int
    bytes_written: int
    shards_done: int
    shards_skipped: int
    rows_known: int
    shards_lost: Mapping[int, str]
    limits: Mapping[str, float]
    stages: Mapping[str, float]
    seconds: float
    interrupted: bool

    @property
    def images_per_second(self) -> float:
        """Images stored for each second of wall time."""
        return self.successes / self.seconds if self.seconds else 0.0

    @property
    def internal_errors(self) -> int:
        """Rows that failed by a defect of this program rather than by anything on the web."""
        return self.error_classes.get(ErrorClass.INTERNAL, 0)

    @property
    def complete(self) -> bool:
        """Whether every row of the list is accounted for, and none by an internal error."""
        return not (self.shards_lost or self.interrupted or self.internal_errors)
