"""What somebody sees who gets a configuration wrong: the thing by its name, what happened, and what would help."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.errors import ConfigError
from tests.peers.opcua.plant import NODES, running

SITE = "gateway: {name: line-4, path: acme/basel, state: state}\nclock: {require: any, chrony: off}\ndevices:\n"
OPCUA = """\
  - name: reactor
    driver: opcua
    url: opc.tcp://{host}:{opcua}
    security: none
    limits: {{timeout: 500 ms}}
    scan_groups: [{{every: 1 s, tags: [{{name: t, address: "{nodes}Point1", type: float64}}]}}]
"""
LOGIX = """\
  - name: filler
    driver: ethernetip
    host: {host}
    port: {logix}
    slot: 0
    limits: {{timeout: 500 ms}}
    scan_groups: [{{every: 1 s, tags: [{{name: t, address: Temperature, type: REAL}}]}}]
"""
MODBUS = """\
  - name: meter
    driver: modbus
    host: {host}
    port: {nobody}
    scan_groups: [{{every: 1 s, tags: [{{name: t, address: "holding 0", type: uint16}}]}}]
"""
SERIAL = """\
  - name: {name}
    driver: modbus
    serial: {{port: {port}, baud: {baud}}}
    unit: {unit}
    scan_groups: [{{every: 1 s, tags: [{{name: t, address: "holding 0", type: uint16}}]}}]
