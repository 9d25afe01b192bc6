"""The whole CPU of a relay, by what it shows: `python -m bench.relay`, about three minutes.

A mosquitto brings it prepared records, signed and compressed: each is one scan of one of 100 devices, 500 tags, every
value moved. Of the 50,000 tags a tenth is scaled, one in fifty is an enumeration, and one is BAD. Records are fed so
that the view stays a second or two behind: that it can be left behind is not what is measured. What the view published
is what the broker counts. A first scan of every device is shown before the measurement begins.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from bench.results import Row, store
from bench.rig import Broker, Usage, broker, usage
from bench.sites import process
from edge.clock import SystemClock, TimeQuality, boot_id
from edge.health import read_status
from edge.health.relay_snapshot import RelayStatus
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock, StatusCode
from edge.seal import (
    Chain,
    ChainRules,
    EncodedCatalogue,
    Encoding,
    FileCounter,
    RecordType,
    encode_data,
    issuer_of,
    load_or_create_identity,
    public_path_of,
)

_NAME = "bench"
_TAGS = 500
_SCALED, _ENUMERATIONS = 50, 10
_LEVELS = (np.arange(_TAGS - _SCALED - _ENUMERATIONS, dtype=np.float32) % 1000) * 0.25 + 20
_STATES = ("stopped", "starting", "running", "stopping")
_RECORD_APART_NS = 10**6
_RECORD_TOPIC = f"tidegate/v1/{_NAME}/r/"
_COUNTED = "$SYS/broker/messages/received"  # What it has of PUBLISH alone leaves out those that are retained.
_LEAST_AHEAD = 100
_IDLE, _IDLE_TICKS = 0.05, 3  # Of a core, between two counts of the broker.
_GIVE_UP_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What a relay shows, by the settings of its view; None where it only archives."""

    view: Mapping[str, object] | None
    goal: str
    readings_a_message: int = 1


