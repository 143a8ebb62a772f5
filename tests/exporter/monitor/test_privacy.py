"""Privacy: the settings of now decide over what was kept earlier."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.monitor.privacy import permits, shown
from ingest.runtime.settings.settings import ExplanationSettings, Texts


@pytest.mark.parametrize(
    ("then", "now", "permitted"),
    [
        (("keywords", None), ("keywords", None), True),
        (("keywords", None), ("full", None), True),
        (("full", None), ("keywords", None), False),
        (("none", ["tenant"]), ("none", ["tenant", "language"]), True),
        (("none", ["tenant"]), ("none", ["language"]), False),
        (("none", None), ("none", ["language"]), False),
    ],
)
def test_an_explanation_that_was_kept_is_shown_if_it_says_no_more_than_is_allowed(
    then: tuple[Texts, list[str] | None], now: tuple[Texts, list[str] | None], permitted: bool
) -> None:
    before, after = (ExplanationSettings(texts=t, metadata_keys=keys) for t, keys in (then, now))
    kept: dict[str, Any] = shown(before)
    assert permits(after, kept["texts"], kept["metadata_keys"]) == permitted
