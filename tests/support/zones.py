"""OT, DMZ, IT and the enterprise as networks of their own, with the addresses and the files that are shipped.

Between the zones stands nothing but the machine in the DMZ, which has a port in each and is set to forward what comes:
what is stopped is stopped by the files of configs/dmz. What arrives at an end is counted there, before its firewall.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from hil.namespaces import Machine, join
from tests.support.dmz import ROOT, TIDEGATE, Dmz, Line
from tests.support.hasty import HASTY, HASTY_RELAY

FILES = ROOT / "configs/dmz"
DEVICE, GATEWAY, BROKER, RELAY, ENTERPRISE = "192.0.2.7", "192.0.2.20", "198.51.100.10", "203.0.113.20", "203.0.113.30"
DEVICES = "192.0.2.0/28"
HOSTS = f"{BROKER} dmz-broker.example\n{ENTERPRISE} enterprise-broker.example"
# What arrives by a cable before the firewall of that machine sees it: how many packets, and each flow that is begun
# from the other end, or that belongs to none.
_WATCH = """
table inet watch {{
  set begun {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service; flags dynamic; size 65535; }}
  counter arrived {{}}
  counter ipv6 {{}}
  counter not_for_broker {{}}
  chain cables {{
    type filter hook prerouting priority mangle
    iifname != {{ {cables} }} return
    counter name arrived
    meta nfproto ipv6 counter name ipv6
    meta l4proto {{ tcp, udp }} ct direction original add @begun {{ ip saddr . ip daddr . meta l4proto . th dport }}
    meta l4proto {{ tcp, udp }} ct state invalid add @begun {{ ip saddr . ip daddr . meta l4proto . th dport }}
    tcp dport != 8883 counter name not_for_broker
    meta l4proto != tcp counter name not_for_broker
  }}
}}
"""
# The only change to the shipped rules: the port of the recorder, to which the gateway's connections are led.
_TAP = """
table inet tap {
  chain prerouting { type nat hook prerouting priority dstnat; iifname "ot" tcp dport 8883 redirect to :18883; }
}
insert rule inet tidegate input tcp dport 18883 accept
"""
_SETTINGS = f"""
gateway: {{name: line-4, path: acme/basel/upstream/line-4, state: ./state}}
clock: {{require: any}}
uplink:
  mqtt:
    host: dmz-broker.example
    resend_window: 60 ms
    tls: {{ca: "file:ca.pem", certificate: "file:line-4.pem", key: "file:line-4.key"}}
devices:
  - name: mixer
    driver: modbus
    host: {DEVICE}
    scan_groups:
      - every: 50 ms
        tags: [{{name: count, address: "holding 0", type: uint32, word_order: big}}]
"""

Flow = tuple[str, str, str, int]
"""From, to, protocol, port."""


class Zones:
    """The machines, joined by cables, each with its own file for the firewall loaded."""

    def __init__(self, folder: Path) -> None:
        self._running = ExitStack()
        self.dmz = Dmz(folder / "dmz", HOSTS)
        self.floor, self.gateway, self.relay, self.enterprise = (
            Machine(folder / name, hosts=HOSTS) for name in ("floor", "gateway", "relay", "enterprise")
        )

    def __enter__(self) -> Zones:
        with ExitStack() as running:
            for machine in (self.floor, self.gateway, self.dmz, self.relay, self.enterprise):
                running.enter_context(machine)
            self._lay_cables()
            for machine, name in ((self.gateway, "gateway"), (self.dmz, "broker"), (self.relay, "relay")):
                load(machine, name)
            self._running = running.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._running.close()

    def _lay_cables(self) -> None:
        gateway, dmz = self.gateway, self.dmz
        join(self.floor, DEVICE, "gateway", gateway, GATEWAY, "floor")
        join(gateway, GATEWAY, "dmz", dmz, BROKER, "ot")
        join(self.relay, RELAY, "dmz", dmz, BROKER, "it")
        join(self.enterprise, ENTERPRISE, "dmz", dmz, BROKER, "enterprise")
        # Every address of the plant floor answers.
        self.floor.run("ip", "route", "add", "local", DEVICES, "dev", "lo")
        gateway.run("ip", "route", "add", DEVICES, "dev", "floor")
        dmz.run("ip", "route", "add", DEVICES, "via", GATEWAY, "dev", "ot", "onlink")
        for machine in (gateway, self.relay, self.enterprise):
            machine.run("ip", "route", "add", "default", "via", BROKER, "dev", "dmz", "onlink")
        for machine in (gateway, dmz, self.relay):
            machine.run("sysctl", "--quiet", "--write", "net.ipv4.ip_forward=1")
        dmz.run("ip", "route", "add", "default", "via", RELAY, "dev", "it", "onlink")
        for machine, cables in (
            (self.floor, "gateway"), (gateway, "floor, dmz"), (dmz, "ot, it, enterprise"), (self.relay, "dmz"),
            (self.enterprise, "dmz"),
        ):  # fmt: skip
            machine.run("nft", _WATCH.format(cables=cables))


class ZonedLine(Line):
    """Gateway and relay, each in its zone, and a Modbus device on the plant floor.

    The gateway waits a thousandth of the time before it tries again, and sends a thousandth of its last minute again:
    an hour of reconnects takes some seconds.
    """

    settings = _SETTINGS
    is_relay_hasty = False

    def __init__(self, zones: Zones) -> None:
        self.zones = zones
        (zones.dmz.folder / "floor.yaml").write_text(_SETTINGS)
        device = [*TIDEGATE, "simulate", str(zones.dmz.folder / "floor.yaml"), "--host", DEVICE]
        zones.floor.start(*device, "--set", "count=counter", stdout=subprocess.DEVNULL)
        super().__init__(zones.dmz)

    def end_connection(self) -> None:
        """Take the gateway's connection over, so that it opens another."""
        self.dmz.publish("line-4", "tidegate/v1/line-4/status")

    def _start(self, log: str, *command: str) -> subprocess.Popen[str]:
        machine = self.zones.relay if command[0] == "relay" else self.zones.gateway
        with (self.dmz.folder / log).open("a") as file:
            where = ["env", f"--chdir={self.dmz.folder}", f"CREDENTIALS_DIRECTORY={self.dmz.folder}/credentials"]
            program = [sys.executable, "-c", HASTY]
            if machine is self.zones.relay:
                program = [sys.executable, "-c", HASTY_RELAY] if self.is_relay_hasty else TIDEGATE
            return machine.start(*where, *program, *command, stderr=file, stdout=subprocess.DEVNULL)


