"""What is stored where relays share gateways and are killed: `python -m bench.scale_out`, about six minutes.

Sealed records of many gateways, one scan each, go through a mosquitto, two intakes, a Kafka and three workers into a
PostgreSQL. A worker is killed every 30 s, and starts again at once or only after it was replaced; an intake is killed
once, and Kafka is away for a minute. With `--away 0` it is never, and takeovers are timed. At the end a row has to be
there for each block, once, and the archives together have to hold what was sealed. `--workers` asks only for
throughput: Kafka is full, and so many workers empty it.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from random import Random

import asyncpg
import orjson
import paho.mqtt.client as mqtt
from confluent_kafka import Producer
from paho.mqtt.enums import CallbackAPIVersion

from bench.results import Row, store
from edge.health import read_status
from edge.health.relay_snapshot import RelayStatus
from edge.relay.archive import record_files, records_of
from edge.seal import issuer_of
from edge.verify import Trust, Verifier
from tests.support.kafka import Kafka, running_kafka
from tests.support.mosquitto import running_mosquitto
from tests.support.postgres import Postgres, running_postgres
from tests.support.sinks.world import SealedPlant

_DATABASE = "plant"
_OPEN = "topic readwrite #\n"


class Process:
    """A relay in one of the roles, started again as often as it is killed."""

    def __init__(self, folder: Path, role: str, settings: dict[str, object]) -> None:
        self.name, self._role = str(settings["name"]), role
        self.archive = Path(str(settings.get("archive", folder / self.name)))
        self.archive.mkdir(exist_ok=True)
        self._socket, self._log = self.archive / "status.sock", folder / f"{self.name}.log"
        self._file = folder / f"{self.name}.yaml"
        self._file.write_bytes(orjson.dumps({"relay": {**settings, "status": {"socket": str(self._socket)}}}))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it."""
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge.cli", "relay", str(self._file), "--role", self._role, "--log", "json"],
                stdout=log, stderr=log,
            )  # fmt: skip

    def kill(self) -> None:
        """Kill it."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()
        self.process = None

    def stop(self) -> None:
        """End it in order."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def status(self) -> RelayStatus | None:
        """What it says of itself; None while it does not answer."""
        try:
            return read_status(self._socket).relay
        except (OSError, ValueError):
            return None


class Plants:
    """Gateways that only seal."""

    def __init__(self, folder: Path, count: int) -> None:
        self.plants = [SealedPlant(f"gw-{number:03}") for number in range(count)]
        self.trust = folder / "trust"
        self.trust.mkdir()
        for plant in self.plants:
            (self.trust / f"{plant.name}.pub.pem").write_bytes(plant.identity.public_pem(issuer_of(plant.name)))
            plant.announce()
        self.blocks = 0

    def heads(self) -> Iterator[tuple[str, bytes]]:
        """What comes before the first scan."""
        for plant in self.plants:
            for record in plant.records:
                yield plant.name, record.data
            plant.records.clear()

    def scan(self) -> Iterator[tuple[str, bytes]]:
        """A scan of each gateway."""
        for plant in self.plants:
            yield plant.name, plant.data().data
            plant.records.clear()
            self.blocks += 1


class Broker:
    """Publishes as gateways do, and waits for nothing but the acknowledgement of all."""

    def __init__(self, port: int) -> None:
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "plants", protocol=mqtt.MQTTv5)
        self._client.max_inflight_messages_set(1000)
        self._client.max_queued_messages_set(0)
        self._client.connect("127.0.0.1", port)
        self._client.loop_start()

    def publish(self, records: Iterator[tuple[str, bytes]]) -> None:
        """Publish records."""
        for name, data in records:
            self._client.publish(f"tidegate/v1/{name}/r/data", data, qos=1)

    def close(self, last: int = 60) -> None:
        """Wait until the broker has all."""
        until = time.monotonic() + last
        while self._client._out_messages and time.monotonic() < until:  # noqa: SLF001
            time.sleep(0.1)
        self._client.disconnect()
        self._client.loop_stop()


