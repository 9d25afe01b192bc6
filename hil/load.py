"""Load for a wired gateway: devices on the machine that runs the scenarios, and what the gateway makes of them.

A load device answers every read of registers at once, with random values, so that neither report by exception nor
compression spares the gateway anything. It counts requests: what the gateway says of its scans is checked against that.
Each measurement starts the gateway anew with a configuration of its own, waits until every device is read, and counts
from then on. A scan is due at each multiple of its interval; it is done, failed, or skipped because the one before it
had not ended. Over a window these three must add up to what was due, but for one scan at each end of it.
"""

from __future__ import annotations

import asyncio
import json
import random
import struct
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edge.health import StatusSnapshot
from hil.bench import Bench
from hil.hosts import CommandFailed
from hil.trial import Trial

MEASURED, SYNCS = "load.json", "syncs.json"
REGISTERS = 124
"""Of each request: 62 values of two registers."""
_HEADER = struct.Struct(">HHHBBHH")
_NOISE = random.Random(14).randbytes(1_000_003)
_SETTLE_S = 1.0
_CROWDED = 0.8
_FLOOR = "192.0.2.1"
_SYNCS = """
import json, os, sys, time
path = os.path.join(sys.argv[1], "sync-probe")
file, took = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600), []
for number in range(int(sys.argv[2])):
    os.pwrite(file, os.urandom(4096), 4096 * number)
    began = time.perf_counter()
    os.fdatasync(file)
    took.append(time.perf_counter() - began)
os.close(file)
os.unlink(path)
print(json.dumps(took))
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """The gateway under one load.

    Attributes:
        seconds: how long the window was.
        due: scans by the clock; `done`, `failed` and `skipped` by the gateway.
        requests: what the load devices counted; `expected_requests` is what the done and failed scans took.
        slack: by how many scans the ends of the window may blur the sums.
        cpu_s: time on a processor of all its threads.
        others_cpu_s: the same of all other programs on its machine, of the time that its `processors` have.
        written_bytes: what it wrote to storage; None where the kernel does not tell.
        temperature_c: the hottest sensor; None without one.
        throttled: the bits of `vcgencmd get_throttled`; None on other machines than a Raspberry Pi.
    """

    devices: int
    tags: int
    every_ms: float
    seconds: float
    due: int
    done: int
    failed: int
    skipped: int
    requests: int
    expected_requests: int
    slack: int
    readings: int
    cpu_s: float
    others_cpu_s: float
    processors: int
    resident_bytes: int
    written_bytes: int | None
    record_bytes: int
    temperature_c: float | None
    throttled: int | None

    @property
    def readings_per_s(self) -> float:
        """Values that it read in a second."""
        return self.readings / self.seconds

    @property
    def due_per_s(self) -> float:
        """Values that it should have read in a second."""
        return self.tags * 1000 / self.every_ms

    @property
    def keeps_up(self) -> bool:
        """Whether at most one scan of a thousand was skipped."""
        return self.skipped * 1000 <= self.due

    @property
    def is_crowded_out(self) -> bool:
        """Whether other programs kept the processors from the gateway: what it skips then is not its limit."""
        return self.others_cpu_s > _CROWDED * (self.processors * self.seconds - self.cpu_s)

    @property
    def is_accounted(self) -> bool:
        """Whether each scan that was due was done, failed or skipped, and the devices counted the same."""
        scans = abs(self.due - self.done - self.failed - self.skipped)
        per_scan = 1 + self.expected_requests // max(1, self.done)
        return scans <= self.slack and abs(self.requests - self.expected_requests) <= self.slack * per_scan


class LoadDevice(asyncio.Protocol):
    """A Modbus device on every connection to its port; `requests` counts what all of them were asked."""

    requests = 0

    def __init__(self) -> None:
        self._received = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        assert self._transport is not None
        self._received += data
        while len(self._received) >= _HEADER.size:
            transaction, _, _, unit, function, _, count = _HEADER.unpack_from(self._received)
            self._received = self._received[_HEADER.size :]
            LoadDevice.requests += 1
            begin = LoadDevice.requests * 2 * REGISTERS % (len(_NOISE) - 2 * REGISTERS)
            answer = struct.pack(">HHHBBB", transaction, 0, 3 + 2 * count, unit, function, 2 * count)
            self._transport.write(answer + _NOISE[begin : begin + 2 * count])


@asynccontextmanager
async def load_devices(bench: Bench, count: int) -> AsyncIterator[list[tuple[str, int]]]:
    """So many load devices, by address and port, that the gateway of a bench reaches."""
    host = _FLOOR if bench.rig.is_simulated else bench.rig.wired.broker.address
    loop = asyncio.get_running_loop()
    with ExitStack() as stack:
        places = []
        for _ in range(count):
            server = await loop.create_server(LoadDevice, host, 0)
            stack.callback(server.close)  # Not waited for: the gateway may keep its connection until it ends.
            places.append((host, server.sockets[0].getsockname()[1]))
        yield places


async def measure(trial: Trial, count: int, tags: int, every_ms: float, seconds: float) -> Measured:
    """Read so many load devices, each with so many tags, and nothing else. Raises StepFailed."""
    gateway, own = trial.bench.gateway, trial.bench.gateway.configuration["devices"]
    rows = [{"name": f"v{at}", "address": f"holding {2 * at}", "type": "uint32"} for at in range(tags)]
    await gateway.stop()
    async with load_devices(trial.bench, count) as places:
        gateway.configuration["devices"] = [
            load_settings(f"load-{number}", place, rows, every_ms) for number, place in enumerate(places)
        ]
        try:
            await gateway.start()
            await trial.wait_until("every load device was read", _is_read)
            await asyncio.sleep(_SETTLE_S)
            measured = await _window(trial, count, tags, every_ms, seconds)
        finally:
            await gateway.stop()
            gateway.configuration["devices"] = own
    log = trial.bench.folder / MEASURED
    _append(log, asdict(measured))
    trial.sample("readings per second", measured.readings_per_s)
    trial.sample("processor, % of one", 100 * measured.cpu_s / measured.seconds)
    return measured


async def start_again(trial: Trial) -> None:
    """Start the gateway with the rig's own devices, and wait until they are read. Raises StepFailed."""
    await trial.bench.gateway.start()
    await trial.wait_until("the rig's devices were read again", _is_read)


