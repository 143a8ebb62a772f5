"""The backlog: what is due when, and every vector counted once."""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ingest import intake
from ingest.backlog import Backlog
from ingest.runtime.errors import (
    NonFinite,
    PayloadError,
    Problem,
    QueueFull,
    SettingsError,
    Undelivered,
)
from ingest.sender import Answer

TAKEN = Answer(0, 0)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def backlog(clock: Clock | None = None, **options: Any) -> Backlog:
    chosen = {"batch_size": 4, "interval": 1.0, "max_vectors": 10, "max_bytes": 1000} | options
    return Backlog(**chosen, clock=clock or Clock())


def add(to: Backlog, vectors: object, ids: object = None) -> None:
    to.add(intake.read(vectors, ids, None, None))


def numbered(first: int, count: int, dimension: int = 2) -> np.ndarray:
    """Vectors that tell their number."""
    return np.arange(first, first + count)[:, np.newaxis].repeat(dimension, axis=1)


def numbers(of: Backlog) -> list[int]:
    return of.take().vectors[:, 0].tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        {"batch_size": 0},
        {"interval": -1},
        {"interval": float("nan")},
        {"interval": 1e9},
        {"max_vectors": 0},
        {"max_bytes": 0},
    ],
)
def test_numbers_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(SettingsError, match="must be"):
        backlog(**wrong)


def test_a_batch_is_due_when_it_is_full_or_its_oldest_vector_old_enough(clock: Clock) -> None:
    waiting = backlog(clock)
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


def test_vectors_leave_in_their_order_in_batches() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 7))
    add(waiting, numbered(7, 3))
    batches = []
    while waiting.seconds_to_due() is not None:
        batches.append(numbers(waiting))
        waiting.settle(TAKEN)
    assert batches == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    assert waiting.sent == 10


def test_the_newest_beyond_the_bound_are_dropped() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 8))
    add(waiting, numbered(8, 5))
    assert (waiting.waiting, waiting.dropped) == (10, 3)
    assert numbers(waiting) == [0, 1, 2, 3]
    add(waiting, [99, 99])
    assert waiting.dropped == 4, "what is on its way is bounded, too"
    waiting.settle(TAKEN)
    add(waiting, [10, 10])
    assert waiting.dropped == 4
    assert [numbers(waiting), waiting.settle(TAKEN), numbers(waiting)][::2] == [
        [4, 5, 6, 7],
        [8, 9, 10],
    ]


def test_what_waits_is_bounded_by_its_bytes_too() -> None:
    waiting = backlog(max_bytes=100)
    beside = {"ids": ["a", "bc"], "metadata": [{"n": 1}, {"text": "x" * 100}], "timestamps": None}
    waiting.add(intake.read(numbered(0, 2), **beside))
    assert (waiting.waiting, waiting.dropped) == (1, 1)
    add(waiting, numbered(1, 10))
    assert (waiting.waiting, waiting.dropped) == (10, 2), "16 bytes, and 9 vectors of 8"
    add(waiting, numbered(10, 1, dimension=4))
    assert waiting.dropped == 3
    with pytest.raises(QueueFull, match=r"0 vectors wait \(0 bytes\); 1 more"):
        add(backlog(max_bytes=7, raise_errors=True), numbered(0, 1))


@pytest.mark.parametrize("failure", [None, Undelivered("gone"), "some"])
def test_what_has_left_gives_its_bytes_back(failure: Exception | str | None) -> None:
    waiting = backlog(max_bytes=80)
    for _ in range(2):
        add(waiting, numbered(0, 10))
        assert waiting.dropped == 0
        while waiting.seconds_to_due() is not None:
            size = len(waiting.take())
            outcome = refusing(0) if failure == "some" and size > 1 else failure
            waiting.settle(outcome if isinstance(outcome, Exception) else TAKEN)
    add(waiting, numbered(0, 10, dimension=3))
    assert (waiting.waiting, waiting.dropped) == (6, 4), "and no more than its bytes"


def test_an_id_comes_once_in_a_batch() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 3), ["a", "b", "a"])
    add(waiting, numbered(3, 1), ["c"])
    assert list(waiting.take().ids) == ["a", "b"]
    waiting.settle(TAKEN)
    assert list(waiting.take().ids) == ["a", "c"]


def test_vectors_with_and_without_ids_share_a_batch() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 1), ["a"])
    waiting.add(intake.read(numbered(1, 1), None, {"n": 1}, None))
    batch = waiting.take()
    assert list(batch.ids) == ["a", None]
    assert [item and bytes(item) for item in batch.metadata] == [None, b'{"n":1}']


def test_a_vector_of_another_dimension_is_a_batch_of_its_own() -> None:
    waiting = backlog()
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


