"""The page by symptom: each is brought about with real devices, brokers and processes, and what the page shows is seen.

One gateway reads a sick device for each symptom; a second one has no room on its disk and a broker without subscribers.
"""

from __future__ import annotations

import asyncio
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner

from drivers.ethernetip.simulator import in_thread
from drivers.ethernetip.simulator.controller import showcase
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady
from edge.cli import cli
from edge.errors import ErrorCode
from tests.faults.gateway.site_under_test import Site, sites
from tests.faults.gateway.test_gateway_and_permissions import AS_ANYBODY
from tests.peers.opcua.plant import NODES, running
from tests.peers.relay.conftest import Plant
from tests.peers.relay.test_relay_through_mosquitto import send
from tests.support.typist import ROOT, shape

PAGE = ROOT / "docs/how-to/troubleshoot.md"
LIMIT_S = 30
_SECTION = re.compile(r"^## (?P<title>.+)\n(?P<text>(?:(?!^## ).*\n?)*)", re.MULTILINE)
_BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"TG-([A-Z])(\d)(\d)")
SECTIONS = {each["title"]: each["text"] for each in _SECTION.finditer(PAGE.read_text())}
SECTIONS.pop("It is none of these")
TEMPERATURE = {"name": "temperature", "address": "holding 2", "type": "float32", "word_order": "big", "unit": "Cel"}
VALUE = {"name": "level", "address": "holding 0", "type": "uint16"}


class SerialGateway(SimulatedDevice):
    """Answers for the devices behind it, also for those that do not answer: gateway target failed to respond."""

    def _answer(self, unit_number: int, pdu: bytes) -> bytes | None:
        answer = super()._answer(unit_number, pdu)
        return bytes((pdu[0] | 0x80, 0x0B)) if answer is None else answer


class ForOneClient(SimulatedDevice):
    """Serves one client, and shows each further one out at its first request."""

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not self.connections:
            await super()._serve(reader, writer)
        else:
            await reader.read(260)
            writer.close()


Look = Callable[[str], str]
"""What a command of the page prints."""


@dataclass
class Bench:
    """What is sick: a gateway with devices, one with its disk and broker, and a relay."""

    line: Site
    packer: Site
    it: Site

    def looking_at(self, config: Path) -> Look:
        """Commands of the page, with this configuration in the place of CONFIG."""

        def look(command: str) -> str:
            program, *arguments = re.sub(r"\b(?:RELAY_)?CONFIG\b", str(config), command).split()
            assert program == "tidegate"
            if arguments[0] == "run":
                process = self.line.command(*arguments, name="another")
                assert process.wait() == 78
                return process.log()
            ran = CliRunner().invoke(cli, arguments, env={"COLUMNS": "100", "NO_COLOR": "1"})
            assert isinstance(ran.exception, SystemExit | None), ran.output
            return ran.output

        return look


def a_device(kind: type[SimulatedDevice] = SimulatedDevice) -> SimulatedDevice:
    return kind({1: SimulatedUnit((Signal("holding 0", "uint16", steady(42)),
                                   Signal("holding 2", "float32", steady(21.4), word_order="little")),
                                  illegal=["holding 400"])})  # fmt: skip


def modbus(site: Site, closed_port: int) -> socket.socket:
    """Devices of Modbus; returns the client that holds the only connection of one of them."""
    plant = site.plant
    oven = plant.enter(a_device(ForOneClient))
    site.add_device("mixer", plant.enter(a_device()), every="1 s", tags=[TEMPERATURE])
    site.add_device("dryer", SimpleNamespace(port=closed_port), every="1 s", tags=[VALUE])
    site.add_device("press", plant.enter(a_device()), every="1 s", tags=[VALUE], unit=7)
    site.add_device("meter", plant.enter(a_device(SerialGateway)), every="1 s", tags=[VALUE], unit=7)
    site.add_device("kiln", plant.enter(a_device()), every="1 s", tags=[VALUE | {"address": "holding 400"}])
    site.add_device("oven", oven, every="1 s", tags=[VALUE])
    scale = {"driver": "modbus", "serial": {"port": "/dev/ttyUSB7"}, "unit": 1}
    site.settings["devices"].append({"name": "scale", **scale, "scan_groups": [{"every": "1 s", "tags": [VALUE]}]})
    other = socket.create_connection(("127.0.0.1", oven.port))
    site.wait(lambda: oven.connections, "the other client to be served")
    return other


def logix(site: Site, plc: int, full: int) -> None:
    def add(name: str, port: int, *tags: tuple[str, str], **more: Any) -> None:
        group = {"every": "1 s", "tags": [{"name": tag.lower(), "address": tag, "type": kind} for tag, kind in tags]}
        device = {"name": name, "driver": "ethernetip", "host": "127.0.0.1", "port": port, **more}
        site.settings["devices"].append(device | {"scan_groups": [group]})

    add("filler", plc, ("Vials", "DINT"), ("Rejects", "DINT"), ("Temperature", "DINT"))
    add("capper", full, ("Vials", "DINT"), messaging="connected")


def opcua(site: Site, port: int, folder: Path) -> None:
    group = {"every": "1 s", "tags": [{"name": "point", "address": f"{NODES}Point1", "type": "float64"}]}
    for name, policy in (("reactor", "Basic256Sha256"), ("still", "Aes128_Sha256_RsaOaep")):
        keys = folder / f"{name}-pki"
        CliRunner().invoke(cli, ["keys", "opcua", "create", str(keys), "--name", "line-4", "--host", "gateway-4"])
        site.settings["devices"].append({
            "name": name, "driver": "opcua", "url": f"opc.tcp://127.0.0.1:{port}/plant", "security": {"policy": policy},
            "certificates": str(keys), "scan_groups": [group],
        })  # fmt: skip


