"""The design effect says how much less alike neighbours are worth than independent vectors."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.stats.design_effect import design_effect


def test_independent_vectors_have_an_effect_of_about_1() -> None:
    of = np.random.default_rng(0).integers(64, size=5_000)
    assert 1 <= design_effect(of, 500) < 1.2


def test_sessions_have_an_effect_of_about_their_length() -> None:
    of = np.random.default_rng(0).integers(64, size=250).repeat(20)
    assert design_effect(of, 500) == pytest.approx(20, rel=0.3)


def test_interleaved_sessions_count_like_others_if_blocks_hold_them() -> None:
    sessions = np.random.default_rng(0).integers(64, size=(40, 8)).repeat(16, axis=0)
    assert design_effect(sessions.ravel(), 500) > 8


def test_a_single_block_or_cluster_shows_nothing() -> None:
    assert design_effect(np.arange(10), 10) == 1
    assert design_effect(np.zeros(100, np.intp), 10) == 1
    assert design_effect(np.zeros(0, np.intp), 0) == 1
