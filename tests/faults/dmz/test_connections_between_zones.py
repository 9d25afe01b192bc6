"""The firewall files as they are shipped, between zones that nothing else separates: what passes, and what does not.

Each test that sees nothing then takes the firewall away, and sees it.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.support.dmz import Machine
from tests.support.zones import (
    BROKER,
    DEVICE,
    ENTERPRISE,
    FILES,
    GATEWAY,
    RELAY,
    ZonedLine,
    Zones,
    attack,
    flows,
    forget,
    load,
    packets,
    unload,
)  # fmt: skip

COUNT = 1000
ANYWHERE = ["192.0.2.0/24", "198.51.100.0/24", "203.0.113.0/24"]
NAMES_AND_TIME = ["--skip", "198.51.100.2:53,123"]
PLANT_FLOOR = ["--skip", "192.0.2.0/28:502,802,4840,44818"]
# Who tries, the file that stops it, what is listed, and where the rest would arrive.
TRIALS = {
    "gateway": ("gateway", ["--listed", f"{BROKER}:8883", "--listed", f"{DEVICE}:502", *PLANT_FLOOR]),
    "dmz": ("broker", []),
    "relay": ("relay", ["--listed", f"{BROKER}:8883"]),
}


def attempt(machine: Machine, listed: list[str]) -> tuple[int, str]:
    command = [sys.executable, str(FILES / "try-connections.py"), "--user", "nobody", "--count", str(COUNT)]
    done = subprocess.run([*machine.enter, *command, *listed, *NAMES_AND_TIME, *ANYWHERE],
                          capture_output=True, text=True, check=False)  # fmt: skip
    return done.returncode, done.stdout + done.stderr


def arrived(zones: Zones, sender: str) -> set[tuple[str, int]]:
    """Where packets of a machine have arrived, at any other."""
    machines = zones.floor, zones.gateway, zones.dmz, zones.relay, zones.enterprise
    return {(to, port) for each in machines for source, to, _, port in flows(each) if source == sender}


def test_from_its_start_the_gateway_has_opened_its_two_connections(line: ZonedLine) -> None:
    """To its device and to its broker; and none is opened to it."""
    line.wait_for_more()
    zones = line.zones

    assert flows(zones.floor) == {(GATEWAY, DEVICE, "tcp", 502)}
    assert flows(zones.dmz) == {(each, BROKER, "tcp", 8883) for each in (GATEWAY, RELAY)}
    assert flows(zones.gateway) == flows(zones.relay) == set()
    assert packets(zones.gateway, "refused_out") == packets(zones.gateway, "refused_in") == 0


@pytest.mark.requirement("REQ-SAFE-06")
def test_nothing_listens_but_what_is_set(line: ZonedLine) -> None:
    """The gateway has neither metrics nor a device that dials in; the relay has metrics, on loopback."""
    listening = ["ss", "--no-header", "--listening", "--tcp", "--udp", "--numeric"]

    assert line.zones.gateway.run(*listening) == ""
    assert re.findall(r"(\S+:\d+) +\S+:\*", line.zones.relay.run(*listening)) == ["127.0.0.1:9465"]


@pytest.mark.parametrize("who", TRIALS)
def test_a_thousand_other_connections_do_not_leave_the_machine(line: ZonedLine, who: str) -> None:
    zones, (file, listed) = line.zones, TRIALS[who]
    machine = getattr(zones, who)
    address = {"gateway": GATEWAY, "dmz": BROKER, "relay": RELAY}[who]
    before, known = packets(machine, "refused_out"), arrived(zones, address)

    code, said = attempt(machine, listed)

    assert (code, said) == (0, said), said
    assert f"{COUNT} other connections tried by nobody: 0 have no route, all others were stopped" in said
    assert packets(machine, "refused_out") == before + COUNT
    assert arrived(zones, address) == known

    machine.run("nft", "insert", "rule", "inet", "tidegate", "output", "accept")  # The control.
    code, said = attempt(machine, listed)
    load(machine, file)
    escaped = {(to, int(port)) for to, port in re.findall(r" ([\d.]+):(\d+)", said)}
    assert code == 1
    assert len(escaped) > COUNT * 0.9  # Some are tried by TCP and by UDP.
    assert escaped <= arrived(zones, address)
    for each in (zones.floor, zones.gateway, zones.dmz, zones.relay, zones.enterprise):
        forget(each)


def test_without_the_firewall_nothing_is_tried(line: ZonedLine) -> None:
    """On a machine where nothing would stop them, a thousand packets must not leave."""
    zones = line.zones
    before = arrived(zones, ENTERPRISE)

    code, said = attempt(zones.enterprise, [])

    assert code == 1
    assert "nothing was tried; load its file of configs/dmz" in said
    assert arrived(zones, ENTERPRISE) == before


def test_ipv6_does_not_leave_either(line: ZonedLine) -> None:
    zones = line.zones
    zones.gateway.run("ip", "address", "add", "fd00::1/64", "dev", "dmz", "nodad")
    zones.dmz.run("ip", "address", "add", "fd00::2/64", "dev", "ot", "nodad")
    knock = ["bash", "-c", "exec 2>/dev/null; timeout 0.2 bash -c '</dev/tcp/fd00::2/8883' || true"]
    before = packets(zones.dmz, "ipv6", "watch")

    zones.gateway.run(*knock)
    assert packets(zones.dmz, "ipv6", "watch") == before

    unload(zones.gateway)
    zones.gateway.run(*knock)
    load(zones.gateway, "gateway")
    assert packets(zones.dmz, "ipv6", "watch") > before


def test_no_packet_of_it_reaches_ot(line: ZonedLine) -> None:
    """From the relay and the enterprise, with the rights of root, to the gateway and to a device."""
    zones = line.zones
    count, known = COUNT, packets(zones.dmz, "refused_through")
    assaults = [(machine, source, target) for machine, source in ((zones.relay, RELAY), (zones.enterprise, ENTERPRISE))
                for target in (GATEWAY, DEVICE)]  # fmt: skip

    for machine, source, target in assaults:
        attack(machine, "dmz", count, target, source, DEVICE, "203.0.113.77")

    line.wait_for_more()
    assert flows(zones.gateway) == set()
    assert flows(zones.floor) <= {(GATEWAY, DEVICE, "tcp", 502)}
    assert packets(zones.gateway, "refused_in") == packets(zones.gateway, "refused_through") == 0
    assert packets(zones.dmz, "refused_through") > known + 3 * count  # Less those that are no IP packets.

    unload(zones.dmz)  # The control, and the second line: what arrives is not answered.
    for machine, source, target in assaults:
        attack(machine, "dmz", count, target, source)
    assert packets(zones.gateway, "refused_in") > count / 2
    assert packets(zones.gateway, "refused_through") > count / 2
    assert {source for source, *_ in flows(zones.gateway)} == {RELAY, ENTERPRISE}
    assert arrived(zones, GATEWAY) <= {(BROKER, 8883), (DEVICE, 502)}
    assert flows(zones.floor) <= {(GATEWAY, DEVICE, "tcp", 502)}

    answered = packets(zones.relay, "arrived", "watch") + count / 10
    unload(zones.gateway)
    attack(zones.relay, "dmz", count, GATEWAY, RELAY)
    assert packets(zones.relay, "arrived", "watch") > answered
    load(zones.dmz, "broker")
    load(zones.gateway, "gateway")
    line.assert_unharmed()
