from __future__ import annotations

import json
from typing import Any

import httpx2
import pytest

from demo.slack import Slack


def body(**changes: Any) -> dict[str, Any]:
    attachment = {
        "title": "Title",
        "title_link": "https://example.org/",
        "text": "text",
        "fallback": "fallback",
        "actions": [{"type": "button", "text": "Open", "url": "https://example.org/"}],
    }
    return {"attachments": [attachment | changes]}


def post(url: str, **content: Any) -> httpx2.Response:
    """Send with the patience that a busy machine needs."""
    return httpx2.post(url, timeout=60, **content)


def test_a_valid_message_is_kept_unchanged(slack: Slack) -> None:
    answer = post(slack.url, json=body())
    assert (answer.status_code, answer.text) == (200, "ok")
    assert [message.body for message in slack.messages] == [body()]
    assert slack.refused == []


@pytest.mark.parametrize(
    ("payload", "error"),
    [
        ({}, "no_text"),
        ([], "invalid_payload"),
        ({"attachments": body()["attachments"] * 101}, "too_many_attachments"),
        (body(text=""), "no_text"),
        (body(fallback=""), "no_text"),
        (body(text="x" * 4_001), "msg_too_long"),
        (body(title="x" * 1_025), "msg_too_long"),
        (body(title_link="/drift/model"), "invalid URL"),
        (body(actions=[{"type": "button", "text": "Open", "url": "drift"}]), "invalid URL"),
        (body(actions=[{"type": "button", "text": "", "url": "https://a.b/"}]), "invalid action"),
        (body(actions=body()["attachments"][0]["actions"] * 6), "too many actions"),
    ],
)
def test_a_message_that_slack_would_not_show_completely_is_rejected(
    payload: object, error: str, slack: Slack
) -> None:
    answer = post(slack.url, json=payload)
    assert answer.status_code == 400
    assert answer.text.startswith(error)
    assert slack.messages == []
    assert slack.refused == [f"400 {answer.text}"]


def test_only_json_is_accepted(slack: Slack) -> None:
    text = json.dumps(body())
    answer = post(slack.url, content=text, headers={"Content-Type": "text/plain"})
    assert answer.text == "invalid_payload: content type 'text/plain'"
    answer = post(slack.url, content=text[:-1], headers={"Content-Type": "application/json"})
    assert answer.text.startswith("invalid_payload")


def test_another_path_answers_404(slack: Slack) -> None:
    assert post(slack.url + "x", json=body()).status_code == 404


def test_it_rejects_as_often_as_configured(slack: Slack) -> None:
    slack.refuse(429, times=1)
    first, second = (post(slack.url, json=body()) for _ in range(2))
    assert (first.status_code, first.headers["Retry-After"]) == (429, "1")
    assert second.status_code == 200
    assert len(slack.messages) == 1


def test_a_timeout_lists_the_rejected_requests(slack: Slack) -> None:
    post(slack.url, json={})
    with pytest.raises(TimeoutError, match="rejected: \\['400 no_text'\\]"):
        slack.wait(lambda message: True, seconds=0.01)
