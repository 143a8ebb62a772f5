"""The cause is named by the first rule that holds, from facts that are measured."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from exporter.detector import Detector
from exporter.explain.cause import Cause, Facts, coherence, decide, measure
from exporter.explain.explanation import explain
from exporter.explain.groups import baseline_centres
from exporter.explain.kinds import Kind
from exporter.explain.observations import Observations
from tests.exporter.explain.space import KNOWN, Draw, Vectors

FactsOf = Callable[..., Facts]

QUIET = Facts(
    n=1_000,
    score=0.5,
    changed=0.0,
    directions_changed=0.0,
    duplicates=0.0,
    equal=0.0,
    equal_before=0.0,
    silent=0,
    length=1.0,
    bits=0.0,
    different=1.0,
    far=0.0,
    outside=0.0,
    outside_of_changed=0.0,
    coherence=0.0,
    grouped=0.0,
    pairs=0,
    pairs_moved=0.0,
    version="",
    version_before="",
    other_version=0.0,
)
DRIFT = QUIET._replace(score=20.0, changed=0.3, directions_changed=0.3)
STUCK = DRIFT._replace(duplicates=20.0, equal=0.3)


@pytest.mark.parametrize(
    ("facts", "kind"),
    [
        (QUIET, "none"),
        (QUIET._replace(bits=13.0), "precision"),
        (QUIET._replace(different=0.4), "precision"),
        (QUIET._replace(duplicates=2.0, equal=0.1), "stuck"),
        (QUIET._replace(duplicates=2.0, equal=0.04), "none"),
        (STUCK._replace(equal=0.2), "stuck"),
        (STUCK._replace(equal=0.1), "other mix"),
        (STUCK._replace(equal=0.6, equal_before=0.4), "stuck"),
        (STUCK._replace(equal=0.6, equal_before=0.5), "other mix"),
        (STUCK._replace(changed=1.0, equal=1.0, equal_before=0.001, silent=64), "stuck"),
        # A border of the cells parts some copies.
        (STUCK._replace(changed=1.0, equal=0.96), "stuck"),
        (STUCK._replace(changed=1.0, equal=0.94), "other mix"),
        # As many repeats as are no drift.
        (STUCK._replace(duplicates=1.9), "other mix"),
        # Half of the window is too many even where the baseline repeats.
        (STUCK._replace(duplicates=0.0, equal=0.5), "stuck"),
        (STUCK._replace(duplicates=0.0, equal=0.5, score=1.9), "none"),
        # Few zeros, as few as may repeat.
        (STUCK._replace(duplicates=0.0, changed=0.1, equal=0.1, far=0.1), "stuck"),
        (STUCK._replace(duplicates=0.0, equal=0.16, far=0.3), "model"),
        # The others changed, too: popular queries have new vectors.
        (STUCK._replace(changed=0.6, equal=0.4), "stuck"),
        (STUCK._replace(changed=0.8, equal=0.5, far=0.8), "model"),
        (STUCK._replace(changed=1.0, equal=0.6, length=3.0, directions_changed=0.0), "scale"),
        (STUCK._replace(pairs=12, pairs_moved=1.0), "model"),
        (STUCK._replace(changed=0.65, equal=0.4, other_version=0.65), "model"),
        (STUCK._replace(changed=0.65, equal=0.4, other_version=0.65, pairs=12), "stuck"),
        # The new version is the one that is stuck.
        (STUCK._replace(changed=1.0, equal=1.0, other_version=1.0), "stuck"),
        (DRIFT._replace(silent=2), "model"),
        (DRIFT._replace(n=49, far=1.0), "unknown"),
        (DRIFT._replace(length=1.05, directions_changed=0.01), "scale"),
        (DRIFT._replace(length=1.05), "other mix"),
        (DRIFT._replace(length=1.005, directions_changed=0.01), "other mix"),
        (DRIFT._replace(changed=0.02, bits=13.0), "precision"),
        (DRIFT._replace(bits=13.0), "other mix"),
        (DRIFT._replace(far=0.3), "model"),
        (DRIFT._replace(far=0.1), "other mix"),
        (DRIFT._replace(outside_of_changed=0.8), "model"),
        (DRIFT._replace(coherence=0.7, outside_of_changed=0.3), "model"),
        (DRIFT._replace(coherence=0.6, outside_of_changed=0.3), "new content"),
        (DRIFT._replace(coherence=0.9, changed=0.04), "other mix"),
        (DRIFT._replace(coherence=0.9, outside_of_changed=0.3, grouped=0.2), "new content"),
        (DRIFT._replace(coherence=0.9, outside_of_changed=0.3, grouped=0.1), "model"),
        (DRIFT._replace(coherence=0.9, changed=1.0, grouped=0.9), "model"),
        (DRIFT._replace(outside=0.4, outside_of_changed=0.5), "foreign"),
        (DRIFT._replace(outside_of_changed=0.05), "other mix"),
        (DRIFT._replace(pairs=12, pairs_moved=1.0), "model"),
        (DRIFT._replace(pairs=12, pairs_moved=0.0, coherence=0.9), "other mix"),
        (DRIFT._replace(pairs=9, pairs_moved=1.0), "other mix"),
        # One text that moved among hundreds says that the model is the same.
        (DRIFT._replace(changed=0.0, pairs=400, pairs_moved=1 / 400), "other mix"),
        (DRIFT._replace(changed=0.0, pairs=20, pairs_moved=1 / 20), "other mix"),
        (DRIFT._replace(changed=0.0, pairs=20, pairs_moved=2 / 20), "model"),
        (DRIFT._replace(other_version=0.3), "model"),
        (DRIFT._replace(other_version=0.1), "other mix"),
        (DRIFT._replace(other_version=1.0, pairs=12, pairs_moved=0.0), "other mix"),
        (DRIFT._replace(other_version=1.0, changed=0.02), "other mix"),
        (QUIET._replace(other_version=1.0), "none"),
    ],
)
def test_the_facts_decide(facts: Facts, kind: Kind) -> None:
    cause = decide(facts)
    assert cause.kind == kind
    assert cause.evidence
    assert all(cause.evidence)


def test_a_drift_that_one_window_hardly_shows_is_not_explained_by_chance() -> None:
    little = QUIET._replace(score=1.8)
    assert decide(little).evidence == ("the score is 1.8: chance explains it",)
    cause = decide(little, is_drift=True)
    assert cause.kind == "unknown"
    assert cause.evidence == ("the score is 1.8: too low for one window to show why",)
    assert decide(little._replace(bits=13.0), is_drift=True).kind == "precision"
    assert decide(DRIFT._replace(far=0.3), is_drift=True) == decide(DRIFT._replace(far=0.3))


def test_lengths_are_told_in_three_digits_or_whole() -> None:
    told_of = {1 / 255: "0.00392", 1.05: "1.05", 1_234.5: "1,234", 1e20: "1e+20"}
    for length, told in told_of.items():
        scaled = decide(DRIFT._replace(length=length, directions_changed=0.01))
        assert scaled.evidence[0] == f"the lengths are {told} times those before"


def test_the_evidence_is_in_words() -> None:
    stuck = STUCK._replace(equal=0.41, equal_before=0.15)
    assert (
        decide(stuck).evidence[0] == "41% of the vectors are copies of three or fewer, 15% before"
    )
    only_now = STUCK._replace(equal=0.41)
    assert decide(only_now).evidence[0] == "41% of the vectors are copies of three or fewer"
    assert decide(DRIFT._replace(far=0.97)).evidence == (
        "97% of the vectors have no near vector in the baseline",
    )
    assert decide(DRIFT._replace(length=5.0, directions_changed=0.0)).evidence == (
        "the lengths are 5 times those before",
        "same directions",
    )
    shorter = DRIFT._replace(length=0.00123, directions_changed=0.0)
    assert decide(shorter).evidence[0] == "the lengths are 0.00123 times those before"
    # Farther out than random directions: the share of the way is not above 1.
    assert decide(DRIFT._replace(outside=1.3)).evidence == (
        "the vectors are 100% of the way out of its space",
    )
    beyond = DRIFT._replace(pairs=12, outside_of_changed=1.3)
    assert decide(beyond).evidence[1] == "the changed vectors are 100% of the way out of its space"


def test_a_ratio_that_is_not_known_is_no_evidence() -> None:
    some, none = DRIFT._replace(changed=0.006), DRIFT._replace(changed=0.004)
    within = "the changed vectors lie within the baseline's space"
    assert decide(some).evidence == (within, "1% of the vectors changed")
    assert decide(none).evidence == (within,)
    assert decide(none._replace(bits=13.0)).evidence == ("mantissas have 13 bits less",)


@pytest.fixture(scope="module")
def facts_of(detector: Detector, baseline: Vectors) -> FactsOf:
    places = detector.places(baseline)
    known = baseline_centres(places)

    def measured(
        window: Vectors,
        texts: tuple[list[str], list[str]] | None = None,
    ) -> Facts:
        new, old = Observations(window), Observations(baseline)
        if texts is not None:
            new = Observations(window, [{"text": text} for text in texts[0]])
            old = Observations(baseline, [{"text": text} for text in texts[1]])
        score, components = detector.scores(window)
        repeats = components["duplicates"]
        compared = detector.compare(window)
        return measure(detector, compared, score, repeats, old, new, places, known, 0.0, 1.0)

    return measured


def turned(window: Vectors) -> Vectors:
    turn = np.linalg.qr(np.random.default_rng(1).normal(size=(64, 64)))[0]
    found: Vectors = (window @ turn).astype(np.float32)
    return found


def test_without_drift_every_fact_is_as_usual(facts_of: FactsOf, draw: Draw) -> None:
    facts = facts_of(draw(KNOWN, 1_000))
    assert facts.changed < 0.05
    assert (facts.equal, facts.silent, facts.bits, facts.pairs) == (0, 0, 0, 0)
    assert facts.length == pytest.approx(1, abs=1e-4)
    assert facts.different == pytest.approx(1, abs=0.01)
    assert facts.far < 0.02
    assert abs(facts.outside) < 0.05


@pytest.mark.parametrize("share", [0.2, 1.0])
def test_vectors_of_another_encoder_are_far_from_all_others(
    facts_of: FactsOf, draw: Draw, share: float
) -> None:
    window = draw(KNOWN, 1_000)
    changed = np.random.default_rng(0).random(1_000) < share
    window[changed] = turned(window[changed])
    facts = facts_of(window)
    assert facts.far == pytest.approx(share, abs=0.06)
    assert decide(facts).kind == "model"


def test_new_topics_are_not_far_and_not_coherent(facts_of: FactsOf, draw: Draw) -> None:
    window = np.concatenate([draw([20, 21], 150), draw(KNOWN, 850)])
    facts = facts_of(np.random.default_rng(0).permutation(window))
    assert facts.coherence < 0.5
    assert facts.outside_of_changed > 0.1


def test_a_scale_is_seen_by_the_lengths_while_directions_stay(
    facts_of: FactsOf, draw: Draw
) -> None:
    facts = facts_of(3 * draw(KNOWN, 1_000))
    assert facts.length == pytest.approx(3, rel=0.01)
    assert facts.changed > 0.9
    assert facts.directions_changed < 0.05
    assert decide(facts).kind == "scale"


@pytest.mark.parametrize("unit", [1e-25, 1e-20, 1.0, 1e20, 1e25])
@pytest.mark.parametrize(("scale", "kind"), [(1, "none"), (3, "scale"), (0.5, "scale")])
def test_the_cause_does_not_depend_on_the_unit_of_the_vectors(
    unit: float, scale: float, kind: Kind
) -> None:
    random = np.random.default_rng(0)
    baseline, window = (
        (times * unit * random.normal(size=(n, 16))).astype(np.float32)
        for times, n in ((1, 2_000), (scale, 500))
    )
    found = explain(Detector.fit(baseline), Observations(baseline), Observations(window))
    assert found.cause.kind == kind


def test_another_encoder_is_found_in_a_large_unit(draw: Draw) -> None:
    baseline, window = (
        (1e20 * each).astype(np.float32) for each in (draw(KNOWN, 2_000), turned(draw(KNOWN, 500)))
    )
    found = explain(Detector.fit(baseline), Observations(baseline), Observations(window))
    assert found.cause.evidence == ("100% of the vectors have no near vector in the baseline",)


def test_a_shift_of_all_vectors_is_coherent(facts_of: FactsOf, draw: Draw) -> None:
    shift = np.random.default_rng(2).normal(size=64)
    shifted = draw(KNOWN, 1_000) + 0.1 * shift / np.linalg.norm(shift)
    facts = facts_of((shifted / np.linalg.norm(shifted, axis=1, keepdims=True)).astype(np.float32))
    assert facts.coherence > 0.8
    assert decide(facts).kind == "model"


@pytest.mark.parametrize(
    ("rounded", "bits"),
    [
        (lambda x: x.astype(np.float16).astype(np.float32), 13),
        (lambda x: (x.view(np.uint32) & np.uint32(0xFFFF0000)).view(np.float32), 16),
    ],
    ids=["float16", "bfloat16"],
)
def test_rounding_shortens_the_mantissas(
    facts_of: FactsOf, draw: Draw, rounded: Callable[[Vectors], Vectors], bits: int
) -> None:
    facts = facts_of(rounded(draw(KNOWN, 1_000)))
    assert facts.bits == bits
    assert decide(facts).kind == "precision"


def test_rounding_to_int8_leaves_few_different_values(facts_of: FactsOf, draw: Draw) -> None:
    window = draw(KNOWN, 1_000)
    step = np.abs(window).max(axis=1, keepdims=True) / 127
    facts = facts_of((np.rint(window / step) * step).astype(np.float32))
    assert facts.bits < 4
    assert facts.different < 0.9
    assert decide(facts).kind == "precision"


def test_copies_of_three_vectors_are_counted_beyond_those_of_the_baseline(
    facts_of: FactsOf, draw: Draw, baseline: Vectors
) -> None:
    window = draw(KNOWN, 1_000)
    window[::5] = window[0]
    facts = facts_of(window)
    assert facts.equal == pytest.approx(0.2)
    assert facts.equal_before == 0
    window[::5] = baseline[0]
    facts = facts_of(window)
    assert facts.equal == pytest.approx(0.2)
    assert facts.equal_before == pytest.approx(1 / len(baseline))
    assert decide(facts).kind == "stuck"


def test_a_popular_vector_that_the_stuck_ones_displace_is_no_copy(draw: Draw) -> None:
    baseline = draw(KNOWN, 2_000)
    baseline[::3] = baseline[0]
    window = draw(KNOWN, 1_000)
    window[::10] = baseline[0]
    stuck = window[1].copy()
    window[np.arange(1_000) % 10 > 0] = stuck
    found = explain(Detector.fit(baseline), Observations(baseline), Observations(window))
    assert found.cause == Cause("stuck", ("90% of the vectors are copies of three or fewer",))


@pytest.mark.parametrize("noise", [0, 1e-6, 4e-3])
def test_copies_may_differ_in_their_last_digits(
    facts_of: FactsOf, draw: Draw, noise: float
) -> None:
    window = draw(KNOWN, 1_000)
    window[::3] = window[0]
    error = np.random.default_rng(0).normal(size=window.shape) / np.sqrt(window.shape[1])
    facts = facts_of((window * (1 + noise * error)).astype(np.float32))
    assert facts.equal == pytest.approx(1 / 3, abs=0.02)


def test_vectors_that_one_large_number_makes_alike_are_no_copies(
    facts_of: FactsOf, draw: Draw
) -> None:
    window = draw(KNOWN, 1_000)
    window[:, 5] = 1e6 + np.arange(1_000)
    assert facts_of(window).equal == 0
    added = draw(KNOWN, 1_000) + np.float32(10)
    assert facts_of(added).equal == 0


def test_another_model_is_the_cause_where_popular_texts_have_new_vectors(
    facts_of: FactsOf, draw: Draw, baseline: Vectors
) -> None:
    window = draw(KNOWN, 1_000)
    window[::2] = window[[0, 2, 4] * 166 + [0, 2]]
    facts = facts_of(turned(window))
    assert facts.duplicates > 10
    assert facts.equal == 0.5
    assert decide(facts).kind == "model"


def test_texts_of_which_a_stuck_encoder_makes_one_vector_do_not_tell_of_another_model(
    facts_of: FactsOf, baseline: Vectors
) -> None:
    texts = [f"text {row}" for row in range(len(baseline))]
    window = baseline[:1_000].copy()
    window[::4] = window[1]
    facts = facts_of(window, (texts[:1_000], texts))
    assert (facts.pairs, facts.pairs_moved) == (749, 0)
    assert decide(facts).kind == "stuck"
    # Neither do copies that a border of the cells parts from the others.
    window[:] = baseline[2]
    error = np.random.default_rng(0).normal(size=window.shape)
    facts = facts_of((window * (1 + 4e-3 * error)).astype(np.float32), (texts[:1_000], texts))
    assert 0.8 < facts.equal < 1
    assert facts.pairs == 0
    # One text that comes again and again may have another vector: that of another model.
    window = baseline[:1_000].copy()
    window[::4] = turned(window[1:2])
    repeated = texts[:1_000]
    repeated[::4] = ["text 0"] * 250
    facts = facts_of(window, (repeated, texts))
    assert facts.pairs == 751
    assert facts.pairs_moved == pytest.approx(1 / 751)


@pytest.mark.parametrize("unit", [1e-4, 1, 1e4])
def test_a_dimension_that_becomes_constant_is_silent(
    facts_of: FactsOf, draw: Draw, unit: float
) -> None:
    window = np.float32(unit) * draw(KNOWN, 1_000)
    assert facts_of(window).silent == 0
    window[:, [3, 9]] = 0.01 * unit
    assert facts_of(window).silent == 2


def test_no_dimension_is_silent_because_another_one_grows(facts_of: FactsOf, draw: Draw) -> None:
    """Seconds become milliseconds: all vectors are longer, and the others vary as before."""
    window = draw(KNOWN, 1_000)
    window[:, 3] *= 1e5
    facts = facts_of(window)
    assert facts.length > 1_000
    assert facts.silent == 0


@pytest.mark.parametrize("different", [300, 1_000])
def test_unseen_vectors_of_a_baseline_that_repeats_its_vectors_are_not_far(
    draw: Draw, different: int
) -> None:
    """A catalogue that is embedded again and again has no vector without a copy."""
    random = np.random.default_rng(0)
    baseline = draw(KNOWN, different)[random.integers(different, size=3_000)]
    window = draw(KNOWN, 500)
    detector = Detector.fit(baseline)
    places = detector.places(baseline)
    facts = measure(
        detector,
        detector.compare(window),
        0.0,
        0.0,
        Observations(baseline),
        Observations(window),
        places,
        baseline_centres(places),
        0.0,
        1.0,
    )
    assert facts.far < 0.1


def test_vectors_of_few_sessions_make_no_dimension_constant(baseline: Vectors, draw: Draw) -> None:
    """Of 200 vectors in four sessions, four are independent."""
    sparse = baseline.copy()
    sparse[: len(sparse) * 9 // 10, 3] = 0.01
    window = draw(KNOWN, 200)
    window[:, 3] = 0.01
    detector = Detector.fit(sparse)
    places = detector.places(sparse)
    silent = [
        measure(
            detector,
            detector.compare(window),
            0.0,
            0.0,
            Observations(sparse),
            Observations(window),
            places,
            baseline_centres(places),
            0.0,
            effect,
        ).silent
        for effect in (1.0, 50.0)
    ]
    assert silent == [1, 0]


def categories(random: np.random.Generator, n: int) -> Vectors:
    """Draw one of sixty categories for each vector, most of them rare, and ten usual numbers."""
    share = 1 / np.arange(1, 61)
    category = np.eye(60)[random.choice(60, n, p=share / share.sum())]
    return np.hstack([category, 0.1 * random.normal(size=(n, 10))]).astype(np.float32)


@pytest.mark.parametrize("n", [100, 250])
def test_a_dimension_that_is_constant_by_chance_is_not_silent(n: int) -> None:
    random = np.random.default_rng(0)
    baseline, window = categories(random, 2_500), categories(random, n)
    lacking = window.max(axis=0) == 0
    assert lacking.sum() > 5
    detector = Detector.fit(baseline)
    found = explain(detector, Observations(baseline), Observations(window))
    assert found.cause.kind == "none"
    window[:, 0] = 0
    found = explain(detector, Observations(baseline), Observations(window))
    assert found.cause == Cause("model", ("1 dimension has become constant",))


def test_the_same_text_shows_whether_the_encoder_is_the_same(
    facts_of: FactsOf, draw: Draw, baseline: Vectors
) -> None:
    before = [f"text {row}" for row in range(len(baseline))]
    after = [f"new {row}" for row in range(1_000)]
    after[:20] = before[100:120]
    window = draw(KNOWN, 1_000)
    window[:20] = baseline[100:120]
    assert facts_of(window, (after, before))[-2:] == (20, 0.0)
    window[:20] += 1e-5 * np.abs(window[:20])
    assert facts_of(window, (after, before))[-2:] == (20, 0.0)
    window[:5] = turned(window[:5])
    assert facts_of(window, (after, before))[-2:] == (20, 0.25)


def test_a_text_that_comes_again_and_again_is_one_text(
    facts_of: FactsOf, draw: Draw, baseline: Vectors
) -> None:
    before = [f"text {row}" for row in range(len(baseline))]
    after = [*["text 7"] * 30, "text 8", *(f"new {row}" for row in range(969))]
    window = draw(KNOWN, 1_000)
    window[:30], window[30] = turned(baseline[7:8]), baseline[8]
    assert facts_of(window, (after, before))[-2:] == (2, 0.5)


def test_texts_that_do_not_determine_the_vector_show_nothing(
    facts_of: FactsOf, draw: Draw, baseline: Vectors
) -> None:
    before = ["title only"] * 2 + [f"text {row}" for row in range(len(baseline) - 2)]
    assert facts_of(draw(KNOWN, 1_000), (before[100:1_100], before))[-2:] == (0, 0.0)


def drawn(random: np.random.Generator, n: int) -> Vectors:
    return random.normal(size=(n, 20)).astype(np.float32)


def test_coherence_is_1_for_the_same_move_and_0_for_unrelated_ones() -> None:
    random = np.random.default_rng(0)
    old, new = drawn(random, 2_000), drawn(random, 1_000)
    of_old, of_new = np.arange(2_000) % 10, np.arange(1_000) % 10
    moves = drawn(random, 10)
    assert coherence(new + moves[0], old, of_new, of_old) > 0.9
    assert coherence(new + moves[of_new], old, of_new, of_old) < 0.3
    assert coherence(new, old, of_new, of_old) < 0.3
    assert coherence(new[:15] + moves[0], old, of_new[:15], of_old) == 0


def test_few_vectors_give_no_coherence_from_chance() -> None:
    random = np.random.default_rng(3)
    old, of_old = drawn(random, 2_000), np.arange(2_000) % 10
    found = [coherence(drawn(random, 80), old, np.arange(80) % 10, of_old) for _ in range(50)]
    assert np.quantile(found, 0.9) < 0.65


def versioned(vectors: Vectors, *versions: object) -> Observations:
    """Give the vectors these versions of the model in turn; None sends none."""
    shares = [versions[row % len(versions)] for row in range(len(vectors))]
    return Observations(vectors, [{} if v is None else {"model_version": v} for v in shares])


@pytest.mark.parametrize(
    ("before", "now", "expected"),
    [
        (["v1"], ["v1", "v2", "v2", "v2"], ("v2", "v1", 0.75)),
        (["v1", "v2", "v2"], ["v1"], ("v1", "v2", 0.0)),
        (["v1"], ["v2", "v3", "v3", None], ("v3", "v1", 0.75)),
        ([None], ["v2"], ("", "", 0.0)),
        (["v1"], [None], ("", "", 0.0)),
        (["v1"], [{"name": "v2"}, True], ("", "", 0.0)),
        (["v1"], ["", " "], ("", "", 0.0)),
        ([1], [2], ("2", "1", 1.0)),
    ],
)
def test_the_versions_that_the_baseline_lacks_are_counted(
    detector: Detector,
    baseline: Vectors,
    draw: Draw,
    before: list[object],
    now: list[object],
    expected: tuple[str, str, float],
) -> None:
    window = draw(KNOWN, 400)
    places = detector.places(baseline)
    facts = measure(
        detector,
        detector.compare(window),
        0.0,
        0.0,
        versioned(baseline, *before),
        versioned(window, *now),
        places,
        baseline_centres(places),
        0.0,
        1.0,
    )
    assert (facts.version, facts.version_before, facts.other_version) == expected


def test_another_version_of_the_model_is_told_as_the_cause_of_a_change() -> None:
    facts = DRIFT._replace(version="e5-2", version_before="e5-1", other_version=1.0)
    cause = decide(facts)
    assert cause.kind == "model"
    assert cause.evidence[0] == (
        "100% of the vectors have a model_version that the baseline lacks, most often e5-2;"
        " the baseline has e5-1"
    )


def test_new_content_says_whether_groups_account_for_it() -> None:
    facts = DRIFT._replace(coherence=0.4, outside_of_changed=0.3)
    assert decide(facts).evidence[0] == "topics moved differently (0.40 of 1)"
    grouped = decide(facts._replace(grouped=0.25))
    assert grouped.evidence[0] == "groups that grew account for most of the change"
    unseen = decide(facts._replace(changed=0.0))
    assert unseen.evidence[0] == "topics moved differently (0.40 of 1)"
