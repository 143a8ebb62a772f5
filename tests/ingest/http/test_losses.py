"""The header in which a client reports lost vectors is read strictly."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from ingest.http.losses import Losses, parse
from ingest.pipeline.metrics import IngestMetrics
from ingest.runtime.errors import PayloadError


@pytest.mark.parametrize(
    ("value", "lost"),
    [
        ("dropped=12, failed=3", Losses(12, 3)),
        ("dropped=0, failed=0", Losses(0, 0)),
        ("dropped=1000000000000, failed=999999999999", Losses(10**12, 10**12 - 1)),
    ],
)
def test_both_numbers_are_read(value: str, lost: Losses) -> None:
    assert parse({"x-client-lost": value}) == lost


def test_without_the_header_nothing_is_lost() -> None:
    assert parse({}) == Losses(0, 0)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "dropped=1",
        "failed=3, dropped=12",
        "dropped=1, failed=2, other=3",
        "dropped=1, failed=2\n",
        "dropped=-1, failed=0",
        "dropped=1.5, failed=0",
        "dropped=01, failed=0",
        "dropped=1000000000001, failed=0",
        "dropped=0, failed=2000000000000",
        "dropped=\u0661, failed=0",
        "dropped=1e3, failed=0",
        "Dropped=1, Failed=2",
        "dropped=" + "9" * 100_000 + ", failed=0",
    ],
)
def test_any_other_value_is_refused_with_what_is_allowed(value: str) -> None:
    with pytest.raises(PayloadError, match=r"X-Client-Lost: .* 'dropped=N, failed=N'") as caught:
        parse({"x-client-lost": value})
    assert "from 0 to 1000000000000" in caught.value.detail
    assert len(caught.value.detail) < 300
    assert [problem.pointer for problem in caught.value.problems] == ["X-Client-Lost"]


def test_a_model_that_was_removed_begins_with_0_again() -> None:
    registry = CollectorRegistry()
    metrics = IngestMetrics(registry)

    def shown() -> list[str]:
        return [
            line.rpartition(",")[2]
            for line in generate_latest(registry).decode().splitlines()
            if line.startswith("embedding_drift_client_lost_vectors_total{")
        ]

    nothing = ['reason="dropped"} 0.0', 'reason="failed"} 0.0']
    Losses().add_to(metrics, "m")
    assert shown() == nothing
    Losses(2, 0).add_to(metrics, "m")
    metrics.forget("m")
    assert shown() == []
    Losses().add_to(metrics, "m")
    assert shown() == nothing
