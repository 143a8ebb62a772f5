"""Components: each statistic equals its formula, written out in another way."""

from __future__ import annotations

from dataclasses import astuple, replace

import numpy as np
import pytest
from numpy.typing import NDArray

from exporter.detector.axes import Axes
from exporter.detector.components import (
    DUPLICATES,
    TRAITS,
    Component,
    Components,
    Dimension,
    Direction,
    Distortion,
    Mean,
    Sample,
    Spread,
    Topics,
)
from exporter.detector.features import Features, Shift, standard

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]
RIDGE = 0.2


def take(vectors: Vectors, seed: int = 1) -> Sample:
    """Fit features to the first half of some vectors, and take it as a sample."""
    random = np.random.default_rng(seed)
    half = len(vectors) // 2
    centre, scale = standard(vectors[:half])
    standardised = (vectors - centre) / scale
    axes = Axes.fit(standardised[:half], random)
    features = Features.fit(vectors[:half], axes, standardised[half:])
    return Sample.of(vectors[:half], features, axes, vectors[half:], random)


@pytest.fixture(scope="module")
def held_out(vectors: Vectors) -> Vectors:
    return vectors[150:300]


@pytest.fixture(scope="module")
def sample(vectors: Vectors) -> Sample:
    return take(vectors[:300])


@pytest.fixture(scope="module")
def shift(sample: Sample, vectors: Vectors) -> Shift:
    """Differences of three windows from the sample's means."""
    usual = sample.features.table(sample.vectors).mean(axis=0)
    windows = [vectors[300:400], vectors[400:450] * 1.1, vectors[500:510] + 0.5]
    means = np.array([sample.features.table(window).mean(axis=0) for window in windows])
    return sample.features.shift(means - usual, sample.axes.vectors)


def fresh(sample: Sample) -> Sample:
    """The same sample with a random generator in a known state."""
    return replace(sample, random=np.random.default_rng(7))


