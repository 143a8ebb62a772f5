"""Settings: every key with its default and what is allowed, as one immutable object."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args
from zoneinfo import ZoneInfo

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    SecretStr,
    ValidationInfo,
    field_validator,
    model_validator,
)

from ingest.runtime import model_name, time_zone
from ingest.runtime.settings.document import Misplaced

ENVIRONMENT_PREFIX = "EMBEDDING_DRIFT_"


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
    """libpq URI or key/value string. Without one, an embedded server is started."""
    replica_connection_string: SecretStr | None = None
    """Connection string of a streaming replica that the exporter reads from."""
    admin_connection_string: SecretStr | None = None
    """Connection string of the tables' owner, for migrations and upkeep. By default
    connection_string."""
    data_directory: Annotated[str, Field(min_length=1)] = "data"
    """Folder of the embedded server's data. Created if it does not exist."""
    pool_size: Annotated[int, Field(ge=1, le=1000)] = 10
    """Maximum number of connections of each pool. `ingest` and `exporter` have one pool, `serve`
    and `watch` have two; all but `ingest` have another one to the replica, if there is one.
    `ingest` has up to 4 more connections for pages, and all but `exporter` have one more for
    upkeep."""
    retention_days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Days that a vector is kept. Whole days are dropped. Days without the service do not count."""

    @model_validator(mode="after")
    def _has_a_primary(self) -> DatabaseSettings:
        if self.replica_connection_string is not None and self.connection_string is None:
            raise ValueError(
                "replica_connection_string needs connection_string: the embedded server has no"
                " replica"
            )
        if self.admin_connection_string is not None and self.connection_string is None:
            raise ValueError(
                "admin_connection_string needs connection_string: the embedded server has one role"
            )
        return self


class WindowSettings(_Section):
    """One sliding window over the vectors of each model."""

    seconds: Annotated[int, Field(ge=1)]
    """Age at which a vector leaves the window."""
    min_vectors: Annotated[int, Field(ge=2)] = 50
    """With fewer vectors the state is too_few_vectors. If the window holds a sample, half of what
    it may hold is enough. The baseline needs twice as many."""
    max_vectors: Annotated[int, Field(ge=2, le=1_000_000)] = 5_000
    """Maximum vectors of the window, and never more than half of the baseline's. If more arrive
    within the seconds, the window holds a uniform sample of them."""

    @model_validator(mode="after")
    def _ordered(self) -> WindowSettings:
        if self.min_vectors > self.max_vectors:
            raise ValueError(
                f"min_vectors ({self.min_vectors}) must not exceed max_vectors ({self.max_vectors})"
            )
        return self


class WindowsSettings(_Section):
    """The two windows: a short one to be early, a long one to be certain."""

    fast: WindowSettings = WindowSettings(seconds=900, max_vectors=1_000)
    slow: WindowSettings = WindowSettings(seconds=21_600)

    @field_validator("fast", "slow", mode="before")
    @classmethod
    def _completed(cls, value: object, info: ValidationInfo) -> object:
        """Complete a partial window with its own defaults."""
        if not isinstance(value, dict) or info.field_name is None:
            return value
        return cls.model_fields[info.field_name].default.model_dump() | value


class BaselineSettings(_Section):
    """The baselines that are pinned automatically when a model has none."""

    vectors: Annotated[int, Field(ge=250, le=50_000)] = 5_000
    """Number of first vectors of a model that become its provisional baseline. A fifth of them that
    fill a week become a weekly one."""
    mature: bool = True
    """Whether to pin the next baseline after a day, and after a week, without drift. Otherwise the
    first one always waits for all of its vectors."""
    mature_vectors: Annotated[int, Field(ge=250, le=50_000)] = 10_000
    """Maximum vectors of these next baselines. Choose at least 2.3 times the largest min_vectors of
    the windows: a baseline that is too small for a window replaces none that is large enough."""


def _legal(name: str) -> str:
    if not model_name.is_legal(name):
        raise ValueError(f"this is not a model name; allowed are {model_name.ALLOWED}")
    return name


ModelName = Annotated[str, AfterValidator(_legal)]


def _sliceable(key: str) -> str:
    if "=" in key or not key.isprintable():
        raise ValueError("a key of the metadata to slice by has no = and no control characters")
    if key == "text":
        raise ValueError("text holds what was embedded; slice by a key with few values")
    return key


def _different(keys: list[str]) -> list[str]:
    if len(set(keys)) < len(keys):
        raise ValueError("each key may be listed once")
    return keys


SliceKeys = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=64), AfterValidator(_sliceable)]],
    Field(max_length=4),
    AfterValidator(_different),
]


class ModelSettings(_Section):
    """Settings of one model; None takes the general one."""

    drift_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Magnitude above which drift of this model is a warning."""
    alert_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] | None = None
    """Magnitude above which drift of this model is critical."""
    slices: SliceKeys | None = None
    """Keys of the metadata by whose values this model is watched, too."""
    stale_after: Annotated[int, Field(ge=1)] | None = None
    """Seconds without a new vector after which the windows of this model are stale."""


