"""Dashboard of the newest texts that lie farthest from the baseline, read from PostgreSQL.

Optional: it needs a data source that can read the store. The text is the key ``text`` of a
vector's metadata.
"""

from __future__ import annotations

from grafana.dashboard import Json, datasource, frame, others

_DATASOURCE = {"type": "postgres", "uid": "${datasource}"}
MODELS_SQL = "select model_name from model order by model_name"
OUTLYING_SQL = """\
with centroid as (
    select avg(embedding) as centre
    from baseline_embedding
    where model_name = ${model_name:sqlstring}
      and version = (select max(version) from baseline where model_name = ${model_name:sqlstring})
), newest as (
    select received_at, id, metadata, embedding
    from embedding
    where model_name = ${model_name:sqlstring} and $__timeFilter(received_at)
    order by received_at desc, seq desc
    limit 2000
)
select received_at, id, metadata ->> 'text' as text,
    1 - (embedding <=> centre) as cosine_similarity
from newest cross join centroid
order by cosine_similarity
limit 50
"""


def texts() -> Json:
    """Return what Grafana loads."""
    return frame(
        "embedding-drift-texts", "Texts", "The newest texts that are least like the baseline."
    ) | {
        "annotations": {"list": []},
        "links": others(),
        "panels": [_panel()],
        "templating": {"list": [datasource("postgres"), _model()]},
    }


def _model() -> Json:
    return {
        "type": "query",
        "name": "model_name",
        "label": "Model",
        "datasource": _DATASOURCE,
        "query": MODELS_SQL,
        "refresh": 1,
    }


def _panel() -> Json:
    target = {"refId": "A", "datasource": _DATASOURCE, "format": "table", "rawQuery": True}
    return {
        "id": 1,
        "type": "table",
        "title": "Newest outlying texts",
        "description": "Of the newest 2,000 vectors in the time range, the 50 whose cosine "
        "similarity to the baseline's centroid is lowest.",
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": "none"}, "overrides": []},
        "gridPos": {"x": 0, "y": 0, "w": 24, "h": 20},
        "options": {"showHeader": True},
        "targets": [{**target, "editorMode": "code", "rawSql": OUTLYING_SQL}],
    }
