"""The options that all commands share which read files."""

from __future__ import annotations

import functools
from collections.abc import Callable
from datetime import UTC, tzinfo
from typing import TYPE_CHECKING, Any, cast

import click

from ingest.files.names import EMBEDDING, ID, MODEL, TEXT, TIMESTAMP
from ingest.runtime import time_zone
from ingest.runtime.timestamps import TICKS

if TYPE_CHECKING:
    from ingest.files.source import Source


class Zone(click.ParamType[tzinfo]):
    """A time zone by its name."""

    name = "zone"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tzinfo:
        """Find the zone."""
        try:
            # Its name is often written small.
            return UTC if value.upper() == "UTC" else time_zone.find(value)
        except ValueError as error:
            self.fail(str(error))


_OPTIONS = (
    click.option(
        "--vector-column",
        "vector",
        metavar="NAME",
        help="Column of vectors, also within an object (response.embedding), or a pattern for one"
        f" column for each component ('dim_*'). Default: {EMBEDDING}, or the only one.",
    ),
    click.option(
        "--id-column", "id_", metavar="NAME", help=f"Column of ids. Default: {ID}, if it exists."
    ),
    click.option(
        "--time-column",
        "time",
        metavar="NAME",
        help=f"Column with the time at which a vector was made. Default: {TIMESTAMP}.",
    ),
    click.option(
        "--text-column", "text", metavar="NAME", help=f"Column of texts. Default: {TEXT}."
    ),
    click.option(
        "--model-column",
        "model_",
        metavar="NAME",
        help="Column of model names, which splits the rows; with --model, rows of other models are"
        f" left out. Default: {MODEL}.",
    ),
    click.option(
        "--drop",
        multiple=True,
        metavar="NAME",
        help="Column, or field of an object, to leave out. May be repeated.",
    ),
    click.option(
        "--time-unit",
        "unit",
        type=click.Choice(list(TICKS)),
        default="s",
        show_default=True,
        help="What times that are numbers count.",
    ),
    click.option(
        "--time-zone",
        "zone",
        type=Zone(),
        help="Zone of times that name none. Default: texts are refused; timestamps of Parquet,"
        " Arrow and NumPy are UTC.",
    ),
    click.option(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        default="stop",
        show_default=True,
        help="Stop at a row that cannot be used, or report and skip it.",
    ),
)


def reading(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options of reading files; the command gets ``options`` and ``skips``."""

    @functools.wraps(command)
    def run(
        *args: Any,
        vector: str | None,
        id_: str | None,
        time: str | None,
        text: str | None,
        model_: str | None,
        drop: tuple[str, ...],
        unit: Any,
        zone: tzinfo | None,
        on_error: str,
        **kwargs: Any,
    ) -> Any:
        from ingest.files.columns import Options
        from ingest.files.table import Times

        options = Options(vector, id_, time, text, model_, drop, Times(unit, zone))
        return command(*args, options=options, skips=on_error == "skip", **kwargs)

    for option in reversed(_OPTIONS):
        run = option(run)
    return cast("Callable[..., Any]", run)


def tell_left_out(source: Source) -> None:
    """Say which files of a folder are not read because of their names."""
    from ingest.files.source import last_name

    if source.left_out:
        names = ", ".join(sorted(set(map(last_name, source.left_out))))
        click.echo(f"left out, because files of such names hold no data: {names}", err=True)
