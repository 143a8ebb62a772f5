"""Each reason for a loss is logged once."""

from __future__ import annotations

import pytest

from embedding_drift_client.errors import QueueFull, Undelivered
from embedding_drift_client.losses import NO_LOSSES, Losses, LossLog

SUFFIX = " (logged once; later ones are counted)"


def logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage().removesuffix(SUFFIX) for record in caplog.records]


def test_reasons_that_differ_in_numbers_and_quoted_values_are_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    losses = LossLog()
    for example in ("/ids/3: 'a' is bad", "/ids/17: 'b\\n' is bad", '/ids/4: "it\'s" is bad'):
        losses.tell("lost", example)
    assert logged(caplog) == ["lost: /ids/3: 'a' is bad"]


def test_other_words_or_another_kind_of_error_are_another_reason(
    caplog: pytest.LogCaptureFixture,
) -> None:
    losses = LossLog()
    told: list[tuple[str, Exception | str]] = [
        ("lost", "gone"),
        ("dropped", "gone"),
        ("lost", "away"),
        ("lost", Undelivered("gone")),
        ("lost", QueueFull("gone")),
        ("lost", Undelivered("gone")),
    ]
    for what, why in told:
        losses.tell(what, why)
    assert logged(caplog) == ["lost: gone", "dropped: gone", "lost: away", *["lost: gone"] * 2]


def test_the_number_of_reasons_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    losses = LossLog()
    for number in range(300):
        losses.tell("lost", "x" * number)
    assert len(caplog.records) == 101
    assert logged(caplog)[-1] == (
        "100 reasons for losses were logged; losses for other reasons are counted"
    )


def test_a_long_message_is_cut(caplog: pytest.LogCaptureFixture) -> None:
    LossLog().tell("lost", Undelivered("x" * 10_000))
    assert logged(caplog) == [f"lost: {'x' * 500}"]


def test_a_report_is_one_header_with_both_numbers() -> None:
    assert Losses(dropped=12, failed=3).headers == {"X-Client-Lost": "dropped=12, failed=3"}
    assert Losses(failed=1).headers == {"X-Client-Lost": "dropped=0, failed=1"}
    assert NO_LOSSES.headers == {}
