"""Fresh vectors are like those of the data, and never repeat."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.traffic.source import Source
from exporter.detector import Detector


def test_no_two_fresh_vectors_are_equal(source: Source) -> None:
    random = np.random.default_rng(1)
    made = source.fresh(np.zeros(5_000, np.intp), random)
    assert len(np.unique(made, axis=0)) == 5_000
    assert not (made[:, None] == source.vectors[None, :50]).all(axis=2).any()


def test_fresh_vectors_have_the_mean_and_the_covariance_of_their_topic() -> None:
    random = np.random.default_rng(2)
    spread = np.array([5.0, 1, 0.2])
    real = np.concatenate([random.normal(10 * k, spread, (400, 3)) for k in range(4)])
    source = Source(real.astype(np.float32), np.repeat(range(4), 400))
    rows = source.rows(np.full(40_000, 2), random)
    made, data = source.fresh(rows, random), real[800:1200]
    assert made.mean(axis=0) == pytest.approx(data.mean(axis=0), abs=0.1)
    assert made.var(axis=0) == pytest.approx(data.var(axis=0), rel=0.05)


def test_fresh_vectors_of_a_topic_of_equal_lengths_keep_them(source: Source) -> None:
    random = np.random.default_rng(3)
    twice = Source(2 * source.vectors, source.topic)
    made = twice.fresh(np.arange(1_200), random)
    assert np.linalg.norm(made, axis=1) == pytest.approx(2, abs=1e-5)


def test_a_detector_of_fresh_vectors_finds_new_ones_usual(source: Source) -> None:
    random = np.random.default_rng(4)
    judge = Detector.fit(source.fresh(random.integers(1_200, size=2_000), random))
    windows = [source.fresh(random.integers(1_200, size=400), random) for _ in range(40)]
    assert np.mean([judge.alarm(window, 0.05) for window in windows]) <= 0.15


def test_a_detector_of_real_vectors_finds_fresh_ones_nearly_usual(
    sentences: NDArray[np.float32],
) -> None:
    random = np.random.default_rng(5)
    order = random.permutation(len(sentences))
    half, others = sentences[order[:3_000]], sentences[order[3_000:]]
    source = Source(half, np.arange(3_000) % 4)
    judge = Detector.fit(others)
    made = source.fresh(random.integers(3_000, size=400), random)
    assert judge.score(made) < 4
    # What it is compared with: points between neighbours, which come out too near to the mean.
    between = (half[source._near[:400, 1]] + half[:400]) / 2
    between /= np.linalg.norm(between, axis=1, keepdims=True)
    assert judge.score(between) > 10


def test_rows_are_drawn_from_their_topic_with_equal_chances(source: Source) -> None:
    rows = source.rows(np.full(15_000, 3), np.random.default_rng(6))
    assert set(source.topic[rows]) == {3}
    assert np.bincount(rows, minlength=1_200)[450:600].min() > 50


def test_near_rows_are_of_the_same_topic_and_similar(source: Source) -> None:
    random = np.random.default_rng(7)
    rows = source.near(200, 40, random)
    assert set(source.topic[rows]) == {source.topic[200]}
    cosines = source.vectors @ source.vectors[200]
    assert cosines[rows].mean() > cosines[source.topic == source.topic[200]].mean()


def test_small_topics_are_left_out(source: Source) -> None:
    topic = source.topic.copy()
    topic[:149] = 99
    topic[149] = 98
    without = Source(source.vectors, topic)
    assert without.counts.tolist() == [150] * 7 + [149]
    assert len(without.vectors) == 1_199
    with pytest.raises(ValueError, match="4 topics of at least 20 vectors, got 1"):
        Source(source.vectors, np.zeros(1_200))


def test_a_file_is_read_with_its_topics_or_sections(source: Source, tmp_path: Path) -> None:
    for label in ("topic", "section"):
        file = tmp_path / f"{label}.npz"
        half = source.vectors.astype(np.float16)
        named: dict[str, Any] = {label: source.topic}
        np.savez(file, embedding=half, **named)
        read = Source.load(file)
        assert (read.vectors == half).all()
        assert read.vectors.dtype == np.float32
        assert (read.topic == source.topic).all()