"""
NO, USAGE, CONFIG = 1, 2, 78


def tidegate(*arguments: object) -> tuple[int, str]:
    """Exit code and everything that was said, as `main` would."""
    ran = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if isinstance(ran.exception, ConfigError):
        return CONFIG, str(ran.exception)
    assert ran.exception is None or isinstance(ran.exception, SystemExit), ran.exception
    return ran.exit_code, ran.output


@dataclass
class Bench:
    """Devices that are all right, and a folder for configurations that are not."""

    folder: Path
    ports: dict[str, int]

    def write(self, devices: str, *changes: tuple[str, str]) -> Path:
        """A configuration, with something in it changed."""
        text = devices.format(host="127.0.0.1", nodes=NODES, **self.ports) if "{host}" in devices else devices
        for old, new in changes:
            assert old in text
            text = text.replace(old, new)
        path = self.folder / "site.yaml"
        path.write_text(SITE + text)
        return path


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    folder = tmp_path_factory.mktemp("bench")
    command = [sys.executable, "-m", "drivers.ethernetip.simulator"]
    with (
        running("asyncua", folder) as opcua,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as logix,
        socket.socket() as nobody,
    ):
        assert logix.stdout is not None
        nobody.bind(("127.0.0.1", 0))  # Bound and not listening: nobody else gets it.
        ports = {"opcua": opcua.port, "logix": int(logix.stdout.readline()), "nobody": nobody.getsockname()[1]}
        yield Bench(folder, ports)
        logix.kill()


@pytest.mark.parametrize("command", ["read", "browse", "inventory"])
@pytest.mark.parametrize(("name", "text"), [("reactor", OPCUA), ("filler", LOGIX)])
def test_a_wrong_port(bench: Bench, name: str, text: str, command: str) -> None:
    path = bench.write(text.replace("{opcua}", "{nobody}").replace("{logix}", "{nobody}"))

    code, said = tidegate(command, path, *(["--ask"] if command == "inventory" else [name]))

    assert code == NO
    where = f"127.0.0.1:{bench.ports['nobody']}"
    assert f"{name}: {where} cannot be reached: Connection refused; is the port right, and does its server run?" in said


def test_a_wrong_port_of_a_modbus_device(bench: Bench) -> None:
    code, said = tidegate("read", bench.write(MODBUS), "meter")

    assert (code, "Connection refused; is the port right" in said) == (NO, True)


@pytest.mark.parametrize("text", [OPCUA, LOGIX, MODBUS])
def test_a_name_that_nobody_knows(bench: Bench, text: str) -> None:
    path = bench.write(text, ("127.0.0.1", "no-such-host.invalid"))

    code, said = tidegate("read", path, text.split()[2])

    assert code == NO
    assert "no-such-host.invalid:" in said
    assert "; is the name right?\n" in said


WRONG = {
    "no security": (
        OPCUA, ("    security: none\n", ""), CONFIG,
        "How messages are protected: a policy and a mode, or the word none, which lets anyone on the network read and ",
    ),
    "an old policy": (
        OPCUA, ("security: none", "security: {policy: Basic256}\n    certificates: pki"), CONFIG,
        "Aes128_Sha256_RsaOaep, Aes256_Sha256_RsaPss, got 'Basic256'; did you mean Basic256Sha256?",
    ),
    "no certificates": (
        OPCUA, ("security: none", "security: {policy: Basic256Sha256}"), CONFIG,
        "`certificates` is missing: the directory with our certificate and those that we trust",
    ),
    "a namespace by its index": (
        OPCUA, ("nsu=urn:tidegate:plant;", "ns=2;"), CONFIG,
        'another one after a restart of the server; write its URI instead: "nsu=http://vendor.example/x;s=Point1"',
    ),
    "a short name for nothing": (
        OPCUA, ("nsu=urn:tidegate:plant;", "nsu=plc;"), CONFIG,
        "'plc' is neither a URI nor a short name from the device's `namespaces` (there are none)",
    ),
    "an unknown type": (OPCUA, ("float64", "double"), CONFIG, "type: must be one of bool, int8, "),
    "slot and route": (
        LOGIX, ("slot: 0", 'slot: 0\n    route: "1,0"'), CONFIG,
        "devices[0].slot: slot and route exclude each other: the route names the slot, as its last number",
    ),
    "half a route": (LOGIX, ("slot: 0", 'route: "1"'), CONFIG, 'write port and link in turn, as in "1,0" for slot 0'),
    "a driver that is not there": (LOGIX, ("ethernetip", "ethernet-ip"), CONFIG, "did you mean ethernetip?"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "change", "expected", "sentence"), WRONG.values(), ids=WRONG)
@pytest.mark.parametrize("command", ["check", "plan"])
def test_what_can_be_known_offline_is_said_with_its_line(
    bench: Bench, command: str, text: str, change: tuple[str, str], expected: int, sentence: str
) -> None:
    path = bench.write(text, change)

    code, said = tidegate(command, path)

    assert code == expected
    [line] = [line for line in said.splitlines() if line.startswith(f"{path}:") and ": warning: " not in line]
    assert sentence in line
    assert command == "plan" or "1 problem; nothing was started" in said


ONLINE = {
    "a security that is not offered": (
        "reactor", OPCUA, ("security: none", "security: {policy: Aes128_Sha256_RsaOaep}\n    certificates: pki"),
        ["does not offer Aes128_Sha256_RsaOaep SignAndEncrypt for anonymous; it offers none for anonymous",
         ": change `security` and `user`, or the server's settings"],
    ),
    "no certificate of ours": (
        "reactor", OPCUA, ("security: none", "security: {policy: Basic256Sha256}\n    certificates: nothing"),
        ["nothing/own/cert.der: No such file or directory", "make it with: tidegate keys opcua create ",
         "nothing --name NAME"],
    ),
    "a namespace that the server does not have": (
        "reactor", OPCUA, ("urn:tidegate:plant", "urn:tidegate:plants"),
        ["the server has no namespace urn:tidegate:plants; it has urn:tidegate:asyncua, urn:tidegate:plant"],
    ),
    "a node that is not there": (
        "reactor", OPCUA, ("Point1", "Pont1"),
        ["the device does not have the address of t; tidegate browse lists what it has"],
    ),
    "another type, OPC UA": (
        "reactor", OPCUA, ("float64", "float32"), ["t: the server has a Double (type: float64) where the settings say"],
    ),
    "another type, Logix": (
        "filler", LOGIX, ("REAL", "DINT"), ["Temperature is REAL on the controller, not DINT; correct its type"],
    ),
    "a tag that is not there": (
        "filler", LOGIX, ("Temperature", "Temprature"),
        ["the device does not have the address of t; tidegate browse lists what it has"],
    ),
    "another slot": (
        "filler", LOGIX, ("slot: 0", "slot: 3"),
        ["refused a connection: there is no such slot or node on the route; is the slot right?"],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("name", "text", "change", "sentences"), ONLINE.values(), ids=ONLINE)
def test_what_only_the_device_knows_is_said_when_it_is_read(
    bench: Bench, name: str, text: str, change: tuple[str, str], sentences: list[str]
) -> None:
    path = bench.write(text, change)

    assert tidegate("check", path)[0] == 0
    code, said = tidegate("read", path, name)

    assert code == NO
    for sentence in sentences:
        assert sentence in said


def test_from_a_server_that_nobody_trusts_to_a_value(bench: Bench) -> None:
    """Each message says the next step, and following them is enough."""
    secured = ("security: none", "security: {policy: Basic256Sha256}\n    certificates: trust-me")
    path, pki = bench.write(OPCUA, secured), bench.folder / "trust-me"
    tidegate("keys", "opcua", "create", pki, "--name", "line-4")

    refused = tidegate("read", path, "reactor")
    browsed = tidegate("browse", path, "reactor")
    _, _, step = refused[1].partition("then: tidegate ")
    tidegate(*step.splitlines()[0].split())
    code, said = tidegate("read", path, "reactor")

    assert refused[0] == browsed[0] == NO
    assert "the server's certificate (urn:tidegate:asyncua) is self-signed and not trusted: compare the" in refused[1]
    assert refused[1] == browsed[1]
    assert (code, said.splitlines()[0]) == (0, "t: 1  GOOD")


def serial(name: str, unit: int, port: object = "/dev/ttyNowhere7", baud: int = 19200) -> str:
    return SERIAL.format(name=name, port=port, baud=baud, unit=unit)


def test_a_serial_port_that_is_not_there(bench: Bench) -> None:
    path = bench.write(serial("dryer", 1))

    checked, (code, said) = tidegate("check", path), tidegate("read", path, "dryer")

    assert (checked[0], code) == (0, NO)
    assert "dryer: there is no serial port /dev/ttyNowhere7; is its adapter plugged in? see /dev/serial/by-id" in said


def test_a_speed_that_no_port_has_and_a_port_that_is_none(bench: Bench) -> None:
    speed = tidegate("check", bench.write(serial("dryer", 1, baud=19201)))
    port = tidegate("check", bench.write(serial("dryer", 1, port="ttyUSB0")))

    assert speed[0] == port[0] == CONFIG
    assert "serial.baud: must be one of 1200, 2400, 4800, 9600, 19200, " in speed[1]
    assert "serial.port: 'ttyUSB0' does not fit: Its device file" in port[1]


def test_two_speeds_on_one_line(bench: Bench) -> None:
    path = bench.write(serial("dryer-1", 1) + serial("dryer-2", 2, baud=9600))

    code, said = tidegate("check", path)

    assert code == CONFIG
    assert (
        "/dev/ttyNowhere7 is shared with dryer-1, which says otherwise: 9600 baud, parity even, 1 stop bit and "
        "19200 baud, parity even, 1 stop bit; say the same in both, or name another place"
    ) in said


def test_a_gateway_that_does_not_run(bench: Bench) -> None:
    path = bench.write(LOGIX)

    inventory, status = tidegate("inventory", path), tidegate("status", path)

    assert inventory[0] == status[0] == NO
    assert "state/status.sock: no gateway answers; start it, or ask the devices with --ask" in inventory[1]
    assert "is the gateway or relay running?" in status[1]


def test_names_that_are_not_there(bench: Bench) -> None:
    path = bench.write(OPCUA)
    device = tidegate("browse", path, "reactr")
    below = tidegate("browse", path, "reactor", "nsu=urn:nowhere;s=x")
    driver = tidegate("discover", "127.0.0.1", "--driver", "opc-ua")
    host = tidegate("discover", "300.0.0.1")

    assert (device[0], "no device is called 'reactr'; there are reactor" in device[1]) == (USAGE, True)
    assert below[0] == NO
    assert "the server has no namespace urn:nowhere" in below[1]
    assert "browse without a path shows where to begin" in below[1]
    assert (driver[0], "no driver is called 'opc-ua'; there are " in driver[1]) == (USAGE, True)
    assert (host[0], "300.0.0.1 is no address, name, network (192.0.2.0/28) or range" in host[1]) == (USAGE, True)
