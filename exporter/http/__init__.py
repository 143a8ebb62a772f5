"""The exporter over HTTP: ``/drift`` as JSON, and pages for people.

Start at `app.py`, which has the routes. `report.py` defines the JSON as structs and fills them from
a snapshot, `operations.py` describes the endpoints in OpenAPI, and `pages.py` renders the
pages from `templates/`. `condition.py` finds the word for each model, `charts.py` places the lines.
"""
