"""Running sums: exact in any order and in any batches."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.detector import Detector
from exporter.detector.sums import Part, Sums
from exporter.detector.waves import waves_at

Vectors = NDArray[np.float32]


@pytest.fixture(scope="module")
def fresh(vectors: Vectors) -> Vectors:
    return vectors[500:]


def same(one: Sums, other: Sums) -> bool:
    return (
        one.n == other.n
        and one.repeats == other.repeats
        and np.array_equal(one.total, other.total)
        and np.array_equal(one.bins, other.bins)
    )


@settings(max_examples=30)
@given(cuts=st.lists(st.integers(0, 400), max_size=6), seed=st.integers(0, 99))
def test_sums_do_not_depend_on_order_and_batches(
    detector: Detector, fresh: Vectors, cuts: list[int], seed: int
) -> None:
    vectors = fresh[:400]
    order = np.random.default_rng(seed).permutation(len(vectors))
    sums = detector.sums()
    for part in np.split(vectors[order], sorted(cuts)):
        sums.add(part)
    assert same(sums, detector.sums(vectors))


@settings(max_examples=30)
@given(first=st.integers(0, 300), size=st.integers(1, 300), batch=st.integers(1, 130))
def test_removing_vectors_restores_the_sums(
    detector: Detector, fresh: Vectors, first: int, size: int, batch: int
) -> None:
    kept, passing = fresh[:200], fresh[first : first + size] * 1.7
    sums = detector.sums(kept)
    sums.add(passing)
    for at in range(0, size, batch):
        sums.remove(passing[at : at + batch])
    assert same(sums, detector.sums(kept))


@pytest.mark.parametrize("size", [0, 1, 127, 128, 300, 2_000])
def test_packed_sums_are_the_sums_also_in_a_copy_of_the_detector(
    detector: Detector, fresh: Vectors, size: int
) -> None:
    vectors = np.concatenate([fresh[: size // 2], fresh[: size - size // 2]])
    copy = Detector.from_bytes(detector.to_bytes())
    packed = copy.pack(vectors)
    sums = detector.sums(fresh[2_000:2_100])
    sums.take(packed)
    assert same(sums, detector.sums(np.concatenate([fresh[2_000:2_100], vectors])))
    sums.drop(packed)
    assert same(sums, detector.sums(fresh[2_000:2_100]))
    sums.take(packed)
    sums.remove(vectors)
    assert same(sums, detector.sums(fresh[2_000:2_100]))
    # At most two bytes a component, and what any part takes.
    assert len(pickle.dumps(packed)) < (len(vectors) + 9) * (2 * detector.dimension + 1_100)


def test_absurd_vectors_leave_no_trace(detector: Detector, fresh: Vectors) -> None:
    absurd = np.full((3, detector.dimension), 3e38, np.float32)
    sums = detector.sums(fresh[:100])
    sums.add(absurd)
    sums.remove(absurd)
    assert same(sums, detector.sums(fresh[:100]))


@pytest.mark.parametrize(
    ("batch", "message"),
    [
        (np.ones(8), r"shape \(n, 8\), got \(8,\)"),
        (np.ones((2, 7)), r"shape \(n, 8\), got \(2, 7\)"),
        (np.full((2, 8), np.nan), "finite"),
        (np.full((2, 8), 1e300), "finite in float32"),
    ],
)
def test_a_bad_batch_is_refused_whole(
    detector: Detector, batch: NDArray[Any], message: str
) -> None:
    sums = detector.sums()
    with pytest.raises(ValueError, match=message):
        sums.add(batch)
    assert same(sums, detector.sums())


# Times and parts

TIMES = 1e9 + 600 * np.arange(400.0)


def test_times_are_added_and_removed_with_their_vectors(detector: Detector, fresh: Vectors) -> None:
    assert detector.sums().mean_waves is None
    sums = detector.sums()
    sums.add(fresh[:100], TIMES[:100])
    sums.add(fresh[100:250], TIMES[100:250])
    expected = np.mean([waves_at(time) for time in TIMES[:250]], axis=0)
    mean_waves = sums.mean_waves
    assert mean_waves is not None
    np.testing.assert_allclose(mean_waves, expected, atol=1e-8)
    other = detector.sums()
    other.add(fresh[250:400], TIMES[250:])
    sums.add(fresh[250:400], TIMES[250:])
    sums.remove(fresh[:250], TIMES[:250])
    np.testing.assert_array_equal(sums.mean_waves, other.mean_waves)
    # One vector without a time, and nothing is known of the window's times.
    sums.add(fresh[:1])
    assert sums.mean_waves is None


def equal(one: Part, other: Part) -> bool:
    names = ("total", "bins", "fingerprints", "waves")
    return one.n == other.n and all(
        np.array_equal(getattr(one, name), getattr(other, name)) for name in names
    )


def pack(detector: Detector, fresh: Vectors, first: int, last: int) -> Part:
    return detector.pack(fresh[first:last], TIMES[first:last])


def test_small_parts_are_joined(detector: Detector, fresh: Vectors) -> None:
    both = pack(detector, fresh, 0, 50).joined(pack(detector, fresh, 50, 120))
    assert equal(both, pack(detector, fresh, 0, 120))


@pytest.mark.parametrize("size", [100, 255, 400])
@pytest.mark.parametrize("cut", [1, 30, 99])
def test_a_part_without_its_first_or_last_vectors_has_the_sums_of_the_others(
    detector: Detector, fresh: Vectors, size: int, cut: int
) -> None:
    # Equal components, so that one bin of a dimension counts all vectors.
    vectors = fresh.copy()
    vectors[:, 0] = 1
    whole = pack(detector, vectors, 0, size)
    head, tail = pack(detector, vectors, 0, cut), pack(detector, vectors, cut, size)
    for left, other in (
        (detector.without_first(whole, head), tail),
        (detector.without_last(whole, tail), head),
    ):
        taken, expected = detector.sums(), detector.sums()
        taken.take(left)
        expected.take(other)
        assert same(taken, expected)
        np.testing.assert_array_equal(taken.mean_waves, expected.mean_waves)
    # The whole is as it was.
    assert equal(whole, pack(detector, vectors, 0, size))


@pytest.mark.parametrize(("size", "kind"), [(128, "u1"), (255, "u1"), (256, "u2"), (400, "u2")])
def test_counts_of_a_part_are_as_small_as_its_number_of_vectors_allows(
    detector: Detector, size: int, kind: str
) -> None:
    equal_vectors = np.ones((size, detector.dimension), np.float32)
    part = detector.pack(equal_vectors)
    assert part.is_counted
    assert part.bins.dtype == kind
    assert part.bins.sum(dtype=np.int64) == size * detector.dimension
    assert not detector.pack(equal_vectors[:127]).is_counted
