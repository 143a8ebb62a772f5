"""What all commands of the command line share: settings, errors and exit codes.

Exit codes: 0 when done or stopped by a signal, 1 for a failure while running, 2 for wrong arguments
or a wrong configuration.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from ingest.runtime import logs
from ingest.runtime.errors import MonitorError, SettingsError
from ingest.runtime.settings.configuration import CONFIG_VARIABLE, from_text, load
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Settings
from ingest.runtime.version import __version__

P = ParamSpec("P")
R = TypeVar("R")
Command = TypeVar("Command", bound=Callable[..., Any])

_DEFAULT_CONFIG = Path("config.yaml")
_FLAGS = f"{__name__}.flags"


class _Misuse(click.ClickException):
    exit_code = 2


class _Group(click.Group):
    """Prints the project's errors as one line, with an exit code."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except MonitorError as error:
            kind = _Misuse if isinstance(error, SettingsError) else click.ClickException
            raise kind(str(error)) from error


@click.group(cls=_Group, context_settings={"max_content_width": 100})
@click.version_option(__version__, prog_name="embedding-drift")
def group() -> None:
    """Monitor embeddings for drift, and export metrics for Prometheus."""


def configured(command: Callable[Concatenate[Settings, P], R]) -> Callable[..., R]:
    """Add the options that choose the settings, and pass the settings to the command."""

    @reconfigurable
    @functools.wraps(command)
    def with_settings(live: LiveSettings, /, *args: P.args, **kwargs: P.kwargs) -> R:
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
        if config is None and _DEFAULT_CONFIG.is_file():
            config = _DEFAULT_CONFIG
        flags = click.get_current_context().meta.get(_FLAGS, {})
        flags = dict(map(_assignment, assignments)) | flags
        live = LiveSettings(functools.partial(load, config, os.environ, flags))
        logs.configure(live.settings.log)
        return command(live, *args, **kwargs)

    return with_live_settings


def setting(name: str, key: str, help_text: str) -> Callable[[Command], Command]:
    """Add an option to a command that sets one key, which is an integer."""

    def keep(context: click.Context, _: click.Parameter, value: int | None) -> None:
        if value is not None:
            context.meta.setdefault(_FLAGS, {})[key] = value

    return click.option(name, type=int, expose_value=False, callback=keep, help=help_text)


def _assignment(text: str) -> tuple[str, object]:
    key, equals, value = text.partition("=")
    if not equals or "." not in key:
        # Not quoted, because it may be a secret.
        raise SettingsError("--set: must have the form SECTION.KEY=VALUE")
    return key, from_text(value, key)
