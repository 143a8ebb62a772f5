"""What all commands of the command line share: settings, errors and exit codes.

Exit codes: 0 when done, and for a service that a signal stopped; 1 for a failure while running, and
for another command that a signal interrupted; 2 for wrong arguments or a wrong configuration. A
signal before a command runs ends the program as it does others.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import click

from ingest.runtime.errors import MonitorError, SettingsError
from ingest.runtime.importing import importing
from ingest.runtime.model_name import ALLOWED, is_legal
from ingest.runtime.printable import printable
from ingest.runtime.settings.configuration import CONFIG_VARIABLE, from_text, load
from ingest.runtime.settings.settings import Settings, keys
from ingest.runtime.version import __version__

if TYPE_CHECKING:
    from ingest.runtime.settings.reload import LiveSettings

P = ParamSpec("P")
R = TypeVar("R")
Command = TypeVar("Command", bound=Callable[..., Any])

_log = logging.getLogger(__name__)

_DEFAULT_CONFIG = Path("config.yaml")
_FLAGS = f"{__name__}.flags"


class _Misuse(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """Prints the project's errors, and those of the system, as one line with an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MonitorError as error:
            kind = _Misuse if isinstance(error, SettingsError) else click.ClickException
            # It may quote what clients sent, or what a file holds.
            raise kind("\n".join(map(printable, str(error).split("\n")))) from error
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # click ends quietly when nobody reads the output
            _log.debug("command failed", exc_info=error)
            where = f"{error.filename}: " if error.filename else ""
            raise click.ClickException(f"{where}{error.strerror or error}") from error


@click.group(cls=_Group, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="embedding-drift")
def group() -> None:
    """Monitor embeddings for drift, and export metrics for Prometheus."""


def configured(command: Callable[Concatenate[Settings, P], R]) -> Callable[..., R]:
    """Add the options that choose the settings, and pass the settings to the command.

    The command is short: it does not log which server it borrowed.
    """

    @reconfigurable
    @functools.wraps(command)
    def with_settings(live: LiveSettings, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with importing():
            from ingest.runtime import logs

        logs.leave_out_steps("ingest.store.embedded")
        return command(live.settings, *args, **kwargs)

    return with_settings


def reconfigurable(command: Callable[Concatenate[LiveSettings, P], R]) -> Callable[..., R]:
    """Add the settings options and pass LiveSettings to a service, which can reload them."""

    @click.option(
        "--config",
        type=click.Path(dir_okay=False, path_type=Path),
        envvar=CONFIG_VARIABLE,
        help="Configuration file. By default config.yaml in the current folder, if it exists.",
    )
    @click.option(
        "--set",
        "assignments",
        multiple=True,
        metavar="SECTION.KEY=VALUE",
        help="Set one key. Overrides the environment and the file. May be repeated.",
    )
    @functools.wraps(command)
    def with_live_settings(
        *args: Any, config: Path | None, assignments: tuple[str, ...], **kwargs: Any
    ) -> R:
        with importing():
            from ingest.runtime import logs
            from ingest.runtime.settings.reload import LiveSettings

        flags = click.get_current_context().meta.get(_FLAGS, {})
        assigned = dict(map(_assignment, assignments))

        in_force = file = config

        def read() -> Settings:
            nonlocal file
            # It may come while the service runs.
            file = _DEFAULT_CONFIG if in_force is None and _has_default() else in_force
            return load(file, os.environ, assigned | flags)

        def keep(_: Settings) -> None:
            nonlocal in_force
            # From now on, that it is gone is an error. Without a word, the defaults would count.
            in_force = file

        live = LiveSettings(read)
        keep(live.settings)
        live.subscribe(keep)
        logs.configure(live.settings.log)
        _warn_of_secrets(assigned)
        return command(live, *args, **kwargs)

    return with_live_settings


def has_configuration() -> bool:
    """Return whether the settings of the command that runs are from a file, too."""
    given = click.get_current_context().params.get("config")
    return given is not None or _has_default()


def _has_default() -> bool:
    # A link to nothing and a folder count, too: who put them there wants a file to be read.
    return os.path.lexists(_DEFAULT_CONFIG)


def setting(name: str, key: str, help_text: str) -> Callable[[Command], Command]:
    """Add an option to a command that sets one key, which is an integer."""

    def keep(context: click.Context, _: click.Parameter, value: int | None) -> None:
        if value is not None:
            context.meta.setdefault(_FLAGS, {})[key] = value

    return click.option(name, type=int, expose_value=False, callback=keep, help=help_text)


def _warn_of_secrets(assigned: Iterable[str]) -> None:
    for key in keys():
        if key.is_secret and key.dotted in assigned:
            _log.warning(
                "a secret in an argument is shown to every user of this machine, for example by ps;"
                " set the variable instead",
                extra={"key": key.dotted, "variable": f"{key.variable}_FILE"},
            )


class ModelName(click.ParamType[str]):
    """Name of a model."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check the name."""
        if not is_legal(value):
            self.fail(f"{value!r} is not allowed; allowed are {ALLOWED}")
        return str(value)


class KnownName(click.ParamType[str]):
    """Name of a model that is in the store. An earlier release may have allowed other names."""

    name = "name"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Check that it is text."""
        try:
            value.encode()
        except UnicodeEncodeError:
            self.fail(f"{value!r} is not UTF-8")
        return str(value)


class Names(click.ParamType[tuple[str, ...]]):
    """Names, separated by commas."""

    name = "names"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """Split the list."""
        if isinstance(value, tuple):
            return value
        names = tuple(name.strip() for name in value.split(","))
        if not all(names) or len(set(names)) < len(names):
            self.fail(f"{value!r} is not a list of different names, separated by commas")
        return names


class TextFile(click.ParamType[str]):
    """File of UTF-8 text, or - for standard input. The command gets the text."""

    name = "filename"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Read the file."""
        try:
            with click.open_file(value, encoding="utf-8") as stream:
                text: str = stream.read()
                return text
        except OSError as error:
            self.fail(f"{value!r} cannot be read: {error.strerror}")
        except UnicodeDecodeError as error:
            self.fail(f"{value!r} is not UTF-8 (byte {error.start})")


def _assignment(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        # Not quoted, because it may be a secret.
        raise SettingsError("--set: must have the form SECTION.KEY=VALUE")
    return key, from_text(value, key)
