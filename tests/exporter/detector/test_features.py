"""Features: each is what its name says, whatever batch the vector came in."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from exporter.detector.axes import Axes
from exporter.detector.features import Features, standard

Vectors = NDArray[np.float32]


def fit(vectors: Vectors) -> tuple[Features, Axes]:
    """Fit features to the first half of some vectors."""
    half = len(vectors) // 2
    centre, scale = standard(vectors[:half])
    standardised = (vectors - centre) / scale
    axes = Axes.fit(standardised[:half], np.random.default_rng(0))
    return Features.fit(vectors[:half], axes, standardised[half:]), axes


def normal(n: int, d: int, seed: int = 0) -> Vectors:
    random = np.random.default_rng(seed)
    scales, centre = random.lognormal(size=d), random.normal(size=d)
    return (random.normal(size=(n, d)) * scales + centre).astype(np.float32)


@pytest.fixture(scope="module")
def fitted(vectors: Vectors) -> tuple[Features, Axes]:
    return fit(vectors[:300])


BATCHES = {d: (normal(260, d, 1), fit(normal(200, d))[0]) for d in (1, 2, 3, 7, 8, 33, 100)}


@settings(max_examples=60)
@given(d=st.sampled_from(list(BATCHES)), cuts=st.lists(st.integers(0, 260), max_size=8))
def test_features_do_not_depend_on_the_batch(d: int, cuts: list[int]) -> None:
    vectors, features = BATCHES[d]
    whole = features.table(vectors)
    parts = [part for part in np.split(vectors, sorted(cuts)) if len(part)]
    # A part of an array has another alignment than an array of its own.
    for copy in (False, True):
        tables = [features.table(part.copy() if copy else part) for part in parts]
        np.testing.assert_array_equal(np.vstack(tables), whole)


@pytest.mark.parametrize("d", BATCHES)
def test_features_of_a_single_vector_are_those_in_a_batch(d: int) -> None:
    vectors, features = BATCHES[d]
    singly = np.vstack([features.table(vectors[at : at + 1]) for at in range(len(vectors))])
    np.testing.assert_array_equal(singly, features.table(vectors))


@pytest.mark.parametrize("d", [8, 100])
def test_the_total_is_the_sum_of_integer_features(d: int) -> None:
    vectors, features = BATCHES[d]
    integers = np.rint(features.table(vectors).astype(np.float64) * features.unit)
    total = features.total(vectors)
    assert total.dtype == np.int64
    np.testing.assert_array_equal(total, integers.sum(axis=0))


def test_each_feature_is_its_formula(fitted: tuple[Features, Axes], vectors: Vectors) -> None:
    features, axes = fitted
    shaping, held_out, rows = vectors[:150], vectors[150:300], vectors[300:700]
    wide = rows.astype(np.float64)
    values = (wide - shaping.mean(axis=0)) / shaping.std(axis=0)
    values = np.rint(np.clip(values, -8, 8) * 1024) / 1024
    found = features.table(rows)
    squares = np.minimum(values**2, 16)
    tight = 2 / 1024
    np.testing.assert_allclose(found[:, :8], values, rtol=0, atol=tight)
    np.testing.assert_allclose(found[:, 8:16], squares, rtol=0, atol=0.02)

    probes = np.hstack([axes.leading, axes.quiet]).astype(np.float64)
    p = probes.shape[1]
    deviations = (((held_out - features.centre) / features.scale) @ probes).std(axis=0)
    along = np.minimum(((values @ probes) / deviations) ** 2, 16)
    np.testing.assert_allclose(found[:, 16 : 16 + p], along, rtol=1e-3, atol=0.01)

    energy = (values**2).sum(axis=1)
    off = energy - ((values @ axes.leading) ** 2).sum(axis=1)
    logs = np.log([energy, off, np.abs(values).sum(axis=1) ** 2]).T
    np.testing.assert_allclose(found[:, 16 + p : 19 + p], logs, rtol=0, atol=0.05)
    np.testing.assert_allclose(np.median(found[:, 16 + p : 19 + p] - logs, axis=0), 0, atol=1e-3)

    log_norms = np.log(np.linalg.norm(shaping.astype(np.float64), axis=1))
    norm = (np.log(np.linalg.norm(wide, axis=1)) - log_norms.mean()) / log_norms.std()
    np.testing.assert_allclose(found[:, 19 + p], np.clip(norm, -8, 8), rtol=0, atol=1e-3)
    np.testing.assert_allclose(found[:, 20 + p], np.minimum(norm**2, 16), rtol=0, atol=1e-3)

    centre = shaping.mean(axis=0, dtype=np.float64)
    cosine = wide @ centre / np.linalg.norm(wide, axis=1) / np.linalg.norm(centre)
    np.testing.assert_allclose(found[:, 21 + p], cosine, rtol=0, atol=1 / 65_536)
    assert features.size == found.shape[1] == 22 + p
    assert features.dimension == 8


def test_absurd_values_are_clipped(fitted: tuple[Features, Axes]) -> None:
    features, _ = fitted
    p = len(features.probe_scale)
    for size in (1e6, 3e38):
        found = features.table(np.array([[size] * 8, [-size] * 8], np.float32))
        assert found[:, :8].tolist() == [[8] * 8, [-8] * 8]
        assert found[:, 8:16].tolist() == [[16] * 8] * 2
        assert found[:, 16 : 16 + p].max() == 16
        assert found[:, 19 + p : 21 + p].tolist() == [[8, 16]] * 2
        np.testing.assert_allclose(found[:, 16 + p], np.log(8 * 64), atol=1e-4)


def test_a_vector_of_zeros_and_one_at_the_centre_have_finite_features() -> None:
    features, _ = fit(np.random.default_rng(0).normal(size=(300, 8)).astype(np.float32))
    rows = np.stack([np.zeros(8, np.float32), features.centre])
    found = features.table(rows)
    assert np.isfinite(found).all()
    p = len(features.probe_scale)
    # Logarithms of sizes are those of 1e-6 at least.
    np.testing.assert_allclose(found[1, 16 + p : 19 + p], np.log(1e-6), atol=1e-4)
    assert found[0, 19 + p] == -8
    assert found[0, 21 + p] == 0


def test_the_log_norm_of_unit_vectors_has_a_floored_deviation(vectors: Vectors) -> None:
    unit = vectors[:300] / np.linalg.norm(vectors[:300], axis=1, keepdims=True)
    features, _ = fit(unit)
    np.testing.assert_allclose(features.log_norm, [0, 0.005], atol=1e-6)
    p = len(features.probe_scale)
    longer = features.table(unit[:5] * np.float32(1.01))
    np.testing.assert_allclose(longer[:, 19 + p], np.log(1.01) / 0.005, atol=2e-3)


def test_deviations_along_axes_have_a_floor() -> None:
    vectors = normal(300, 8)
    features, axes = fit(vectors)
    silent = Features.fit(vectors[:150], axes, np.zeros((150, 8), np.float32))
    assert set(silent.probe_scale) == {0.15}
    assert features.probe_scale.min() > 0.15


def test_a_shift_splits_features_by_kind(fitted: tuple[Features, Axes]) -> None:
    features, axes = fitted
    means = np.arange(2.0 * features.size).reshape(2, -1)
    shift = features.shift(means, axes.vectors)
    p = len(features.probe_scale)
    np.testing.assert_array_equal(shift.mean, means[:, :8])
    np.testing.assert_allclose(shift.axes, means[:, :8] @ axes.vectors, rtol=1e-6)
    np.testing.assert_array_equal(shift.moments, means[:, :16])
    np.testing.assert_array_equal(shift.shape, means[:, 16 : 19 + p])
    np.testing.assert_array_equal(shift.norm, means[:, 19 + p : 21 + p])


def test_probes_are_the_leading_and_the_quiet_axes(fitted: tuple[Features, Axes]) -> None:
    features, axes = fitted
    assert features.leading == axes.leading.shape[1] == 4
    np.testing.assert_allclose(
        features.probes / 2**20, np.hstack([axes.leading, axes.quiet]), atol=2**-21
    )
    assert (features.probes == np.rint(features.probes)).all()


def test_standard_floors_deviations_at_a_fifth_of_the_median() -> None:
    deviations = np.array([0.0, 0.1, 1.0, 2.0, 3.0])
    wave = np.where(np.arange(100) % 2, 1.0, -1.0)[:, None]
    centre, scale = standard((5 + deviations * wave).astype(np.float32))
    np.testing.assert_allclose(centre, 5)
    # The median of the dimensions that vary is 1.5.
    np.testing.assert_allclose(scale, [0.3, 0.3, 1.0, 2.0, 3.0], rtol=1e-5)
    assert centre.dtype == scale.dtype == np.float32


def test_standard_has_a_reciprocal_in_float32() -> None:
    assert standard(np.full((100, 3), 7.0, np.float32))[1].tolist() == [1, 1, 1]
    tiny = (1e-40 * np.random.default_rng(0).normal(size=(100, 3))).astype(np.float32)
    np.testing.assert_allclose(standard(tiny)[1], 1e-30)
