"""A topic of a real broker: addresses, partitions, and offsets that are committed last."""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from confluent_kafka import Consumer, TopicPartition

from ingest.runtime.errors import SettingsError, SourceUnavailable
from ingest.watch.sources import kafka as source
from ingest.watch.sources.source import Location, Message
from tests.broker import Broker, Topic

# One broker for all: it takes more of a processor to start than the tests do.
pytestmark = pytest.mark.xdist_group("kafka")


def find(topic: Topic, group: str = "watch") -> source.Topic:
    return source.find(topic.source(group), Location(topic.name))


async def some(topic: source.Topic) -> list[Message]:
    """Read until there are messages: joining the group takes a moment."""
    async with asyncio.timeout(240):
        while not (messages := await topic.read()):
            pass
    return list(messages)


def committed(topic: Topic, partition: int = 0, group: str = "watch") -> int:
    consumer = Consumer({"bootstrap.servers": topic.broker.address, "group.id": group})
    [found] = consumer.committed([TopicPartition(topic.name, partition)], timeout=240)
    consumer.close()
    return found.offset


def test_a_message_says_where_it_is(kafka: Broker) -> None:
    topic = kafka.topic()
    topic.send(b"{}", b"x", headers={"Content-Type": "a/b", "X-Model-Name": "m"})

    async def main() -> list[Message]:
        found = find(topic)
        async with found.connected():
            return await some(found)

    first, second = asyncio.run(main())
    assert first.place == f"topic {topic.name}, partition 0, offset 0"
    assert second.place.endswith("offset 1")
    assert first.id.startswith(f"{topic.name}/0/0@1")
    assert first.headers == {"content-type": "a/b", "x-model-name": "m"}
    assert (first.body, second.body) == (b"{}", b"x")
    assert first.seconds is not None
    assert first.seconds > 1.7e9


def test_only_settled_messages_are_not_read_again(kafka: Broker) -> None:
    topic = kafka.topic()
    topic.send(*(str(n).encode() for n in range(5)))

    async def main() -> None:
        found = find(topic)
        async with found.connected():
            messages = await some(found)
            while len(messages) < 5:
                # Only the last messages can be settled, so all have to come at once.
                await found.settle(0)
                messages = await some(found)
            await found.settle(0)
            assert committed(topic) < 0
            first = await some(found)
            assert first[0].body == b"0"
            await found.settle(1)
            assert committed(topic) == 1
            assert (await some(found))[0].body == b"1"
        again = find(topic)
        async with again.connected():
            assert (await some(again))[0].body == b"1"

    asyncio.run(asyncio.wait_for(main(), 240))


def test_messages_that_cannot_be_settled_are_read_again(
    kafka: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    topic = kafka.topic()
    topic.send(b"0")

    async def main() -> None:
        found = find(topic)
        async with found.connected():
            await some(found)
            # A place that this member does not have, as after its partition was given away.
            place = found._last[0]
            found._last = [place._replace(partition=5)]
            with pytest.raises(SourceUnavailable, match="offsets not committed"):
                await found.settle(0)
            assert [message.body for message in await some(found)] == [b"0"]

    asyncio.run(main())


def test_members_of_one_group_share_the_partitions(kafka: Broker) -> None:
    topic = kafka.topic(partitions=2)

    async def main() -> None:
        one, other = find(topic), find(topic)
        async with one.connected(), other.connected():
            read: dict[source.Topic, set[bytes]] = {one: set(), other: set()}
            number, deadline = 0, time.monotonic() + 240
            while not all(read.values()):
                assert time.monotonic() < deadline, "one of them has all partitions"
                for partition in (0, 1):
                    topic.send(str(number).encode(), partition=partition)
                number += 1
                for each, bodies in read.items():
                    # Not while the partitions are given to another.
                    with suppress(SourceUnavailable):
                        messages = await each.read()
                        bodies.update(message.body for message in messages)
                        await each.settle(len(messages))

    asyncio.run(main())


@pytest.mark.parametrize(
    ("address", "location", "message"),
    [
        ("kafka://u:hunter2@a:1", Location("t"), "--source has a name or password"),
        ("kafka://u:hunter2/x@a:1", Location("t"), "--source has a name or password"),
        ("kafka://u:hunter2?x@a:1", Location("t"), "--source has a name or password"),
        ("kafka://[a", Location("t"), "allowed is kafka://HOST:PORT"),
        ("kafka://", Location("t"), "allowed is kafka://HOST:PORT"),
        ("kafka://a:1/t", Location("t"), "the topic is --table"),
        ("kafka://a:1?topic=t", Location("t"), "allowed is kafka://HOST:PORT"),
        ("kafka://a:1", Location("t", time="x"), "--time is not for Kafka"),
        ("kafka://a:1", Location("t", vector="x"), "--column is not for Kafka"),
        ("kafka://a:1", Location("t", metadata=("x",)), "--metadata is not for Kafka"),
        ("kafka://a:1", Location("t", sample=5), "--sample is not for Kafka"),
        ("kafka://a:1", Location("t", text="x"), "--text-column is not for Kafka"),
    ],
)
def test_a_wrong_address_or_option_is_refused(
    address: str, location: Location, message: str
) -> None:
    with pytest.raises(SettingsError, match=message) as caught:
        source.find(address, location)
    assert "hunter2" not in str(caught.value)


def test_a_missing_topic_is_refused_and_not_created(kafka: Broker) -> None:
    there = kafka.topic()
    for _ in range(2):
        with pytest.raises(SettingsError, match="no such topic") as caught:
            source.find(there.source(), Location("none"))
        assert there.name in str(caught.value)


def test_a_broker_that_is_away_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(source, "_ANSWER_SECONDS", 1.0)
    with pytest.raises(SourceUnavailable, match="the brokers of topic t: "):
        source.find("kafka://127.0.0.1:1", Location("t"))


def test_properties_come_from_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kafka: Broker
) -> None:
    topic = kafka.topic()
    file = tmp_path / "kafka.properties"
    monkeypatch.setenv(source.PROPERTIES, str(file))
    file.write_text("# comment\nclient.id = monitor\n\nenable.auto.commit=true\n")
    assert str(find(topic, "g")) == f"topic {topic.name}, group g"
    file.write_text("no.such.property=1\n")
    with pytest.raises(SettingsError, match=r"not accept the properties: .*no\.such\.property"):
        find(topic)
    file.write_text("security.protocol\n")
    with pytest.raises(SettingsError, match=r"kafka\.properties, line 1: key=value is needed"):
        find(topic)
    file.unlink()
    with pytest.raises(SettingsError, match=r"KAFKA_PROPERTIES: .*No such file"):
        find(topic)


def test_a_message_without_a_body_has_an_empty_one(kafka: Broker) -> None:
    topic = kafka.topic()
    topic.send(None, json.dumps({"embedding": [1]}).encode())

    async def main() -> list[bytes]:
        found = find(topic)
        async with found.connected():
            return [message.body for message in await some(found)]

    assert asyncio.run(main())[0] == b""
