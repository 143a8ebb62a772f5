"""Commands that do not need the exporter: ``migrate``, ``model``, ``replay``, ..."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingest.files.command import reading, tell_left_out
from ingest.runtime.command import KnownName, ModelName, TextFile, configured, group
from ingest.runtime.importing import importing
from ingest.runtime.printable import printable

if TYPE_CHECKING:
    from ingest.files.columns import Options
    from ingest.files.replay import Counts
    from ingest.runtime.settings.settings import Settings

main = group


@main.command()
@click.option("--citus", is_flag=True, help="Also distribute the tables over a Citus cluster.")
@click.option(
    "--grant", metavar="ROLE", help="Also grant ROLE what all commands need but the owner's rights."
)
@click.option(
    "--timeout",
    type=click.FloatRange(0),
    default=300,
    show_default=True,
    metavar="SECONDS",
    help="How long to wait while PostgreSQL is away, or somebody uses a table that must change.",
)
@configured
def migrate(settings: Settings, citus: bool, grant: str | None, timeout: float) -> None:
    """Bring the store's schema up to date. Safe to run at any time and more than once."""
    with importing():
        from ingest.store import embedded, rights
        from ingest.store.citus import distribute
        from ingest.store.connection import connect, unavailable
        from ingest.store.migrate import migrate as migrate_store
        from ingest.store.patience import patiently

    def attempt() -> tuple[list[str], list[str], str | None]:
        with unavailable(), connect(rights.owner(settings.database, store)) as connection:
            applied = migrate_store(connection)
            distributed = distribute(connection) if citus else []
            path = None if grant is None else rights.grant(connection, grant)
            return applied, distributed, path

    with embedded.connection_string(settings.database) as store:
        applied, distributed, path = patiently(attempt, timeout)
    click.echo(f"applied: {', '.join(applied)}" if applied else "the schema is up to date")
    if citus:
        click.echo(f"distributed: {', '.join(distributed) or 'none; all tables already were'}")
    if grant is not None:
        click.echo(f"granted: what all commands need, to {grant}")
    if path is not None:
        click.echo(f"so that {grant} finds the tables, run in SQL: {path}")


@main.group()
def model() -> None:
    """List the models, resolve a change of dimension, or remove a model permanently."""


@model.command("list")
@configured
def list_(settings: Settings) -> None:
    """List the models by name: dimension, number of vectors ever stored, time of the newest."""
    with importing():
        from ingest import service
        from ingest.store import models

    with service.opened(settings, "model list") as connection:
        found = models.summaries(connection)
    for summary in found:
        last = summary.last_received_at
        click.echo(
            f"{summary.model_name}\t{summary.dimension} dimensions\t{summary.vectors} vectors"
            f"\tlast {'never' if last is None else format(last, '%Y-%m-%d %H:%M:%S%z')}"
        )


@model.command()
@click.argument("model_name", type=KnownName())
@configured
def resolve(settings: Settings, model_name: str) -> None:
    """Say that no sender of MODEL_NAME has another dimension any more.

    The state dimension_changed ends, until vectors of another dimension arrive again.
    """
    with importing():
        from ingest import service
        from ingest.store import models

    with service.opened(settings, "model resolve") as connection:
        models.resolve_dimension(connection, model_name)
    click.echo(f"{model_name}: resolved")


@model.command()
@click.argument("model_name", type=KnownName())
@click.option("--yes", is_flag=True, help="Do not ask for confirmation.")
@configured
def remove(settings: Settings, model_name: str, yes: bool) -> None:
    """Remove MODEL_NAME with its vectors, baselines and history permanently.

    A running exporter forgets the model at its next poll. Stop the senders first: a vector that
    arrives later creates a new model of that name.
    """
    with importing():
        from ingest import service
        from ingest.store import models

    if not yes:
        click.confirm(f"remove {model_name} with its vectors, baselines and history?", abort=True)
    with service.opened(settings, "model remove") as connection:
        models.remove(connection, model_name)
    click.echo(f"{model_name}: removed")


@main.group()
def canary() -> None:
    """Accept what canaries show as right, or forget them."""


@canary.command()
@click.argument("model_name", type=KnownName())
@configured
def accept(settings: Settings, model_name: str) -> None:
    """Compare later canaries of MODEL_NAME with its newest ones: the encoder changed on purpose."""
    with importing():
        from ingest import service
        from ingest.store import canaries

    with service.opened(settings, "canary accept") as connection:
        names = canaries.accept(connection, model_name)
    click.echo(f"{model_name}: the newest canaries are the reference ({', '.join(names)})")