async def probe_syncs(trial: Trial, count: int = 200) -> None:
    """Write and sync 4 KiB so many times in the gateway's folder, and keep how long each sync took."""
    gateway = trial.bench.gateway
    took = json.loads(await gateway.host.run("python3", "-c", _SYNCS, str(gateway.folder), str(count)))
    (trial.bench.folder / SYNCS).write_text(json.dumps(took))


def measured_in(folder: Path) -> list[Measured]:
    """All measurements in the evidence of a scenario, in their order."""
    log = folder / MEASURED
    return [Measured(**each) for each in json.loads(log.read_text())] if log.exists() else []


def syncs_in(folder: Path) -> list[float]:
    """How long each sync took, in seconds, ascending."""
    log = folder / SYNCS
    return sorted(json.loads(log.read_text())) if log.exists() else []


def load_settings(name: str, place: tuple[str, int], rows: Sequence[object], every_ms: float) -> dict[str, Any]:
    """The settings of a load device whose tags are these."""
    groups = [{"every": f"{every_ms:g} ms", "tags": rows}]
    return {"name": name, "driver": "modbus", "host": place[0], "port": place[1], "ask_identity": "never",
            "limits": {"registers": REGISTERS}, "scan_groups": groups}  # fmt: skip


def _is_read(gateway: StatusSnapshot | None, _: object) -> bool:
    return gateway is not None and all(
        group.scans > 1 for device in gateway.devices for group in device.scan_groups
    )  # fmt: skip


