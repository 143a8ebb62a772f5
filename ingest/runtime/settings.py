"""Settings: every key, its default and what it may be, and where values come from.

Precedence, highest first: command-line flags, environment variables
``EMBEDDING_DRIFT_SECTION_KEY`` (``..._FILE`` names a file that holds the value), the YAML
file, the defaults below. Only the validated, immutable object travels.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, get_args

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)

from ingest.runtime.errors import Problem, SettingsError

ENVIRONMENT_PREFIX = "EMBEDDING_DRIFT_"
CONFIG_VARIABLE = "EMBEDDING_DRIFT_CONFIG"

# Kubernetes adds such variables to every pod for each Service of its namespace; a Service
# called embedding-drift-ingest would otherwise look like settings.
_SERVICE_LINK = re.compile(r"_(SERVICE_HOST|SERVICE_PORT\w*|PORT(_\d+_(TCP|UDP)\w*)?)$")


class _Section(BaseModel):
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )


class DatabaseSettings(_Section):
    """The PostgreSQL server, or the folder of the embedded one."""

    connection_string: SecretStr | None = None
    """libpq URI or key/value string; none starts the embedded server."""
    data_directory: str = "data"
    """Folder of the embedded server's data, made when absent."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    """Connections each process keeps at the most."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days a vector is kept; whole days are dropped at once."""


class WindowSettings(_Section):
    """One sliding window over the newest vectors of each model."""

    seconds: Annotated[int, Field(ge=1)]
    """Age at which a vector leaves the window."""
    min_vectors: Annotated[int, Field(ge=2)] = 50
    """Fewer vectors say nothing: the state is too_few_vectors."""
    max_vectors: Annotated[int, Field(ge=2, le=1_000_000)] = 10_000
    """The newest this many are kept; never more than a fifth of the baseline's."""

    @model_validator(mode="after")
    def _ordered(self) -> WindowSettings:
        if self.min_vectors > self.max_vectors:
            raise ValueError(
                f"min_vectors ({self.min_vectors}) must not exceed max_vectors ({self.max_vectors})"
            )
        return self


class WindowsSettings(_Section):
    """The two windows: one to be early, one to be sure."""

    fast: WindowSettings = WindowSettings(seconds=900)
    slow: WindowSettings = WindowSettings(seconds=21_600)


class BaselineSettings(_Section):
    """The baseline pinned by itself when a model has none."""

    vectors: Annotated[int, Field(ge=250, le=1_000_000)] = 5_000
    """The first this many vectors of a model become its baseline."""


class MonitoringSettings(_Section):
    """What is measured, and how often."""

    check_interval: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Seconds between two rows of drift history in the store."""
    drift_threshold: Annotated[float, Field(gt=0, le=100)] = 0.15
    """Magnitude above which drift is a warning (rendered into the rules)."""
    poll_interval: Annotated[float, Field(ge=0.05, le=300)] = 1.0
    """Seconds between two polls of the store for new vectors."""
    stale_after: Annotated[int, Field(ge=1)] = 3_600
    """Seconds without a new vector after which a model's windows are stale."""
    baseline: BaselineSettings = BaselineSettings()
    windows: WindowsSettings = WindowsSettings()


class AlertingSettings(_Section):
    """What Prometheus and Alertmanager are told; rendered into their files."""

    slack_webhook: SecretStr | None = None
    """Slack's incoming-webhook URL; none leaves alerts in Alertmanager only."""
    alert_threshold: Annotated[float, Field(gt=0, le=100)] = 0.20
    """Magnitude above which drift is critical (rendered into the rules)."""
    exporter_url: HttpUrl = HttpUrl("http://127.0.0.1:10910")
    """Where people reach this service; links in alerts point there."""
    dashboard_url: HttpUrl | None = None
    """Grafana dashboard of one model; none links to the service's own drift page."""
    runbook_url: HttpUrl = HttpUrl("http://127.0.0.1:10910/runbook")
    """Where the runbook is served; an alert's heading is appended."""

    @field_validator("slack_webhook")
    @classmethod
    def _is_https(cls, webhook: SecretStr | None) -> SecretStr | None:
        url = webhook.get_secret_value() if webhook is not None else "https://"
        loopback = ("http://127.0.0.1:", "http://localhost:", "http://[::1]:")
        if not url.startswith(("https://", *loopback)):
            raise ValueError("must be an https:// URL (http:// only on loopback)")
        return webhook


class IngestSettings(_Section):
    """Limits of one request and of the whole queue."""

    max_body_bytes: Annotated[int, Field(ge=1_024)] = 32 * 1024 * 1024
    """Bytes of one request's body."""
    max_batch_vectors: Annotated[int, Field(ge=1)] = 10_000
    """Vectors of one request."""
    max_dimension: Annotated[int, Field(ge=1, le=16_000)] = 4_096
    """Components of one vector."""
    max_metadata_bytes: Annotated[int, Field(ge=2)] = 16 * 1024
    """Bytes of one vector's metadata, encoded."""
    max_models: Annotated[int, Field(ge=1)] = 1_000
    """Models accepted; each becomes a value of the label model_name."""
    max_queue_bytes: Annotated[int, Field(ge=1_024)] = 256 * 1024 * 1024
    """Bytes of vectors that may wait for their commit before clients are told to slow down."""


class ServerSettings(_Section):
    """Where to listen."""

    host: str = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """None takes the command's own: 10910 for serve and exporter, 10911 for ingest."""


