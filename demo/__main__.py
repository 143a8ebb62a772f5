"""``python -m demo``: play an incident, from the first vector to the message in Slack."""

from __future__ import annotations

import html
import signal
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import click
import httpx2

from demo import incident, stack
from demo.incident import Incident
from demo.screenshots import take
from demo.service import service
from demo.slack import Message, Slack
from demo.stack import Prometheus
from ingest.files.replay import batches, paced, sending
from rules.render import render

MODEL = "all-MiniLM-L6-v2"
SWAPPED = "all-MiniLM-L6-v2-swapped"
"""Model of the second act."""
BASELINE_WITHIN = 240.0
ALERT_WITHIN = 240.0
EXPLANATION_WITHIN = 240.0


@click.command()
@click.option(
    "--picture",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also draw the incident into this PNG file (needs matplotlib).",
)
@click.option(
    "--screenshot",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Also write a screenshot of the page of the model into this PNG file (needs Chromium).",
)
@click.option("--keep", is_flag=True, help="Keep everything running until Ctrl-C.")
def main(picture: Path | None, screenshot: Path | None, keep: bool) -> None:
    """Play an incident with a real Prometheus and Alertmanager, and show the alert.

    In the second act, the encoder of another model is swapped. The exit code is 0 only if the
    stand-in for Slack got both alerts, for the right models, after the new topic and after the swap
    began. The links in the alerts work while the demo runs.
    """
    signal.signal(signal.SIGTERM, _leave)
    began = time.time()
    with ExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="drift-demo-")))
        slack = running.enter_context(Slack())
        say("starting the monitor with its own PostgreSQL, Prometheus and Alertmanager")
        monitor = running.enter_context(service(folder, slack.url))
        rendered = folder / "rendered"
        render(monitor.settings, rendered)
        # Two minutes become six seconds: enough to scrape what changed before the alert fires.
        stack.shorten_waits(rendered, seconds=3)
        alertmanager = running.enter_context(
            stack.alertmanager(folder / "alertmanager", rendered / "alertmanager.yml")
        )
        prometheus = running.enter_context(
            stack.prometheus(folder / "prometheus", rendered, monitor.url, alertmanager)
        )
        say(f"monitor {monitor.url}  prometheus {prometheus.url}  alertmanager {alertmanager}")

        shifted = replay(monitor.url, prometheus, slack)
        message = slack.wait(_names_the_model, ALERT_WITHIN)
        show(message)
        check_links(message)
        if picture is not None:
            from demo.picture import draw

            draw(prometheus, MODEL, began=began, shifted=shifted, file=picture)
            say(f"picture: {picture}")
        if message.received < shifted:
            raise click.ClickException("the alert came before the new topic began: a false alarm")
        seconds = message.received - shifted
        say(f"the alert came {seconds:.0f} s after the first vector of the new topic")
        explained_at = say_what_changed(monitor.url, MODEL)
        if screenshot is not None:
            take(f"{monitor.url}/drift/{MODEL}", explained_at, screenshot)
            say(f"screenshot: {screenshot}")

        swapped = swap(monitor.url, prometheus)
        message = slack.wait(_says_that_the_model_changed, ALERT_WITHIN)
        show(message)
        if message.received < swapped:
            raise click.ClickException("the alert came before the swap: a false alarm")
        seconds = message.received - swapped
        say(f"the alert came {seconds:.0f} s after the first vector of the other encoder")
        say_what_changed(monitor.url, SWAPPED)
        if keep:
            # Shells start background jobs with SIGINT ignored.
            signal.signal(signal.SIGINT, signal.default_int_handler)
            with suppress(KeyboardInterrupt):
                say("everything keeps running, and the links work, until Ctrl-C")
                signal.pause()
    if not keep:
        say("all of it has stopped, and the links with it; make demo KEEP=1 keeps it running")


