"""The page on ports says what the settings say: a port that is wrong there is a hole in a firewall, or an outage."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.modbus.settings import ModbusDevice
from drivers.opcua import discovery
from drivers.opcua.settings import DEFAULT_PORT
from edge.config.settings import BrokerSettings, ClockSettings
from edge.config.validate import settings_from

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/how-to/ports-and-firewall.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| ")]


def port_of(begin: str, to: str) -> str:
    (found,) = {row[2] for row in ROWS if row[0].startswith(begin) and row[1] == to}
    return found


def modbus(**keys: object) -> int:
    groups = [{"every": "1 s", "tags": [{"name": "t", "address": "coil 0"}]}]
    whole = {"name": "d", "driver": "modbus", "host": "192.0.2.1", "scan_groups": groups, **keys}
    return settings_from(ModbusDevice, whole).tcp_port


def default(model: type, name: str) -> object:
    return model.__dataclass_fields__[name].default  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("begin", "to", "port"),
    [
        ("gateway", "Modbus device", modbus()),
        ("gateway", "Logix controller, EtherNet/IP device", default(EtherNetIpDevice, "port")),
        ("gateway", "OPC UA server", DEFAULT_PORT),
        ("gateway", "broker in the DMZ", default(BrokerSettings, "port")),
        ("relay", "broker in the DMZ", default(BrokerSettings, "port")),
    ],
)
def test_the_ports_of_the_table_are_the_defaults(begin: str, to: str, port: int) -> None:
    assert port_of(begin, to) == f"{port}/tcp"


def test_the_port_of_modbus_with_tls_is_the_default(tmp_path: Path) -> None:
    from drivers.modbus import settings

    assert port_of("gateway", "Modbus device with TLS") == f"{settings._TLS_PORT}/tcp"


def test_what_listens_on_the_machine_is_where_the_page_says() -> None:
    places = {row[0]: row[1] for row in ROWS if len(row) == 3}

    assert places["chronyd"] == f"{default(ClockSettings, 'chrony')}/udp"
    for who, file in (("gateway", "line-4"), ("relay", "relay")):
        (metrics,) = re.findall(r"metrics: (\S+)", (ROOT / f"configs/{file}.yaml").read_text())
        assert f"{metrics}/tcp as in `configs/{file}.yaml`" in places[who]


def test_the_rules_open_the_ports_of_the_table_and_no_others() -> None:
    table = {int(port) for row in ROWS if len(row) == 6 for port in re.findall(r"(\d+)/(?:tcp|udp)", row[2])}
    files = "".join(path.read_text() for path in (ROOT / "configs/dmz").glob("*.nft"))
    rules = re.findall(r"^[^#\n]*? dport (\{[^}]+\}|\d+)", files, re.MULTILINE)

    assert {int(port) for rule in rules for port in re.findall(r"\d+", rule)} - {22} == table


def test_the_search_for_opc_ua_tries_the_ports_that_the_page_names() -> None:
    (named,) = re.findall(r"OPC UA products use: ([^.]+)/tcp", PAGE)

    assert [int(port) for port in re.findall(r"\d+", named)] == [*discovery._PORTS[1:]]
