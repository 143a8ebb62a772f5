"""Privacy: whether an explanation that was kept says no more than the settings allow now."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from ingest.runtime.settings.settings import ExplanationSettings, Texts


def shown(allowed: ExplanationSettings) -> dict[str, object]:
    """Return what an explanation may show, to be kept with it."""
    return {"texts": allowed.texts, "metadata_keys": allowed.metadata_keys}


def permits(allowed: ExplanationSettings, told: Mapping[str, Any]) -> bool:
    """Return whether an explanation that was kept may be shown now: the settings may be stricter.

    Parameters
    ----------
    allowed : ExplanationSettings
    told : mapping
        With what `shown` returned then.
    """
    keys, now = told["metadata_keys"], allowed.metadata_keys
    order = get_args(Texts)
    return order.index(told["texts"]) >= order.index(allowed.texts) and (
        now is None or (keys is not None and set(keys) <= set(now))
    )
