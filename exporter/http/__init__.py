"""The exporter over HTTP: ``/drift`` as JSON, and pages for people.

Start at `fleet.py`, which has the routes and shows every model of the fleet; `queries.py` reads
what other processes follow. Two halves use it: `app.py` runs the monitor, `showing.py` only shows.
`operations.py` describes the endpoints in OpenAPI. `fleet_page.py` and `model_page.py` build the
pages from `templates/`, by `rendering.py`. `condition.py` finds the word for each model,
`charts.py` places the lines. The JSON is defined in `exporter.monitor.report`.
"""