def test_a_sample_has_the_variances_of_the_other_half(sample: Sample, vectors: Vectors) -> None:
    other = vectors[150:300].astype(np.float64)
    along = ((other - sample.features.centre) / sample.features.scale) @ sample.axes.vectors
    # Features are rounded to 1/1024.
    np.testing.assert_allclose(sample.variances, along.var(axis=0), rtol=1e-3)
    table = sample.features.table(sample.vectors)
    expected = sample.features.shift(table, sample.axes.vectors)
    np.testing.assert_array_equal(sample.each.shape, expected.shape)
    np.testing.assert_array_equal(sample.each.axes, expected.axes)
    fit = table.mean(axis=0) - sample.features.table(vectors[150:300]).mean(axis=0)
    of_fit = sample.features.shift(fit[None], sample.axes.vectors)
    for found, wanted in zip(
        (sample.fit.shape, sample.fit.norm), (of_fit.shape, of_fit.norm), strict=True
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


# Traits


def test_weights_share_one_error_budget() -> None:
    weights = [traits.weight for traits in (*TRAITS.values(), DUPLICATES)]
    assert min(weights) > 0
    assert sum(weights) == pytest.approx(1)


def test_traits_are_those_of_each_component_in_order() -> None:
    assert {
        name: (traits.weight, traits.least_mean, traits.linear) for name, traits in TRAITS.items()
    } == {
        "topics": (0.25, 1e-9, True),
        "mean": (0.2, 1e-9, True),
        "direction": (0.2, 1e-9, True),
        "dimension": (0.07, 1e-9, False),
        "spread": (0.03, 1e-9, False),
        "distortion": (0.05, 5.0, False),
    }
    assert DUPLICATES.weight == 0.2
    assert list(TRAITS) == ["topics", "mean", "direction", "dimension", "spread", "distortion"]


def test_all_components_are_fitted_and_asked_in_order(sample: Sample, shift: Shift) -> None:
    components = Components.fit(fresh(sample))
    again = fresh(sample)
    expected = []
    for name, kind in Components.kinds().items():
        component = kind.fit(again)
        assert type(getattr(components, name)) is kind
        expected.append(component(shift))
    np.testing.assert_array_equal(components.statistics(shift), np.array(expected).T)


@pytest.mark.parametrize("name", list(TRAITS))
def test_linear_components_read_means_only(name: str, sample: Sample, shift: Shift) -> None:
    component = Components.kinds()[name].fit(fresh(sample))
    d = sample.features.dimension
    moments = shift.moments.copy()
    moments[:, d:] += 5
    other = replace(shift, moments=moments, shape=shift.shape + 5, norm=shift.norm + 5)
    assert np.array_equal(component(other), component(shift)) == TRAITS[name].linear


@pytest.mark.parametrize("kind", [Topics, Mean, Dimension, Spread])
def test_a_statistic_grows_with_the_square_of_the_shift(
    kind: type[Component], sample: Sample, shift: Shift
) -> None:
    component = kind.fit(fresh(sample))
    double = Shift(
        *(2 * part for part in (shift.mean, shift.axes, shift.moments, shift.shape, shift.norm))
    )
    np.testing.assert_allclose(component(double), 4 * component(shift), rtol=1e-5)


# Statistics


def discriminants(directions: Floats, variances: Floats) -> Floats:
    """w = (V + rI)^-1 c, scaled so that <w, x> has variance 1 where x has variances V."""
    inverse = np.linalg.inv(np.diag(variances) + RIDGE * np.eye(len(variances)))
    tests = [inverse @ direction for direction in directions]
    return np.array([w / np.sqrt(w @ np.diag(variances) @ w) for w in tests])


def lloyd(along: Floats, first: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Six rounds of Lloyd's algorithm; each cluster's centre and share of the vectors."""
    centres = along[first]
    for _ in range(6):
        distances = ((along[:, None] - centres[None]) ** 2).sum(axis=2)
        members = [along[distances.argmin(axis=1) == k] for k in range(len(centres))]
        centres = np.array(
            [m.mean(axis=0) if len(m) else c for m, c in zip(members, centres, strict=True)]
        )
    return centres, np.array([len(m) for m in members]) / len(along)


@pytest.mark.parametrize(("n", "clusters"), [(300, 30), (2_800, 200)])
def test_topics_sums_squared_shifts_towards_clusters_by_their_share(
    vectors: Vectors, shift: Shift, n: int, clusters: int
) -> None:
    sample = take(vectors[:n])
    along = sample.each.axes.astype(np.float64)
    first = np.random.default_rng(7).permutation(len(along))[:clusters]
    centres, share = lloyd(along, first)
    tests = discriminants(centres, sample.variances)
    expected = [
        sum(p * (w @ s) ** 2 for p, w in zip(share, tests, strict=True)) for s in shift.axes
    ]
    found = Topics.fit(fresh(sample))
    assert found.discriminants.shape == (8, clusters)
    np.testing.assert_allclose(found(shift), expected, rtol=1e-4)


def test_mean_is_hotellings_statistic_with_a_ridge(sample: Sample, shift: Shift) -> None:
    axes = sample.axes.vectors.astype(np.float64)
    covariance = axes @ np.diag(sample.variances) @ axes.T + RIDGE * np.eye(8)
    expected = [s @ np.linalg.inv(covariance) @ s for s in shift.mean]
    np.testing.assert_allclose(Mean.fit(sample)(shift), expected, rtol=1e-5)


def test_directions_off_the_axes_share_the_remaining_variance(sample: Sample) -> None:
    kept = 3
    variances = np.array([3.0, 1.5, 0.5])
    few = replace(sample, variances=variances)
    mean = np.random.default_rng(0).normal(size=(4, 8))
    # Axes are the first three dimensions; the other five have (8 - 5) / 5 each.
    shift = Shift(mean, mean[:, :kept], mean, mean, mean)
    expected = (mean**2 / np.r_[3.2, 1.7, 0.7, np.full(5, 0.8)]).sum(axis=1)
    np.testing.assert_allclose(Mean.fit(few)(shift), expected)
    # More variance along the axes than there is in all leaves none to the others.
    large = replace(sample, variances=np.array([9.0, 1.0, 0.5]))
    expected = (mean**2 / np.r_[9.2, 1.2, 0.7, np.full(5, 0.2)]).sum(axis=1)
    np.testing.assert_allclose(Mean.fit(large)(shift), expected)


def test_direction_is_the_largest_shift_towards_a_vector(sample: Sample, shift: Shift) -> None:
    tests = discriminants(sample.each.axes.astype(np.float64), sample.variances)
    expected = [max(0.0, *(tests @ s)) ** 2 for s in shift.axes]
    np.testing.assert_allclose(Direction.fit(sample)(shift), expected, rtol=1e-4)
    # A shift away from the only anchor has no direction.
    away = Direction(np.array([[1.0], [0.0]], np.float32))
    axes = np.array([[-2.0, 5.0], [3.0, 5.0]], np.float32)
    assert away(replace(shift, axes=axes)).tolist() == [0, 9]


def test_direction_draws_a_thousand_anchors(vectors: Vectors) -> None:
    sample = take(vectors)
    chosen = np.random.default_rng(7).permutation(1_500)[:1_024]
    along = sample.each.axes.astype(np.float64)[chosen]
    found = Direction.fit(fresh(sample)).anchors
    np.testing.assert_allclose(found.T, discriminants(along, sample.variances), rtol=1e-3)


def test_dimension_is_the_largest_change_of_a_mean_or_a_square(
    sample: Sample, shift: Shift
) -> None:
    variances = sample.each.moments.astype(np.float64).var(axis=0)
    # A dimension that hardly varies counts as one of unit variance.
    assert variances[:8].min() < 1 < variances[:8].max()
    floored = [max(v, 1.0) for v in variances[:8]] + [max(v, 0.5) for v in variances[8:]]
    expected = [max(s**2 / v for s, v in zip(row, floored, strict=True)) for row in shift.moments]
    np.testing.assert_allclose(Dimension.fit(sample)(shift), expected, rtol=1e-6)


def test_the_square_of_a_dead_dimension_has_a_floor(sample: Sample, shift: Shift) -> None:
    moments = sample.each.moments.copy()
    moments[:, [2, 11]] = 0
    found = Dimension.fit(replace(sample, each=replace(sample.each, moments=moments)))
    assert found.weights[[2, 11]].tolist() == [1, 2]


def spread_inverse(shape: Floats) -> Floats:
    """Inverse of the floored and ridged covariance of the shape features."""
    floor = np.array([0.5] * (shape.shape[1] - 3) + [0.02] * 3)
    deviation = np.maximum(shape.std(axis=0), floor)
    correlation = np.cov((shape / deviation).T) + RIDGE / 4 * np.eye(len(deviation))
    covariance = np.diag(deviation) @ correlation @ np.diag(deviation)
    return np.linalg.inv(covariance).astype(np.float64)


def nearest(shift: Floats, fit: Floats, inverse: Floats) -> Floats:
    """Return a shift from the nearest point between 0 and another, in a metric."""
    share = np.clip(shift @ inverse @ fit / (fit @ inverse @ fit), 0, 1)
    return shift - share * fit


def test_spread_is_hotellings_statistic_of_the_shape_beyond_the_fit(
    sample: Sample, shift: Shift
) -> None:
    inverse = spread_inverse(sample.each.shape.astype(np.float64))
    fit = sample.fit.shape[0]
    found = Spread.fit(sample)
    beyond = [nearest(s, fit, inverse) for s in shift.shape]
    np.testing.assert_allclose(found(shift), [s @ inverse @ s for s in beyond], rtol=1e-4)
    # Windows that hold vectors again that shaped the axes, in any share.
    along = np.array([-1.0, 0.0, 0.3, 1.0, 2.0])
    again = replace(shift, shape=along[:, None] * fit)
    expected = np.array([1, 0, 0, 0, 1]) * (fit @ inverse @ fit)
    np.testing.assert_allclose(found(again), expected, rtol=1e-4, atol=1e-9)


def test_spread_floors_the_deviations_of_dead_features(sample: Sample, shift: Shift) -> None:
    shape = sample.each.shape.copy()
    shape[:, 0] *= 0.01
    shape[:, -3:] *= 0.01
    dead = replace(sample, each=replace(sample.each, shape=shape))
    inverse = spread_inverse(shape.astype(np.float64))
    beyond = [nearest(s, sample.fit.shape[0], inverse) for s in shift.shape]
    expected = [s @ inverse @ s for s in beyond]
    np.testing.assert_allclose(Spread.fit(dead)(shift), expected, rtol=1e-4)


def test_noise_effects_are_those_of_noise_in_a_quarter_of_the_vectors(sample: Sample) -> None:
    quarter = sample.vectors[:37]
    lengths = np.sqrt((quarter.astype(np.float64) ** 2).sum(axis=1, keepdims=True) / 8)
    noise = np.random.default_rng(7).standard_normal(quarter.shape, np.float32) * lengths

    def shape(vectors: NDArray[np.floating]) -> Floats:
        table = sample.features.table(vectors.astype(np.float32))
        shift = sample.features.shift(table, sample.axes.vectors)
        mean: Floats = shift.shape.mean(axis=0, dtype=float)
        return mean

    much, tolerated = fresh(sample).noise_effects()
    np.testing.assert_allclose(much, shape(quarter + 0.1 * noise) - shape(quarter), atol=1e-4)
    np.testing.assert_allclose(tolerated, shape(quarter + 0.03 * noise) - shape(quarter), atol=1e-4)


def signs(shift: Shift, centroid: Floats, effects: Floats) -> Floats:
    return np.column_stack([shift.norm, shift.axes @ centroid, shift.shape @ effects])


def test_distortion_is_hotellings_statistic_of_five_signs_beyond_their_tolerance(
    sample: Sample, shift: Shift
) -> None:
    features = sample.features
    much, tolerated = fresh(sample).noise_effects()
    shape = sample.each.shape.astype(np.float64)
    factor = shape.mean(axis=0)
    factor[-3:] = 1
    effects = np.column_stack([spread_inverse(shape) @ factor, spread_inverse(shape) @ much])
    effects /= (shape @ effects).std(axis=0)
    along = (features.centre / features.scale).astype(np.float64) @ sample.axes.vectors
    centroid = discriminants(along[None], sample.variances)[0]
    values, vectors = np.linalg.eigh(np.cov(signs(sample.each, centroid, effects).T))
    inverse = vectors @ np.diag(1 / np.maximum(values, 0.5)) @ vectors.T
    norm = 0.002 / features.log_norm[1]
    tolerance = [norm, norm**2, 0, *np.abs(tolerated @ effects)]
    tolerance[3] /= 9
    expected = []
    for row in signs(shift, centroid, effects):
        counted = np.sign(row) * np.maximum(np.abs(row) - tolerance, 0)
        beyond = nearest(counted, signs(sample.fit, centroid, effects)[0], inverse)
        expected.append(beyond @ inverse @ beyond)
    found = Distortion.fit(fresh(sample))
    np.testing.assert_allclose(found.tolerance, tolerance, rtol=1e-3)
    np.testing.assert_allclose(found(shift), expected, rtol=1e-3)


def test_distortion_counts_from_the_signs_of_vectors_that_shaped_the_geometry(
    sample: Sample, shift: Shift
) -> None:
    # Ten times the fit of this sample, so that it is far beyond every tolerance.
    wide = replace(sample, fit=Shift(*(10 * part for part in astuple(sample.fit))))
    found = Distortion.fit(fresh(wide))
    blind = replace(found, fit_again=0 * found.fit_again)
    assert blind(wide.fit)[0] > 1
    assert found(wide.fit)[0] < 0.2 * blind(wide.fit)[0]


def test_unit_vectors_have_floored_signs(vectors: Vectors) -> None:
    unit = vectors[:300] / np.linalg.norm(vectors[:300], axis=1, keepdims=True)
    sample = take(unit)
    found = Distortion.fit(fresh(sample))
    covariance = np.cov(signs(sample.each, found.centroid, found.shape).T)
    assert np.linalg.eigvalsh(covariance)[0] < 0.1
    # The whitening matrix is orthogonal but for its scale: no direction counts for more than 2.
    assert np.linalg.svd(found.whitening)[1].max() == pytest.approx(2**0.5)


def test_a_constant_sample_has_finite_components() -> None:
    sample = take(np.ones((300, 8), np.float32))
    components = Components.fit(fresh(sample))
    nothing = sample.features.shift(np.zeros((1, sample.features.size)), sample.axes.vectors)
    assert np.isfinite(components.statistics(nothing)).all()
    one = sample.features.shift(np.ones((1, sample.features.size)), sample.axes.vectors)
    assert np.isfinite(components.statistics(one)).all()
