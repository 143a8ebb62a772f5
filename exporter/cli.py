"""The command line; the one module that knows all others."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

import click

from exporter.http.app import Exporter
from exporter.monitor import baseline as baselines
from exporter.monitor.monitor import Monitor
from ingest.cli import main
from ingest.http.app import Ingest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime import model_name as model_names
from ingest.runtime.auth.security import Protection
from ingest.runtime.command import configured, reconfigurable, setting
from ingest.runtime.errors import SettingsError
from ingest.runtime.http import application, exposition, server
from ingest.runtime.model_name import ALLOWED, is_legal
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings
from ingest.store import embedded
from ingest.store import pins as stored_baselines
from ingest.store.connection import connect
from ingest.store.migrate import migrate
from ingest.store.selection import Selection
from ingest.watch.sources import catalogue
from ingest.watch.watch import Watch
from rules import render as rule_files

PORT = 10910


@main.command()
@reconfigurable
def serve(live: LiveSettings) -> None:
    """Serve everything on one port: ingest, metrics and drift."""
    settings = live.settings
    server.exit_on_signals()
    protection = Protection.of(live)
    listener = server.listen(settings.server.host, _port(settings))
    with embedded.connection_string(settings.database) as store:
        with connect(store) as connection:
            migrate(connection)
        registry = exposition.process_registry()
        pipeline = Pipeline(store, settings, registry)
        halves = Ingest(pipeline, settings), Exporter(Monitor(store, settings), registry)
        app = application.application(registry, live, *halves, protection=protection)
        server.run(app, listener, live, protection.tls)


@main.command()
@setting("--shard", "monitoring.shard", "Which of the shards this is, from 0.")
@setting("--total-shards", "monitoring.total_shards", "Exporters that share the models.")
@reconfigurable
def exporter(live: LiveSettings) -> None:
    """Serve the exporter half: GET /metrics and GET /drift."""
    settings = live.settings
    server.exit_on_signals()
    protection = Protection.of(live)
    listener = server.listen(settings.server.host, _port(settings))
    with embedded.connection_string(settings.database) as store:
        registry = exposition.process_registry()
        half = Exporter(Monitor(store, settings), registry)
        app = application.application(registry, live, half, protection=protection)
        server.run(app, listener, live, protection.tls)


@main.command()
@click.option(
    "--source",
    default="",
    metavar="CONNINFO",
    help="Where the table is, as libpq reads it: a URI, key=value pairs or service=NAME. What it"
    " leaves out comes from PGHOST, PGDATABASE, PGUSER, PGSERVICE and so on, as for psql; a"
    " password from PGPASSFILE, the service or PGPASSWORD, and not from here.",
)
@click.option("--table", required=True, help="As in SQL: docs, app.docs, '\"Docs\"'.")
@click.option("--column", default="embedding", show_default=True, help="Of type vector or halfvec.")
@click.option("--id", "id_", default="id", show_default=True, help="Column that names a row.")
@click.option(
    "--time",
    help="Column that says when a row changed last; a row that changes is counted again. Without"
    " it rows are followed by ids that grow.",
)
@click.option("--model", help="Model name; the table's name by default.")
@click.option(
    "--overlap",
    type=click.FloatRange(0),
    default=300,
    show_default=True,
    help="Seconds for which a transaction that writes to the table may be open.",
)
@reconfigurable
def watch(
    live: LiveSettings,
    source: str,
    table: str,
    column: str,
    id_: str,
    time: str | None,
    model: str | None,
    overlap: float,
) -> None:
    """Serve metrics and drift of vectors that an application keeps in a table of its own."""
    settings = live.settings
    server.exit_on_signals()
    protection = Protection.of(live)
    found = catalogue.find(source, table, column, id_, time)
    name = model or found.table
    if not model_names.is_legal(name):
        raise SettingsError(f"--model {name!r} is not allowed; allowed are {model_names.ALLOWED}")
    listener = server.listen(settings.server.host, _port(settings))
    with embedded.connection_string(settings.database) as store:
        with connect(store) as connection:
            migrate(connection)
        registry = exposition.process_registry()
        pipeline = Pipeline(store, settings, registry)
        halves = (
            Watch(pipeline, source, found, name, overlap, settings, registry),
            Exporter(Monitor(store, settings), registry),
        )
        app = application.application(registry, live, *halves, protection=protection)
        server.run(app, listener, live, protection.tls)


def _port(settings: Settings) -> int:
    return PORT if settings.server.port is None else settings.server.port


@main.group()
def baseline() -> None:
    """Pin what normal is, or list what was pinned."""


@baseline.command()
@click.argument("model_name")
@click.option("--first", type=click.IntRange(1), help="The first N vectors stored.")
@click.option("--last", type=click.IntRange(1), help="The last N vectors stored.")
@click.option("--from", "start", type=click.DateTime(), help="Vectors from this time (UTC) on.")
@click.option("--to", "end", type=click.DateTime(), help="Vectors up to this time (UTC).")
@configured
def pin(
    settings: Settings,
    model_name: str,
    first: int | None,
    last: int | None,
    start: datetime | None,
    end: datetime | None,
) -> None:
    """Pin a new baseline for MODEL_NAME; a running exporter takes it up at its next poll."""
    selection = _selection(first, last, start, end)
    with embedded.connection_string(settings.database) as store, connect(store) as connection:
        try:
            version = baselines.pin(connection, model_name, selection)
        except ValueError as error:
            raise click.ClickException(
                f"baseline of {model_name} ({selection}): {error}"
            ) from error
    click.echo(f"{model_name}: baseline {version} pinned ({selection})")


def _selection(
    first: int | None, last: int | None, start: datetime | None, end: datetime | None
) -> Selection:
    given = [first is not None, last is not None, start is not None or end is not None]
    if sum(given) != 1:
        raise SettingsError("choose the vectors by one of --first, --last, or --from and --to")
    return Selection(
        first, last, start and start.replace(tzinfo=UTC), end and end.replace(tzinfo=UTC)
    )


@baseline.command("list")
@click.argument("model_name")
@configured
def list_(settings: Settings, model_name: str) -> None:
    """List the baselines of MODEL_NAME, newest first."""
    with embedded.connection_string(settings.database) as store, connect(store) as connection:
        for found in stored_baselines.versions(connection, model_name):
            click.echo(
                f"{found['version']}\t{found['pinned_at']:%Y-%m-%d %H:%M:%S%z}"
                f"\t{found['vectors']} vectors\t{found['source']}"
            )


@main.command()
@click.argument("dataset")
@click.option("--model", required=True, help="Model name; rows of others are left out.")
@click.option(
    "--time-column",
    default="timestamp",
    show_default=True,
    help="Column that says when a vector was made.",
)
@click.option("--baseline", "pins", is_flag=True, help="Pin a baseline instead, of the first ones.")
@click.option("--from", "start", type=click.DateTime(), help="With --baseline: from this time on.")
@click.option("--to", "end", type=click.DateTime(), help="With --baseline: up to this time (UTC).")
@click.option("--scheduler", help="Address of a Dask scheduler; this machine's cores by default.")
@click.option(
    "--scratch", help="Folder or URL that workers sort files in; a temporary one by default."
)
@configured
def backfill(
    settings: Settings,
    dataset: str,
    model: str,
    time_column: str,
    pins: bool,
    start: datetime | None,
    end: datetime | None,
    scheduler: str | None,
    scratch: str | None,
) -> None:
    """Measure the past of a model in DATASET, Parquet files, and store it as history.

    DATASET is a file or folder on this machine, or the URL of one that fsspec can read. Started
    again, it goes on where it was stopped.
    """
    if not is_legal(model):
        raise SettingsError(f"--model {model!r}: allowed are {ALLOWED}")
    if not pins and (start or end):
        raise SettingsError("--from and --to choose the vectors of a --baseline")
    try:
        from exporter.backfill.backfill import Backfill
    except ModuleNotFoundError as error:
        raise click.ClickException(
            f"needs {error.name}: pip install 'embedding-drift-exporter[scale]'"
        ) from error
    with (
        embedded.connection_string(settings.database) as store,
        Backfill.open(dataset, model, time_column, scheduler, scratch) as filling,
    ):
        with connect(store) as connection:
            migrate(connection)
        if pins:
            first = None if start or end else settings.monitoring.baseline.vectors
            selection = _selection(first, None, start, end)
            version = filling.pin(store, selection)
            click.echo(f"{model}: baseline {version} pinned ({selection})")
        else:
            rows = filling.run(store, settings)
            click.echo(f"{model}: {rows} rows of history added")


@main.group()
def rules() -> None:
    """Write the files for Prometheus and Alertmanager."""


@rules.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("rendered"),
    show_default=True,
    help="Folder to write to, made when absent.",
)
@click.option(
    "--models",
    type=click.File(),
    help="File with one model's name a line; thresholds of other models are refused.",
)
@configured
def render(settings: Settings, output: Path, models: TextIO | None) -> None:
    """Write rules, thresholds and the Alertmanager configuration from the settings."""
    if models is not None:
        rule_files.check_models(settings, models.read().split())
    for path in rule_files.render(settings, output):
        click.echo(path)


if __name__ == "__main__":
    main()
