"""Pages for people: the landing page, and the runbook that alerts link to."""

from __future__ import annotations

import re
from collections.abc import Iterable
from html import escape
from importlib import resources
from urllib.parse import quote

from markdown_it import MarkdownIt

from exporter.http import report
from exporter.monitor.snapshot import ModelSnapshot, SeriesSnapshot
from ingest.runtime.version import __version__

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 52rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c2733; }}
table {{ border-collapse: collapse; width: 100%; }}
th, td {{ text-align: left; padding: .35rem .75rem .35rem 0; border-bottom: 1px solid #dde3e9; }}
td.number {{ font-variant-numeric: tabular-nums; }}
code, pre {{ background: #f2f5f7; border-radius: 3px; padding: .1rem .25rem; }}
pre {{ padding: .75rem; overflow-x: auto; }}
pre code {{ padding: 0; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""

_LANDING = """<h1>Embedding Drift Monitor</h1>
<p>Version {version}.
<a href="/metrics">Metrics</a> ·
<a href="/drift">Drift as JSON</a> ·
<a href="/runbook">Runbook</a> ·
<a href="/-/ready">Ready?</a></p>
<table>
<tr><th>Model</th><th>Window</th><th>State</th><th>Vectors</th><th>Score</th><th>Magnitude</th></tr>
{rows}
</table>
{not_followed}
{constant}
{baselines}
{canaries}
"""


def landing(models: Iterable[ModelSnapshot]) -> str:
    """Build the page at ``/``: all models at a glance, and links to everything else."""
    models = list(models)
    rows = "\n".join(_row(each) for model in models for each in model.series)
    body = _LANDING.format(
        version=escape(__version__),
        rows=rows or '<tr><td colspan="6">No vectors yet: POST them to /embeddings.</td></tr>',
        not_followed="\n".join(
            _not_followed(model) for model in models if model.not_followed is not None
        ),
        constant="\n".join(
            _constant(model.row.model_name)
            for model in models
            if model.baseline is not None and not model.baseline.varies
        ),
        baselines="\n".join(
            _baseline(model.row.model_name, found)
            for model in models
            if (found := report.baseline(model)) is not None and found.next is not None
        ),
        canaries="\n".join(
            _canaries(model.row.model_name, told)
            for model in models
            if (told := report.canaries(model)) is not None
        ),
    )
    return _PAGE.format(title="Embedding Drift Monitor", body=body)


def _row(each: SeriesSnapshot) -> str:
    verdict = each.verdict
    measured, magnitude = verdict.measurement, each.findings.magnitude
    numbers = (
        f"{verdict.vectors}",
        "" if measured is None else f"{measured.score:.2f}",
        "" if magnitude is None else f"{magnitude.ratio.estimate:.0%}",
    )
    name = escape(each.series.model_name)
    link = quote(each.series.model_name, safe="")
    return (
        f'<tr><td><a href="/drift/{link}">{name}</a></td><td>{escape(each.series.window)}</td>'
        f"<td>{escape(verdict.state)}</td>"
        + "".join(f'<td class="number">{number}</td>' for number in numbers)
        + "</tr>"
    )


def _not_followed(model: ModelSnapshot) -> str:
    told = report.following(model)
    since = "" if told.since is None else f" since {told.since:%Y-%m-%d %H:%M:%S} UTC"
    return (
        f"<p><strong>{escape(model.row.model_name)}</strong> is not followed{since}, "
        f"{told.behind} vectors behind: {escape(told.detail or '')}. "
        '<a href="/runbook#embeddingdriftnotfollowed">What to do</a></p>'
    )


def _constant(model_name: str) -> str:
    return (
        f"<p>The vectors of the baseline of <strong>{escape(model_name)}</strong> hardly differ, so"
        ' drift is not measured. <a href="/runbook#embeddingdriftbaselineconstant">What to do</a>'
        "</p>"
    )


def _baseline(model_name: str, found: report.Baseline) -> str:
    """Tell how much a baseline has seen, unless it is one that stays."""
    assert found.next is not None
    due = f"{found.next.due_at:%Y-%m-%d %H:%M} UTC"
    waits = {
        None: "is being pinned",
        "time": f"is due at {due}",
        "drift": f"waits for a time without drift, and is due at {due} if there is no more of it",
        "vectors": "waits for more vectors",
        "scores": "waits, because too few vectors were measured when they came",
        "unlike": "was refused: it finds drift in vectors of this one, or in newer ones. If that"
        " is the traffic that you want, pin it; if not, end the drift",
        "unfit": f"was refused: no detector can be fitted to it. It is tried again at {due}",
    }
    return (
        f"<p>The baseline of {escape(model_name)} is {found.stage}: it has seen the traffic from"
        f" {found.first_at:%Y-%m-%d %H:%M} to {found.last_at:%Y-%m-%d %H:%M} UTC. The"
        f" {found.next.stage} one {waits[found.next.waits_for]}.</p>"
    )


def _canaries(model_name: str, told: report.Canaries) -> str:
    return (
        f"<p>The canaries of {escape(model_name)}, the same texts embedded again, came last at"
        f" {told.received_at:%Y-%m-%d %H:%M} UTC. Their distance from the reference (1 - cosine) is"
        f" {told.median_distance:.0e} in the median and {told.max_distance:.0e} at most.</p>"
    )


def runbook() -> str:
    """Build the page at ``/runbook``; its headings have ids, so that alerts can point there."""
    source = (resources.files("rules") / "runbook.md").read_text(encoding="utf-8")
    body = re.sub(r"<h(\d)>(.*?)</h\1>", _with_id, MarkdownIt().enable("table").render(source))
    return _PAGE.format(title="Runbook", body=body)


def _with_id(heading: re.Match[str]) -> str:
    level, text = heading.groups()
    slug = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return f'<h{level} id="{slug}">{text}</h{level}>'
