"""The texts dashboard: the newest texts that are least similar to the baseline.

Optional: it needs a PostgreSQL data source that can read the store. It shows the key ``text`` of
the metadata.
"""

from __future__ import annotations

from grafana.dashboard import Json, datasource, frame, others

_STORE = "postgres_datasource"
"""Not the name of the other dashboards' source: their links would pass theirs on."""
_DATASOURCE = {"type": "postgres", "uid": f"${{{_STORE}}}"}
MODELS_SQL = "select model_name from model order by model_name"
OUTLYING_SQL = """\
with centroid as (
    select avg(embedding) as centre
    from baseline_embedding
    where model_name = ${model_name:sqlstring}
      and version = (
          select version from baseline_in_use where model_name = ${model_name:sqlstring}
      )
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
    """Return the JSON that Grafana loads."""
    return frame(
        "embedding-drift-texts", "Texts", "The newest texts that are least similar to the baseline."
    ) | {
        "annotations": {"list": []},
        "links": others(),
        "panels": [_panel()],
        "templating": {"list": [datasource(_STORE, "postgres"), _model()]},
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
        "title": "Least similar new texts",
        "description": "The 50 of the newest 2,000 vectors in the time range that have the "
        "lowest cosine similarity to the centroid of the baseline.",
        "datasource": _DATASOURCE,
        "fieldConfig": {"defaults": {"unit": "none"}, "overrides": []},
        "gridPos": {"x": 0, "y": 0, "w": 24, "h": 20},
        "options": {"showHeader": True},
        "targets": [{**target, "editorMode": "code", "rawSql": OUTLYING_SQL}],
    }
