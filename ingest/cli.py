"""Commands of the light half: ``ingest``, ``migrate``, ``model``, ``replay``, ``token``, ..."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TextIO

import click
from tqdm import tqdm

from ingest.files.reader import read
from ingest.files.replay import batches, paced, sending
from ingest.http.app import Ingest
from ingest.pipeline.pipeline import Pipeline
from ingest.runtime.auth import tokens
from ingest.runtime.auth.security import Protection
from ingest.runtime.command import configured, group, reconfigurable
from ingest.runtime.http import application, exposition, server
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.reload import Live
from ingest.runtime.settings.settings import Settings
from ingest.store import embedded, models
from ingest.store.citus import distribute
from ingest.store.connection import connect, unavailable
from ingest.store.migrate import migrate as migrate_store

PORT = 10911

main = group


@main.command()
@reconfigurable
def ingest(live: Live) -> None:
    """Serve the ingest half: POST /embeddings and POST /search."""
    settings = live.settings
    server.exit_on_signals()
    protection = Protection.of(live)
    listener = server.listen(settings.server.host, _port(settings))
    with embedded.connection_string(settings.database) as store:
        with connect(store) as connection:
            migrate_store(connection)
        registry = exposition.process_registry()
        half = Ingest(Pipeline(store, settings, registry), settings)
        app = application.application(registry, live, half, protection=protection)
        server.run(app, listener, live, protection.tls)


def _port(settings: Settings) -> int:
    return PORT if settings.server.port is None else settings.server.port


@main.command()
@click.option("--citus", is_flag=True, help="Distribute the tables over a Citus cluster, too.")
@configured
def migrate(settings: Settings, citus: bool) -> None:
    """Bring the store's schema up to date. Safe to run at any time, also twice."""
    with embedded.connection_string(settings.database) as store, connect(store) as connection:
        applied = migrate_store(connection)
        distributed = distribute(connection) if citus else []
    click.echo(f"applied: {', '.join(applied)}" if applied else "the schema is up to date")
    if citus:
        click.echo(f"distributed: {', '.join(distributed) or 'all tables were before'}")


@main.group()
def model() -> None:
    """List the models, or remove one for good."""


@model.command("list")
@configured
def list_(settings: Settings) -> None:
    """List the models by name: dimension, vectors ever stored, and when the newest was."""
    with (
        embedded.connection_string(settings.database) as store,
        connect(store) as connection,
        unavailable(),
    ):
        found = models.listed(connection)
    for listed in found:
        last = listed.last_received_at
        click.echo(
            f"{listed.model_name}\t{listed.dimension} dimensions\t{listed.vectors} vectors"
            f"\tlast {'never' if last is None else format(last, '%Y-%m-%d %H:%M:%S%z')}"
        )


@model.command()
@click.argument("model_name")
@click.option("--yes", is_flag=True, help="Do not ask.")
@configured
def remove(settings: Settings, model_name: str, yes: bool) -> None:
    """Remove MODEL_NAME with its vectors, baselines and history, for good.

    A running exporter drops it at its next poll. Stop what sends it first: a vector that
    arrives later begins a new model of that name.
    """
    if not yes:
        click.confirm(f"remove {model_name} with its vectors, baselines and history?", abort=True)
    with (
        embedded.connection_string(settings.database) as store,
        connect(store) as connection,
        unavailable(),
    ):
        models.remove(connection, model_name)
    click.echo(f"{model_name}: removed")


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option("--model", help="Model name; the file's name without suffix by default.")
@click.option(
    "--url", default="http://127.0.0.1:10910", show_default=True, help="Where the service listens."
)
@click.option("--rate", type=click.FloatRange(0, min_open=True), help="Vectors a second.")
@click.option("--batch", type=click.IntRange(1), default=500, show_default=True)
@click.option(
    "--token-file", type=click.File(), help="File that holds a bearer token with the scope write."
)
def replay(
    file: Path,
    model: str | None,
    url: str,
    rate: float | None,
    batch: int,
    token_file: TextIO | None,
) -> None:
    """Send the vectors of FILE (npy, npz, parquet, csv, jsonl) to a running service."""
    model = model or file.stem
    token = None if token_file is None else token_file.read().strip()
    stored = 0
    # disable=None: no bar where nobody watches.
    with sending(url, model, token) as send, tqdm(unit=" vectors", disable=None) as bar:
        for rows in paced(batches(read(file), batch), rate):
            stored += send(rows)
            bar.update(len(rows))
    click.echo(f"{stored} vectors stored for model {model}")


@main.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    required=True,
    help="metrics, drift, write, write:MODEL or admin. May be repeated.",
)
def token(file: Path, name: str, scopes: tuple[str, ...]) -> None:
    """Make a bearer token called NAME, add its hash to FILE and print it, once."""
    click.echo(tokens.add(file, name, scopes))


@main.group()
def check() -> None:
    """Check files without running anything."""


@check.command("config")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
def check_config(file: Path) -> None:
    """Check a configuration FILE, together with the environment."""
    load(file, os.environ)
    click.echo(f"{file}: valid")


if __name__ == "__main__":
    main()