class MonitoringSettings(_Section):
    """What is measured, and how often."""

    check_interval: Annotated[int, Field(ge=1, le=86_400)] = 300
    """Seconds between two rows of drift history in the store. Keep it below 3600. With 3600 or
    more, no rise is found, a drift that lasts is not explained, and it may get into the next
    baseline."""
    drift_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.15
    """Magnitude, a share of vectors, above which drift is a warning (rendered into the rules)."""
    poll_interval: Annotated[float, Field(ge=0.05, le=300)] = 5.0
    """Seconds between two polls of the store or of a watched table. Vectors that are read together
    cost far less than one by one."""
    stale_after: Annotated[int, Field(ge=1)] = 3_600
    """Seconds without a new vector after which a model's windows are stale. Where a job sends the
    vectors, this must exceed the longest pause between two of its runs."""
    time_zone: str = "UTC"
    """Time zone whose days and weeks the users' habits follow, such as Europe/Berlin. A baseline
    keeps the time zone that it was pinned with."""
    total_shards: Annotated[int, Field(ge=1, le=10_000)] = 1
    """Number of exporters that share the models."""
    shard: Annotated[int, Field(ge=0)] | None = None
    """Number of this exporter, from 0. By default the number at the end of the host name."""
    slices: SliceKeys = []
    """Keys of the metadata, such as tenant or language: the vectors of each value are watched by
    themselves, too. Their values appear in metrics, alerts and pages."""
    baseline: BaselineSettings = BaselineSettings()
    windows: WindowsSettings = WindowsSettings()
    models: dict[ModelName, ModelSettings] = {}
    """Models with their own drift_threshold, alert_threshold, slices or stale_after, by name."""

    @field_validator("time_zone")
    @classmethod
    def _is_known(cls, name: str) -> str:
        try:
            time_zone.find(name)
        except ValueError:
            # Not quoted, because it may be a misplaced secret.
            raise ValueError(f"is not a known time zone; {time_zone.ALLOWED}") from None
        return name

    @property
    def zone(self) -> ZoneInfo:
        """The time zone of this name."""
        return time_zone.find(self.time_zone)

    def slices_of(self, name: str) -> tuple[str, ...]:
        """Return the keys of the metadata by whose values a model is watched."""
        own = self.models[name].slices if name in self.models else None
        return tuple(self.slices if own is None else own)

    def stale_after_of(self, name: str) -> int:
        """Return the seconds after which a model is stale."""
        own = self.models[name].stale_after if name in self.models else None
        return self.stale_after if own is None else own

    @model_validator(mode="after")
    def _shard_exists(self) -> MonitoringSettings:
        if self.shard is not None and self.shard >= self.total_shards:
            raise ValueError(
                f"shard ({self.shard}) must be below total_shards ({self.total_shards})"
            )
        return self


