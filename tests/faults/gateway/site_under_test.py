"""A whole site in one directory: devices in this process; broker, gateway and relay as the processes they are."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Collection, Coroutine, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, TypeVar

import orjson
from click.testing import CliRunner

from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, counter
from edge.buffer import PosixDisk, Reader
from edge.cli import cli
from edge.clock import SystemClock, read_pair
from edge.health import StatusSnapshot, read_status
from edge.model import Catalogue, SampleBlock, StatusCode
from edge.seal import (
    CataloguePart,
    Checkpoint,
    Data,
    Epoch,
    Event,
    FileCounter,
    Gap,
    Loss,
    Stop,
    issuer_of,
    join_catalogue,
    load_or_create_identity,
    parse,
    public_path_of,
)
from edge.verify import Judgement, Trust, Verdict, Verifier
from tests.support.chains import archived_records
from tests.support.hasty import HASTY
from tests.support.machine import run_delay_ns
from tests.support.ports import free_port
from tests.support.system_call_filter import under_the_filter

NAME = "line-4"
LIMIT_S = 100.0  # Below the timeout of a test: it says what was waited for. A busy machine may take most of it.
_LOOK_EVERY_S = 0.02
_ROUNDED_NS = 1000  # The ends of a scan are kept to a microsecond.
_OPEN_BROKER = "allow_anonymous true\n"
T = TypeVar("T")


class LoopThread:
    """An event loop beside the test, for devices, proxies and brokers of this process."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="plant")
        self._thread.start()
        self._stops: list[Callable[[], Coroutine[Any, Any, None]]] = []

    def do(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine there and wait for it."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(LIMIT_S)

    def call(self, function: Callable[[], object]) -> None:
        """Call something there."""

        async def call() -> None:
            function()

        self.do(call())

    def run_delay_ns(self) -> int:
        """How long the thread was ready to run and not run."""
        return run_delay_ns(f"self/task/{self._thread.native_id}")

    def enter(self, thing: Any) -> Any:
        """Enter an async context; it is left when the thread is closed."""
        entered = self.do(thing.__aenter__())

        async def leave() -> None:
            await thing.__aexit__(None, None, None)

        self._stops.append(leave)
        return entered

    def close(self) -> None:
        """Leave everything, and end."""
        for stop in reversed(self._stops):
            self.do(stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class HasPort(Protocol):
    """Something that listens on loopback."""

    port: int


class Process:
    """A child process with its log; nothing outlives the test."""

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None) -> None:
        self.name, self._log = name, log
        with log.open("wb") as output:
            self._child = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output,
                env={**os.environ, **(environment or {})},
            )  # fmt: skip

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def has_ended(self) -> bool:
        return self._child.poll() is not None

    def send(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def kill(self) -> None:
        """As a power cut would end it, but for what the page cache holds."""
        if not self.has_ended:
            self._child.kill()
        self._child.wait()

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        self._child.terminate()
        return self.wait()

    def wait(self) -> int:
        return self._child.wait(LIMIT_S)

    def log(self) -> str:
        """What it has said."""
        return self._log.read_text("utf-8", "replace")

    def said(self, event: str) -> list[dict[str, Any]]:
        """Its log lines about one event."""
        lines = [orjson.loads(line) for line in self.log().splitlines() if line.startswith("{")]
        return [line for line in lines if line.get("event") == event]


@dataclass(frozen=True)
class Told:
    """What authentic records say: in the order of the chain, whatever the order they came in."""

    judgements: list[Judgement]

    def all(self, kind: type[T]) -> list[T]:
        return [each.content for each in self.judgements if isinstance(each.content, kind)]

    def events(self, kind: str) -> list[Event]:
        return [event for event in self.all(Event) if event.kind == kind]

    def gaps(self, device: str | None, *, is_open: bool = False) -> list[Gap]:
        """Gaps with an end, or their beginnings; of a device or of the whole gateway."""
        found, catalogue = [], next(iter(self.catalogues.values()))  # GAPs have the numbers of the one before them.
        for each in self.judgements:
            if isinstance(content := each.content, CataloguePart):
                catalogue = self.catalogues[content.digest]
            wanted = None if device is None else _group(catalogue, device)
            if isinstance(content, Gap) and (content.to_ns is None) == is_open and content.group == wanted:
                found.append(content)
        return found

    def outages(self, device: str, *, is_open: bool = False) -> list[Gap]:
        """Gaps of a device that had been connected before and did not answer."""
        return [gap for gap in self.gaps(device, is_open=is_open)
                if gap.status == StatusCode.BAD_NO_COMMUNICATION and "not connected yet" not in gap.detail]  # fmt: skip

    @property
    def losses(self) -> list[Loss]:
        return self.all(Loss)

    def span(self, loss: Loss) -> tuple[int | None, int | None]:
        """From when to when records were lost; of what was removed unread only its neighbours in the archive tell."""
        if loss.from_ns is not None and loss.to_ns is not None:
            return loss.from_ns, loss.to_ns
        held = {each.seq for each in self.judgements}
        absent = [seq for seq in range(loss.first, loss.last + 1) if seq not in held]
        times = {each.seq: each.content.utc_ns for each in self.judgements if isinstance(each.content, Data)}
        before = [at_ns for seq, at_ns in times.items() if absent and seq < absent[0]]
        after = [at_ns for seq, at_ns in times.items() if absent and seq > absent[-1]]
        return max(before, default=None), min(after, default=None)

    @cached_property
    def catalogues(self) -> dict[bytes, Catalogue]:
        """Each by its digest, in the order in which they were first sealed."""
        parts: dict[bytes, dict[int, CataloguePart]] = {}
        for part in self.all(CataloguePart):
            parts.setdefault(part.digest, {})[part.part] = part
        return {digest: join_catalogue([held[part] for part in sorted(held)]) for digest, held in parts.items()}

    @property
    def catalogue(self) -> Catalogue:
        """The newest: what devices say is put into it, and moves no tag."""
        return list(self.catalogues.values())[-1]

    def blocks(self, device: str) -> list[SampleBlock]:
        """The scans of a device's first group."""
        return [
            block for data in self.all(Data) for block in data.blocks(self.catalogues[data.catalogue])
            if block.group == _group(self.catalogues[data.catalogue], device)
        ]  # fmt: skip

    def scans(self, group: int) -> list[tuple[Data, SampleBlock]]:
        """Everything that is on record of a group, and the records that hold it."""
        return [
            (data, block)
            for data in self.all(Data)
            for block in data.blocks(self.catalogues[data.catalogue])
            if block.group == group
        ]

    def values(self, device: str) -> list[int]:
        """The good values of a device's first tag."""
        return [value for _, value in self.good(device)]

    def codes(self, device: str) -> set[int]:
        """The status codes that a device's first tag had, reported or not."""
        return {_first_code(block) for block in self.blocks(device)}

    def good(self, device: str) -> list[tuple[SampleBlock, int]]:
        """(scan, value) of a device's first tag, wherever it was reported and is GOOD."""
        catalogue = next(each for each in reversed(self.catalogues.values()) if _group(each, device) >= 0)
        vector, position = catalogue.groups[_group(catalogue, device)].layout.slots[0]
        found = []
        for block in self.blocks(device):
            values = block.vectors[vector].tolist()
            where = [*range(len(values))] if block.positions is None else block.positions[vector].tolist()
            if position in where and _first_code(block) == StatusCode.GOOD:
                found.append((block, values[where.index(position)]))
        return found


def _group(catalogue: Catalogue, device: str) -> int:
    """The number of a device's first scan group; -1 where it has none in this catalogue."""
    return next((number for number, group in enumerate(catalogue.groups) if group.device == device), -1)


def _first_code(block: SampleBlock) -> int:
    return next((code for first, _, code in block.status if first == 0), int(StatusCode.GOOD))


@dataclass(frozen=True, kw_only=True)
class Account:
    """What became of the counts that a device served; `in_gaps` lie in a stretch that a GAP or LOSS declares."""

    served: int
    kept: int
    in_gaps: int
    twice: tuple[int, ...]
    invented: tuple[int, ...]
    lost: tuple[int, ...]
    is_in_order: bool

    def findings(self) -> list[str]:
        """What should not be."""
        kinds = (("archived twice", self.twice), ("archived, and never served", self.invented),
                 ("neither archived nor declared", self.lost))  # fmt: skip
        found = [f"{len(counts)} values {kind}: {list(counts[:10])}" for kind, counts in kinds if counts]
        return found if self.is_in_order else [*found, "values are archived out of order"]


class Site:
    """Devices, broker, gateway and relay of one test.

    Attributes:
        settings: the gateway's configuration, to be changed before it starts.
        devices: the simulated devices by name; their first tag counts the times it was read.
        prefix: what commands of ours are started with.
    """

    def __init__(self, directory: Path, plant: LoopThread) -> None:
        self.directory, self.plant = directory, plant
        self.state, self.buffer, self.archive = directory / "gateway", directory / "buffer", directory / "archive"
        self.broker_port = free_port()
        self.devices: dict[str, SimulatedDevice] = {}
        self.prefix: tuple[str, ...] = ()
        self.settings: dict[str, Any] = {
            "gateway": {"name": NAME, "path": "acme/basel/upstream/line-4", "state": str(self.state)},
            "clock": {"require": "any", "chrony": "off"},
            "buffer": {"directory": str(self.buffer), "limit": "500 MB", "free_space": 0, "segment": "1 MiB"},
            "uplink": {"mqtt": {"host": "127.0.0.1", "port": self.broker_port, "tls": "off"}},
            "log": {"format": "json"},
            "devices": [],
        }
        self._processes: list[Process] = []

    # Devices

    def add_counter(
        self, name: str, every: str = "20 ms", kind: type[SimulatedDevice] = SimulatedDevice, **settings: Any
    ) -> SimulatedDevice:
        """A device whose first tag is one more each time it is read, and which keeps what it served."""
        unit = SimulatedUnit([Signal("holding 0", "uint32", counter(), is_kept=True)])
        device: SimulatedDevice = self.plant.enter(kind({1: unit}))
        self.devices[name] = device
        self.add_device(name, device, every=every, **settings)
        return device

    def add_device(
        self, name: str, device: HasPort, every: str = "20 ms", tags: Sequence[Mapping[str, Any]] = (), **settings: Any
    ) -> None:
        """Tell the gateway of a device: without tags, of a counter at holding 0."""
        count = {"name": "count", "address": "holding 0", "type": "uint32", "word_order": "big"}
        self.settings["devices"].append({
            "name": name, "driver": "modbus", "host": "127.0.0.1", "port": device.port, "retry": "100 ms",
            "retry_limit": "300 ms", "limits": {"timeout": "200 ms"},
            "scan_groups": [{"every": every, "tags": list(tags) or [count]}], **settings,
        })  # fmt: skip

    def served(self, name: str) -> list[tuple[int, int]]:
        """(boot time, count) of everything a counter has told anybody."""
        [signal_] = self.devices[name].units[1].signals
        return [(at_ns, int(value)) for at_ns, value in list(signal_.served)]

    # Processes

    def gateway(
        self, role: str = "all", environment: Mapping[str, str] | None = None, *, is_awaited: bool = True
    ) -> Process:
        """Start the gateway; it is at work when this returns, unless told not to wait for that."""
        process = self.command("run", str(self.write("gateway", self.settings)), "--role", role,
                               name=f"gateway-{role}", environment=environment)  # fmt: skip
        if is_awaited:
            self.wait(lambda: process.has_ended or process.said("running"), "the gateway to run")
            assert not process.has_ended, process.log()
        return process

    def hasty_gateway(self, program: str = HASTY) -> Process:
        """A gateway that waits a thousandth of the time before it connects to its broker again, or such a program."""
        command = [*under_the_filter(), sys.executable, "-c", program]
        process = self.start("gateway", [*command, "run", str(self.write("gateway", self.settings))])
        self.wait(lambda: process.has_ended or process.said("running"), "the gateway to run")
        assert not process.has_ended, process.log()
        return process

    def make_identity(self) -> Path:
        """The public half of the gateway's key, which is made where there is none."""
        counter_ = FileCounter(self.state / "identity.counter")
        self.state.mkdir(exist_ok=True)
        load_or_create_identity(self.state / "identity.pem", issuer=issuer_of(NAME), counter=counter_)
        return self.trust

    def relay(self, *options: str, environment: Mapping[str, str] | None = None, **more: Any) -> Process:
        """Start the relay, with options and more settings; it is subscribed when this returns."""
        trust = str(self.make_identity())
        mqtt = {"host": "127.0.0.1", "port": self.broker_port, "tls": "off"}
        settings = {"relay": {"name": "it", "archive": str(self.archive), "trust": [trust], "mqtt": mqtt, **more}}
        process = self.command("relay", str(self.write("relay", settings)), "--json", *options, name="relay",
                               environment=environment)  # fmt: skip
        self.wait(lambda: process.has_ended or process.said("subscribed"), "the relay to subscribe")
        assert not process.has_ended, process.log()
        return process

    def mosquitto(self, lines: str = _OPEN_BROKER, *, is_awaited: bool = True) -> Process:
        """Start the broker; it listens when this returns, unless told not to wait for that."""
        path = self.directory / "mosquitto.conf"
        path.write_text(
            f"user root\nlistener {self.broker_port} 127.0.0.1\nmax_queued_messages 0\npersistence false\n"
            f"log_dest stderr\n{lines}"
        )
        program = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin") or "mosquitto"
        process = self.start("mosquitto", [program, "-c", str(path)], None)
        if is_awaited:
            self.wait(lambda: " running" in process.log(), "mosquitto to run")
        return process

    def command(self, *arguments: str, name: str, environment: Mapping[str, str] | None = None) -> Process:
        """Start a command of ours, under the system-call filter of the shipped units."""
        return self.start(
            name, [*self.prefix, *under_the_filter(), sys.executable, "-m", "edge.cli", *arguments], environment
        )

    def close(self) -> None:
        """End whatever still runs."""
        for process in self._processes:
            process.kill()

    def start(self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None) -> Process:
        """Start any program."""
        process = Process(name, command, self.directory / f"{name}-{len(self._processes)}.log", environment)
        self._processes.append(process)
        return process

    def write(self, name: str, settings: Mapping[str, Any]) -> Path:
        """Write a configuration."""
        path = self.directory / f"{name}.yaml"
        path.write_bytes(orjson.dumps(settings, option=orjson.OPT_INDENT_2))  # JSON is YAML too.
        return path

    # Looking

    def status(self, name: str = "status.sock") -> StatusSnapshot | None:
        """What the gateway says of itself; None while it does not answer."""
        try:
            return read_status(self.state / name)
        except (OSError, ValueError):
            return None

    def wait(self, condition: Callable[[], Any], what: str, limit_s: float = LIMIT_S) -> Any:
        """Until a condition holds; its value."""
        pause = threading.Event()
        for _ in range(int(limit_s / _LOOK_EVERY_S)):
            if value := condition():
                return value
            pause.wait(_LOOK_EVERY_S)
        logs = "\n".join(f"--- {each.name}\n{each.log()[-3000:]}" for each in self._processes)
        raise AssertionError(f"waited in vain for {what}\n{logs}\n--- {self.status()}")

    def wait_for_status(self, condition: Callable[[StatusSnapshot], Any], what: str) -> StatusSnapshot:
        """Until the gateway says so."""

        def look() -> StatusSnapshot | None:
            status = self.status()
            return status if status is not None and condition(status) else None

        found: StatusSnapshot = self.wait(look, what)
        return found

    @contextmanager
    def service_manager(self) -> Iterator[tuple[dict[str, str], Callable[[str], str]]]:
        """The environment of a process under one, and what waits for a status line with some word."""
        path = str(self.directory / "notify")
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(path)
            manager.settimeout(LIMIT_S)

            def line_with(word: str) -> str:
                line = ""
                while word not in line:
                    line = manager.recv(4096).decode()
                return line

            yield {"NOTIFY_SOCKET": path}, line_with

    def wait_for_scans(self, more: int = 20) -> None:
        """Until every device that is a counter has been read so many times more."""
        wanted = {name: len(self.served(name)) + more for name in self.devices}
        self.wait(lambda: all(len(self.served(name)) >= count for name, count in wanted.items()), "more scans")

    def buffered(self) -> list[bytes]:
        """Every record in the buffer, by number."""
        with closing(Reader(PosixDisk(self.buffer))) as reader:
            found: list[bytes] = []
            number, end = reader.oldest(), reader.durable_end()
            while number < end and (batch := reader.read(number, 1 << 20)):
                found += [data for _, data in batch]
                number = batch[-1][0] + 1
        return found

    def archived(self) -> list[bytes]:
        """Every record in the archive, in the order of arrival."""
        return archived_records(self.archive / NAME)

    def wait_until_archived(self, without: Sequence[bytes] = (), limit_s: float = LIMIT_S) -> None:
        """Until the archive holds all that the buffer holds, each record once."""
        wanted = set(self.buffered()) - set(without)
        self.wait(lambda: wanted <= set(self.archived()), "the archive to be complete", limit_s)
        archived = self.archived()
        assert len(archived) == len(set(archived))

    def stop_and_archive(self, gateway: Process, without: Sequence[bytes] = ()) -> Told:
        """Stop the gateway when the broker has everything, and wait for the archive to have it too."""
        self.wait_for_status(
            is_delivered,
            "everything to be delivered, and once more where the broker may have lost it",
        )
        assert gateway.stop() == 0, gateway.log()
        self.wait_until_archived(without)
        return self.told(self.archived())

    def account(self, told: Told, name: str, served: Sequence[tuple[int, int]] | None = None) -> Account:
        """What became of each count that a device has served, or of those at the boot times that are given.

        The record ends with its STOP: what was asked before it and answered after it does not count as served.
        """
        values = told.values(name)
        clock = SystemClock()
        _, offset_ns = read_pair(clock)
        declared: list[tuple[int | None, int | None]]
        declared = [(gap.from_ns, gap.to_ns) for gap in told.gaps(None) + told.gaps(name)]
        declared += [told.span(loss) for loss in told.losses]
        stretches = [(low - offset_ns - _ROUNDED_NS, high - offset_ns) for low, high in declared
                     if low is not None and high is not None]  # fmt: skip
        ends = [stop.time.as_of_ns + stop.time.offset_ns - offset_ns - _ROUNDED_NS for stop in told.all(Stop)[-1:]]
        kept, served = set(values), self.served(name) if served is None else served
        served = [(at_ns, count) for at_ns, count in served if count in kept or not ends or at_ns < ends[0]]
        absent = [(at_ns, count) for at_ns, count in served if count not in kept]
        lost = [count for at_ns, count in absent if not any(low <= at_ns <= high for low, high in stretches)]
        return Account(
            served=len(served), kept=len(kept), in_gaps=len(absent) - len(lost),
            twice=tuple(count for count, times in Counter(values).items() if times > 1),
            invented=tuple(sorted(kept - {count for _, count in served})),
            lost=tuple(lost),
            is_in_order=values == sorted(values),
        )  # fmt: skip

    def assert_accounted_for(self, told: Told, name: str) -> None:
        """Each count a device has served is on record once, or lies in a stretch that a GAP or LOSS declares."""
        assert self.account(told, name).findings() == []

    def assert_times_are_true(self, told: Told, name: str) -> None:
        """Each good value has been served within the interval that its scan claims, and never while a GAP says no."""
        served = {count: at_ns for at_ns, count in self.served(name)}
        clock = SystemClock()
        _, offset_ns = read_pair(clock)
        for block, value in told.good(name):
            assert block.asked_at_ns - _ROUNDED_NS <= served[value] <= block.answered_at_ns + _ROUNDED_NS
            for gap in told.outages(name):
                assert gap.to_ns is not None
                assert not gap.from_ns - offset_ns < block.sampled_at_ns < gap.to_ns - offset_ns

    @property
    def trust(self) -> Path:
        return public_path_of(self.state / "identity.pem")

    def verify(self, path: Path, *more: str, is_fine: bool | None = True) -> dict[str, Any]:
        """The verifier's report; it must be as good as `more` asks for, or must not, or may be either with None."""
        ran = CliRunner().invoke(cli, ["verify", str(path), "--trust", str(self.trust), "--json", *more])
        assert ran.exit_code in ((0, 1) if is_fine is None else (int(not is_fine),)), ran.output
        report: dict[str, Any] = orjson.loads(ran.stdout)
        return report

    def told(self, records: Sequence[bytes], admitted: Collection[Verdict] = (Verdict.AUTHENTIC,)) -> Told:
        """What those of the records say that are authentic, or have another verdict that is admitted."""
        verifier = Verifier(Trust.load([self.trust]))
        heard = [each for data in sorted(records, key=_place) for each in verifier.add(data)]
        authentic = [each for each in heard if each.verdict in admitted]
        begun: dict[bytes, int] = {}  # The identity's count of signatures tells which chain came first.
        for each in authentic:
            if isinstance(each.content, Epoch | Checkpoint):
                begun.setdefault(each.epoch, each.content.counter)
        return Told(sorted(authentic, key=lambda each: begun[each.epoch]))


def is_delivered(status: StatusSnapshot) -> bool:
    """Whether nothing waits but what was just sent: of fast devices something always is on its way."""
    buffer, uplink = status.buffer, status.uplink
    if buffer is None or uplink is None:
        return buffer is not None and not buffer.undelivered_records
    waiting = buffer.undelivered_records  # None until it was looked for the first time.
    return waiting is not None and not uplink.to_resend and waiting <= uplink.in_flight


def _place(data: bytes) -> tuple[bytes, int]:
    frame = parse(data)
    return frame.epoch, frame.seq


def sites(directory: Path) -> Iterator[Site]:
    """One site, ended with the test."""
    plant = LoopThread()
    site = Site(directory, plant)
    try:
        yield site
    finally:
        with suppress(ProcessLookupError):
            site.close()
        plant.close()