class Enterprise:
    """All of it."""

    def __init__(self, stack: ExitStack, folder: Path, gateways: int) -> None:
        self.folder = folder
        self.kafka: Kafka = stack.enter_context(running_kafka())
        self.kafka.create_topic("tidegate.records", 64)
        self.postgres: Postgres = stack.enter_context(running_postgres())
        self.postgres.create(_DATABASE)
        self.port = stack.enter_context(running_mosquitto(folder, _OPEN))
        self.plants = Plants(folder, gateways)
        self._stack = stack

    def relay(self, role: str, name: str) -> Process:
        """A relay that has not started."""
        settings: dict[str, object] = {
            "name": name, "kafka": {"servers": [self.kafka.address()], "tls": "off"},
        }  # fmt: skip
        if role == "intake":
            settings["mqtt"] = {"host": "127.0.0.1", "port": self.port, "tls": "off"}
        else:
            settings |= {
                "archive": str(self.folder / name), "trust": [str(self.plants.trust)],
                "sinks": {"historian": {"host": self.postgres.socket, "port": self.postgres.port, "tls": "off",
                                        "database": _DATABASE}},
            }  # fmt: skip
        process = Process(self.folder, role, settings)
        self._stack.callback(process.stop)
        return process

    def rows(self) -> int:
        """How many blocks are stored."""
        return int(self.postgres.psql("SELECT count(*) FROM tidegate.block", _DATABASE))

    def wait(self, seconds: float, blocks: int) -> bool:
        """Wait for rows."""
        until = time.monotonic() + seconds
        while self.rows() < blocks:
            if time.monotonic() > until:
                return False
            time.sleep(0.5)
        return True


