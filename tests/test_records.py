"""How outcomes are counted, and what a run's report says about them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from async_img2ds import records
from async_img2ds.errors import ErrorClass
from async_img2ds.records import Encoded, Row, RunReport, Sample, Status, Tally

ROW = Row(0, "000000000", "http://a/")


def success(image: bytes = b"12345", body_bytes: int = 100) -> Sample:
    encoded = Encoded(image, 1, 1, 1, 1, None, None)
    return Sample(ROW, Status.SUCCESS, encoded, http_status=200, attempts=1, body_bytes=body_bytes)


def failure(status: Status, error_class: ErrorClass | None, message: str | None, body_bytes: int = 0) -> Sample:
    return Sample(ROW, status, None, error_class, message, body_bytes=body_bytes)


def tally_of(*samples: Sample) -> Tally:
    tally = Tally()
    for sample in samples:
        tally.add(sample)
    return tally


NOT_FOUND = failure(Status.FAILED_TO_DOWNLOAD, ErrorClass.HTTP_STATUS_4XX, "HTTP Error 404: Not Found")
BROKEN = failure(Status.FAILED_TO_RESIZE, ErrorClass.DECODE_ERROR, "Image decoding error", body_bytes=7)


def test_tally_counts_each_outcome_once() -> None:
    """Counts of the three outcomes add up to the rows."""
    tally = tally_of(success(), NOT_FOUND, BROKEN, success(b"1", 3), NOT_FOUND)

    assert (tally.count, tally.successes, tally.failed_to_download, tally.failed_to_resize) == (5, 2, 2, 1)
    assert tally.count == tally.successes + tally.failed_to_download + tally.failed_to_resize


def test_tally_adds_bytes_received_and_stored() -> None:
    """Bodies count whether or not they became an image; images count as they are stored."""
    tally = tally_of(success(b"12345", 100), BROKEN, NOT_FOUND)

    assert (tally.body_bytes, tally.image_bytes) == (107, 5)


def test_tally_counts_messages_and_reasons() -> None:
    """Messages include the successes, reasons only failures."""
    tally = tally_of(success(), NOT_FOUND, NOT_FOUND, BROKEN)

    assert tally.messages == {"success": 1, "HTTP Error 404: Not Found": 2, "Image decoding error": 1}
    assert tally.error_classes == {"http_status_4xx": 2, "decode_error": 1}


def test_failure_without_a_reason_is_an_internal_error() -> None:
    """A failed row is never left out of the reasons."""
    tally = tally_of(failure(Status.FAILED_TO_RESIZE, None, None))

    assert tally.error_classes == {"internal": 1}
    assert tally.messages.total() == 1


def test_distinct_messages_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that words each error differently cannot fill the memory; known messages go on counting."""
    monkeypatch.setattr(records, "MESSAGES_MAX", 2)
    texts = ["a", "b", "c", "a", "d"]
    tally = tally_of(*(failure(Status.FAILED_TO_DOWNLOAD, ErrorClass.HTTP_MALFORMED, text) for text in texts))

    assert tally.messages == {"a": 2, "b": 1}
    assert tally.count == 5


def test_merged_tallies_count_like_one() -> None:
    """Shards added up give what their rows would have given together, but for the messages."""
    merged = tally_of(success(), NOT_FOUND)
    merged.merge(tally_of(BROKEN, NOT_FOUND, success(b"1", 1)))
    together = tally_of(success(), NOT_FOUND, BROKEN, NOT_FOUND, success(b"1", 1))

    assert dataclasses.replace(merged, messages=together.messages) == together
    assert merged.messages == {"success": 1, "HTTP Error 404: Not Found": 1}


def test_merging_leaves_the_other_as_it_was() -> None:
    """Adding to a total does not tie the total to what was added."""
    other = tally_of(NOT_FOUND)
    total = Tally()
    total.merge(other)
    total.add(NOT_FOUND)

    assert other == tally_of(NOT_FOUND)


def test_tallies_do_not_share_their_counters() -> None:
    """Each tally begins at nothing."""
    tally_of(NOT_FOUND)

    assert Tally().messages == {}
    assert Tally().error_classes == {}


def test_condensed_copy_stands_alone() -> None:
    """The copy has all counts, the most frequent messages only, and does not follow its original."""
    rare = [dataclasses.replace(BROKEN, error_message=f"odd {number}") for number in range(200)]
    tally = tally_of(success(), BROKEN, BROKEN, *rare)
    copy = tally.condensed()
    tally.add(BROKEN)

    assert copy == dataclasses.replace(tally_of(success(), BROKEN, BROKEN, *rare), messages=copy.messages)
    assert copy.messages.most_common(1) == [(BROKEN.error_message, 2)]
    assert len(copy.messages) == 100


def report(**changes: Any) -> RunReport:
    plain = RunReport(
        count=10,
        successes=8,
        failed_to_download=1,
        failed_to_resize=1,
        error_classes={"http_status_4xx": 1, "decode_error": 1},
        bytes_received=100,
        bytes_written=50,
        shards_done=2,
        rows_known=0,
        shards_skipped=0,
        shards_lost={},
        limits={},
        stages={},
        seconds=4.0,
        interrupted=False,
    )
    return dataclasses.replace(plain, **changes)


def test_speed_is_images_stored_for_each_second() -> None:
    """Failed rows do not count as speed."""
    assert report().images_per_second == 2.0


def test_run_without_duration_has_no_speed() -> None:
    """A run that took no time does not divide by it."""
    assert report(seconds=0.0).images_per_second == 0.0


@pytest.mark.parametrize(
    ("changes", "complete"),
    [
        pytest.param({}, True, id="failed rows are accounted for"),
        pytest.param({"shards_skipped": 3}, True, id="done before"),
        pytest.param({"count": 0, "successes": 0, "error_classes": {}}, True, id="nothing to do"),
        pytest.param({"shards_lost": {3: "disk full"}}, False, id="a shard lost"),
        pytest.param({"interrupted": True}, False, id="interrupted"),
        pytest.param({"error_classes": {"internal": 1}}, False, id="internal error"),
    ],
)
def test_run_is_complete_if_every_row_is_accounted_for(changes: dict[str, Any], *, complete: bool) -> None:
    """Failed rows belong to a complete run; lost shards, interruption and defects of ours do not."""
    assert report(**changes).complete is complete


def test_internal_errors_are_counted_apart() -> None:
    """Defects of this program are told from failures of the web."""
    assert report().internal_errors == 0
    assert report(error_classes={"internal": 3, "decode_error": 1}).internal_errors == 3


@pytest.mark.parametrize(
    "record", [ROW, success(), report(), records.Shard(0, b"", 0)], ids=lambda it: type(it).__name__
)
def test_records_do_not_change(record: Any) -> None:
    """What travels between stages and processes is fixed once it is made."""
    name = dataclasses.fields(record)[0].name

    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(record, name, None)
