"""Each batch is stored once, even if the network or the service fails first."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from time import time
from typing import Any

import httpx2
import numpy as np
import psycopg
import pytest
import trustme

from embedding_drift_client.delivery import Answer, AsyncSender, Delivery, Sender
from embedding_drift_client.errors import (
    BodyTooLarge,
    ClientError,
    DimensionMismatch,
    Forbidden,
    IdempotencyConflict,
    PayloadError,
    SettingsError,
    Unauthorized,
    Undelivered,
)
from embedding_drift_client.rows import Rows
from tests.network import Fault, Network, Reply, Shelf, listening

VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)

Send = Callable[..., Answer]


def send(url: str, rows: Rows, pauses: list[float] | None = None, attempts: int = 8) -> Answer:
    sleep = ([] if pauses is None else pauses).append
    with Sender(url, "m", attempts=attempts, sleep=sleep) as sender:
        return sender.deliver(rows)


def send_async(
    url: str, rows: Rows, pauses: list[float] | None = None, attempts: int = 8
) -> Answer:
    async def sleep(seconds: float) -> None:
        if pauses is not None:
            pauses.append(seconds)

    async def run() -> Answer:
        async with AsyncSender(url, "m", attempts=attempts, sleep=sleep) as sender:
            return await sender.deliver(rows)

    return asyncio.run(run())


def jittered(*seconds: float) -> object:
    """Match pauses of these seconds, or up to 1.5 times as long."""
    return pytest.approx([1.25 * pause for pause in seconds], rel=0.2)


either = pytest.mark.parametrize("send", [send, send_async], ids=["sync", "async"])


@either
def test_vectors_alone_are_sent_as_raw_floats(network: Network, shelf: Shelf, send: Send) -> None:
    assert send(network.url + "/", Rows(VECTORS)) == Answer(4, 0)
    [batch] = shelf.batches
    assert batch.model_name == "m"
    assert batch.vectors.tobytes() == VECTORS.tobytes()
    assert network.requests[0]["content-type"] == "application/octet-stream"


def test_ids_and_metadata_are_sent_with_their_vectors(network: Network, shelf: Shelf) -> None:
    send(network.url, Rows(VECTORS[:2], ["a", None], [None, b'{"text":"y"}']))
    [batch] = shelf.batches
    assert batch.ids == ["a", None]
    assert batch.metadata == [None, b'{"text":"y"}']
    assert batch.vectors.tobytes() == VECTORS[:2].tobytes()


@either
@pytest.mark.parametrize("status", [408, 429, 502, 503, 504])
def test_a_temporary_failure_is_retried(
    network: Network, shelf: Shelf, send: Send, status: int
) -> None:
    network.faults = [Reply(status), Reply(status)]
    pauses: list[float] = []
    assert send(network.url, Rows(VECTORS), pauses) == Answer(4, 0)
    assert len(network.keys) == 3
    assert len(set(network.keys)) == 1
    assert len(shelf) == 4
    assert pauses == jittered(0.5, 1)


@either
@pytest.mark.parametrize("fault", ["lost", "cut", "truncated"])
def test_a_batch_whose_connection_breaks_is_sent_again_with_the_same_key(
    network: Network, shelf: Shelf, send: Send, fault: Fault
) -> None:
    network.faults = [fault, fault]
    assert send(network.url, Rows(VECTORS)) == Answer(4, 0)
    assert len(network.keys) == 3
    assert len(set(network.keys)) == 1
    assert len(shelf) == 4


@either
def test_the_service_stores_a_batch_once_when_its_answer_is_lost(
    real: Network, connection: psycopg.Connection, send: Send
) -> None:
    real.faults = ["lost", "truncated"]
    assert send(real.url, Rows(VECTORS)) == Answer(4, 0)
    assert [dict(answer.headers) for answer in real.answers] == [
        {},
        {"Idempotency-Replayed": "true"},
        {"Idempotency-Replayed": "true"},
    ]
    assert connection.execute("select count(*) from embedding").fetchone() == (4,)


def test_ids_that_were_stored_before_are_not_counted_as_stored(real: Network) -> None:
    assert send(real.url, Rows(VECTORS, list("abcd"))) == Answer(4, 0)
    rolled = np.roll(VECTORS, -2, axis=0)
    assert send(real.url, Rows(rolled, list("cdef"))) == Answer(2, 2)


def test_other_vectors_of_stored_ids_are_counted_as_revisions(real: Network) -> None:
    send(real.url, Rows(VECTORS, list("abcd")))
    assert send(real.url, Rows(VECTORS + 5, list("cdef"))) == Answer(4, 0, revisions=2)


def test_a_service_that_does_not_count_revisions_is_understood(network: Network) -> None:
    network.faults = [Reply(201, {}, b'{"stored": 3, "duplicates": 1}')]
    assert send(network.url, Rows(VECTORS)) == Answer(3, 1, revisions=0)


def test_two_batches_have_two_keys(network: Network) -> None:
    send(network.url, Rows(VECTORS))
    send(network.url, Rows(VECTORS))
    assert len(set(network.keys)) == 2


def test_retry_after_may_be_seconds(network: Network) -> None:
    network.faults = [Reply(503, {"Retry-After": "7"}), Reply(429, {"Retry-After": "0"})]
    pauses: list[float] = []
    send(network.url, Rows(VECTORS), pauses)
    assert pauses == jittered(7, 1)


def delivery(attempts: int = 8, jitter: float = 0.0) -> Delivery[object]:
    return Delivery("http://service/embeddings", b"", {}, attempts, repr, lambda: jitter)


def asking_to_wait(retry_after: str) -> httpx2.Response:
    return httpx2.Response(503, headers={"Retry-After": retry_after})


def test_retry_after_may_be_a_date() -> None:
    pause = delivery().judge(asking_to_wait(formatdate(time() + 200, usegmt=True)))
    assert pause is not None
    assert 100 < pause <= 200


@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [
        ("soon", 0.5),
        ("-5", 0.5),
        ("", 0.5),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.5),
        ("Wed, 99 Oct 2015", 0.5),
        ("9999999999", 3600),
        ("1" * 400, 0.5),
    ],
)
def test_an_invalid_retry_after_is_ignored_and_a_long_one_is_cut(
    retry_after: str, pause: float
) -> None:
    assert delivery().judge(asking_to_wait(retry_after)) == pause


def test_pauses_double_up_to_30_seconds() -> None:
    patient = delivery(attempts=9)
    pauses = [patient.judge(httpx2.ConnectError("refused")) for _ in range(8)]
    assert pauses == [0.5, 1, 2, 4, 8, 16, 30, 30]


def test_jitter_only_lengthens_a_pause() -> None:
    assert delivery(jitter=1.0).judge(asking_to_wait("10")) == 15


@either
def test_a_batch_is_given_up_after_the_last_attempt(send: Send) -> None:
    pauses: list[float] = []
    with pytest.raises(Undelivered, match=r"given up after 3 attempts; http://127.0.0.1:1/.+"):
        send("http://127.0.0.1:1", Rows(VECTORS), pauses, attempts=3)
    assert len(pauses) == 2


def test_the_third_failed_attempt_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Undelivered):
        send("http://127.0.0.1:1", Rows(VECTORS))
    [record] = [r for r in caplog.records if r.name == "embedding_drift_client.delivery"]
    assert record.getMessage().startswith("http://127.0.0.1:1/embeddings: ")


@either
@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, PayloadError),
        (401, Unauthorized),
        (403, Forbidden),
        (404, PayloadError),
        (409, DimensionMismatch),
        (413, BodyTooLarge),
        (422, IdempotencyConflict),
        (307, Undelivered),
        (500, Undelivered),
    ],
)
def test_a_refused_batch_is_not_sent_again(
    network: Network, send: Send, status: int, kind: type[ClientError]
) -> None:
    network.faults = [Reply(status)]
    with pytest.raises(kind, match=f"answers {status}: not now") as caught:
        send(network.url, Rows(VECTORS))
    assert type(caught.value) is kind
    assert len(network.requests) == 1


def test_a_refusal_names_the_invalid_vectors(network: Network) -> None:
    vectors = VECTORS.copy()
    vectors[2, 1] = np.nan
    with pytest.raises(PayloadError, match=r"answers 400: /embeddings/2/1: is NaN") as caught:
        send(network.url, Rows(vectors))
    assert [problem.index for problem in caught.value.problems] == [2]


def test_the_error_of_a_proxy_is_named_by_its_status(network: Network) -> None:
    network.faults = [Reply(404, {}, b"<html>\xff")]
    with pytest.raises(PayloadError, match="answers 404: Not Found"):
        send(network.url, Rows(VECTORS))


@pytest.mark.parametrize("errors", ["7", "[7]", '[{"pointer": "", "reason": "", "index": "x"}]'])
def test_a_refusal_of_another_form_is_named_by_its_status(network: Network, errors: str) -> None:
    network.faults = [Reply(400, {}, f'{{"detail": "no", "errors": {errors}}}'.encode())]
    with pytest.raises(PayloadError, match="answers 400: Bad Request") as caught:
        send(network.url, Rows(VECTORS))
    assert caught.value.problems == ()


def test_a_sender_accepts_the_arguments_of_a_client(network: Network, shelf: Shelf) -> None:
    with Sender(network.url, "m") as sender:
        assert sender.send([[1, 2]], ids=[7], metadata=[{"n": {1}}], timestamps=[3]) == Answer(1, 0)
    [batch] = shelf.batches
    assert batch.ids == ["7"]
    assert batch.metadata == [b'{"n":[1],"timestamp":3.0}']


@pytest.mark.parametrize(
    ("vectors", "message"),
    [
        ([[1, 2], [np.nan, 2]], r"^/embeddings/1/0: is NaN"),
        ([[1, 2], [3]], "vectors of one dimension"),
        ([], "at least one vector"),
    ],
)
def test_a_sender_refuses_a_batch_with_an_invalid_vector(
    network: Network, vectors: list[list[float]], message: str
) -> None:
    with Sender(network.url, "m") as sender, pytest.raises(PayloadError, match=message):
        sender.send(vectors)
    assert network.requests == []


def test_the_trouble_of_a_sender_is_its_last_failed_attempt(network: Network) -> None:
    network.faults = [Reply(503)]
    troubles = []
    with Sender(network.url, "m", sleep=lambda _: troubles.append(str(sender.trouble))) as sender:
        assert sender.trouble is None
        sender.deliver(Rows(VECTORS))
        assert sender.trouble is None
    assert troubles == [f"{network.url}/embeddings answers 503: not now"]


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b"[]",
        b"null",
        b"\xff",
        b'{"stored": -1, "duplicates": 0}',
        b'{"stored": 1, "duplicates": 0, "revisions": "1"}',
        b"",
    ],
)
def test_an_answer_of_another_service_does_not_count_as_stored(
    network: Network, body: bytes
) -> None:
    network.faults = [Reply(200, {}, body)]
    with pytest.raises(Undelivered, match="another service"):
        send(network.url, Rows(VECTORS))


@pytest.mark.parametrize("kind", [Sender, AsyncSender])
@pytest.mark.parametrize("name", ["my vectors", "../model", ""])
def test_an_illegal_model_name_is_refused_before_anything_is_sent(
    kind: type[Sender | AsyncSender], name: str
) -> None:
    with pytest.raises(PayloadError, match=r"model name: .* is not allowed"):
        kind("http://127.0.0.1:1", name)


@pytest.mark.parametrize(
    "url", ["localhost:10910", "127.0.0.1:10910", "http://", "", "http://[::1", "http://h:99999"]
)
def test_an_unusable_address_is_refused_before_anything_is_sent(url: str) -> None:
    with pytest.raises(SettingsError, match=r"must begin with http://|[Ii]nvalid"):
        Sender(url, "m")


@pytest.mark.parametrize("attempts", [0, float("nan"), "8"])
def test_a_number_of_attempts_that_would_never_be_reached_is_refused(attempts: Any) -> None:
    with pytest.raises(SettingsError, match=r"^attempts \(.*\) must be"):
        Sender("http://127.0.0.1:1", "m", attempts=attempts)


@pytest.mark.parametrize("token", ["", "two words", "line\n", "\N{EURO SIGN}"])
def test_an_unusable_token_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(SettingsError, match="visible ASCII") as caught:
        Sender("http://127.0.0.1:1", "m", token=token)
    assert not token or token not in str(caught.value)


def test_a_token_is_sent_as_a_bearer_token(network: Network) -> None:
    with Sender(network.url, "m", token="secret") as sender:
        sender.deliver(Rows(VECTORS))
    assert network.requests[0]["authorization"] == "Bearer secret"


def test_a_password_in_the_address_is_sent_and_not_shown(network: Network) -> None:
    network.faults = [Reply(401)]
    with pytest.raises(Unauthorized) as caught:
        send(network.url.replace("//", "//user:secret@"), Rows(VECTORS))
    assert network.requests[0]["authorization"] == "Basic dXNlcjpzZWNyZXQ="
    with pytest.raises(SettingsError) as wrong:
        Sender("ftp://user:secret@host", "m")
    assert "secret" not in f"{caught.value} {wrong.value}"


@pytest.mark.parametrize(
    "address",
    [
        "http://user:hunter/2@host:1",
        "http://user:hunter?2@host:1",
        "http://user:1/hunter2@host:1",
        "http://user:1?hunter2@host:1",
        "http://user:1#hunter2@host:1",
        "http://user:hunter2\n@host:1",
    ],
)
def test_a_password_that_became_another_part_of_the_address_is_not_quoted(address: str) -> None:
    with pytest.raises(SettingsError, match=r"^host:1: .*written %2F %3F") as caught:
        Sender(address, "m")
    assert "hunter" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_unusable_file_of_certificates_is_refused(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "ca.pem"
    if content is not None:
        file.write_text(content)
    with pytest.raises(SettingsError, match=r"ca\.pem: is not a file of certificates"):
        Sender("https://127.0.0.1:1", "m", verify=file)


def test_a_certificate_is_trusted_if_its_file_is_given(tmp_path: Path, shelf: Shelf) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with listening(Network(shelf), tls) as network:
        with pytest.raises(Undelivered, match="CERTIFICATE_VERIFY_FAILED"):
            send(network.url, Rows(VECTORS), attempts=1)
        with Sender(network.url, "m", verify=tmp_path / "ca.pem") as sender:
            assert sender.deliver(Rows(VECTORS)) == Answer(4, 0)
