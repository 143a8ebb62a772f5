"""A real Kafka broker for tests, and topics of it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from demo.stack import free_port
from tests.programs import ROOT, find, missing
from tests.service import wait_for

_CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "embedding-drift"
_CONFIG = """
process.roles=broker,controller
node.id=1
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
controller.quorum.bootstrap.servers=127.0.0.1:{controller}
log.dirs={folder}/log
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
group.initial.rebalance.delay.ms=0
auto.create.topics.enable=true
"""


class Broker:
    """A running broker."""

    def __init__(self, address: str, process: subprocess.Popen[bytes]) -> None:
        self.address = address
        self._process = process

    def topic(self, partitions: int = 1) -> Topic:
        """Create a topic."""
        name = f"topic_{uuid.uuid4().hex}"
        admin = AdminClient({"bootstrap.servers": self.address, "log_level": 0})
        for done in admin.create_topics([NewTopic(name, partitions, 1)]).values():
            done.result(60)

        def is_served() -> bool:
            # All topics: to ask for one may create it.
            found = admin.list_topics(timeout=60).topics.get(name)
            leaders = [each.leader for each in found.partitions.values()] if found else []
            return len(leaders) == partitions and min(leaders) >= 0

        wait_for(is_served, "the topic, which the controller has created")
        return Topic(self, name)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Let it answer nothing while entered."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)


class Topic:
    """A topic of a broker, and a program that writes to it."""

    def __init__(self, broker: Broker, name: str) -> None:
        self.broker = broker
        self.name = name
        self._producer = Producer({"bootstrap.servers": broker.address, "log_level": 0})

    def send(
        self,
        *bodies: bytes | None,
        headers: dict[str, str] | None = None,
        partition: int = 0,
    ) -> None:
        """Send messages; they are in the topic when this returns."""
        for body in bodies:
            self._producer.produce(
                self.name, body, headers=dict(headers or {}), partition=partition
            )
        assert self._producer.flush(60) == 0

    def source(self, group: str = "watch") -> str:
        """Address of the broker, for ``--source``."""
        return f"kafka://{self.broker.address}?group={group}"


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker that keeps its topics for the session."""
    pom = (ROOT / "tests" / "kafka" / "pom.xml").read_text()
    version = re.search(r"kafka_2\.13</artifactId>\s*<version>(.*)</version>", pom)
    assert version is not None
    libraries = _CACHE / f"kafka-{version[1]}"
    if not libraries.is_dir():
        missing("Kafka is not fetched; make tools-kafka")
    java = [find("java", "; Java 17 runs Kafka"), "-Xmx384m", "-cp", f"{libraries}/*"]
    folder = tmp_path_factory.mktemp("kafka")
    port = controller = free_port()
    while controller == port:
        controller = free_port()
    config = folder / "server.properties"
    config.write_text(_CONFIG.format(port=port, controller=controller, folder=folder))
    identity = ("format", "--standalone", "-t", str(uuid.uuid4()))
    subprocess.run(
        [*java, "kafka.tools.StorageTool", *identity, "-c", str(config)],
        check=True,
        capture_output=True,
        timeout=240,
    )
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen([*java, "kafka.Kafka", str(config)], stdout=log, stderr=log)
    try:
        broker = Broker(f"127.0.0.1:{port}", process)
        admin = AdminClient({"bootstrap.servers": broker.address, "log_level": 0})

        def answers() -> bool:
            assert process.poll() is None, (folder / "log.txt").read_text()[-2_000:]
            try:
                admin.list_topics(timeout=10)
            except KafkaException:
                return False
            return True

        wait_for(answers, "the broker")
        yield broker
    finally:
        process.kill()
        process.wait()