class LogSettings(_Section):
    """What is logged on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """What is less urgent is left out."""
    format: Literal["logfmt", "json"] = "logfmt"
    """One line a record, either way."""


class Settings(_Section):
    """The whole configuration."""

    database: DatabaseSettings = DatabaseSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    alerting: AlertingSettings = AlertingSettings()
    ingest: IngestSettings = IngestSettings()
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _thresholds_ordered(self) -> Settings:
        if self.monitoring.drift_threshold > self.alerting.alert_threshold:
            raise ValueError(
                f"monitoring.drift_threshold ({self.monitoring.drift_threshold}) must not exceed "
                f"alerting.alert_threshold ({self.alerting.alert_threshold}): the warning comes "
                "before the critical alert"
            )
        return self


def load(
    file: Path | None = None,
    environment: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
) -> Settings:
    """Merge the sources by precedence and validate the result.

    Parameters
    ----------
    file : Path or None
        YAML file; None reads no file.
    environment : mapping or None
        Environment variables; those without the prefix are ignored.
    flags : mapping or None
        Dotted keys (``server.port``) to values from the command line.

    Raises
    ------
    SettingsError
        Naming every unknown key, wrong type and impossible value, and what is allowed.
    """
    values = _read_file(file) if file is not None else {}
    for dotted, value in _read_environment(environment or {}):
        _set(values, dotted, value)
    for dotted, value in (flags or {}).items():
        _set(values, dotted, value)
    try:
        return Settings.model_validate(values)
    except ValidationError as error:
        source = str(file) if file is not None else "the configuration"
        raise SettingsError(
            f"{source} cannot be used:", [_problem(e, values) for e in error.errors()]
        ) from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise SettingsError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise SettingsError(f"{file} is not valid YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise SettingsError(f"{file} must hold sections ({', '.join(Settings.model_fields)})")
    # An empty section ("ingest:") is a section with nothing set, not a null.
    return {key: {} if value is None else value for key, value in values.items()}


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration, for those who read or describe all of them."""

    dotted: str
    kind: Any
    default: object
    description: str

    @property
    def variable(self) -> str:
        """Name of its environment variable."""
        return ENVIRONMENT_PREFIX + self.dotted.replace(".", "_").upper()

    @property
    def is_secret(self) -> bool:
        """Whether its value must not be shown."""
        return SecretStr in get_args(self.kind)


def keys(section: BaseModel | None = None, prefix: str = "") -> Iterator[Key]:
    """List every key with its default."""
    section = Settings() if section is None else section
    for name, field in type(section).model_fields.items():
        value = getattr(section, name)
        if isinstance(value, BaseModel):
            yield from keys(value, f"{prefix}{name}.")
        else:
            yield Key(f"{prefix}{name}", field.annotation, value, field.description or "")


def _read_environment(environment: Mapping[str, str]) -> Iterator[tuple[str, object]]:
    unknown = {name for name in environment if name.startswith(ENVIRONMENT_PREFIX)}
    unknown -= {CONFIG_VARIABLE}
    for key in keys():
        name, file = key.variable, f"{key.variable}_FILE"
        if key.is_secret and file in unknown:
            unknown.remove(file)
            yield key.dotted, _read_secret(file, environment[file])
        if name in unknown and not environment[name].startswith("tcp://"):
            unknown.remove(name)
            yield key.dotted, _from_text(environment[name], key.kind)
    unknown = {name for name in unknown if not _SERVICE_LINK.search(name)}
    if unknown:
        known = [key.variable for key in keys()]
        raise SettingsError(
            "the environment cannot be used:",
            [Problem(name, f"unknown variable{_nearest(name, known)}") for name in sorted(unknown)],
        )


def _read_secret(name: str, path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise SettingsError(f"{name}: {path} cannot be read: {error.strerror}") from error


def _from_text(text: str, kind: Any) -> object:
    if kind is str or {str, SecretStr, HttpUrl} & set(get_args(kind)) or kind is HttpUrl:
        return text
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        return text  # which validation will refuse by name


def _set(values: Any, dotted: str, value: object) -> None:
    *sections, key = dotted.split(".")
    for section in sections:
        values = values.setdefault(section, {})
        if not isinstance(values, dict):
            return  # the section itself has the wrong type, which validation will report
    values[key] = value


def _problem(error: Any, values: Mapping[str, Any]) -> Problem:
    location = [str(part) for part in error["loc"]]
    dotted = ".".join(location) or "settings"
    if error["type"] == "extra_forbidden":
        model = _section(location[:-1])
        return Problem(dotted, f"unknown key{_nearest(location[-1], list(model.model_fields))}")
    reason = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error" or _is_secret(dotted):
        return Problem(dotted, reason)
    return Problem(dotted, f"{_value(values, location)!r} is not allowed: {reason}")


def _section(location: list[str]) -> type[BaseModel]:
    model: type[BaseModel] = Settings
    for part in location:
        kind = model.model_fields[part].annotation
        assert isinstance(kind, type)
        model = kind
    return model


def _is_secret(dotted: str) -> bool:
    return any(key.dotted == dotted and key.is_secret for key in keys())


def _value(values: Any, location: list[str]) -> object:
    for part in location:
        values = values[part] if isinstance(values, dict) else values
    return values


def _nearest(name: str, allowed: list[str]) -> str:
    close = difflib.get_close_matches(name, allowed, n=1)
    hint = f"; did you mean {close[0]}?" if close else ""
    return f" (allowed: {', '.join(allowed)}){hint}" if len(allowed) < 15 else hint
