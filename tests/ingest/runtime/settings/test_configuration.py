"""Configuration: defaults, precedence, and errors that name every mistake."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.runtime.errors import SettingsError
from ingest.runtime.settings.configuration import load
from ingest.runtime.settings.settings import Settings

CONFIGS = Path(__file__).parent / "configs"

MISTAKES = {
    "unknown_key": [
        "database.pool_sizes: line 2, column 3: unknown key",
        "did you mean pool_size?",
    ],
    "unknown_section": ["databse: line 1, column 1: unknown key", "did you mean database?"],
    "wrong_type": ["monitoring.check_interval: line 2, column 3", "valid integer"],
    "boolean_for_number": ["monitoring.drift_threshold: line", "valid number"],
    "threshold_not_a_number": ["monitoring.drift_threshold: line", "finite"],
    "threshold_negative": ["monitoring.drift_threshold: line", "greater than 0"],
    "threshold_above_one": [
        "monitoring.drift_threshold: line",
        "less than or equal to 1",
    ],
    "warning_above_critical": [
        "monitoring.drift_threshold: line 2, column 3: 0.3 must not exceed"
        " alerting.alert_threshold (0.2)"
    ],
    "warning_above_critical_of_a_model": [
        "monitoring.models.docs: line 3, column 5: its drift_threshold (0.15) must not exceed its"
        " alert_threshold (0.1)"
    ],
    "pool_of_none": ["database.pool_size: line", "greater than or equal to 1"],
    "replica_without_primary": [
        "database: line 1, column 1: replica_connection_string needs connection_string"
    ],
    "admin_without_primary": [
        "database: line 1, column 1: admin_connection_string needs connection_string"
    ],
    "webhook_without_https": ["alerting.slack_webhook: line 2, column 3: must be an https:// URL"],
    "window_inverted": ["min_vectors (9) must not exceed"],
    "body_above_queue": ["max_body_bytes (2000000) must not exceed max_queue_bytes"],
    "sampled_model_illegal": [
        "ingest.models.(a name): line 1, column 19: this is not a model name; allowed are"
    ],
    "sample_of_nothing": ["ingest.sample_ratio: line", "greater than 0"],
    "ids_of_another_rule": ["ingest.ids: line", "'revise' or 'once'"],
    "no_time_to_read": ["server.read_timeout: line", "greater than 0"],
    "section_is_a_list": ["monitoring: line 1, column 1", "valid dictionary"],
    "top_level_is_a_list": ["must hold sections (database, monitoring"],
    "key_twice": ["line 3, column 1: this key occurs twice"],
    "key_is_a_number": ["this key is not text", "line 3"],
    "threshold_is_nan": ["monitoring.drift_threshold", "finite"],
    "window_of_too_few": ["min_vectors (500) must not exceed"],
    "dashboard_with_fragment": ["alerting.dashboard_url", "no fragment"],
    "not_yaml": ["is not valid YAML: line 2, column 1: while parsing a flow mapping"],
    "several_mistakes": ["database.pool_size: line 2", "log.level: line 4", "server.port: line 6"],
    "time_zone_unknown": [
        "monitoring.time_zone: line 2, column 3: is not a known time zone; allowed are the names of"
        " the IANA database",
    ],
}


def test_every_example_file_has_an_expected_error() -> None:
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == set(MISTAKES)


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_key_and_what_is_allowed(mistake: str) -> None:
    file = CONFIGS / f"{mistake}.yaml"
    with pytest.raises(SettingsError) as raised:
        load(file)
    message = str(raised.value)
    assert str(file) in message
    for part in MISTAKES[mistake]:
        assert part in message
    assert "SECRET" not in message


def test_a_critical_threshold_below_the_default_of_the_warning_is_named(tmp_path: Path) -> None:
    told = "alerting.alert_threshold: {}: 0.1 must not be below monitoring.drift_threshold"
    file = tmp_path / "config.yaml"
    file.write_text("alerting: {alert_threshold: 0.1}")
    with pytest.raises(SettingsError) as raised:
        load(file)
    assert told.format("line 1, column 12") + " (0.15, the default)" in str(raised.value)
    with pytest.raises(SettingsError) as raised:
        load(flags={"alerting.alert_threshold": 0.1})
    assert told.format("command line") in str(raised.value)


@pytest.mark.parametrize(
    ("url", "mistake"),
    [
        ("runbook_url: 'https://wiki.example.org/page#drift'", "runbook_url: line 1, column 12"),
        ("exporter_url: 'https://m.example.org/#a'", "exporter_url: line 1, column 12"),
        ("exporter_url: 'https://m.example.org/?team=a'", "must have no query (?...)"),
    ],
)
def test_a_url_that_would_make_links_wrong_is_refused(
    url: str, mistake: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(f"alerting: {{{url}}}")
    with pytest.raises(SettingsError) as raised:
        load(file)
    assert mistake in str(raised.value)


def test_a_mistake_outside_the_file_is_named_with_where_it_was_made(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("server: {port: 1}")
    with pytest.raises(SettingsError) as raised:
        load(
            file,
            {"EMBEDDING_DRIFT_SERVER_PORT": "hunter2"},
            {"ingest.max_models": "hunter2"},
        )
    problems = {problem.pointer: problem.reason for problem in raised.value.problems}
    assert problems["server.port"].startswith("EMBEDDING_DRIFT_SERVER_PORT: ")
    assert problems["ingest.max_models"].startswith("command line: ")
    assert "hunter2" not in str(raised.value)


SECRETS = [
    "database: postgresql://u:hunter2@h/db",
    "database: [postgresql://u:hunter2@h/db]",
    "database: {connection_string: [hunter2]}",
    "database: {postgresql://u:hunter2@h/db}",
    "database: {connection_string: 'postgresql://u:hunter2@h/db'",
    "database: {connection_string: hunter2, connection_string: hunter2}",
    "database: {connection_string: !hunter2 x}",
    "database: {connection_string: *hunter2}",
    'database: {connection_string: "\\hunter2"}',
    "database: {connection_string: hunter2}\nserver: {host: hunter2\tx: y}",
    "alerting: {slack_webhook: http://hunter2}",
    "alerting: {exporter_url: 'ftp://u:hunter2@h'}",
    "monitoring: {models: {'u:hunter2@h': {drift_threshold: 2}}}",
    "log: {level: hunter2}",
    "monitoring: {time_zone: hunter2}",
    "hunter2",
    "hunter2: hunter2: hunter2",
    "%hunter2",
    "hunter2\x00",
]


@pytest.mark.parametrize("text", SECRETS)
def test_no_error_quotes_the_file(text: str, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as raised:
        load(file)
    assert "hunter2" not in str(raised.value)


def test_defaults_are_the_documented_ones() -> None:
    settings = load()
    assert settings == Settings()
    assert settings.monitoring.check_interval == 300
    assert settings.monitoring.drift_threshold == 0.15
    assert settings.alerting.alert_threshold == 0.20
    assert settings.database.connection_string is None


def test_flags_override_environment_overrides_file_overrides_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("database: {pool_size: 2}\nmonitoring: {check_interval: 2, stale_after: 2}\n")
    environment = {
        "EMBEDDING_DRIFT_DATABASE_POOL_SIZE": "3",
        "EMBEDDING_DRIFT_MONITORING_CHECK_INTERVAL": "3",
    }
    settings = load(file, environment, {"database.pool_size": 4})
    assert settings.database.pool_size == 4
    assert settings.monitoring.check_interval == 3
    assert settings.monitoring.stale_after == 2
    assert settings.database.retention_days == 30


def test_a_partial_window_keeps_its_other_defaults(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("monitoring: {windows: {slow: {max_vectors: 500}}}")
    slow = load(file).monitoring.windows.slow
    assert (slow.seconds, slow.min_vectors, slow.max_vectors) == (21_600, 50, 500)


@pytest.mark.parametrize(
    ("slices", "reason"),
    [
        ("['a=b']", "has no = and no control characters"),
        ('["a\\nb"]', "has no = and no control characters"),
        ("[text]", "text holds what was embedded"),
        ("[a, a]", "each key may be listed once"),
        ("[a, b, c, d, e]", "at most 4 items"),
        ("['']", "at least 1 character"),
        ("tenant", "list"),
    ],
)
def test_a_key_that_cannot_be_sliced_by_is_refused(
    slices: str, reason: str, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    for text in (f"{{slices: {slices}}}", f"{{models: {{docs: {{slices: {slices}}}}}}}"):
        file.write_text(f"monitoring: {text}")
        with pytest.raises(SettingsError, match=reason):
            load(file)


def test_a_model_may_have_slices_of_its_own_or_none(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    models = "{docs: {slices: [language]}, chat: {slices: []}, faq: {drift_threshold: 0.2}}"
    file.write_text(f"monitoring: {{slices: [tenant], models: {models}}}")
    settings = load(file).monitoring
    found = {name: settings.slices_of(name) for name in ("docs", "chat", "faq", "other")}
    assert found == {"docs": ("language",), "chat": (), "faq": ("tenant",), "other": ("tenant",)}


def test_a_model_may_be_stale_later_than_others(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    models = "{docs: {stale_after: 90000}, faq: {drift_threshold: 0.2}}"
    file.write_text(f"monitoring: {{stale_after: 60, models: {models}}}")
    settings = load(file).monitoring
    found = {name: settings.stale_after_of(name) for name in ("docs", "faq", "other")}
    assert found == {"docs": 90_000, "faq": 60, "other": 60}
    file.write_text("monitoring: {models: {docs: {stale_after: 0}}}")
    with pytest.raises(SettingsError, match=r"monitoring\.models\.docs\.stale_after"):
        load(file)


def test_a_nested_key_has_an_environment_variable() -> None:
    settings = load(None, {"EMBEDDING_DRIFT_MONITORING_WINDOWS_FAST_SECONDS": "60"})
    assert settings.monitoring.windows.fast.seconds == 60


@pytest.mark.parametrize(
    "key", ["connection_string", "admin_connection_string", "replica_connection_string"]
)
def test_a_secret_file_is_read_at_each_use_and_never_shown(key: str, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("postgresql://user:hunter2@host/db\n")
    variable = f"EMBEDDING_DRIFT_DATABASE_{key.upper()}_FILE"
    settings = load(
        None,
        {variable: str(secret)},
        {"database.connection_string": "dbname=db"} if key != "connection_string" else {},
    )
    connection_string = getattr(settings.database, key)
    assert connection_string is not None
    assert connection_string.get_secret_value() == "postgresql://user:hunter2@host/db"
    assert "hunter2" not in f"{settings!r}{settings}{settings.model_dump_json()}"
    secret.write_text("postgresql://user:hunter3@host/db\n")
    assert connection_string.get_secret_value() == "postgresql://user:hunter3@host/db"


def test_a_missing_secret_file_is_an_error() -> None:
    with pytest.raises(SettingsError, match="/nowhere cannot be read: No such file"):
        load(None, {"EMBEDDING_DRIFT_ALERTING_SLACK_WEBHOOK_FILE": "/nowhere"})


def test_a_secret_file_that_is_not_text_is_an_error(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"hunter2\xff")
    with pytest.raises(SettingsError, match=r"secret is not UTF-8 \(byte 7\)") as refused:
        load(None, {"EMBEDDING_DRIFT_ALERTING_SLACK_WEBHOOK_FILE": str(secret)})
    assert "hunter2" not in str(refused.value)


def test_a_folder_without_a_name_is_an_error() -> None:
    with pytest.raises(SettingsError, match=r"database\.data_directory: command line"):
        load(flags={"database.data_directory": ""})


def test_a_misspelt_variable_is_an_error_with_the_nearest_name() -> None:
    with pytest.raises(SettingsError, match="did you mean EMBEDDING_DRIFT_SERVER_PORT"):
        load(None, {"EMBEDDING_DRIFT_SERVER_PROT": "1"})


def test_variables_that_kubernetes_sets_for_services_are_ignored() -> None:
    environment = {
        "EMBEDDING_DRIFT_SERVER_PORT": "tcp://10.0.0.1:10911",
        "EMBEDDING_DRIFT_SERVER_PORT_10911_TCP_ADDR": "10.0.0.1",
        "EMBEDDING_DRIFT_EXPORTER_SERVICE_HOST": "10.0.0.1",
        "EMBEDDING_DRIFT_EXPORTER_SERVICE_PORT_METRICS": "10910",
    }
    assert load(None, environment) == Settings()


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        load(tmp_path / "none.yaml")


def test_an_empty_file_or_section_sets_nothing(tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("")
    assert load(file) == Settings()
    file.write_text("ingest:\n")
    assert load(file) == Settings()


def test_a_webhook_on_loopback_may_be_plain_http() -> None:
    url = "http://127.0.0.1:9000/slack"
    settings = load(None, None, {"alerting.slack_webhook": url})
    assert settings.alerting.slack_webhook is not None
    assert settings.alerting.slack_webhook.get_secret_value() == url


def test_the_shipped_configuration_has_the_defaults() -> None:
    assert load(Path(__file__).parents[4] / "config.yaml") == Settings()