def test_neighbours_of_a_vector_the_service_refuses_go_again_first() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 5))
    waiting.take()
    waiting.settle(refusing(1, 3))
    assert (waiting.failed, waiting.waiting) == (2, 3)
    assert waiting.seconds_to_due() == 0
    assert numbers(waiting) == [0, 2, 4]


@pytest.mark.parametrize("failure", [refusing(), refusing(4), Undelivered("gone"), OSError("odd")])
def test_a_batch_that_fails_as_a_whole_does_not_go_again(failure: Exception) -> None:
    waiting = backlog()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(failure)
    assert (waiting.failed, waiting.waiting) == (4, 0)


def test_stored_before_is_a_duplicate() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 4))
    waiting.take()
    waiting.settle(Answer(1, 2))
    assert (waiting.sent, waiting.duplicates) == (2, 2), "one of them it did not keep"


def test_a_mark_is_settled_when_all_before_it_are(clock: Clock) -> None:
    waiting = backlog(clock)
    assert waiting.is_settled(waiting.hurry())
    add(waiting, numbered(0, 2))
    mark = waiting.hurry()
    add(waiting, numbered(2, 3))
    assert waiting.seconds_to_due() == 0
    assert numbers(waiting) == [0, 1, 2, 3]
    assert not waiting.is_settled(mark)
    waiting.settle(TAKEN)
    assert waiting.is_settled(mark)
    assert waiting.seconds_to_due() == 1, "what came after the mark is in no hurry"


def test_a_closed_one_takes_nothing_and_hurries() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 1))
    waiting.close()
    add(waiting, numbered(1, 2))
    assert waiting.dropped == 2
    assert waiting.seconds_to_due() == 0
    assert not waiting.is_done
    waiting.take()
    assert waiting.is_done


def test_what_is_abandoned_is_counted() -> None:
    waiting = backlog()
    add(waiting, numbered(0, 7))
    waiting.take()
    waiting.abandon()
    waiting.abandon()
    assert (waiting.failed, waiting.dropped, waiting.waiting) == (4, 3, 0)


def test_a_call_that_raises_takes_nothing() -> None:
    waiting = backlog(raise_errors=True)
    with pytest.raises(NonFinite, match="/embeddings/1/0"):
        add(waiting, [[1, 2], [float("nan"), 2]])
    with pytest.raises(QueueFull, match=r"0 vectors wait \(0 bytes\); 1 more find no room"):
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


def test_a_burst_is_one_line(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    waiting = backlog(clock)
    for _ in range(5):
        add(waiting, numbered(0, 5))
    assert [record.getMessage() for record in caplog.records] == [
        "vectors dropped: 10 vectors wait (80 bytes); 5 more find no room"
        " (dropped 5, failed 0 of 15 so far)"
    ]
    clock.now += 60
    add(waiting, numbered(0, 5))
    assert len(caplog.records) == 2


def test_a_failure_nobody_foresaw_is_logged_with_its_origin(
    caplog: pytest.LogCaptureFixture,
) -> None:
    waiting = backlog()
    for failure in (OSError("odd"), Undelivered("gone")):
        waiting = backlog()
        add(waiting, [1, 2])
        waiting.take()
        waiting.settle(failure)
    assert [record.exc_info is not None for record in caplog.records] == [True, False]
    assert {record.levelno for record in caplog.records} == {logging.WARNING}


class Counting(RuleBasedStateMachine):
    """Whatever happens in whatever order, each vector is counted once."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.backlog = backlog(self.clock)
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
        add(self.backlog, [[value] * dimension for value in values], names)

    @precondition(lambda self: not self.in_flight and self.backlog.seconds_to_due() is not None)
    @rule()
    def take(self) -> None:
        self.in_flight = len(self.backlog.take())
        assert 1 <= self.in_flight <= 4

    @precondition(lambda self: self.in_flight)
    @rule(duplicates=st.integers(0, 4))
    def answer(self, duplicates: int) -> None:
        duplicates = min(duplicates, self.in_flight)
        self.backlog.settle(Answer(self.in_flight - duplicates, duplicates))
        self.in_flight = 0

    @precondition(lambda self: self.in_flight)
    @rule(named=st.sets(st.integers(0, 5)))
    def fail(self, named: set[int]) -> None:
        self.backlog.settle(refusing(*named))
        self.in_flight = 0

    @precondition(lambda self: not self.in_flight)
    @rule()
    def flush(self) -> None:
        mark = self.backlog.hurry()
        while not self.backlog.is_settled(mark):
            assert self.backlog.seconds_to_due() == 0
            self.backlog.take()
            self.backlog.settle(TAKEN)

    @rule()
    def abandon(self) -> None:
        self.backlog.abandon()
        self.in_flight = 0

    @invariant()
    def adds_up(self) -> None:
        of = self.backlog
        assert of.added == self.given
        assert of.added == of.sent + of.duplicates + of.dropped + of.failed + of.waiting
        assert of.waiting <= 10


TestCounting = Counting.TestCase