@contextmanager
def a_bench(folder: Path) -> Iterator[Bench]:
    with ExitStack() as stack:
        line, packer, it = (stack.enter_context(contextmanager(sites)(_made(folder / name))) for name in
                            ("line", "packer", "it"))  # fmt: skip
        full = showcase()
        full.connections_limit = 0
        plc, crowded = stack.enter_context(in_thread(showcase(), full))
        ua = stack.enter_context(running("asyncua", folder))
        closed = stack.enter_context(socket.socket())
        closed.bind(("127.0.0.1", 0))  # Bound and not listening: nothing else gets it.
        stack.enter_context(modbus(line, closed.getsockname()[1]))
        logix(line, plc.port, crowded.port)
        opcua(line, ua.port, folder)
        line.settings["clock"] = {"require": "synchronized", "chrony": f"127.0.0.1:{closed.getsockname()[1]}"}
        packer.add_device("wrapper", packer.plant.enter(a_device()), every="1 s", tags=[VALUE])
        packer.settings["buffer"]["free_space"] = "900 TB"
        packer.mosquitto()
        it.mosquitto()
        line.gateway()
        packer.gateway()
        yield Bench(line, packer, it)


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with a_bench(tmp_path_factory.mktemp("bench")) as made:
        yield made


def sick_devices(bench: Bench) -> Look:
    """The gateway that most sections are about."""
    return bench.looking_at(bench.line.directory / "gateway.yaml")


def sick_disk(bench: Bench) -> Look:
    """A gateway without room on its disk, whose broker has no subscriber."""
    return bench.looking_at(bench.packer.directory / "gateway.yaml")


def stopped(bench: Bench) -> Look:
    """A gateway that does not run, with the buffer of one that does."""
    state = str(bench.line.directory / "other")
    settings = {**bench.line.settings, "gateway": {**bench.line.settings["gateway"], "state": state}}
    return bench.looking_at(bench.line.write("stopped", settings))


def wrong(bench: Bench) -> Look:
    """A configuration with problems."""
    settings = bench.line.settings
    changed = {**settings, "clok": {}, "devices": [{**settings["devices"][0], "port": 99_999}]}
    return bench.looking_at(bench.line.write("wrong", changed))


def not_allowed(bench: Bench) -> Look:
    """The account may not use the sockets."""
    for name in ("status.sock", "live.sock"):
        (bench.line.state / name).chmod(0)
    config = str(bench.line.directory / "gateway.yaml")

    def look(command: str) -> str:
        arguments = [*AS_ANYBODY, sys.executable, "-m", "edge.cli", *command.replace("CONFIG", config).split()[1:]]
        ran = subprocess.run(arguments, check=False, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                             timeout=LIMIT_S)  # fmt: skip
        return ran.stdout

    return look


def with_records(bench: Bench) -> Look:
    """A relay that received records of two gateways: some are missing of one, and it does not trust the other."""
    known, stranger = (Plant.start(bench.it.directory, name) for name in ("line-4", "line-9"))
    for number in range(20):
        known.scan(number)
        stranger.scan(number)
    bench.it.relay(trust=[str(known.trust)])
    asyncio.run(send(bench.it.broker_port, known, [*known.records[:7], *known.records[12:]]))
    asyncio.run(send(bench.it.broker_port, stranger, stranger.records))
    return bench.looking_at(bench.it.directory / "relay.yaml")


ELSEWHERE: dict[str, Callable[[Bench], Look]] = {
    "Values do not arrive, and the broker is up": sick_disk,
    "Records are in memory only": sick_disk,
    "The relay says that records are missing or refused": with_records,
    "Permission denied at the socket": not_allowed,
    "The gateway does not start: problems": wrong,
    "The gateway does not start: the buffer is in use": stopped,
    "Nothing answers": stopped,
}


def samples_of(section: str) -> list[tuple[str, str]]:
    """Each command of a section, and what is shown below it."""
    parts = [part for block in _BLOCK.findall(section) for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def plain(text: str) -> str:
    """The text without what differs each time; a code stays what it is."""
    return shape(_CODE.sub(lambda code: f"TG{code[1]}{'abcdefghij'[int(code[2])]}{'abcdefghij'[int(code[3])]}", text))


def absent(shown: str, seen: str) -> str:
    """The first piece between dots of what the page shows that is not seen after those before it."""
    rest = plain(seen)
    for piece in filter(None, (plain(piece) for piece in shown.split("..."))):
        _, found, rest = rest.partition(piece)
        if not found:
            return piece
    return ""


@pytest.mark.parametrize("title", SECTIONS)
def test_a_symptom_looks_as_the_page_shows_it(bench: Bench, title: str) -> None:
    look = ELSEWHERE.get(title, sick_devices)(bench)

    for command, shown in samples_of(SECTIONS[title]):
        until = time.monotonic() + LIMIT_S
        while missing := absent(shown, seen := look(command)):  # A device may be asked for the first time just now.
            assert time.monotonic() < until, f"not seen: {missing}\nbut: {plain(seen)}\n\n{seen}"
            time.sleep(0.2)


def test_each_section_says_why_and_what_to_do() -> None:
    assert ELSEWHERE.keys() <= SECTIONS.keys()
    for title, text in SECTIONS.items():
        assert samples_of(text), title
        assert "\n**Why.** " in text, title
        assert "\n**Do.** " in text, title


def test_only_codes_that_there_are_stand_on_the_page() -> None:
    codes = {code.id for code in ErrorCode}

    shown = set(re.findall(r"TG-[A-Z]\d\d", PAGE.read_text()))
    assert len(shown) > 12
    assert shown <= codes
