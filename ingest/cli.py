"""Commands of the light half: ``ingest``, ``migrate``, ``replay``, ``check``."""

from __future__ import annotations

import os
from pathlib import Path

import click

from ingest.app import Ingest
from ingest.runtime import exposition, web
from ingest.runtime.command import configured, group
from ingest.runtime.settings import Settings, load
from ingest.store import embedded
from ingest.store.migrate import migrate as migrate_store
from ingest.store.pool import connect

PORT = 10911

main = group


@main.command()
@configured
def ingest(settings: Settings) -> None:
    """Serve the ingest half: POST /embeddings and POST /search."""
    web.exit_on_signals()
    listener = web.listen(settings.server.host, _port(settings))
    with embedded.connection_string(settings.database) as store:
        with connect(store) as connection:
            migrate_store(connection)
        registry = exposition.process_registry()
        web.run(web.application(registry, Ingest(store, settings, registry)), listener)


def _port(settings: Settings) -> int:
    return PORT if settings.server.port is None else settings.server.port


@main.command()
@configured
def migrate(settings: Settings) -> None:
    """Bring the store's schema up to date. Safe to run at any time, also twice."""
    with embedded.connection_string(settings.database) as store, connect(store) as connection:
        applied = migrate_store(connection)
    click.echo(f"applied: {', '.join(applied)}" if applied else "the schema is up to date")


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
