"""Privacy: whether an explanation that was kept says no more than the settings allow now."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import get_args

from ingest.runtime.settings.settings import ExplanationSettings, Texts

Permits = Callable[[Texts, Collection[str] | None], bool]
"""`permits` by the settings of now."""


def shown(allowed: ExplanationSettings) -> dict[str, object]:
    """Return what an explanation may show, to be kept with it."""
    return {"texts": allowed.texts, "metadata_keys": allowed.metadata_keys}


def permits(allowed: ExplanationSettings, texts: Texts, keys: Collection[str] | None) -> bool:
    """Return whether an explanation that was kept may be shown now: the settings may be stricter.

    Parameters
    ----------
    allowed : ExplanationSettings
    texts : str
    keys : collection of str, or None
        What the settings `explanation.texts` and `explanation.metadata_keys` were then.
    """
    now, order = allowed.metadata_keys, get_args(Texts)
    return order.index(texts) >= order.index(allowed.texts) and (
        now is None or (keys is not None and set(keys) <= set(now))
    )
