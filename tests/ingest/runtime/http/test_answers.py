"""Answers: in pieces, within a budget and in time."""

from __future__ import annotations

import asyncio

import pytest
from starlette.types import Message, Scope

from ingest.runtime.errors import QueueFull
from ingest.runtime.http.answers import Answer, Answers

MIB = 1024 * 1024


class Client:
    """A connection, which knows whether it was hung up on."""

    def __init__(self) -> None:
        self.is_aborted = False

    def abort(self) -> None:
        self.is_aborted = True


class Recorded:
    """An answer, and what was sent of it."""

    def __init__(self, answers: Answers, path: str = "/drift") -> None:
        self.client = Client()
        self.sent: list[Message] = []
        extensions = {"embedding_drift.connection": self.client}
        scope: Scope = {"type": "http", "path": path, "extensions": extensions}
        self.answer: Answer = answers.to(scope, self._send)

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def begin(self, size: int) -> Recorded:
        self.answer.begin([(b"content-length", str(size).encode())])
        return self


def test_a_long_body_is_sent_in_pieces() -> None:
    async def main() -> None:
        body = bytes(range(256)) * 1_000
        one = Recorded(Answers(60)).begin(len(body))
        await one.answer.send({"type": "http.response.body", "body": body})
        pieces = [message["body"] for message in one.sent]
        assert b"".join(pieces) == body
        assert max(map(len, pieces)) == 65_536
        assert [message.get("more_body", False) for message in one.sent] == [True] * 3 + [False]
        one.answer.close()

    asyncio.run(main())


@pytest.mark.parametrize("body", [b"", b"short", bytes(65_536)])
def test_a_short_body_is_sent_as_it_is(body: bytes) -> None:
    async def main() -> None:
        one = Recorded(Answers(60)).begin(len(body))
        message = {"type": "http.response.body", "body": body}
        await one.answer.send(message)
        assert one.sent == [message]
        one.answer.close()

    asyncio.run(main())


def test_answers_beyond_the_budget_are_refused_until_others_are_sent() -> None:
    async def main() -> None:
        answers = Answers(60, limit=10 * MIB)
        first = Recorded(answers).begin(6 * MIB)
        second = Recorded(answers)
        with pytest.raises(QueueFull, match="clients read slowly"):
            second.begin(5 * MIB)
        second.begin(100).answer.close()  # an acknowledgement is never refused
        second.answer.close()
        first.answer.close()
        Recorded(answers).begin(5 * MIB).answer.close()

    asyncio.run(main())


def test_an_answer_beyond_the_budget_is_sent_when_it_is_the_only_one() -> None:
    async def main() -> None:
        Recorded(Answers(60, limit=MIB)).begin(2 * MIB).answer.close()

    asyncio.run(main())


def test_a_scrape_is_answered_instead_of_those_that_clients_read_for_longest() -> None:
    async def main() -> None:
        answers = Answers(60, limit=10 * MIB)
        slow = [Recorded(answers, path).begin(3 * MIB) for path in ("/drift", "/metrics", "/")]
        scrape = Recorded(answers, "/metrics").begin(6 * MIB)
        assert [each.client.is_aborted for each in slow] == [True, False, True]
        for each in slow[::2]:
            each.answer.close()
        with pytest.raises(QueueFull):
            Recorded(answers).begin(2 * MIB)
        # What scrapes hold is limited, too.
        other = Recorded(answers, "/metrics").begin(4 * MIB)
        assert (slow[1].client.is_aborted, scrape.client.is_aborted) == (True, False)
        scrape.answer.close()
        other.answer.close()
        Recorded(answers).begin(7 * MIB)

    asyncio.run(main())


def test_a_client_that_reads_too_slowly_is_hung_up_on() -> None:
    async def main() -> None:
        answers = Answers(0.05)
        slow, fast = Recorded(answers).begin(MIB), Recorded(answers).begin(MIB)
        fast.answer.close()
        await asyncio.sleep(0.1)
        assert (slow.client.is_aborted, fast.client.is_aborted) == (True, False)
        slow.answer.close()

    asyncio.run(main())