@canary.command("remove")
@click.argument("model_name", type=KnownName())
@configured
def remove_canaries(settings: Settings, model_name: str) -> None:
    """Forget the canaries of MODEL_NAME: nobody sends them any longer."""
    with importing():
        from ingest import service
        from ingest.store import canaries

    with service.opened(settings, "canary remove") as connection:
        canaries.remove(connection, model_name)
    click.echo(f"{model_name}: canaries removed")


@main.command()
@click.argument("source")
@click.option(
    "--model",
    type=ModelName(),
    help="Model name. Default: the file's or folder's name without suffix; a pattern has none.",
)
@click.option(
    "--url", default="http://127.0.0.1:10910", show_default=True, help="Address of the service."
)
@click.option(
    "--rate", type=click.FloatRange(0, min_open=True), help="Vectors per second. Default: no limit."
)
@click.option(
    "--batch",
    type=click.IntRange(1),
    default=500,
    show_default=True,
    help="Vectors per request.",
)
@click.option(
    "--token-file",
    "token_",
    type=TextFile(),
    help="File with a bearer token that has the scope write.",
)
@click.option(
    "--checkpoint",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that says what is sent. With it, the same command goes on where it was interrupted.",
)
@reading
def replay(
    source: str,
    model: str | None,
    url: str,
    rate: float | None,
    batch: int,
    token_: str | None,
    checkpoint: Path | None,
    options: Options,
    skips: bool,
) -> None:
    """Send the vectors of SOURCE to a running service.

    SOURCE is a file, a folder or a pattern such as 'day=*/*.parquet': a path on this machine, or a
    URL that fsspec can read. Files are Parquet, Arrow or Feather, CSV or TSV, JSON or JSON lines,
    npy or npz, fvecs or bvecs, or HDF5; compressed or not.
    """
    with importing():
        from tqdm import tqdm

        from ingest.files.reader import SUFFIXES
        from ingest.files.replay import Replay, sending
        from ingest.files.source import Source

    found = Source.find(source, SUFFIXES)
    tell_left_out(found)
    token = None if token_ is None else token_.strip()
    # disable=None: show the bar only on a terminal.
    with sending(url, token) as send, tqdm(unit=" rows", disable=None) as bar:

        def sent(rows: int, counts: Counts) -> None:
            bar.set_postfix_str(str(counts), refresh=False)
            bar.update(rows)

        going = Replay(
            found,
            options,
            model,
            batch,
            skips,
            rate,
            checkpoint,
            skipped=lambda fault: tqdm.write(printable(f"skipped: {fault}"), sys.stderr),
            sent=sent,
        )
        if going.is_done:
            tqdm.write(
                "nothing sent: this replay was done before;"
                f" remove {checkpoint} to send everything again,"
                " which stores rows without ids twice",
                sys.stderr,
            )
        try:
            going.run(send)
        except BaseException:
            tqdm.write(f"stopped; {going.counts}", sys.stderr)
            raise
    click.echo(going.counts)


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
    """Create a bearer token called NAME, add its hash to FILE and print the token.

    The token cannot be printed again: only its hash is stored.
    """
    with importing():
        from ingest.runtime.auth import tokens

    click.echo(tokens.add(file, name, scopes))


@main.group()
def check() -> None:
    """Check files without starting a service."""


@check.command("config")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--database",
    is_flag=True,
    help="Also ask the database whether standbys are safe, and fail if they are not.",
)
def check_config(file: Path, database: bool) -> None:
    """Check a configuration FILE, the environment variables, and the files that it names."""
    with importing():
        from ingest.runtime.auth import security
        from ingest.runtime.settings.configuration import load

    settings = load(file, os.environ)
    security.read(settings.server)
    click.echo(f"{file}: valid")
    if database:
        click.echo(f"database: {_replication(settings)}")


def _replication(settings: Settings) -> str:
    with importing():
        from ingest.store import embedded, standbys
        from ingest.store.connection import connect, unavailable

    with (
        embedded.connection_string(settings.database, creates=False) as store,
        unavailable(),
        connect(store) as connection,
    ):
        found = standbys.read(connection)
    if found is None:
        raise click.ClickException("database: is a standby; connect to the primary")
    if found.hidden:
        return (
            "the role may not see how standbys replicate; run, as a superuser:"
            " grant pg_monitor to the role"
        )
    if found.trouble is not None:
        raise click.ClickException(f"database: {found.trouble}")
    synchronous = found.synchronous
    return f"{synchronous} synchronous standbys" if synchronous else "no standbys"
