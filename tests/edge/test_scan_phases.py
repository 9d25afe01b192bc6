"""Which scan groups of a configuration begin together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from edge.config import check
from edge.gateway import settings_map

HOLDING = [{"name": "t", "address": "holding 0", "type": "uint16"}]
NODES = [{"name": "t", "address": "nsu=http://plant.example;s=t", "type": "float64"}]
NOTIFIED = [{"name": "n", "address": "nsu=http://plant.example;s=n", "type": "float64"}]
CIP = [{"name": "t", "address": "Level", "type": "REAL"}]
DIAL_IN = {"address": "127.0.0.1", "port": 5020, "peers": ["10.0.0.1", "10.0.0.2"]}

PhasesOf = Callable[..., list[int]]


def modbus(name: str, **where: object) -> dict[str, object]:
    return {"name": name, "driver": "modbus", **where, "scan_groups": [{"every": "1 s", "tags": HOLDING}]}


@pytest.fixture
def phases_of(tmp_path: Path) -> PhasesOf:
    def phases_of(*devices: dict[str, object], at_once: int = 16) -> list[int]:
        path = tmp_path / "site.yaml"
        gateway = {"name": "g", "path": "a/b", "state": "state"}
        path.write_bytes(orjson.dumps({"gateway": gateway, "scanning": {"at_once": at_once}, "devices": devices}))
        return settings_map.phases_ns(check.load(path))

    return phases_of


def test_devices_of_their_own_begin_together_up_to_the_setting(phases_of: PhasesOf) -> None:
    devices = [modbus(f"d{n}", host=f"10.0.0.{n}") for n in range(8)]

    assert len(set(phases_of(*devices))) == 1
    assert len(set(phases_of(*devices, at_once=4))) == 2


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({"host": "10.0.0.1", "unit": 1}, {"host": "10.0.0.1", "unit": 2}, id="one connection"),
        pytest.param({"host": "Plc-1", "port": 502}, {"host": "plc-1", "port": 503}, id="one host"),
        pytest.param({"host": "127.0.0.1", "unit": 1}, {"host": "127.0.0.1", "unit": 2}, id="one port of this machine"),
        pytest.param(
            {"serial": {"port": "/dev/ttyS0", "baud": 9600}, "unit": 1},
            {"serial": {"port": "/dev/ttyS0", "baud": 9600}, "unit": 2},
            id="one serial line",
        ),
        pytest.param({"listen": DIAL_IN, "unit": 1}, {"listen": DIAL_IN, "unit": 2}, id="one that dials in"),
    ],
)
def test_devices_that_one_machine_answers_for_begin_apart(
    phases_of: PhasesOf, one: dict[str, object], other: dict[str, object]
) -> None:
    first_ns, second_ns = phases_of(modbus("one", **one), modbus("other", **other))

    assert abs(first_ns - second_ns) == 500 * 10**6


def test_each_port_of_this_machine_is_a_device_of_its_own(phases_of: PhasesOf) -> None:
    """Behind a loopback address are tunnels, proxies and simulators."""
    devices = [modbus(f"d{n}", host=host, port=5020 + n) for n, host in enumerate(("127.0.0.1", "localhost", "::1"))]

    assert len(set(phases_of(*devices))) == 1


def test_one_host_is_one_host_in_every_protocol_and_a_subscribed_group_has_no_volley(phases_of: PhasesOf) -> None:
    groups = [{"every": "1 s", "tags": NODES}, {"every": "1 s", "tags": NOTIFIED, "name": "s", "subscribe": {}}]
    server = {"name": "server", "driver": "opcua", "url": "opc.tcp://10.0.0.1:4840", "security": "none"}
    plc = {"name": "plc", "driver": "ethernetip", "host": "10.0.0.1", "scan_groups": [{"every": "1 s", "tags": CIP}]}

    phases_ns = phases_of(modbus("unit", host="10.0.0.1"), {**server, "scan_groups": groups}, plc)

    assert phases_ns[2] == 0
    assert len({phases_ns[0], phases_ns[1], phases_ns[3]}) == 3