def faults(options: argparse.Namespace) -> list[Row]:
    """Store all that is sealed, while everything is killed in turn."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tg-scale-")))
        site = Enterprise(stack, folder, options.gateways)
        intakes = [site.relay("intake", f"intake-{number}") for number in (1, 2)]
        workers = [site.relay("worker", f"worker-{number}") for number in (1, 2, 3)]
        for each in (*intakes, *workers):
            each.start()
        _until_up([*intakes, *workers])
        broker, random = Broker(site.port), Random(options.seed)
        broker.publish(site.plants.heads())
        log = _Faults(site, intakes, workers, options, random)
        began = time.monotonic()
        for number in range(round(options.seconds * options.rate)):
            log.act(time.monotonic() - began)
            broker.publish(site.plants.scan())
            late_s = time.monotonic() - began - (number + 1) / options.rate
            time.sleep(max(0.0, -late_s))
        log.finish()
        broker.close()
        whole = site.wait(180, site.plants.blocks)
        took_s = time.monotonic() - began
        for each in (*intakes, *workers):
            each.stop()
        counted = "SELECT count(*) - count(DISTINCT (gateway, epoch, seq, block)) FROM tidegate.block"
        double = site.postgres.psql(counted, _DATABASE).strip()
        stored = site.rows()
        proven, missing = _verified(site)
    sealed = site.plants.blocks
    kafka = f"Kafka away for {options.away:.0f} s"
    if not options.away:
        kafka = f"longest takeover {log.takeovers.longest_s:.1f} s"
    said = (
        f"{sealed:,} blocks sealed by {options.gateways} gateways in {took_s:.0f} s, {stored:,} rows, {double} twice; "
        f"{log.kills} kills of workers, {log.intake_kills} of an intake, {kafka}; {proven:,} DATA records in the "
        f"archives together, {missing} missing"
    )
    if not whole or stored != sealed or double != "0" or missing:
        sys.exit(said)
    figure, goal = "S1 relays that share gateways", "rows = blocks sealed, none twice"
    if not options.away:
        figure, goal = "S2 takeover of gateways", "<= 30 s"
    return [Row(figure=figure, goal=goal, measured=said, command=_command(options))]


class _Takeovers:
    """How long a share of the gateways was not taken on, at most."""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres
        self._is_over = False
        self._thread = threading.Thread(target=lambda: asyncio.run(self._watch()))
        self._thread.start()
        self.longest_s = 0.0

    def end(self) -> None:
        """End looking."""
        self._is_over = True
        self._thread.join()

    async def _watch(self) -> None:
        connection = await asyncpg.connect(host=self._postgres.socket, port=self._postgres.port, user="postgres",
                                           database=_DATABASE)  # fmt: skip
        moved: dict[int, tuple[int | None, float]] = {}
        while not self._is_over:
            now = time.monotonic()
            for part, offset in await connection.fetch("SELECT part, next_offset FROM tidegate.share"):
                if moved.get(part, (None, 0.0))[0] != offset:
                    moved[part] = offset, now
                elif offset is not None:
                    self.longest_s = max(self.longest_s, now - moved[part][1])
            await asyncio.sleep(0.25)
        await connection.close()


class _Faults:
    """Which fault comes when."""

    def __init__(
        self, site: Enterprise, intakes: Sequence[Process], workers: Sequence[Process], options: argparse.Namespace,
        random: Random,
    ) -> None:  # fmt: skip
        self._site, self._intakes, self._workers, self._options, self._random = site, intakes, workers, options, random
        self._next_kill_s = options.kill_every
        self._intake_at_s = options.seconds * 0.3
        self._kafka_at_s = options.seconds * 0.5 if options.away else float("inf")
        self._due: list[tuple[float, Process | None]] = []
        self.kills = self.intake_kills = 0
        self.takeovers = _Takeovers(site.postgres)

    def act(self, now_s: float) -> None:
        """Do what is due."""
        if now_s >= self._next_kill_s:
            self._next_kill_s += self._options.kill_every
            worker = self._random.choice(self._workers)
            if worker.process is not None:
                worker.kill()
                self.kills += 1
                # One that is back at once goes on; one that stays away is replaced.
                self._due.append((now_s + self._random.choice((0.0, 25.0)), worker))
        if now_s >= self._intake_at_s:
            self._intake_at_s = float("inf")
            self._intakes[0].kill()
            self.intake_kills += 1
            self._due.append((now_s + 10, self._intakes[0]))
        if now_s >= self._kafka_at_s:
            self._kafka_at_s = float("inf")
            self._site.kafka.kill()
            self._due.append((now_s + self._options.away, None))
        for due in [each for each in self._due if each[0] <= now_s]:
            self._due.remove(due)
            self._begin(due[1])

    def finish(self) -> None:
        """Start whatever is away."""
        for _, process in self._due:
            self._begin(process)
        self._due.clear()
        self.takeovers.end()

    def _begin(self, process: Process | None) -> None:
        if process is None:
            self._site.kafka.start()
        else:
            process.start()


def _verified(site: Enterprise) -> tuple[int, int]:
    """How many DATA records the archives of all workers have together, and how many of all are missing."""
    verifier = Verifier(Trust.load([site.plants.trust]))
    for archive in sorted(site.folder.glob("worker-*/")):
        for file in record_files(archive):
            for piece in records_of(file):
                if piece.data is not None:
                    verifier.add(piece.data)
    report = verifier.report()
    missing = sum(each.last - each.first + 1 for each in verifier.missing())
    return sum(each.types.get("DATA", 0) for each in report.epochs), missing


def throughput(options: argparse.Namespace) -> list[Row]:
    """How fast so many workers empty a full Kafka."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tg-scale-")))
        site = Enterprise(stack, folder, options.gateways)
        producer = Producer({"bootstrap.servers": site.kafka.address(), "partitioner": "murmur2_random"})
        scans = round(options.records / options.gateways)
        for batch in (site.plants.heads(), *(site.plants.scan() for _ in range(scans))):
            for name, data in batch:
                producer.produce("tidegate.records", data, name.encode())
            producer.flush()
        workers = [site.relay("worker", f"worker-{number}") for number in range(options.workers)]
        for each in workers:
            each.start()
        site.wait(120, 1)
        began, first = time.monotonic(), site.rows()
        site.wait(600, site.plants.blocks)
        rate = (site.plants.blocks - first) / (time.monotonic() - began)
    return [Row(figure=f"S3 records a second, {options.workers} workers", goal="with the number of workers",
                measured=f"{rate:,.0f} records/s from Kafka into archives and PostgreSQL, {options.gateways} gateways",
                command=_command(options))]  # fmt: skip


def _until_up(processes: Sequence[Process]) -> None:
    until = time.monotonic() + 120
    while not all((status := each.status()) is not None and status.state == "up" for each in processes):
        if time.monotonic() > until:
            sys.exit("a relay does not come up: " + ", ".join(f"{each.name}: {each.status()}" for each in processes))
        time.sleep(0.2)


def _command(options: argparse.Namespace) -> str:
    given = f" --workers {options.workers}" if options.workers else f" --seconds {options.seconds:.0f}"
    given += " --away 0" if not options.away else ""
    return f"python -m bench.scale_out --gateways {options.gateways}{given}"


def main() -> None:
    """Measure, and keep the rows."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--gateways", type=int, default=200)
    parser.add_argument("--rate", type=float, default=5.0, help="records a second of each gateway")
    parser.add_argument("--seconds", type=float, default=300.0)
    parser.add_argument("--kill-every", type=float, default=30.0)
    parser.add_argument("--away", type=float, default=60.0, help="how long Kafka is away")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=0, help="measure throughput with so many")
    parser.add_argument("--records", type=int, default=40_000, help="of that measurement")
    options = parser.parse_args()
    store(throughput(options) if options.workers else faults(options))


if __name__ == "__main__":
    main()
