"""All commands of ``embedding-drift``. This module may import every other one.

The commands import what they need when they run, so that ``--help`` and short commands wait for
neither scipy nor a web server.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.cli import main
from ingest.files.command import reading, tell_left_out
from ingest.runtime.command import (
    KnownName,
    ModelName,
    Names,
    TextFile,
    configured,
    has_configuration,
    reconfigurable,
    setting,
)
from ingest.runtime.errors import MonitorError, SettingsError
from ingest.runtime.extras import needs
from ingest.runtime.importing import importing
from ingest.runtime.model_name import ALLOWED, is_legal
from ingest.runtime.printable import printable, printable_json
from ingest.runtime.settings.settings import Settings, WindowsSettings
from rules import render as rule_files

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

    from exporter.monitor.preview import Preview
    from exporter.monitor.report import Told
    from ingest.files.columns import Options
    from ingest.runtime.http.application import Half
    from ingest.runtime.settings.reload import LiveSettings
    from ingest.store.connection import ConnectionString
    from ingest.store.selection import Selection

__all__ = ["PORT", "main"]

PORT, INGEST_PORT = 10910, 10911

_MOMENT = click.DateTime((*click.DateTime().formats, "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d %H:%M:%S UTC"))
"""A time in UTC. The last format is that of messages in Slack."""


@main.command()
@reconfigurable
def serve(live: LiveSettings) -> None:
    """Serve both halves on one port: ingest, metrics and drift."""
    with importing():
        from exporter.http.app import Exporter
        from exporter.monitor.monitor import Monitor
        from ingest import service
        from ingest.http.app import Ingest
        from ingest.pipeline.pipeline import Pipeline

    settings = live.settings

    def halves(store: ConnectionString, registry: CollectorRegistry) -> list[Half]:
        pipeline = Pipeline(store, settings, registry)
        return [Ingest(pipeline, settings), Exporter(Monitor(store, settings), registry)]

    service.serve(live, "serve", PORT, halves)


@main.command()
@reconfigurable
def ingest(live: LiveSettings) -> None:
    """Serve the ingest half: POST /embeddings, /canaries, /v1/traces and /search.

    It shows the pages and GET /drift, too, from the reports of the exporters.
    """
    with importing():
        from exporter.http.showing import Showing
        from ingest import service
        from ingest.http.app import Ingest
        from ingest.pipeline.pipeline import Pipeline

    settings = live.settings

    def halves(store: ConnectionString, registry: CollectorRegistry) -> list[Half]:
        pipeline = Pipeline(store, settings, registry)
        return [Ingest(pipeline, settings), Showing(store, settings)]

    service.serve(live, "ingest", INGEST_PORT, halves)


@main.command()
@setting("--shard", "monitoring.shard", "Number of this shard, from 0.")
@setting("--total-shards", "monitoring.total_shards", "Number of exporters that share the models.")
@reconfigurable
def exporter(live: LiveSettings) -> None:
    """Serve the exporter half: GET /metrics and GET /drift."""
    with importing():
        from exporter.http.app import Exporter
        from exporter.monitor.monitor import Monitor
        from ingest import service

    def halves(store: ConnectionString, registry: CollectorRegistry) -> list[Half]:
        return [Exporter(Monitor(store, live.settings), registry)]

    service.serve(live, "exporter", PORT, halves, migrates=False)


@main.command()
@click.option(
    "--source",
    default="",
    metavar="ADDRESS",
    help="Where the vectors are. PostgreSQL: as libpq reads it, a URI, key=value pairs or"
    " service=NAME; missing parts come from PGHOST, PGDATABASE, PGUSER, PGSERVICE and so on, as for"
    " psql. Qdrant: qdrant://HOST:PORT or qdrant+https://HOST:PORT. Kafka:"
    " kafka://HOST:PORT,HOST:PORT?group=NAME. A password must come from PGPASSFILE, the service or"
    " PGPASSWORD; from QDRANT_API_KEY; or from the file that KAFKA_PROPERTIES names.",
)
@click.option(
    "--table",
    required=True,
    help="Table, named as in SQL: docs, app.docs, '\"Docs\"'. Or the collection, or the topic.",
)
@click.option(
    "--column",
    help="Column of vectors: of pgvector's types, arrays, text or JSON. Default: embedding. For"
    " Qdrant: the name of the vectors, if there are several.",
)
@click.option("--id", "id_", help="Column that identifies a row. Default: id.")
@click.option(
    "--time",
    help="Column with the time of a row's last change; a row whose time changes is read again."
    " Without it, the id orders the rows and must grow.",
)
@click.option(
    "--metadata",
    type=Names(),
    default=(),
    metavar="NAMES",
    help="Columns, or keys of the payload, that are stored as metadata: text,tenant. What an object"
    " has is cmetadata.source.",
)
@click.option(
    "--text-column",
    "text",
    metavar="NAME",
    help="Column of texts, or their key. They are stored as text in the metadata, for"
    " explanations.",
)
@click.option(
    "--sample",
    type=click.IntRange(1, 100_000),
    metavar="ROWS",
    help="Read a fixed part of about so many rows again and again, for a table without an order."
    " Qdrant is always read so; 10000 there.",
)
@click.option("--model", type=ModelName(), help="Model name. Default: the table's name.")
@click.option(
    "--overlap",
    type=click.FloatRange(0),
    default=300,
    show_default=True,
    help="Longest time in seconds that a transaction which writes to the table may be open.",
)
@click.option(
    "--recheck",
    type=click.IntRange(0),
    default=300,
    show_default=True,
    metavar="ROWS",
    help="Rows to read again per hour, chosen at random, to find vectors that changed in place. 0"
    " reads none. Not used with --time, --sample or ingest.ids: once.",
)
@click.option(
    "--on-error",
    type=click.Choice(["stop", "skip"]),
    default="stop",
    show_default=True,
    help="Wait at a row or message that cannot be used, or report and skip it.",
)
@reconfigurable
def watch(
    live: LiveSettings,
    source: str,
    table: str,
    column: str | None,
    id_: str | None,
    time: str | None,
    metadata: tuple[str, ...],
    text: str | None,
    sample: int | None,
    model: str | None,
    overlap: float,
    recheck: int,
    on_error: str,
) -> None:
    """Serve metrics and drift of the vectors that another program keeps or sends."""
    with importing():
        from exporter.http.app import Exporter
        from exporter.monitor.monitor import Monitor
        from ingest import service
        from ingest.http.app import Searching
        from ingest.pipeline.pipeline import Pipeline
        from ingest.runtime.http import server
        from ingest.watch.sources import registry as sources
        from ingest.watch.sources.source import Location, Terms
        from ingest.watch.watch import Watch

    settings = live.settings
    server.exit_on_signals()  # the server of the table may take long to answer
    found = sources.find(source, Location(table, column, id_, time, metadata, sample, text))
    name = model or found.name
    if not is_legal(name):
        raise SettingsError(
            f"{name!r} is not the name of a model: set --model; allowed are {ALLOWED}"
        )
    terms = Terms(settings.monitoring.baseline.vectors, overlap, recheck)

    def halves(store: ConnectionString, registry: CollectorRegistry) -> list[Half]:
        pipeline = Pipeline(store, settings, registry)
        return [
            Watch(pipeline, found, name, terms, on_error == "skip", settings, registry),
            Searching(pipeline, settings),
            Exporter(Monitor(store, settings), registry),
        ]

    service.serve(live, "watch", PORT, halves)


@main.group()
def baseline() -> None:
    """Pin a new baseline, choose one, or list them."""


@baseline.command()
@click.argument("model_name", type=KnownName())
@click.option("--first", type=click.IntRange(1), help="Use the first N vectors stored.")
@click.option("--last", type=click.IntRange(1), help="Use the last N vectors stored.")
@click.option("--week", is_flag=True, help="Use vectors that arrived in the last 7 days.")
@click.option("--from", "start", type=_MOMENT, help="Use vectors from this time (UTC).")
@click.option("--to", "end", type=_MOMENT, help="Use vectors up to this time (UTC).")
@click.option("--dry-run", is_flag=True, help="Only say what the baseline in use says of them.")
@click.option("--force", is_flag=True, help="Pin it although it may take drift for normal.")
@configured
def pin(
    settings: Settings,
    model_name: str,
    first: int | None,
    last: int | None,
    week: bool,
    start: datetime | None,
    end: datetime | None,
    dry_run: bool,
    force: bool,
) -> None:
    """Pin a new baseline for MODEL_NAME. A running exporter uses it from its next poll.

    While the model or a slice drifts, or if the vectors are drift by the baseline in use, this
    needs --force.
    """
    with importing():
        from exporter.monitor import baseline
        from exporter.monitor.preview import preview
        from ingest import service
        from ingest.store import baselines

    of_week = settings.monitoring.baseline.mature_vectors if week else None
    selection = _selection(first, last, start, end, of_week)
    with service.opened(settings, "baseline pin") as connection:
        try:
            now = datetime.now(UTC)
            seen = preview(connection, model_name, selection, settings.monitoring, now)
            if dry_run:
                for line in _described(seen):
                    click.echo(f"{model_name}: {line}")
                return
            if week and seen.stage != "weekly" and not force:
                raise click.ClickException(
                    f"the vectors of {model_name} that arrived in the last 7 days do not span them,"
                    " so they make no weekly baseline. Pin them while vectors arrive, or with"
                    " --force"
                )
            if seen.comparison is not None and seen.comparison.drifts and not force:
                raise click.ClickException(
                    f"{model_name} or a slice of it drifts now, or these vectors are drift, and the"
                    " new baseline would take that for normal. --dry-run shows what the vectors"
                    " are; --force pins them"
                )
            baseline.pin(connection, model_name, selection, zone=settings.monitoring.zone)
        except ValueError as error:
            raise click.ClickException(
                f"baseline of {model_name} ({selection}): {error}"
            ) from error
        newest, *_ = baselines.versions(connection, model_name)
    contents = _contents(newest.vectors, newest.first_at, newest.last_at)
    click.echo(f"{model_name}: baseline {newest.version} pinned: {contents} ({newest.source})")


def _described(seen: Preview) -> Iterator[str]:
    """Yield lines that describe the vectors of a baseline before it is pinned."""
    if seen.first_at is None or seen.last_at is None:
        yield "no vectors are selected"
        return
    yield _contents(seen.vectors, seen.first_at, seen.last_at)
    yield f"their baseline would be {seen.stage}"
    compared = seen.comparison
    if compared is None:
        yield "there is no baseline to compare them with"
        return
    changed = compared.changed
    yield (
        f"by baseline {compared.version}, their score is {compared.score:.1f}, and"
        f" {changed.estimate:.0%} of them are unlike it ({changed.lower:.0%} to"
        f" {changed.upper:.0%})"
    )
    if compared.alarm_ratio is not None:
        yield f"while they arrived, the model drifted {compared.alarm_ratio:.0%} of the time"
    if compared.drifts:
        yield "they are drift, or the model or a slice of it drifts now: to pin them needs --force"


def _selection(
    first: int | None,
    last: int | None,
    start: datetime | None,
    end: datetime | None,
    of_week: int | None = None,
) -> Selection:
    """Return what the options select; ``of_week`` is the maximum vectors of the last 7 days."""
    with importing():
        from ingest.store.selection import Selection

    given = [
        *(each is not None for each in (first, last, of_week)),
        start is not None or end is not None,
    ]
    if sum(given) != 1:
        raise SettingsError(
            "choose the vectors with exactly one of: --first; --last; --week; --from and --to"
        )
    if of_week is not None:
        now = datetime.now(UTC)
        return Selection(arrived=(now - timedelta(days=7), now), most=of_week)
    return Selection(
        first,
        last,
        start=start and start.replace(tzinfo=UTC),
        end=end and end.replace(tzinfo=UTC),
    )


@baseline.command("list")
@click.argument("model_name", type=KnownName())
@configured
def list_(settings: Settings, model_name: str) -> None:
    """List the baselines of MODEL_NAME, newest first."""
    with importing():
        from ingest import service
        from ingest.store import baselines

    with service.opened(settings, "baseline list") as connection:
        for found in baselines.versions(connection, model_name):
            kind = ("automatic" if found.automatic else "by hand") + ", in use" * found.in_use
            contents = _contents(found.vectors, found.first_at, found.last_at)
            click.echo(f"{found.version}\t{kind}\t{contents}\t{found.source}")


@baseline.command()
@click.argument("model_name", type=KnownName())
@click.argument("version", type=click.IntRange(1))
@configured
def use(settings: Settings, model_name: str, version: int) -> None:
    """Use VERSION of the baseline of MODEL_NAME. From then on only people replace it."""
    with importing():
        from ingest import service
        from ingest.store import baselines

    with service.opened(settings, "baseline use") as connection:
        baselines.use(connection, model_name, version)
    click.echo(f"{model_name}: baseline {version} is in use")


@main.command()
@click.argument("model_name", type=KnownName())
@click.option(
    "--window",
    type=click.Choice(tuple(WindowsSettings.model_fields)),
    help="The vectors to explain. Default: slow, or with --at the window that drifted.",
)
@click.option(
    "--at",
    type=_MOMENT,
    help="Print what was known at this time (UTC), as of a past alert.",
)
@click.option("--slice", "slice_name", default="", help="Only vectors of this slice, KEY=VALUE.")
@click.option("--json", "as_json", is_flag=True, help="Print everything as JSON.")
@configured
def explain(
    settings: Settings,
    model_name: str,
    window: str | None,
    at: datetime | None,
    slice_name: str,
    as_json: bool,
) -> None:
    """Say what changed in the newest vectors of MODEL_NAME: how much, which groups, and why."""
    with importing():
        import msgspec

        from exporter.explain import explanation, summary
        from exporter.monitor.evidence import gather, recorded
        from exporter.monitor.recorded import explanation as reported
        from exporter.monitor.report import Told
        from ingest import service

    try:
        with service.opened(settings, "explain") as connection:
            if at is not None:
                moment = at.replace(tzinfo=UTC).timestamp()
                row = recorded(
                    connection, model_name, window, moment, settings.explanation, slice_name
                )
                _print_told(model_name, reported(row), {}, as_json)
                return
            window = window or "slow"
            evidence = gather(connection, model_name, window, settings, slice_name)
        found = explanation.explain(evidence.detector, evidence.reference, evidence.window)
    except MonitorError:
        raise
    except ValueError as error:
        raise click.ClickException(f"{model_name}, {window} window: {error}") from None
    known = {
        "window": window,
        "slice": slice_name,
        "summary": summary.headline(summary.titled(model_name, slice_name), found),
    }
    told = summary.told(found, evidence.examples(found, settings.explanation))
    shares = {key: [asdict(each) for each in shares] for key, shares in evidence.shares.items()}
    _print_told(model_name, msgspec.convert({**told, **known}, Told), {"slices": shares}, as_json)


def _print_told(
    model_name: str, told: Told, more: Mapping[str, Mapping[str, Any]], as_json: bool
) -> None:
    """Print an explanation, of now or of the past; as JSON, it is that of the HTTP API."""
    with importing():
        import msgspec

        from exporter.explain import summary

    def say(line: str) -> None:
        click.echo(printable(line))

    whole = {"model_name": model_name, **msgspec.to_builtins(told), **more}
    if as_json:
        click.echo(printable_json(whole))
        return
    say(told.summary)
    for sentence in summary.details(whole):
        say(sentence)
    for key, listed in whole.get("slices", {}).items():
        for each in listed:
            changed = ", changed" if each["changed"] else ""
            was = f"(was {each['share_before']:.1%}{changed})"
            say(f"{key} = {each['value']}: {each['share']:.1%} {was}.")
    # What chance explains is not worth a name.
    for group in whole["groups"] if told.cause.kind != "none" else ():
        click.echo()
        say(f"{group['name']} ({group['change']}), for example:")
        for example in group["examples"]:
            shown = (f"{key} {value}" for key, value in example.items() if value is not None)
            say(f"  {'  '.join(shown)}")


def _contents(vectors: int, first_at: datetime, last_at: datetime) -> str:
    first, last = (f"{at.astimezone(UTC):%Y-%m-%d %H:%M:%S}" for at in (first_at, last_at))
    return f"{vectors} vectors from {first} to {last} UTC"


@main.command()
@click.argument("dataset")
@click.option(
    "--model",
    required=True,
    type=ModelName(),
    help="Model name. Rows of other models are left out.",
)
@click.option(
    "--baseline",
    "pins_baseline",
    is_flag=True,
    help="Pin a baseline of the first vectors instead of measuring drift.",
)
@click.option(
    "--from", "start", type=_MOMENT, help="With --baseline: vectors from this time (UTC)."
)
@click.option("--to", "end", type=_MOMENT, help="With --baseline: vectors up to this time (UTC).")
@click.option(
    "--scheduler", help="Address of a Dask scheduler. Default: use the cores of this machine."
)
@click.option(
    "--scratch", help="Folder or URL where workers sort vectors. Default: a temporary folder."
)
@reading
@configured
def backfill(
    settings: Settings,
    dataset: str,
    model: str,
    pins_baseline: bool,
    start: datetime | None,
    end: datetime | None,
    scheduler: str | None,
    scratch: str | None,
    options: Options,
    skips: bool,
) -> None:
    """Measure the drift of a model's past vectors in DATASET and store it as history.

    DATASET is a file, a folder or a pattern, as for replay: a path on this machine, or a URL that
    fsspec can read. An interrupted backfill continues where it stopped when it is started again.
    A row whose id came before with the same vector is left out.
    """
    if not pins_baseline and (start or end):
        raise SettingsError("--from and --to need --baseline")
    try:
        with importing():
            from exporter.backfill.backfill import Backfill
            from exporter.backfill.dataset import Dataset
            from ingest.store import embedded, rights
            from ingest.store.connection import connect
            from ingest.store.migrate import migrate
    except ModuleNotFoundError as error:
        raise click.ClickException(needs(error, "scale")) from error
    found = Dataset.open(dataset, model, options, skips, once=settings.ingest.ids == "once")
    tell_left_out(found.source)
    with (
        # Only a baseline may come before everything else.
        embedded.connection_string(settings.database, creates=pins_baseline) as store,
        Backfill.open(found, scheduler, scratch) as filling,
    ):
        with connect(rights.owner(settings.database, store)) as connection:
            migrate(connection)
        with connect(store) as connection:
            rights.check(connection, "backfill")
        if pins_baseline:
            first = None if start or end else settings.monitoring.baseline.vectors
            selection = _selection(first, None, start, end)
            version = filling.pin(store, selection, settings.monitoring.zone)
            click.echo(f"{model}: baseline {version} pinned ({selection})")
        else:
            rows = filling.run(store, settings)
            click.echo(f"{model}: {rows} rows of history added")


@main.group()
def rules() -> None:
    """Write the configuration of Prometheus and Alertmanager."""


@rules.command()
@click.option(
    "--output",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("rendered"),
    show_default=True,
    help="Folder to write to. It is created if missing.",
)
@click.option(
    "--models",
    type=TextFile(),
    help="File with one model name per line. Thresholds of other models are refused.",
)
@click.option(
    "--fragment",
    is_flag=True,
    help="Write a part to merge into an existing configuration of Alertmanager, not a whole one.",
)
@configured
def render(settings: Settings, output: Path, models: str | None, fragment: bool) -> None:
    """Write the rules, thresholds and Alertmanager configuration that the settings describe."""
    if models is not None:
        rule_files.check_models(settings, models.split())
    had_webhook = rule_files.has_webhook(output)
    written = rule_files.render(settings, output, merged=fragment)
    if not has_configuration():
        click.echo(
            "there is no config.yaml in the current folder: keys that are not set have defaults",
            err=True,
        )
    for path in written:
        click.echo(path)
        if path.suffix == ".new":
            kept = path.with_suffix("")
            click.echo(
                f"{kept} was edited, and Alertmanager still uses it. Compare it with {path.name},"
                f" take over your edits, and rename that to {kept.name}",
                err=True,
            )
    if had_webhook and not rule_files.has_webhook(output):
        click.echo(
            "alerting.slack_webhook is not set: the file slack_webhook was removed, and no message"
            " goes to Slack",
            err=True,
        )
