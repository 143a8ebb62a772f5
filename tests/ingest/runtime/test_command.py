"""Commands: where their settings come from, and exit codes."""

from __future__ import annotations

import errno
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from ingest.runtime import command, logs
from ingest.runtime.errors import (
    MonitorError,
    NotReloaded,
    PayloadError,
    Problem,
    SettingsError,
    StoreUnavailable,
)
from ingest.runtime.settings.reload import LiveSettings
from ingest.runtime.settings.settings import Key, Settings, keys

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a command that prints `ingest.max_models`, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda _: None)

    @click.command()
    @command.setting("--most", "ingest.max_models", "Most models.")
    @command.configured
    def show(settings: Settings) -> None:
        click.echo(settings.ingest.max_models)

    def run(*words: str, **environment: str) -> Result:
        return CliRunner(env=environment).invoke(show, words, standalone_mode=True)

    return run


def test_the_file_in_the_folder_is_read_if_there_is_one(run: Run, tmp_path: Path) -> None:
    assert run().output == f"{Settings().ingest.max_models}\n"
    (tmp_path / "config.yaml").write_text("ingest: {max_models: 7}")
    assert run().output == "7\n"


@pytest.fixture
def live(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LiveSettings:
    """The settings of a service that was started in an empty folder, which is the current one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda _: None)

    @click.command()
    @command.reconfigurable
    def serve(live: LiveSettings) -> LiveSettings:
        return live

    found = CliRunner().invoke(serve, standalone_mode=False).return_value
    assert isinstance(found, LiveSettings)
    return found


def test_a_reload_reads_the_file_in_the_folder_that_came_since_the_start(
    live: LiveSettings, tmp_path: Path
) -> None:
    live.reload()
    assert live.settings == Settings()
    file = tmp_path / "config.yaml"
    file.write_text("nonsense: 1")
    with pytest.raises(NotReloaded, match="nonsense: line 1, column 1: unknown key"):
        live.reload()
    file.write_text("ingest: {max_models: 7}")
    live.reload()
    assert live.settings.ingest.max_models == 7


def test_a_reload_is_rejected_once_the_file_is_gone(live: LiveSettings, tmp_path: Path) -> None:
    file = tmp_path / "config.yaml"
    file.write_text("ingest: {max_models: 7}")
    live.reload()
    file.unlink()
    with pytest.raises(NotReloaded, match=r"config\.yaml cannot be read: No such file"):
        live.reload()
    assert live.settings.ingest.max_models == 7


@pytest.mark.parametrize("text", ["nonsense: 1", "database: {pool_size: 3}"])
def test_a_file_that_never_was_in_force_may_go_again(
    text: str, live: LiveSettings, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(text)
    with pytest.raises(NotReloaded):
        live.reload()
    file.unlink()
    live.reload()
    assert live.settings == Settings()


def test_a_file_in_the_folder_that_cannot_be_read_is_not_passed_over(
    run: Run, tmp_path: Path
) -> None:
    file = tmp_path / "config.yaml"
    file.symlink_to("nowhere")
    assert str(run().exception) == "config.yaml cannot be read: No such file or directory"
    file.unlink()
    file.mkdir()
    assert str(run().exception) == "config.yaml cannot be read: Is a directory"


def test_a_file_that_is_named_must_exist(run: Run) -> None:
    assert "other.yaml cannot be read" in str(run("--config", "other.yaml").exception)
    assert "other.yaml cannot be read" in str(run(EMBEDDING_DRIFT_CONFIG="other.yaml").exception)


def test_options_override_assignments_and_assignments_override_the_file(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "other.yaml").write_text("ingest: {max_models: 7}")
    assert run("--config", "other.yaml").output == "7\n"
    words = ["--config", "other.yaml", "--set", "ingest.max_models=8"]
    assert run(*words).output == "8\n"
    assert run(*words, "--most", "9").output == "9\n"


@pytest.mark.parametrize("words", ["max_models=8", "ingest.max_models"])
def test_an_assignment_without_section_or_value_is_refused(run: Run, words: str) -> None:
    refused = run("--set", words)
    assert isinstance(refused.exception, SettingsError)


@pytest.mark.parametrize("key", [key for key in keys() if key.is_secret], ids=lambda k: k.dotted)
def test_a_secret_in_an_argument_is_warned_of(
    run: Run, caplog: pytest.LogCaptureFixture, key: Key
) -> None:
    values = {"alerting.slack_webhook": "https://hooks.slack.com/services/hunter2"}
    primary = "database.connection_string=host=h password=hunter2"
    value = values.get(key.dotted, "host=h password=hunter2")
    assert run("--set", primary, "--set", f"{key.dotted}={value}").exit_code == 0
    warned = [vars(record) for record in caplog.records if record.levelname == "WARNING"]
    assert (key.dotted, f"{key.variable}_FILE") in {
        (each["key"], each["variable"]) for each in warned
    }
    assert "hunter2" not in str(warned)
    caplog.clear()
    run("--set", "ingest.max_models=8", **{key.variable: value})
    assert caplog.records == []


def failing(error: Exception) -> Result:
    """Run a command that raises an error."""

    @click.group(cls=type(command.group))
    def group() -> None:
        pass

    @group.command()
    def fail() -> None:
        raise error

    return CliRunner().invoke(group, ["fail"])


@pytest.mark.parametrize(
    ("error", "code"), [(SettingsError("wrong key"), 2), (StoreUnavailable("away"), 1)]
)
def test_an_error_is_printed_as_one_line_with_its_exit_code(error: MonitorError, code: int) -> None:
    failed = failing(error)
    assert failed.exit_code == code
    assert failed.output == f"Error: {error}\n"


def test_what_an_error_quotes_does_not_control_the_terminal() -> None:
    failed = failing(PayloadError("the id 'a\x1b[2Jb\x9bc' is unknown"))
    assert failed.output == "Error: the id 'a [2Jb c' is unknown\n"
    several = SettingsError("wrong keys:", [Problem("a.b", "unknown key")])
    assert failing(several).output == "Error: wrong keys:\n  a.b: unknown key\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "/a"), "/a: Permission denied"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device"),
        (OSError("a file system has its own words"), "a file system has its own words"),
    ],
    ids=["with a path", "without a path", "without a number"],
)
def test_an_error_of_the_system_is_one_line_too(error: OSError, line: str) -> None:
    failed = failing(error)
    assert failed.exit_code == 1
    assert failed.output == f"Error: {line}\n"


def test_a_command_whose_output_nobody_reads_ends_quietly() -> None:
    failed = failing(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert failed.exit_code == 1
    assert failed.output == ""


@click.command()
@click.option("--model", type=command.ModelName())
@click.option("--known", type=command.KnownName())
@click.option("--text", type=command.TextFile())
def show(model: str | None, known: str | None, text: str | None) -> None:
    click.echo(model or known or text)


def test_a_name_that_no_model_can_have_is_misuse() -> None:
    assert CliRunner().invoke(show, ["--model", "team/m"]).output == "team/m\n"
    refused = CliRunner().invoke(show, ["--model", "m\udcff"])
    assert refused.exit_code == 2
    assert r"'m\udcff' is not allowed; allowed are 1 to 128 printable" in refused.output


def test_a_model_that_is_in_the_store_may_have_a_name_of_an_earlier_release() -> None:
    assert CliRunner().invoke(show, ["--known", "my model"]).output == "my model\n"
    refused = CliRunner().invoke(show, ["--known", "m\udcff"])
    assert refused.exit_code == 2
    assert r"'m\udcff' is not UTF-8" in refused.output


def test_a_text_file_is_read_or_misuse(tmp_path: Path) -> None:
    file = tmp_path / "text"
    for content, code, said in (
        (None, 2, "cannot be read: No such file or directory"),
        (b"\xff", 2, "is not UTF-8 (byte 0)"),
        ("süß".encode(), 0, "süß"),
    ):
        if content is not None:
            file.write_bytes(content)
        done = CliRunner().invoke(show, ["--text", str(file)])
        assert done.exit_code == code
        assert said in done.output
    assert CliRunner().invoke(show, ["--text", "-"], input="piped").output == "piped\n"