def replay(url: str, prometheus: Prometheus, slack: Slack) -> float:
    """Send the baseline and the stream; return the time at which the new topic began."""
    story = Incident()
    with sending(url) as send:
        for batch in batches([story.baseline()], 500):
            send(MODEL, batch)
        say(f"sent {incident.BASELINE_VECTORS} descriptions, none of {incident.NEW_SECTION}")
        wait_for_baseline(prometheus, MODEL)
        say(f"baseline pinned; now sending {incident.RATE} similar descriptions per second")
        shifted = 0.0
        for second, batch in enumerate(paced(story.stream(), incident.RATE), start=1):
            if not shifted and incident.share(second) > 0:
                shifted = time.time()
                say(f"new topic: descriptions from section {incident.NEW_SECTION} begin")
            send(MODEL, batch)
            if second % 5 == 0:
                say_state(second, prometheus, slack)
    return shifted


def swap(url: str, prometheus: Prometheus) -> float:
    """Send the baseline of a second model, and swap its encoder; return the time of the swap."""
    story = Incident()
    with sending(url) as send:
        for batch in batches([story.baseline()], 500):
            send(SWAPPED, batch)
        say(f"second act: sent the same {incident.BASELINE_VECTORS} descriptions for {SWAPPED}")
        wait_for_baseline(prometheus, SWAPPED)
        swapped = 0.0
        for second, batch in enumerate(paced(story.swap(), incident.RATE)):
            if second == incident.SWAP_SECONDS:
                swapped = time.time()
                say("the encoder is swapped: the same kind of texts, other vectors")
            send(SWAPPED, batch)
    return swapped


def say_what_changed(url: str, model_name: str) -> datetime:
    """Print in words what changed, as the page of the model has it; return when that was said."""
    deadline = time.monotonic() + EXPLANATION_WITHIN
    while time.monotonic() < deadline:
        answer = httpx2.get(f"{url}/drift/{model_name}", timeout=60).raise_for_status()
        for window in answer.json()["windows"].values():
            if (found := window.get("explanation")) is not None:
                say(f"what changed: {found['summary']}")
                say(f"  cause: {found['cause']['kind']} ({'; '.join(found['cause']['evidence'])})")
                return datetime.fromisoformat(found["explained_at"])
        time.sleep(0.5)
    raise click.ClickException(f"nothing says what changed in {model_name}")


def wait_for_baseline(prometheus: Prometheus, model_name: str) -> None:
    """Wait until the exporter has a baseline of the model."""
    deadline = time.monotonic() + BASELINE_WITHIN
    while not prometheus.query(f'embedding_drift_baseline_version{{model_name="{model_name}"}}'):
        if time.monotonic() > deadline:
            raise click.ClickException(f"no baseline within {BASELINE_WITHIN:g} s")
        time.sleep(0.5)


def say_state(second: int, prometheus: Prometheus, slack: Slack) -> None:
    """Print the share of the new topic, score, magnitude and the number of messages."""
    score = prometheus.value('embedding_drift_score{window="fast"}')
    magnitude = prometheus.value('embedding_drift_magnitude{window="fast"}')
    say(
        f"{incident.NEW_SECTION} {incident.share(second):4.0%}   score {score:5.1f}   "
        f"magnitude {magnitude:4.0%}   messages in Slack {len(slack.messages)}"
    )


def show(message: Message) -> None:
    """Print the message as the Slack channel would show it."""
    (attachment,) = message.body["attachments"]
    lines = [attachment["title"], "", *attachment["text"].splitlines(), ""]
    lines += [f"[{action['text']}] {action['url']}" for action in attachment["actions"]]
    click.echo("\nMessage in Slack:\n")
    for line in lines:
        click.echo(f"  | {html.unescape(line)}")
    click.echo()


def check_links(message: Message) -> None:
    """Raise an error if the link of a button does not answer 200."""
    actions: list[dict[str, Any]] = message.body["attachments"][0]["actions"]
    for action in actions:
        status = httpx2.get(action["url"], timeout=60).status_code
        if status != 200:
            raise click.ClickException(f"the link of the button {action['text']} answers {status}")


def say(text: str) -> None:
    """Print a line of progress."""
    click.echo(f"{time.strftime('%H:%M:%S')}  {text}")


def _names_the_model(message: Message) -> bool:
    return MODEL in message.body["attachments"][0]["title"]


def _says_that_the_model_changed(message: Message) -> bool:
    (attachment,) = message.body["attachments"]
    return SWAPPED in attachment["title"] and "*EmbeddingModelChanged*" in attachment["text"]


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(1)  # raises SystemExit, so that every child process is stopped


if __name__ == "__main__":
    main()
