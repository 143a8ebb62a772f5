"""Marginals: binned distances are as close to the exact ones as promised, also with atoms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from exporter.detector import Detector
from exporter.detector.features import standard
from exporter.detector.marginals import Bins, Marginals
from exporter.stats import ks

Vectors = NDArray[np.float32]
Floats = NDArray[np.float64]


def fit(reference: Vectors) -> Bins:
    return Bins.fit(reference, standard(reference)[1])


def compare(bins: Bins, window: Vectors) -> Marginals:
    counts = np.zeros(bins.size, np.int32)
    bins.count(window, counts, 1)
    return bins.marginals(counts, len(window))


def resolution(bins: Bins, reference: Vectors) -> Floats:
    """Largest share of the reference in a bin that is not an atom's, per dimension."""
    numbers = bins.numbers(reference)
    largest = []
    for bin_of, values, atoms in zip(numbers.T, reference.T, bins.atoms.T, strict=True):
        shares = np.bincount(bin_of, minlength=256) / len(values)
        shares[bin_of[np.isin(values, atoms)]] = 0
        largest.append(shares.max())
    return np.array(largest)


def relu(n: int, seed: int) -> Vectors:
    random = np.random.default_rng(seed)
    return np.maximum(random.normal(size=(n, 6)), 0).astype(np.float32)


