"""The queue: when batches are due, and that each vector is counted once."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from embedding_drift_client.delivery import Answer
from embedding_drift_client.errors import (
    BodyTooLarge,
    NonFinite,
    PayloadError,
    Problem,
    QueueFull,
    SettingsError,
    Undelivered,
)
from embedding_drift_client.queue import Queue
from embedding_drift_client.rows import read

TAKEN = Answer(0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def queue(clock: Clock | None = None, **options: Any) -> Queue:
    chosen = {"batch_size": 4, "interval": 1.0, "max_vectors": 10, "max_bytes": 1000} | options
    return Queue(**chosen, clock=clock or Clock())


def add(to: Queue, vectors: object, ids: object = None) -> None:
    to.add(read(vectors, ids, None, None))


def numbered(first: int, count: int, dimension: int = 2) -> np.ndarray:
    """Vectors whose components are their number."""
    return np.arange(first, first + count)[:, np.newaxis].repeat(dimension, axis=1)


def numbers(of: Queue) -> list[int]:
    found: list[int] = of.take().vectors[:, 0].tolist()
    return found


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"batch_size": 500.0}, "batch_size"),
        ({"interval": -1}, "interval"),
        ({"interval": float("nan")}, "interval"),
        ({"interval": 1e9}, "interval"),
        ({"max_vectors": 0}, "max_queue_vectors"),
        ({"max_vectors": 1e3}, "max_queue_vectors"),
        ({"max_bytes": 0}, "max_queue_bytes"),
        ({"max_bytes": float("inf")}, "max_queue_bytes"),
    ],
)
def test_numbers_out_of_range_or_of_another_kind_are_refused_by_name(
    wrong: dict[str, Any], name: str
) -> None:
    with pytest.raises(SettingsError, match=rf"^{name} \(.*\) must be"):
        queue(**wrong)


def test_a_batch_is_due_when_it_is_full_or_its_oldest_vector_old_enough(clock: Clock) -> None:
    waiting = queue(clock)
    assert waiting.seconds_to_due() is None
    add(waiting, numbered(0, 2))
    clock.now += 0.75
    add(waiting, numbered(2, 1))
    assert waiting.seconds_to_due() == 0.25
    clock.now += 5
    assert waiting.seconds_to_due() == 0
    clock.now -= 5
    add(waiting, numbered(3, 1))
    assert waiting.seconds_to_due() == 0
    assert numbers(waiting) == [0, 1, 2, 3]
    assert waiting.seconds_to_due() is None


def test_batches_keep_the_order_of_vectors() -> None:
    waiting = queue()
    add(waiting, numbered(0, 7))
    add(waiting, numbered(7, 3))
    batches = []
    while waiting.seconds_to_due() is not None:
        batches.append(numbers(waiting))
        waiting.settle(TAKEN)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert waiting.sent == 10


def test_the_newest_vectors_are_dropped_when_the_queue_is_full() -> None:
    waiting = queue()
    add(waiting, numbered(0, 8))
    add(waiting, numbered(8, 5))
    assert (waiting.waiting, waiting.dropped) == (10, 3)
    assert numbers(waiting) == [0, 1, 2, 3]
    add(waiting, [99, 99])
    assert waiting.dropped == 4, "vectors being sent count too"
    waiting.settle(TAKEN)
    add(waiting, [10, 10])
    assert waiting.dropped == 4
    assert numbers(waiting) == [4, 5, 6, 7]
    waiting.settle(TAKEN)
    assert numbers(waiting) == [8, 9, 10]


def test_the_bytes_of_the_queue_are_bounded() -> None:
    waiting = queue(max_bytes=100)
    beside = {"ids": ["a", "bc"], "metadata": [{"n": 1}, {"text": "x" * 100}], "timestamps": None}
    waiting.add(read(numbered(0, 2), **beside))
    assert (waiting.waiting, waiting.dropped) == (1, 1)
    add(waiting, numbered(1, 10))
    assert (waiting.waiting, waiting.dropped) == (10, 2), "16 bytes, and 9 vectors of 8"
    add(waiting, numbered(10, 1, dimension=4))
    assert waiting.dropped == 3
    with pytest.raises(QueueFull, match=r"0 vectors wait \(0 bytes\); no room for 1 more"):
        add(queue(max_bytes=7, raise_errors=True), numbered(0, 1))


@pytest.mark.parametrize("failure", [None, Undelivered("gone"), "some"])
def test_vectors_that_leave_the_queue_free_their_bytes(failure: Exception | str | None) -> None:
    waiting = queue(max_bytes=80)
    for _ in range(2):
        add(waiting, numbered(0, 10))
        assert waiting.dropped == 0
        while waiting.seconds_to_due() is not None:
            size = len(waiting.take())
            outcome = refusing(0) if failure == "some" and size > 1 else failure
            waiting.settle(outcome if isinstance(outcome, Exception) else TAKEN)
    add(waiting, numbered(0, 10, dimension=3))
    assert (waiting.waiting, waiting.dropped) == (6, 4), "the bytes are counted exactly"


def test_an_id_occurs_once_in_a_batch() -> None:
    waiting = queue()
    add(waiting, numbered(0, 3), ["a", "b", "a"])
    add(waiting, numbered(3, 1), ["c"])
    assert list(waiting.take().ids) == ["a", "b"]
    waiting.settle(TAKEN)
    assert list(waiting.take().ids) == ["a", "c"]


def test_vectors_with_and_without_ids_share_a_batch() -> None:
    waiting = queue()
    add(waiting, numbered(0, 1), ["a"])
    waiting.add(read(numbered(1, 1), None, {"n": 1}, None))
    batch = waiting.take()
    assert list(batch.ids) == ["a", None]
    assert [item and bytes(item) for item in batch.metadata] == [None, b'{"n":1}']


def test_a_vector_of_another_dimension_is_a_batch_of_its_own() -> None:
    waiting = queue()
    add(waiting, numbered(0, 1))
    add(waiting, numbered(1, 1, dimension=3))
    add(waiting, numbered(2, 1))
    sizes = []
    while waiting.seconds_to_due() is not None:
        sizes.append(waiting.take().vectors.shape)
        waiting.settle(TAKEN)
    assert sizes == [(1, 2), (1, 3), (1, 2)]


def refusing(*indices: int) -> PayloadError:
    return PayloadError("no", [Problem(f"/embeddings/{i}", "is odd", i) for i in indices])


def test_valid_vectors_of_a_refused_batch_are_sent_again_first() -> None:
    waiting = queue()
    add(waiting, numbered(0, 5))
    waiting.take()
    waiting.settle(refusing(1, 3))
    assert (waiting.failed, waiting.waiting) == (2, 3)
    assert waiting.seconds_to_due() == 0
    assert numbers(waiting) == [0, 2, 4]


@pytest.mark.parametrize("failure", [refusing(), refusing(4), Undelivered("gone"), OSError("odd")])
def test_a_batch_that_fails_as_a_whole_is_not_sent_again(failure: Exception) -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(failure)
    assert (waiting.failed, waiting.waiting) == (4, 0)


def test_a_batch_that_is_too_large_is_sent_again_first_in_smaller_batches() -> None:
    waiting = queue(batch_size=5)
    add(waiting, numbered(0, 7), [*"abcdefg"])
    assert numbers(waiting) == [0, 1, 2, 3, 4]
    waiting.settle(BodyTooLarge("too large"))
    assert (waiting.failed, waiting.waiting) == (0, 7)
    assert waiting.seconds_to_due() == 0
    assert numbers(waiting) == [0, 1]
    waiting.settle(Answer(2, 0))
    assert numbers(waiting) == [2, 3, 4]
    waiting.settle(BodyTooLarge("too large"))
    assert numbers(waiting) == [2]
    waiting.settle(BodyTooLarge("too large"))
    assert (waiting.failed, waiting.waiting) == (1, 4)
    assert numbers(waiting) == [3]
    waiting.settle(Answer(1, 0))
    assert numbers(waiting) == [4, 5]
    waiting.settle(Answer(2, 0))
    assert numbers(waiting) == [6]
    waiting.settle(Answer(1, 0))
    assert (waiting.sent, waiting.failed, waiting._bytes) == (6, 1, 0)


def test_what_is_good_of_a_smaller_batch_is_not_sent_in_a_larger_one() -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(BodyTooLarge("too large"))
    waiting.take()
    waiting.settle(refusing(0))
    assert numbers(waiting) == [1, 2]


def sizes(of: Queue, count: int, limit: float) -> list[int]:
    """Send vectors to a service that refuses larger batches; return the sizes of all batches."""
    add(of, numbered(0, count))
    mark, found = of.hurry(), []
    while not of.is_settled(mark):
        found.append(len(of.take()))
        of.settle(BodyTooLarge("too large") if found[-1] > limit else Answer(found[-1], 0))
    return found


def test_a_size_that_was_too_large_is_seldom_tried_again() -> None:
    waiting = queue(batch_size=500, max_vectors=10_000, max_bytes=10**6)
    tried = sizes(waiting, 10_000, limit=125)
    assert tried[:4] == [500, 250, 125, 133]
    assert waiting.sent == 10_000
    assert sum(tried) < 1.25 * 10_000


def test_batches_are_as_large_as_before_when_the_service_accepts_them_again() -> None:
    waiting = queue(batch_size=500, max_vectors=20_000, max_bytes=10**6)
    sizes(waiting, 1_000, limit=1)
    assert max(sizes(waiting, 10_000, limit=np.inf)[:50]) < 500
    assert sizes(waiting, 10_000, limit=np.inf) == [500] * 20


def test_a_small_batch_that_is_accepted_does_not_show_that_a_large_one_is() -> None:
    waiting = queue(batch_size=8, max_vectors=100)
    sizes(waiting, 5, limit=4)
    for _ in range(10):
        assert sizes(waiting, 1, limit=4) == [1]
    assert sizes(waiting, 8, limit=4) == [4, 4]


def test_a_service_that_accepts_no_vector_gets_each_alone_and_once() -> None:
    waiting = queue(batch_size=8, max_vectors=100)
    assert sizes(waiting, 8, limit=0) == [8, 4, 2, *[1] * 8]
    assert waiting.failed == 8


def test_vectors_stored_before_are_duplicates() -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(Answer(1, 2))
    assert (waiting.sent, waiting.duplicates) == (2, 2), "the service did not keep one of them"
    assert waiting.revisions == 0


def test_revisions_are_a_part_of_what_is_sent() -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(Answer(3, 1, 2))
    assert (waiting.sent, waiting.duplicates, waiting.revisions) == (3, 1, 2)


def test_an_answer_cannot_count_more_revisions_than_were_stored() -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(Answer(3, 1, 9))
    assert (waiting.sent, waiting.revisions) == (3, 3)


def test_a_mark_is_settled_when_all_vectors_before_it_are(clock: Clock) -> None:
    waiting = queue(clock)
    assert waiting.is_settled(waiting.hurry())
    add(waiting, numbered(0, 2))
    mark = waiting.hurry()
    add(waiting, numbered(2, 3))
    assert waiting.seconds_to_due() == 0
    assert numbers(waiting) == [0, 1, 2, 3]
    assert not waiting.is_settled(mark)
    waiting.settle(TAKEN)
    assert waiting.is_settled(mark)
    assert waiting.seconds_to_due() == 1, "a later vector is not due"


def test_a_closed_queue_accepts_nothing_and_is_due() -> None:
    waiting = queue()
    add(waiting, numbered(0, 1))
    waiting.close()
    add(waiting, numbered(1, 2))
    assert waiting.dropped == 2
    assert waiting.seconds_to_due() == 0
    assert not waiting.is_done
    waiting.take()
    assert waiting.is_done


def test_vectors_lost_at_the_end_are_counted() -> None:
    waiting = queue()
    add(waiting, numbered(0, 7))
    waiting.take()
    waiting.end()
    waiting.end()
    assert (waiting.failed, waiting.dropped, waiting.waiting) == (4, 3, 0)


def test_a_call_that_raises_queues_nothing() -> None:
    waiting = queue(raise_errors=True)
    with pytest.raises(NonFinite, match="/embeddings/1/0"):
        add(waiting, [[1, 2], [float("nan"), 2]])
    with pytest.raises(QueueFull, match=r"0 vectors wait \(0 bytes\); no room for 1 more"):
        add(waiting, numbered(0, 11))
    add(waiting, numbered(0, 1))
    waiting.take()
    waiting.settle(Undelivered("gone"))
    with pytest.raises(Undelivered, match="gone"):
        add(waiting, numbered(1, 1))
    assert (waiting.added, waiting.failed, waiting.dropped) == (1, 1, 0)
    add(waiting, numbered(1, 1))
    waiting.close()
    with pytest.raises(QueueFull, match="the client is closed"):
        add(waiting, numbered(2, 1))


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records]


def test_a_full_queue_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    waiting = queue()
    for _ in range(5):
        add(waiting, numbered(0, 5))
    assert logged(caplog) == [
        "vectors dropped: 10 vectors wait (80 bytes); no room for 5 more"
        " (logged once; later ones are counted)"
    ]


def test_each_reason_of_one_call_is_logged_with_its_first_example(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting = queue()
    nan = float("nan")
    for _ in range(2):
        add(waiting, [[1, 2], [nan, 2], [3, 4], [5, nan], [6, 7]], ["a", "b", "", "d", "\n"])
    assert logged(caplog) == [
        "invalid vectors are not sent: /embeddings/1/0: is NaN, infinite or too large for float32;"
        " components must be finite (logged once; later ones are counted)",
        "invalid vectors are not sent: /ids/2: '' is not allowed; an id is 1 to 255 characters,"
        " none of them a control character (logged once; later ones are counted)",
    ]
    assert (waiting.added, waiting.failed) == (10, 8)


def test_each_answer_of_the_service_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    waiting = queue(batch_size=1)
    add(waiting, numbered(0, 6))
    for refused in (refusing(0), refusing(0), Undelivered("a"), Undelivered("b"), Undelivered("a")):
        waiting.take()
        waiting.settle(refused)
    assert logged(caplog) == [
        "the service refuses vectors: /embeddings/0: is odd (logged once; later ones are counted)",
        "vectors not stored: a (logged once; later ones are counted)",
        "vectors not stored: b (logged once; later ones are counted)",
    ]


def test_the_totals_of_lost_vectors_are_logged_once_as_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting = queue()
    add(waiting, numbered(0, 7))
    waiting.take()
    for _ in range(2):
        waiting.end(Undelivered("http://service: connection refused"))
    assert logged(caplog) == [
        "vectors not stored: closed while 7 vectors waited; http://service: connection refused"
        " (logged once; later ones are counted)",
        "closed; vectors: 7 added, 0 sent, 0 duplicates, 3 dropped, 4 failed",
    ]
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2


@pytest.mark.parametrize("lost", ["failed", "dropped"])
def test_one_lost_vector_makes_the_totals_a_warning(
    caplog: pytest.LogCaptureFixture, lost: str
) -> None:
    waiting = queue(max_vectors=1)
    add(waiting, [[1, 2], [3, float("nan") if lost == "failed" else 4]])
    waiting.take()
    waiting.settle(TAKEN)
    waiting.end()
    assert getattr(waiting, lost) == 1
    assert caplog.records[-1].getMessage().startswith("closed; vectors: 2 added, 1 sent")
    assert caplog.records[-1].levelno == logging.WARNING


def test_the_totals_are_information_if_nothing_is_lost(caplog: pytest.LogCaptureFixture) -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(Answer(3, 1))
    with caplog.at_level(logging.INFO):
        waiting.end()
    [record] = caplog.records
    assert record.getMessage() == (
        "closed; vectors: 4 added, 3 sent, 1 duplicates, 0 dropped, 0 failed"
    )
    assert record.levelno == logging.INFO


def test_an_answer_that_comes_after_the_end_is_not_counted() -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.end()
    waiting.settle(Answer(2, 2))
    assert (waiting.sent, waiting.duplicates, waiting.failed) == (0, 0, 4)


def test_an_answer_cannot_count_more_duplicates_than_were_sent() -> None:
    waiting = queue()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(Answer(0, 9))
    assert (waiting.sent, waiting.duplicates) == (0, 4)


def test_what_is_lost_at_the_end_is_raised_if_errors_are_raised() -> None:
    waiting = queue(raise_errors=True)
    add(waiting, numbered(0, 1))
    waiting.end()
    with pytest.raises(Undelivered, match="closed while 1 vectors waited"):
        waiting.raise_failure()


def test_an_unexpected_failure_is_logged_with_its_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    for failure in (OSError("odd"), Undelivered("gone")):
        waiting = queue()
        add(waiting, [1, 2])
        waiting.take()
        waiting.settle(failure)
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


class Counting(RuleBasedStateMachine):
    """In any order of calls, each vector is counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.queue = queue(self.clock)
        self.in_flight = 0
        self.given = 0

    @rule(
        values=st.lists(st.sampled_from([1.0, float("nan")]), max_size=12),
        ids=st.booleans(),
        dimension=st.integers(1, 2),
    )
    def add(self, values: list[float], ids: bool, dimension: int) -> None:
        self.given += len(values)
        names = [str(n % 3) for n in range(len(values))] if ids else None
        add(self.queue, [[value] * dimension for value in values], names)

    @precondition(lambda self: not self.in_flight and self.queue.seconds_to_due() is not None)
    @rule()
    def take(self) -> None:
        self.in_flight = len(self.queue.take())
        assert 1 <= self.in_flight <= 4

    @precondition(lambda self: self.in_flight)
    @rule(duplicates=st.integers(0, 4))
    def answer(self, duplicates: int) -> None:
        duplicates = min(duplicates, self.in_flight)
        self.queue.settle(Answer(self.in_flight - duplicates, duplicates))
        self.in_flight = 0

    @precondition(lambda self: self.in_flight)
    @rule(named=st.sets(st.integers(0, 5)))
    def fail(self, named: set[int]) -> None:
        self.queue.settle(refusing(*named))
        self.in_flight = 0

    @precondition(lambda self: self.in_flight)
    @rule()
    def refuse_as_too_large(self) -> None:
        self.queue.settle(BodyTooLarge("too large"))
        self.in_flight = 0

    @precondition(lambda self: not self.in_flight)
    @rule()
    def flush(self) -> None:
        mark = self.queue.hurry()
        while not self.queue.is_settled(mark):
            assert self.queue.seconds_to_due() == 0
            self.queue.take()
            self.queue.settle(TAKEN)

    @rule()
    def end(self) -> None:
        self.queue.end()
        self.in_flight = 0

    @invariant()
    def adds_up(self) -> None:
        of = self.queue
        assert of.added == self.given
        assert of.added == of.sent + of.duplicates + of.dropped + of.failed + of.waiting
        assert of.waiting <= 10


TestCounting = Counting.TestCase