class EscalationSettings(_Section):
    """When unresolved drift gets the next severity."""

    info_after: Annotated[int, Field(ge=1)] = 14_400
    """Seconds after which unresolved drift of severity info becomes a warning."""
    warning_after: Annotated[int, Field(ge=1)] = 7_200
    """Seconds after which unresolved drift of severity warning becomes critical."""


class AlertingSettings(_Section):
    """What is rendered into the files of Prometheus and Alertmanager."""

    slack_webhook: SecretStr | None = None
    """Slack's incoming-webhook URL. Without one, alerts stay in Alertmanager."""
    alert_threshold: Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)] = 0.20
    """Magnitude, a share of vectors, above which drift is critical (rendered into the rules)."""
    exporter_url: HttpUrl = HttpUrl("http://127.0.0.1:10910")
    """URL of this service for people. Links in alerts point to it."""
    dashboard_url: HttpUrl | None = None
    """URL of the Grafana dashboard of a model. By default alerts link to the drift page."""
    runbook_url: HttpUrl | None = None
    """URL of the runbook; alerts add their heading. By default `/runbook` of exporter_url."""
    watchdog: bool = False
    """Whether to render an alert that always fires, for a dead man's switch."""
    escalation: EscalationSettings = EscalationSettings()

    @field_validator("exporter_url", "dashboard_url", "runbook_url")
    @classmethod
    def _has_no_fragment(cls, url: HttpUrl | None) -> HttpUrl | None:
        if url is not None and url.fragment is not None:
            raise ValueError("must have no fragment (#...): the links of alerts add to the URL")
        return url

    @field_validator("exporter_url")
    @classmethod
    def _has_no_query(cls, url: HttpUrl) -> HttpUrl:
        if url.query is not None:
            raise ValueError("must have no query (?...): the links of alerts add a path")
        return url

    @field_validator("slack_webhook")
    @classmethod
    def _is_https(cls, webhook: SecretStr | None) -> SecretStr | None:
        url = webhook.get_secret_value() if webhook is not None else "https://"
        loopback = ("http://127.0.0.1:", "http://localhost:", "http://[::1]:")
        if not url.startswith(("https://", *loopback)):
            raise ValueError("must be an https:// URL (http:// only on loopback)")
        return webhook


Ratio = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class IngestModelSettings(_Section):
    """Settings of ingest for one model."""

    sample_ratio: Ratio
    """Share of the vectors of this model that is stored."""


class IngestSettings(_Section):
    """Limits of one request and of all requests, and the share of vectors that is stored."""

    max_body_bytes: Annotated[int, Field(ge=1_024)] = 32 * 1024 * 1024
    """Maximum bytes of the body of a request."""
    max_batch_vectors: Annotated[int, Field(ge=1)] = 10_000
    """Maximum vectors of a request."""
    max_dimension: Annotated[int, Field(ge=1, le=16_000)] = 4_096
    """Maximum dimension of a vector."""
    max_metadata_bytes: Annotated[int, Field(ge=2)] = 16 * 1024
    """Maximum bytes of the encoded metadata of a vector."""
    max_models: Annotated[int, Field(ge=1)] = 1_000
    """Maximum number of models. Each becomes a value of the label model_name."""
    max_queue_bytes: Annotated[int, Field(ge=1_024)] = 256 * 1024 * 1024
    """Maximum bytes of all requests under way. Beyond it, requests are answered with 429."""
    ids: Literal["revise", "once"] = "revise"
    """What becomes of another vector of a stored id: `revise` stores it too, `once` ignores it."""
    sample_ratio: Ratio = 1.0
    """Share of the vectors that is stored, selected by their ids, or by chance without ids. The
    others are only counted."""
    trace_attributes: list[Annotated[str, Field(min_length=1, max_length=255)]] = [
        "service.name",
        "session.id",
    ]
    """Attributes of spans and their resources that become metadata of vectors from traces."""
    models: dict[ModelName, IngestModelSettings] = {}
    """Models with their own sample_ratio, by name."""

    @model_validator(mode="after")
    def _any_body_fits(self) -> IngestSettings:
        if self.max_body_bytes > self.max_queue_bytes:
            raise ValueError(
                f"max_body_bytes ({self.max_body_bytes}) must not exceed max_queue_bytes"
                f" ({self.max_queue_bytes})"
            )
        return self


