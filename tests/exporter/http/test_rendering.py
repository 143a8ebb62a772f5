"""What all pages share: the style has contrast, and the runbook can be linked to."""

from __future__ import annotations

import re

import pytest

from exporter.http import rendering


def test_headings_of_the_runbook_have_ids() -> None:
    assert '<h2 id="embeddingdriftdetected">EmbeddingDriftDetected</h2>' in rendering.runbook()


def luminance(colour: str) -> float:
    """Relative luminance of a colour, as WCAG 2 defines it."""
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_that_wcag_asks_for(theme: int) -> None:
    blocks = re.findall(r":root \{(.*?)\}", rendering.style(), re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#\w{6})", blocks[theme]))
    texts = {"ink", "soft", "link", "drifting", "unknown", "learning", "quiet", "fast", "slow"}
    assert texts < set(colours)
    for background in ("paper", "shade"):
        for name in texts:
            low, high = sorted(luminance(colours[each]) for each in (name, background))
            assert (high + 0.05) / (low + 0.05) >= 4.5, (name, background)
