"""What all pages share: the templates, which escape every text, and how numbers are written.

No page has a script; a page loads the style sheet of this service, and nothing from elsewhere.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import resources

from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markupsafe import Markup

from exporter.http import charts, islands
from exporter.http.condition import Condition
from ingest.runtime.version import __version__

_RUNBOOK: Mapping[str, str] = {
    "not_followed": "embeddingdriftnotfollowed",
    "no_baseline": "embeddingdriftbaselinemissing",
    "too_few_vectors": "embeddingdriftvectorsmissing",
    "stale": "embeddingdriftwindowstale",
    "dimension_changed": "embeddingdriftdimensionchanged",
    "baseline_too_small": "embeddingdriftbaselinetoosmall",
    "baseline_constant": "embeddingdriftbaselineconstant",
}
"""Headings of the runbook for the states in which drift cannot be measured."""


def heading(condition: Condition) -> str:
    """Return the id of the heading of the runbook that a condition belongs to."""
    if not condition.is_watched:
        return "embeddingdriftexporterdown"
    if condition.word == "model changed":
        return "embeddingmodelchanged"
    if condition.is_drift:
        return "embeddingdriftdetected"
    state = "stale" if condition.worst is None else condition.worst.state
    return _RUNBOOK.get(state, "embeddingdriftdetected")


def since(samples: charts.Samples, lasting: float) -> str | None:
    """Tell when the scores that are above a threshold now began to be so."""
    began: float | None = None
    for moment, score in reversed(samples):
        if score is None:
            continue
        if score <= lasting:
            return None if began is None else as_moment(datetime.fromtimestamp(began, UTC))
        began = moment
    return None if began is None else f"before {as_moment(datetime.fromtimestamp(began, UTC))}"


def runbook() -> str:
    """Build the page at ``/runbook``; its headings have ids, so that alerts can point there."""
    source = (resources.files("rules") / "runbook.md").read_text(encoding="utf-8")
    body = re.sub(r"<h(\d)>(.*?)</h\1>", _with_id, MarkdownIt().enable("table").render(source))
    # The runbook is part of this package, and not anybody's input.
    return TEMPLATES.get_template("runbook.html").render(body=Markup(body))  # noqa: S704


def _with_id(heading: re.Match[str]) -> str:
    level, text = heading.groups()
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return f'<h{level} id="{slug}">{text}</h{level}>'


def style() -> str:
    """Return the style sheet of all pages."""
    return (resources.files("exporter.http") / "templates/style.css").read_text(encoding="utf-8")


def as_score(value: float | None) -> str:
    """Write a score; nothing if it is not known."""
    return "" if value is None else f"{value:.1f}"


def as_significant(value: float | None) -> str:
    """Write a number with four digits; nothing if it is not known."""
    return "" if value is None else f"{value:.4g}"


def as_share(value: float | None) -> str:
    """Write a share in percent; nothing if it is not known."""
    return "" if value is None else f"{value:.0%}"


def as_moment(value: datetime) -> str:
    """Write a time in UTC."""
    return f"{value.astimezone(UTC):%Y-%m-%d %H:%M} UTC"


def _templates() -> Environment:
    found = Environment(
        loader=PackageLoader("exporter.http"), autoescape=True, undefined=StrictUndefined
    )
    found.filters |= {
        "score": as_score,
        "significant": as_significant,
        "share": as_share,
        "moment": as_moment,
        "quoted": shlex.quote,
        "colour": islands.colour,
        "slug": lambda word: word.replace(" ", "-"),
    }
    found.globals["version"] = __version__
    return found


TEMPLATES = _templates()