class ServerSettings(_Section):
    """Where to listen, and which clients are accepted."""

    host: Annotated[str, Field(min_length=1)] = "127.0.0.1"
    """Address to listen on."""
    port: Annotated[int, Field(ge=0, le=65_535)] | None = None
    """Port to listen on. By default 10910 for serve, exporter and watch, 10911 for ingest."""
    web_config_file: str | None = None
    """TLS, users and headers, in the format of Prometheus's web configuration file."""
    read_timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds that a client may take to send the head of a request, and again for its body."""
    write_timeout: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """Seconds that a client may take to read an answer."""
    allowed_hosts: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]+$")]] = []
    """Names, without port, by which clients call the service. Other names are refused, if there are
    any here, and on loopback without credentials. Addresses and localhost need not be listed."""
    tokens_file: str | None = None
    """File of bearer tokens and their scopes, written by `embedding-drift token`."""
    allow_unauthenticated: bool = False
    """Allow an address other than loopback without users, tokens or client certificates."""


class LogSettings(_Section):
    """What is logged on standard error."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Lowest level that is logged."""
    format: Literal["logfmt", "json"] = "logfmt"
    """Format of a record, which is one line."""


Texts = Literal["full", "keywords", "none"]
"""What may be shown of the texts, the most first."""


class ExplanationSettings(_Section):
    """What explanations may read and show of the texts and the metadata."""

    texts: Texts = "keywords"
    """Whether explanations show texts (`text` of the metadata), only their keywords, or nothing."""
    metadata_keys: list[str] | None = None
    """Keys of the metadata that are read. By default all; keys whose values differ in most vectors
    are never shown."""
    in_alerts: bool = True
    """Whether alerts say in words what changed. The words reach Prometheus, Alertmanager and Slack.
    Otherwise alerts have only numbers and a link."""


class Settings(_Section):
    """The whole configuration."""

    database: DatabaseSettings = DatabaseSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    alerting: AlertingSettings = AlertingSettings()
    explanation: ExplanationSettings = ExplanationSettings()
    ingest: IngestSettings = IngestSettings()
    server: ServerSettings = ServerSettings()
    log: LogSettings = LogSettings()

    @model_validator(mode="after")
    def _thresholds_ordered(self) -> Settings:
        """Refuse a warning above the critical alert, for the fleet and for each model."""
        later = "the warning comes before the critical alert"
        warning, critical = self.monitoring.drift_threshold, self.alerting.alert_threshold
        if warning > critical and "drift_threshold" not in self.monitoring.model_fields_set:
            raise Misplaced(
                ("alerting", "alert_threshold"),
                f"{critical} must not be below monitoring.drift_threshold ({warning}, the default):"
                f" {later}",
            )
        if warning > critical:
            raise Misplaced(
                ("monitoring", "drift_threshold"),
                f"{warning} must not exceed alerting.alert_threshold ({critical}): {later}",
            )
        for name, model in self.monitoring.models.items():
            own = model.drift_threshold or warning, model.alert_threshold or critical
            if own[0] > own[1]:
                raise Misplaced(
                    ("monitoring", "models", name),
                    f"its drift_threshold ({own[0]}) must not exceed its alert_threshold"
                    f" ({own[1]}): {later}. Where it has none of its own, the general one counts",
                )
        return self


@dataclass(frozen=True, slots=True)
class Key:
    """One key of the configuration."""

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
        """Whether the value must not be shown."""
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
