"""The gateway's own MQTT client under load, inside the machine of `tests.support.dmz`.

`python -m tests.support.broker_load DIRECTORY NAME` reads numbers, publishes as many records, and says how it went.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from edge.clock import SystemClock
from edge.tls import TlsFiles
from edge.uplink import BrokerAccess, Publisher, connect
from tests.support.dmz import ROOT, Dmz

RECORD_BYTES = 1_000
_HOST, _PORT = "dmz-broker.example", 8883
_RELAY = ("-i", "relay", "-c", "-x", "86400")


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """How it went: the longest pause is between two acknowledgements."""

    records: int
    took_s: float
    longest_pause_s: float
    written_bytes: int


class QueueAtBroker:
    """Records of a gateway that wait at the broker for a relay that is away."""

    def __init__(self, dmz: Dmz) -> None:
        self._dmz = dmz
        self.database = dmz.folder / "lib/mosquitto.db"
        self.broker = dmz.start_broker()
        dmz.stop_and_read(dmz.subscribe("relay", "tidegate/v1/#", *_RELAY))
        self._load = dmz.start(
            "env", f"PYTHONPATH={ROOT}", sys.executable, "-m", __name__, str(dmz.folder), "line-4",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )  # fmt: skip

    def publish(self, records: int) -> Published:
        """Publish records, all on one connection, and wait until the broker has acknowledged them."""
        assert self._load.stdin is not None
        assert self._load.stdout is not None
        before = self._written_bytes()
        self._load.stdin.write(f"{records}\n")
        self._load.stdin.flush()
        took_s, longest_pause_s = orjson.loads(self._load.stdout.readline())
        return Published(
            records=records, took_s=took_s, longest_pause_s=longest_pause_s,
            written_bytes=self._written_bytes() - before,
        )  # fmt: skip

    def save(self, records: int) -> Published:
        """Publish while the broker saves, and wait until it has saved."""
        before = self.saves()
        self.broker.send_signal(signal.SIGUSR1)
        published = self.publish(records)
        self._dmz.wait(lambda: self.saves() != before, self.broker)
        return published

    def saves(self) -> int:
        """A number that changes with each save."""
        return self.database.stat().st_mtime_ns if self.database.exists() else 0

    def restart_broker(self) -> None:
        """Kill the broker, and start it again."""
        self.broker.kill()
        self.broker.wait()
        self.broker = self._dmz.start_broker()

    def fetch(self, records: int) -> subprocess.Popen[str]:
        """A relay that returns: ends when it has so many records."""
        options = [*_RELAY, "-C", str(records), "-F", "%l"]
        return self._dmz.subscribe("relay", "tidegate/v1/#", *options, output=self._dmz.folder / "fetched")

    def _written_bytes(self) -> int:
        """What the broker has handed to files and sockets."""
        lines = Path(f"/proc/{self.broker.pid}/io").read_text().splitlines()
        return int(dict(line.split(": ") for line in lines)["wchar"])


async def main(directory: Path, name: str) -> None:
    """Publish until stdin ends; a connection that ends, or a refusal, is an error."""
    files = TlsFiles(ca=directory / "ca.pem", certificate=directory / f"{name}.pem", key=directory / f"{name}.key")
    changed = asyncio.Event()
    access = BrokerAccess(host=_HOST, port=_PORT, client_id=name, tls=files)
    publisher = await connect(access, clock=SystemClock(), on_change=changed.set)
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer = await _publish(publisher, changed, f"tidegate/v1/{name}/r/data", int(line))
        print(orjson.dumps(answer).decode(), flush=True)
    await publisher.disconnect_gracefully()


async def _publish(publisher: Publisher, changed: asyncio.Event, topic: str, count: int) -> tuple[float, float]:
    left, longest_s = count, 0.0
    codes: set[int] = set()
    started_s = last_s = time.perf_counter()

    def acknowledged(code: int) -> None:
        nonlocal last_s, longest_s
        now_s = time.perf_counter()
        codes.add(code)
        longest_s, last_s = max(longest_s, now_s - last_s), now_s

    while left or publisher.session.in_flight:
        if publisher.ended.done():
            raise publisher.ended.result()
        changed.clear()
        while left and publisher.session.may_publish:
            publisher.session.publish(topic, os.urandom(RECORD_BYTES), acknowledged)
            left -= 1
        await changed.wait()
    if codes != {0}:
        raise SystemExit(f"refused: {codes}")
    return last_s - started_s, longest_s


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
