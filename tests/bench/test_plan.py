"""The formulas of the plan agree with the measurements."""

from __future__ import annotations

import pytest

from bench import plan, results


def test_the_formula_for_memory_is_within_a_tenth_of_the_measurement() -> None:
    rows = results.table("footprint", "memory")
    assert [plan.memory_formula(int(row["dimension"]), int(row["window"])) for row in rows] == [
        pytest.approx(row["MB"], rel=0.1) for row in rows
    ]


def test_the_formula_for_a_fit_is_within_a_fifth_of_the_measurement() -> None:
    for vectors, fit in plan.FIT_GB.items():
        assert fit == pytest.approx(18 * 4 * plan.DIMENSION * vectors / 1e9, rel=0.2)