@contextmanager
def tapped(line: ZonedLine, actions: list[bytes]) -> Iterator[Path]:
    """What the gateway says goes through a recorder with the broker's key; the folder of the recordings."""
    dmz, folder = line.dmz, line.dmz.folder / "recorded"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    (dmz.folder / "actions").write_text("\n".join(action.hex() for action in actions))
    program = [
        sys.executable,
        "-m",
        "tests.support.tls_recorder",
        str(dmz.folder),
        "18883",
        str(dmz.folder / "actions"),
    ]
    recorder = dmz.start("env", f"--chdir={ROOT}", *program, stdout=subprocess.PIPE)
    assert recorder.stdout is not None
    assert recorder.stdout.readline() == "ready\n"
    dmz.run("nft", _TAP)
    try:
        line.end_connection()
        yield folder
    finally:
        recorder.kill()  # Before the rule goes: without it the end of a connection would not reach the gateway.
        recorder.wait()
        dmz.run("nft", "delete", "table", "inet", "tap")
        load(dmz, "broker")


def load(machine: Machine, name: str) -> None:
    """Load a file of configs/dmz, exactly as it is shipped."""
    machine.run("nft", "--file", str(FILES / f"{name}.nft"))


def unload(machine: Machine) -> None:
    """Take the firewall away: what a test then sees, it would have seen before."""
    machine.run("nft", "delete", "table", "inet", "tidegate")


def packets(machine: Machine, counter: str, table: str = "tidegate") -> int:
    """What a counter of the firewall, or one that watches a cable, says."""
    (count,) = (each["packets"] for each in _listed(machine, "counter", table, counter))
    return int(count)


def flows(machine: Machine) -> set[Flow]:
    """What others have begun with a machine, or through it: each pair of addresses with protocol and port, once."""
    (seen,) = _listed(machine, "set", "watch", "begun")
    return {tuple(each["concat"]) for each in seen.get("elem", [])}


def forget(machine: Machine) -> None:
    """Watch from here on."""
    machine.run("nft", "flush", "set", "inet", "watch", "begun")


def attack(machine: Machine, cable: str, count: int, target: str, *sources: str) -> None:
    """Hostile packets to a target, past the firewall of the machine that sends them."""
    card = json.loads(machine.run("ip", "--json", "neighbour", "show", "dev", cable))[0]["lladdr"]
    program = [sys.executable, "-m", "tests.support.hostile_packets"]
    machine.run("env", f"--chdir={ROOT}", *program, cable, card, str(count), target, *sources)


def _listed(machine: Machine, kind: str, table: str, name: str) -> list[dict[str, Any]]:
    answer = json.loads(machine.run("nft", "--json", "list", kind, "inet", table, name))
    return [each[kind] for each in answer["nftables"] if kind in each]