@st.composite
def samples(draw: st.DrawFn) -> tuple[Vectors, Vectors]:
    """A reference and a window with atoms, ties, spikes, tails and dead dimensions."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    n, m = draw(st.integers(100, 900)), draw(st.integers(1, 400))
    reference, window = (random.normal(size=(k, 5)) for k in (n, m))
    window *= draw(st.floats(0.5, 2))
    window += draw(st.sampled_from([0.0, 1e-7, 1e-3, 0.3, -5.0]))
    for column in range(5):
        kind = draw(st.sampled_from(["plain", "atom", "atoms", "rounded", "heavy", "dead"]))
        for sample in (reference, window):
            values = sample[:, column]
            if kind == "atom":
                values[random.random(len(values)) < 0.4] = 0.25
            elif kind == "atoms":
                values[:] = np.where(random.random(len(values)) < 0.9, np.rint(values), values)
            elif kind == "rounded":
                values[:] = np.round(values, 1)
            elif kind == "heavy":
                values[:] = values**5
        if kind == "dead":
            reference[:, column] = 0.5
    return reference.astype(np.float32), window.astype(np.float32)


@settings(max_examples=150)
@given(samples())
def test_binned_ks_is_below_the_exact_one_by_a_bin_at_most(pair: tuple[Vectors, Vectors]) -> None:
    reference, window = pair
    bins = fit(reference)
    exact, found = ks.statistic(reference, window), compare(bins, window).ks
    assert (found <= exact + 1e-6).all()
    assert (exact <= found + resolution(bins, reference) + 1e-6).all()


@settings(max_examples=50)
@given(samples())
def test_distances_are_those_of_the_plain_formula_in_double_precision(
    pair: tuple[Vectors, Vectors],
) -> None:
    reference, window = pair
    bins, found = fit(reference), compare(fit(reference), window)
    upto = [(number <= np.arange(256)) for number in bins.numbers(window).T[..., None]]
    gap = np.abs(np.mean(upto, axis=1) - bins.share)
    np.testing.assert_allclose(found.ks, gap.max(axis=1), rtol=0, atol=2e-7)
    moved = (gap * bins.width.astype(np.float64)).sum(axis=1)
    np.testing.assert_allclose(found.wasserstein, moved, rtol=1e-5, atol=1e-7)
    assert found.ks.dtype == found.wasserstein.dtype == np.float64


def test_sums_of_many_vectors_are_exact() -> None:
    bins = fit(relu(1_000, 0))
    counts = np.zeros((256, 6), np.int32)
    counts[3] = 16_000_000
    counts[200] = 5
    found = bins.marginals(counts.ravel(), 16_000_005)
    share = np.where(np.arange(256) < 3, 0, np.where(np.arange(256) < 200, 16 / 16.000005, 1))
    np.testing.assert_allclose(found.ks, np.abs(share - bins.share).max(axis=1), atol=1e-7)


def test_shares_of_detectors_of_earlier_releases_give_the_same_distances() -> None:
    """They were stored in double precision, dimension by dimension."""
    bins = fit(relu(1_000, 0))
    share, width = (np.ascontiguousarray(each, "f8") for each in (bins.share, bins.width))
    stored = replace(bins, share=share, width=width)
    before, now = compare(stored, relu(300, 1)), compare(bins, relu(300, 1))
    np.testing.assert_array_equal(before.ks, now.ks)
    np.testing.assert_array_equal(before.wasserstein, now.wasserstein)


@pytest.mark.parametrize("seed", range(3))
def test_a_bin_is_about_a_256th_of_a_continuous_dimension(seed: int) -> None:
    reference = np.random.default_rng(seed).normal(size=(5_000, 4)).astype(np.float32)
    assert resolution(fit(reference), reference).max() < 1.6 / 256


@pytest.mark.parametrize(
    "moved",
    [
        lambda x: np.where(x == 0, -1e-6, x),
        lambda x: np.where(x == 0, -0.5, x),
        lambda x: np.where(x == 0, 1e-6, x),
        lambda x: np.where(x == 0, 0.3, x),
        lambda x: np.maximum(x, 0.001),
        lambda x: x - 0.001,
    ],
)
def test_zeros_that_move_after_a_relu_are_seen_in_full(moved) -> None:  # type: ignore[no-untyped-def]
    reference = relu(4_000, 0)
    window = moved(relu(500, 1)).astype(np.float32)
    exact, found = ks.statistic(reference, window), compare(fit(reference), window).ks
    assert exact.min() > 0.4
    np.testing.assert_allclose(found, exact, rtol=0, atol=1.5 / 256)


def test_the_distance_of_a_dimension_with_an_atom_is_scipys() -> None:
    reference, window = relu(4_000, 0), relu(500, 1) * np.float32(0.8) + np.float32(0.1)
    scale = standard(reference)[1]
    expected = [
        wasserstein_distance(x, y) / s for x, y, s in zip(reference.T, window.T, scale, strict=True)
    ]
    np.testing.assert_allclose(compare(fit(reference), window).wasserstein, expected, rtol=0.03)


def test_an_atom_is_a_64th_of_the_reference() -> None:
    reference = np.random.default_rng(0).normal(size=(640, 3)).astype(np.float32)
    reference[:10, 0] = reference[:9, 1].sum()
    reference[:9, 1] = 0.125
    atoms = fit(reference).atoms
    assert atoms.shape == (1, 3)
    assert atoms[0].tolist() == [reference[0, 0], np.inf, np.inf]


def test_the_eight_largest_atoms_of_a_dimension_count() -> None:
    # The values 0 to 10 with frequencies 11 to 1, in fifteenths of a 64th or more.
    random = np.random.default_rng(0)
    values = np.repeat(np.arange(11.0), 20 * np.arange(11, 0, -1))
    reference = np.column_stack([random.permutation(values), random.normal(size=len(values))])
    atoms = fit(reference.astype(np.float32)).atoms
    assert atoms[:, 0].tolist() == list(range(8))
    assert np.isinf(atoms[:, 1]).all()


def test_a_constant_dimension_has_a_bin_of_its_own() -> None:
    reference = np.full((200, 2), 3.0, np.float32)
    bins = fit(reference)
    for moved, expected in ((3.0, 0), (np.nextafter(np.float32(3), np.float32(4)), 1), (2.9, 1)):
        window = np.full((10, 2), moved, np.float32)
        np.testing.assert_array_equal(compare(bins, window).ks, expected)


def test_shares_are_those_of_the_reference_and_widths_between_centres_of_mass() -> None:
    reference = relu(1_000, 0)
    scale = standard(reference)[1]
    bins = fit(reference)
    numbers = bins.numbers(reference)
    for column in range(6):
        bin_of, values = numbers[:, column], reference[:, column].astype(np.float64)
        upto = [(bin_of <= number).mean() for number in range(256)]
        np.testing.assert_allclose(bins.share[column], upto, rtol=1e-7)
        # An empty bin lies where the one before it lies, or at the first value.
        means = [values.min()]
        for number in range(256):
            inside = values[bin_of == number]
            means.append(inside.mean() if len(inside) else means[-1])
        widths = np.append(np.diff(means[1:]), 0) / scale[column]
        np.testing.assert_allclose(bins.width[column], widths, rtol=1e-4, atol=1e-6)


def test_counts_are_those_of_each_vectors_bins_and_can_be_taken_back() -> None:
    reference, window = relu(1_000, 0), relu(300, 1)
    bins = fit(reference)
    assert bins.size == 6 * 256
    numbers = bins.numbers(window)
    assert numbers.dtype == np.uint8
    expected = [np.bincount(numbers[:, column], minlength=256).tolist() for column in range(6)]
    counts = np.zeros(bins.size, np.int32)
    bins.count(window, counts, 1)
    assert counts.reshape(256, 6).T.tolist() == expected
    bins.count_numbers(numbers, counts, 1)
    bins.count(window, counts, -1)
    bins.count(window[:200], counts, -1)
    bins.count_numbers(numbers[200:], counts, -1)
    assert not counts.any()


def test_values_far_outside_are_in_the_outermost_bins() -> None:
    reference = np.random.default_rng(0).normal(size=(1_000, 2)).astype(np.float32)
    bins = fit(reference)
    assert bins.numbers(np.full((1, 2), 3e38, np.float32)).tolist() == [[255, 255]]
    assert bins.numbers(np.full((1, 2), -3e38, np.float32)).tolist() == [[0, 0]]
    largest = bins.numbers(reference).max(axis=0)
    np.testing.assert_array_equal(bins.numbers(reference.max(axis=0)[None])[0], largest)


def test_the_expected_distance_is_that_of_draws_from_the_reference() -> None:
    random = np.random.default_rng(0)
    # One dimension is normal, one exponential.
    reference = np.column_stack([random.normal(size=2_000), random.exponential(size=2_000)])
    bins = fit(reference.astype(np.float32))
    distances = []
    for _ in range(300):
        counts = np.zeros(bins.size, np.int32)
        bins.count(reference[random.integers(2_000, size=100)].astype(np.float32), counts, 1)
        distances.append(bins.marginals(counts, 100))
    # A reference is a draw, too: here only the window is.
    expected = distances[0].expected * np.sqrt((1 / 100) / (1 / 100 + 1 / 2_000))
    mean = np.mean([each.wasserstein for each in distances], axis=0)
    np.testing.assert_allclose(expected, mean, rtol=0.05)


# Through the detector


@pytest.mark.parametrize("constant", [1e6, -1e9, 1e16])
def test_a_large_constant_dimension_has_no_distance_from_itself(
    vectors: Vectors, constant: float
) -> None:
    reference = vectors[:1_000].copy()
    reference[:, 2] = constant
    marginals = Detector.fit(reference).marginals(reference[:200])
    assert marginals.ks[2] == 0
    assert marginals.wasserstein[2] == 0