MODES = {
    "archive": Mode(view=None, goal=">= 2,000,000 readings per CPU second, <= 120 MB"),
    "tag-qos1": Mode(view={"qos": 1}, goal=">= 200,000 readings per CPU second"),
    "tag-qos0": Mode(view={"qos": 0}, goal=">= 600,000 readings per CPU second"),
    "device": Mode(view={"shape": "device"}, goal=">= 1,000,000 readings per CPU second", readings_a_message=_TAGS),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One measured run; `behind_s` is how long after the last record the last value was shown."""

    readings: int
    fed: int
    seconds: float
    relay: float
    broker: float
    peak_bytes: int
    behind_s: float

    @property
    def per_cpu_s(self) -> float:
        """Readings per CPU second of the relay's process."""
        return self.readings / self.relay

    def __str__(self) -> str:
        return (
            f"{self.per_cpu_s:,.0f} readings per CPU second, {self.peak_bytes / 1e6:.0f} MB at most; broker "
            f"{self.broker / self.relay:.2f} x the CPU of the relay; {self.readings / self.seconds:,.0f} readings/s, "
            f"{self.readings:,} of {self.fed:,} shown, the last {self.behind_s:.1f} s after its record"
        )


def catalogue(devices: int) -> Catalogue:
    """Devices of 500 tags."""
    floats = [CatalogueTag(name=f"t{n}", data_type=DataType.FLOAT32, address=f"holding {2 * n}", unit="Cel")
              for n in range(len(_LEVELS))]  # fmt: skip
    scaled = [CatalogueTag(name=f"s{n}", data_type=DataType.INT16, address=f"input {n}", unit="bar", scale=0.1)
              for n in range(_SCALED)]  # fmt: skip
    states = [CatalogueTag(name=f"e{n}", data_type=DataType.UINT16, address=f"input {1000 + n}",
                           texts=tuple(enumerate(_STATES))) for n in range(_ENUMERATIONS)]  # fmt: skip
    tags = (*floats, *scaled, *states)
    groups = [CatalogueGroup(device=f"d{n}", name="fast", interval_ns=10**8, tags=tags) for n in range(devices)]
    return Catalogue(path="acme/basel/bench", groups=tuple(groups))


@dataclass(frozen=True, slots=True)
class Prepared:
    """Sealed records with their topics: what comes before the first scan, and scans in turn of all devices."""

    key: Path
    devices: int
    head: list[tuple[str, bytes]]
    scans: list[tuple[str, bytes]]


def prepare(directory: Path, devices: int, count: int) -> Prepared:
    """So many scans after the first of each device."""
    clock, encoded = SystemClock(), EncodedCatalogue.of(shown := catalogue(devices))
    issuer = issuer_of(_NAME)
    counter = FileCounter(directory / "identity.counter")
    identity, _ = load_or_create_identity(directory / "identity.pem", issuer=issuer, counter=counter)
    boot_ns, utc_ns = clock.boot_ns(), clock.utc_ns()
    quality = TimeQuality(as_of_ns=boot_ns, offset_ns=utc_ns - boot_ns, boot_id=boot_id())
    rules = ChainRules(encoding=Encoding.ZSTD)
    chain, epoch = Chain.start(identity, issuer=issuer, time=quality, now_boot_ns=boot_ns, rules=rules)
    head = [(f"{_RECORD_TOPIC}epoch", epoch.data)]
    head += [(f"{_RECORD_TOPIC}catalog", chain.seal(RecordType.CATALOG, part).data) for part in encoded.payloads]
    random, scans = np.random.default_rng(1), []
    members = shown.groups[0].layout.vector_types
    for number in range(devices + count):
        at_ns = boot_ns + number * _RECORD_APART_NS
        columns = {
            DataType.FLOAT32: _LEVELS + random.integers(0, 4096, len(_LEVELS)).astype(np.float32) * np.float32(0.001),
            DataType.INT16: random.integers(0, 4000, _SCALED, np.int16),
            DataType.UINT16: (np.arange(_ENUMERATIONS) + number // devices).astype(np.uint16) % len(_STATES),
        }
        device = number % devices
        status = ((0, 1, int(StatusCode.BAD_ADDRESS)),) if device == 0 else ()
        block = SampleBlock(device, at_ns, at_ns + 900_000, tuple(columns[each] for each in members), status=status)
        payload = encode_data(utc_ns=utc_ns + number * _RECORD_APART_NS, boot_ns=at_ns, time=quality,
                              catalogue=encoded.digest, blocks=[block])  # fmt: skip
        scans.append((f"{_RECORD_TOPIC}data", chain.seal(RecordType.DATA, payload).data))
    return Prepared(public_path_of(directory / "identity.pem"), devices, head, scans)


class Feed:
    """Publishes records, and hears from the broker every second how many packets it has received."""

    def __init__(self, port: int) -> None:
        self._sent = self._received = 0
        self._heard = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, "feed", protocol=mqtt.MQTTv5)
        self._client.on_message = self._on_message
        self._client.connect("127.0.0.1", port)
        self._client.subscribe(_COUNTED)
        self._client.loop_start()

    def close(self) -> None:
        """End the connection."""
        self._client.disconnect()
        self._client.loop_stop()

    def publish(self, records: Sequence[tuple[str, bytes]]) -> None:
        """Publish without waiting."""
        for topic, data in records:
            self._client.publish(topic, data, qos=1)
        self._sent += len(records)

    def shown(self) -> int:
        """Messages of the view at the last count, less what is still on its way, and a handful of other packets."""
        return max(0, self._received - 2 * self._sent)  # Each record came, and was acknowledged by the relay.

    def wait(self) -> None:
        """Wait for the next count."""
        self._heard.clear()
        self._heard.wait(2.0)

    def _on_message(self, _client: mqtt.Client, _context: object, message: mqtt.MQTTMessage) -> None:
        self._received = int(message.payload)
        self._heard.set()


class Relay:
    """A relay that has subscribed; it ends with its block."""

    def __init__(self, directory: Path, port: int, mode: Mode, key: Path) -> None:
        address = {"host": "127.0.0.1", "port": port, "tls": "off"}
        views = {} if mode.view is None else {"views": {"unified_namespace": {"prefix": "uns", **mode.view}}}
        self._archive = directory / "archive"
        section = {"name": "bench", "archive": str(self._archive), "trust": [str(key)], "mqtt": address, **views}
        self._file, self._log = directory / "relay.yaml", directory / "relay.log"
        self._file.write_bytes(orjson.dumps({"relay": section}))
        self._running = ExitStack()

    def __enter__(self) -> Relay:
        command = [sys.executable, "-m", "edge.cli", "relay", str(self._file), "--json"]
        self._process = self._running.enter_context(process(command, core=0, log=self._log))
        self.wait_for(lambda: self._status() is not None, "to subscribe")
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    @property
    def pid(self) -> int:
        """The number of its process."""
        return self._process.pid

    @property
    def archived(self) -> int:
        """Records that are durable."""
        status = self._status()
        return 0 if status is None else status.archived_records

    @property
    def peak_bytes(self) -> int:
        """The most memory that it held."""
        lines = Path(f"/proc/{self.pid}/status").read_text("ascii").splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM"))

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Wait for something that it does; ends the benchmark with its log where it does not."""
        deadline_s = time.monotonic() + _GIVE_UP_S
        while not condition():
            if self._process.poll() is not None or time.monotonic() > deadline_s:
                raise SystemExit(f"the relay was to {what}, and did not:\n{self._log.read_text()}")
            time.sleep(0.1)

    def _status(self) -> RelayStatus | None:
        try:
            status = read_status(self._archive / "status.sock").relay
        except (OSError, ValueError):
            return None
        return status if status is not None and status.state == "up" else None


class Measurement:
    """Feeds one relay, and keeps what it had done when it last did something."""

    def __init__(self, mode: Mode, mosquitto: Broker, relay: Relay, feed: Feed) -> None:
        self._mode, self._mosquitto, self._relay, self._feed = mode, mosquitto, relay, feed

    def _now(self) -> tuple[int, Usage, Usage]:
        """Readings shown, or archived where nothing is shown, and what relay and broker took for it."""
        if self._mode.view is None:
            done = self._relay.archived * _TAGS
        else:
            done = self._feed.shown() * self._mode.readings_a_message
        return done, usage(self._relay.pid), usage(self._mosquitto.pid)

    def settle(self) -> tuple[int, Usage, Usage]:
        """Wait until nothing more is done and the relay is idle; the moment at which the last was done."""
        last = before = self._now()
        idle_ticks = 0
        while idle_ticks < _IDLE_TICKS:
            self._feed.wait()
            now = self._now()
            is_idle = now[0] == last[0] and now[1].cpu_s - before[1].cpu_s < _IDLE * (now[1].at_s - before[1].at_s)
            idle_ticks = idle_ticks + 1 if is_idle else 0
            last, before = last if now[0] == last[0] else now, now
        return last

    def run(self, prepared: Prepared, seconds: float) -> Run:
        """Show the first scan of each device, then feed the others for so long."""
        feed, scans, first = self._feed, prepared.scans, prepared.devices
        feed.publish([*prepared.head, *scans[:first]])
        self._relay.wait_for(lambda: self._relay.archived >= len(prepared.head) + first, "archive the first scans")
        shown_before, relay_before, broker_before = self.settle()
        fed, done = first, 0
        ahead = len(scans) if self._mode.view is None else _LEAST_AHEAD
        began_s = fed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
        while fed < len(scans) and fed_s < began_s + seconds:
            more = scans[fed : max(fed, first + done + ahead)]
            feed.publish(more)
            fed += len(more)
            fed_s = time.clock_gettime(time.CLOCK_BOOTTIME)
            feed.wait()
            now = (self._now()[0] - shown_before) // _TAGS
            ahead, done = max(ahead, 2 * (now - done)), now
        shown, relay_after, broker_after = self.settle()
        return Run(
            readings=shown - shown_before, fed=(fed - first) * _TAGS, seconds=relay_after.at_s - began_s,
            relay=relay_after.cpu_s - relay_before.cpu_s, broker=broker_after.cpu_s - broker_before.cpu_s,
            peak_bytes=self._relay.peak_bytes, behind_s=max(0.0, relay_after.at_s - fed_s),
        )  # fmt: skip


def measure(mode: Mode, prepared: Prepared, seconds: float) -> Run:
    """One mode, with a relay and a broker of its own, which lets as much be in flight as that of configs/dmz."""
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        directory = Path(name)
        log = directory / "rig.log"
        other = 1 % (os.cpu_count() or 1)
        with (
            broker(directory, core=other, log=log, settings="sys_interval 1\nmax_inflight_messages 512\n") as mosquitto,
            Relay(directory, mosquitto.port, mode, prepared.key) as relay,
            closing(Feed(mosquitto.port)) as feed,
        ):
            return Measurement(mode, mosquitto, relay, feed).run(prepared, seconds)


def main(arguments: list[str]) -> None:
    """Print each run, and store the one of each mode that took least."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("modes", nargs="*", choices=[*MODES, []], help="by default all of them")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=20.0, help="longest time for which records are fed")
    parser.add_argument("--devices", type=int, default=100, help="of 500 tags each")
    parser.add_argument("--records", type=int, default=16_000, help="most records that are fed")
    asked = parser.parse_args(arguments)
    rows = []
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as name:
        prepared = prepare(Path(name), asked.devices, asked.records)
        for mode in asked.modes or MODES:
            runs = []
            for _ in range(asked.rounds):
                runs.append(measure(MODES[mode], prepared, asked.seconds))
                print(f"{mode:9} {runs[-1]}", flush=True)
            best = max(runs, key=lambda run: run.per_cpu_s)
            rows.append(
                Row(figure=f"Relay, {mode}, {_TAGS} readings a record", goal=MODES[mode].goal, measured=str(best),
                    command=f"python -m bench.relay {mode}")
            )  # fmt: skip
    store(rows)


if __name__ == "__main__":
    main(sys.argv[1:])