async def _window(trial: Trial, count: int, tags: int, every_ms: float, seconds: float) -> Measured:
    before, began = await _now(trial)
    await asyncio.sleep(seconds)
    after, ended = await _now(trial)
    took_s = ended["at_s"] - began["at_s"]
    done, failed, skipped = (after[key] - before[key] for key in ("scans", "failed", "skipped"))
    per_scan = -(-tags * 2 // REGISTERS)
    # A scan under way is not counted yet, nor are those that it makes skip; and the two answers are not of one instant.
    blur_ms = max(each["blur_s"] * 1e3 + each["scan_ms"] for each in (began, ended))
    return Measured(
        devices=count, tags=count * tags, every_ms=every_ms, seconds=took_s, due=round(count * took_s * 1e3 / every_ms),
        done=done, failed=failed, skipped=skipped, requests=ended["requests"] - began["requests"],
        expected_requests=(done + failed) * per_scan, slack=count * (2 + 2 * round(blur_ms / every_ms)),
        readings=done * tags, cpu_s=(cpu_s := ended["cpu_s"] - began["cpu_s"]),
        others_cpu_s=ended["all_cpu_s"] - began["all_cpu_s"] - cpu_s, processors=ended["processors"],
        resident_bytes=after["resident_bytes"],
        written_bytes=None if ended["written"] is None else ended["written"] - (began["written"] or 0),
        record_bytes=after["record_bytes"] - before["record_bytes"], temperature_c=await _temperature(trial),
        throttled=await _throttled(trial),
    )  # fmt: skip


async def _now(trial: Trial) -> tuple[dict[str, int], dict[str, Any]]:
    """The gateway's counters, and what is known of the same moment without asking it; `blur_s` is how exactly."""
    asked_s = time.monotonic()
    status = await trial.bench.gateway.status()
    assert status is not None
    answered_s, requests = time.monotonic(), LoadDevice.requests
    groups = [group for device in status.devices for group in device.scan_groups]
    said = {
        "scans": sum(group.scans for group in groups), "failed": sum(group.failed_scans for group in groups),
        "skipped": sum(group.skipped_scans for group in groups), "resident_bytes": status.gateway.resident_bytes,
        "record_bytes": status.chain.record_bytes if status.chain else 0,
    }  # fmt: skip
    host, pid = trial.bench.gateway.host, status.gateway.pid
    ticks = (await host.run("cat", f"/proc/{pid}/stat")).rpartition(b")")[2].split()[11:13]
    everything = [
        line.split() for line in (await host.run("cat", "/proc/stat")).splitlines() if line.startswith(b"cpu")
    ]
    user, nice, system, _, _, interrupts, soft_interrupts, steal, *_ = map(int, everything[0][1:])
    return said, {
        "at_s": answered_s, "blur_s": answered_s - asked_s, "requests": requests,
        "scan_ms": max((group.last_scan_took_ns or 0 for group in groups), default=0) / 1e6,
        "cpu_s": sum(map(int, ticks)) / 100, "processors": len(everything) - 1,
        "all_cpu_s": (user + nice + system + interrupts + soft_interrupts + steal) / 100,
        "written": await _written(trial, pid),
    }  # fmt: skip


async def _written(trial: Trial, pid: int) -> int | None:
    try:
        text = (await trial.bench.gateway.host.run("cat", f"/proc/{pid}/io")).decode()
    except CommandFailed:
        return None
    return int(next(line for line in text.splitlines() if line.startswith("write_bytes")).split()[1])


async def _temperature(trial: Trial) -> float | None:
    script = "cat /sys/class/thermal/thermal_zone*/temp 2>/dev/null || true"
    text = (await trial.bench.gateway.host.run("sh", "-c", script)).split()
    return max(map(int, text)) / 1000 if text else None


async def _throttled(trial: Trial) -> int | None:
    script = "command -v vcgencmd >/dev/null && vcgencmd get_throttled || true"
    text = (await trial.bench.gateway.host.run("sh", "-c", script)).decode().strip()
    return int(text.rpartition("=")[2], 16) if text else None


def _append(log: Path, row: dict[str, Any]) -> None:
    rows: Sequence[Any] = json.loads(log.read_text()) if log.exists() else []
    log.write_text(json.dumps([*rows, row]))
