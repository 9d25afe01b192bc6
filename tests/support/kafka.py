"""A Kafka of a test's own: one node in KRaft mode, broker and controller, on loopback and in a temporary directory.

Its listener PLAINTEXT takes anyone, as an administrator; others are opened by what they need: SSL and SASL_SSL by a
certificate, SASL_PLAINTEXT and SASL_SSL by accounts. SSL asks for a client certificate, whose common name is the
account. With `lists` only what an access list allows is allowed to accounts.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AclBinding, AdminClient, NewPartitions, NewTopic

from tests.support.kafka_jars import CLASSES, java, kafka_jars
from tests.support.ports import free_port

_START_S = 60.0
_FLAGS = ("-Xmx192m", "-Xss512k", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:-UsePerfData", "-Xlog:disable",
        "-Xlog:all=error:stderr", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")  # fmt: skip
_SETTINGS = {
    "process.roles": "broker,controller",
    "node.id": "1",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "PLAINTEXT",
    "auto.create.topics.enable": "false",
    "group.initial.rebalance.delay.ms": "0",
    # One node has one copy of everything.
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "1",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "1",
    # After a kill the same node has to be let in again soon.
    "broker.session.timeout.ms": "2000",
    "broker.heartbeat.interval.ms": "500",
    # Small: a test's topics have many partitions and few records.
    "log.cleaner.dedupe.buffer.size": "2097152",
    "log.cleaner.io.buffer.size": "65536",
    "log.index.size.max.bytes": "65536",
    "offsets.topic.segment.bytes": "1048576",
    "num.network.threads": "2",
    "num.io.threads": "4",
    "background.threads": "2",
}
_OF_ACCOUNTS = "org.apache.kafka.common.security"


@dataclass(frozen=True, kw_only=True)
class KafkaSetup:
    """What a broker has beyond its listener PLAINTEXT.

    Attributes:
        certificate, key, ca: PEM files of the broker, and of the authority of its clients.
        accounts: passwords by name, for SCRAM-SHA-512 and PLAIN.
        lists: whether access lists count.
        settings: any other properties.
    """

    certificate: Path | None = None
    key: Path | None = None
    ca: Path | None = None
    accounts: Mapping[str, str] | None = None
    lists: bool = False
    settings: Mapping[str, str] | None = None

    @property
    def listeners(self) -> list[str]:
        """Their names, which are those of their security."""
        more = {
            "SSL": self.certificate,
            "SASL_PLAINTEXT": self.accounts,
            "SASL_SSL": self.certificate and self.accounts,
        }
        return ["PLAINTEXT", *(name for name, needed in more.items() if needed)]


class Kafka:
    """A broker that can be stopped, killed, and started again with its data."""

    def __init__(self, folder: Path, setup: KafkaSetup, jvm: Sequence[str | Path]) -> None:
        self.folder, self._setup, self._jvm = folder, setup, jvm
        self.ports = {name: free_port() for name in (*setup.listeners, "CONTROLLER")}
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "server.properties").write_text(
            "".join(f"{name}={value}\n" for name, value in self._properties().items())
        )
        accounts = [
            f"SCRAM-SHA-512=[name={name},password={password}]" for name, password in (setup.accounts or {}).items()
        ]
        subprocess.run(
            [*jvm, "kafka.tools.StorageTool", "format", "--config", folder / "server.properties",
             "--cluster-id", "Z2F0ZXdheXMtb2YtYS10ZQ", *(word for each in accounts for word in ("--add-scram", each))],
            check=True, capture_output=True, timeout=_START_S,
        )  # fmt: skip

    def address(self, listener: str = "PLAINTEXT") -> str:
        """Host and port of a listener."""
        return f"127.0.0.1:{self.ports[listener]}"

    @property
    def process_id(self) -> int:
        """Of the broker that runs."""
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What it said, from warnings on, and all that its JVMs before it said."""
        return (self.folder / "log").read_text()

    def start(self) -> None:
        """Start it and wait until it serves. It ends with the thread that calls this: call it in the main one."""
        with (self.folder / "log").open("ab") as log:
            # A client of a test may never see the end of a test that was killed: the kernel ends it.
            self._process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._jvm, "kafka.Kafka", self.folder / "server.properties"],
                stdout=log, stderr=log, cwd=self.folder,
            )  # fmt: skip
        until = time.monotonic() + _START_S
        admin = self.admin()
        while not self._serves(admin):
            if self._process.poll() is not None or time.monotonic() > until:
                self.kill()
                raise RuntimeError(f"Kafka did not start: {self.log[-4000:]}")

    def stop(self) -> None:
        """Shut it down in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """As kill -9 does: what it wrote is in the files, and it has to recover."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it hang, with its connections open, until `resume`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on after `pause`."""
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def admin(self) -> AdminClient:
        """An administrator."""
        return AdminClient({
            "bootstrap.servers": self.address(), "log_level": 0, "reconnect.backoff.max.ms": 100,
            "topic.metadata.refresh.fast.interval.ms": 50,
        })  # fmt: skip

    def create_topic(self, name: str, partitions: int = 1, **settings: str) -> None:
        """A topic, with settings of Kafka whose dots are underscores here."""
        config = {key.replace("_", "."): value for key, value in settings.items()}
        topic = NewTopic(name, num_partitions=partitions, replication_factor=1, config=config)
        admin = self.admin()  # Without a name it would be gone before its answer.
        for done in admin.create_topics([topic]).values():
            done.result(30)

    def grow(self, topic: str, partitions: int) -> None:
        """Give a topic more partitions."""
        admin = self.admin()
        for done in admin.create_partitions([NewPartitions(topic, partitions)]).values():
            done.result(30)

    def allow(self, entries: Sequence[AclBinding]) -> None:
        """Add to the access lists."""
        admin = self.admin()
        for done in admin.create_acls(list(entries)).values():
            done.result(30)

    def lose_tail(self, topic: str, keep: int, partition: int = 0) -> int:
        """Lose the newest records of a partition, as an unclean election does, while the broker is down.

        Whole batches go: those with a record at offset `keep` or later. Gives the offset that the next record gets.
        """
        assert self._process is None, "the broker runs"
        place = self.folder / "data" / f"{topic}-{partition}"
        (segment,) = place.glob("*.log")
        data, at, next_offset = segment.read_bytes(), 0, int(segment.stem)
        while at < len(data):
            # Base offset, length of what follows, leader epoch, magic, CRC, attributes, offset of the last record.
            first, length = int.from_bytes(data[at : at + 8]), int.from_bytes(data[at + 8 : at + 12])
            last = first + int.from_bytes(data[at + 23 : at + 27])
            if length == 0 or last >= keep:
                break
            at, next_offset = at + 12 + length, last + 1
        with segment.open("r+b") as file:
            file.truncate(at)
        # It builds these anew, and trusts none that is newer than the segment.
        for stale in (*place.glob("*.index"), *place.glob("*.timeindex"), *place.glob("*.snapshot"),
                      *(self.folder / "data").glob("*-checkpoint"),
                      self.folder / "data/.kafka_cleanshutdown"):  # fmt: skip
            stale.unlink(missing_ok=True)
        return next_offset

    def _serves(self, admin: AdminClient) -> bool:
        try:
            return bool(admin.list_topics(timeout=0.5).brokers)
        except KafkaException:
            return False

    def _end(self, by: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(by)
            process.wait(30)

    def _properties(self) -> dict[str, str]:
        setup, listeners = self._setup, self._setup.listeners
        found = {
            **_SETTINGS,
            "log.dirs": str(self.folder / "data"),
            "controller.quorum.voters": f"1@{self.address('CONTROLLER')}",
            "listeners": ",".join(f"{name}://{self.address(name)}" for name in (*listeners, "CONTROLLER")),
            "listener.security.protocol.map": ",".join(
                ["CONTROLLER:PLAINTEXT", *(f"{each}:{each}" for each in listeners)]
            ),
        }
        if setup.certificate and setup.key and setup.ca:
            store = self.folder / "broker.pem"
            store.write_text(setup.key.read_text() + setup.certificate.read_text())
            found |= {
                "ssl.keystore.type": "PEM",
                "ssl.keystore.location": str(store),
                "ssl.truststore.type": "PEM",
                "ssl.truststore.location": str(setup.ca),
                "listener.name.ssl.ssl.client.auth": "required",
                "ssl.principal.mapping.rules": "RULE:^CN=([^,]+).*$/$1/",
            }
        if setup.accounts:
            users = "".join(f' user_{name}="{password}"' for name, password in setup.accounts.items())
            found["sasl.enabled.mechanisms"] = "SCRAM-SHA-512,PLAIN"
            for name in (each.lower() for each in listeners if each.startswith("SASL")):
                module = f"{_OF_ACCOUNTS}.scram.ScramLoginModule required;"
                found[f"listener.name.{name}.scram-sha-512.sasl.jaas.config"] = module
                module = f"{_OF_ACCOUNTS}.plain.PlainLoginModule required{users};"
                found[f"listener.name.{name}.plain.sasl.jaas.config"] = module
        if setup.lists:
            found["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
            found["super.users"] = "User:ANONYMOUS"
        return found | dict(setup.settings or {})


def _jvm(jars: Path, archive: str) -> list[str | Path]:
    paths = ":".join(sorted(map(str, jars.glob("*.jar"))))
    return [java(), *_FLAGS, f"-XX:{archive}={jars / CLASSES}", "-cp", paths]


@contextmanager
def running_kafka(setup: KafkaSetup = KafkaSetup()) -> Iterator[Kafka]:
    """A broker without topics."""
    with _running(setup, _jvm(kafka_jars(), "SharedArchiveFile")) as kafka:
        yield kafka


def write_classes(jars: Path) -> None:
    """Write the archive of the classes that a broker loads, as one JVM has them at its end."""
    with _running(KafkaSetup(), _jvm(jars, "ArchiveClassesAtExit")) as kafka:
        kafka.create_topic("any")
        kafka.stop()


@contextmanager
def _running(setup: KafkaSetup, jvm: Sequence[str | Path]) -> Iterator[Kafka]:
    folder = Path(tempfile.mkdtemp(prefix="tg-kafka-"))
    try:
        kafka = Kafka(folder, setup, jvm)
        try:
            kafka.start()
            yield kafka
        finally:
            kafka.kill()
    finally:
        shutil.rmtree(folder)
