"""Every way in which the network between gateway, broker and relay breaks: both sides say so, and nothing is lost.

Each fault is between the broker and both of its neighbours at once, in networks of their own with the shipped files.
"""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import pytest

from edge.health import StatusSnapshot, read_status
from edge.health.snapshot import UplinkStatus
from tests.support.dmz import TIDEGATE
from tests.support.zones import ZonedLine, Zones

# `raw` comes before connections are tracked, so that no firewall forgets one.
FAULT = """
table inet fault {{
  chain arriving {{
    type filter hook prerouting priority raw
    iifname {{ {cables} }} {drop}
  }}
}}
"""
BOTH_WAYS = "drop", "drop"
FAULTS = {  # What does not arrive at the broker, and what does not at its neighbours.
    "both ways": BOTH_WAYS,
    "towards the broker": ("drop", ""),
    "from the broker": ("", "drop"),
    "all but small packets": ("meta length > 150 drop", "meta length > 150 drop"),
    "every other packet": ("numgen random mod 2 == 0 drop", "numgen random mod 2 == 0 drop"),
}
TIMED_OUT = "Client line-4 has exceeded timeout"
SLOW = "rate", "8kbit", "burst", "1600", "limit", "4000"


class ImpatientLine(ZonedLine):
    """Gateway and relay ping twice a second, try again soon, and send again what a killed broker may have lost."""

    settings = ZonedLine.settings.replace("resend_window: 60 ms", "resend_window: 60 s\n    keep_alive: 1 s")
    relay_settings = re.sub("( +)port: 8883", r"\1port: 8883\n\1keep_alive: 1 s", ZonedLine.relay_settings)
    is_relay_hasty = True

    def __init__(self, zones: Zones) -> None:
        self.broker = zones.dmz.start_broker()
        super().__init__(zones)

    def gateway_status(self) -> StatusSnapshot:
        """What the gateway says of itself; of one that starts, as soon as it answers."""
        answers: list[StatusSnapshot] = []

        def ask() -> bool:
            with suppress(OSError):
                answers.append(read_status(self.dmz.folder / "state/status.sock"))
            return bool(answers)

        self.dmz.wait(ask, self.gateway)
        return answers[0]

    def uplink(self) -> UplinkStatus:
        """The gateway's uplink, as its status shows it."""
        uplink = self.gateway_status().uplink
        assert uplink is not None
        return uplink

    def wait(self, condition: Callable[[], object]) -> None:
        self.dmz.wait(condition, self.gateway, self.relay)

    def wait_until_noticed(self) -> None:
        """Gateway and relay have given their connections up."""
        self.wait(lambda: self.uplink().state == "down")
        self.wait(lambda: self.status().state == "down")

    def sealed(self) -> int:
        """Readings that the gateway has sealed."""
        chain = self.gateway_status().chain
        assert chain is not None
        return chain.readings

    def assert_recovers(self) -> None:
        """Everything that was sealed so far arrives, and nothing is refused."""
        self.wait(lambda: self.uplink().state == "up" and self.status().state == "up")
        self.wait_for_more()
        self.wait(lambda: not self.status().issuers[0].missing)
        assert [(each.issuer, each.rejected) for each in self.status().issuers] == [("urn:tidegate:line-4", 0)]


@contextmanager
def fault(line: ImpatientLine, at_broker: str, at_neighbours: str) -> Iterator[None]:
    zones = line.zones
    places = (
        (zones.dmz, "ot, it", at_broker),
        (zones.gateway, "dmz", at_neighbours),
        (zones.relay, "dmz", at_neighbours),
    )
    for machine, cables, drop in places:
        machine.run("nft", FAULT.format(cables=cables, drop=drop or "continue"))
    try:
        yield
    finally:
        for machine, _, _ in places:
            machine.run("nft", "delete", "table", "inet", "fault")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ImpatientLine]:
    """The line, and in the end: one unbroken, authentic chain in the archive, with a gap only where it was killed."""
    with Zones(tmp_path_factory.mktemp("zones")) as zones:
        line = ImpatientLine(zones)
        yield line
        line.assert_recovers()
        line.gateway.send_signal(signal.SIGTERM)
        assert line.gateway.wait() == 0
        folder = zones.dmz.folder
        line.dmz.wait(lambda: "CLOSED" in verified(folder)["epochs"][-1]["tail"], line.relay)
        report = verified(folder)
        assert report["is_wholly_authentic"], report
        assert len(report["epochs"]) == 1


def verified(folder: Path) -> dict[str, list[dict[str, str]]]:
    command = [*TIDEGATE, "verify", str(folder / "archive"), "--trust", str(folder / "trust/line-4.pem"), "--json"]
    ran = subprocess.run(command, check=False, capture_output=True)
    answer: dict[str, list[dict[str, str]]] = orjson.loads(ran.stdout)
    return answer


@pytest.mark.parametrize("name", FAULTS)
def test_what_was_read_while_packets_were_dropped_arrives(line: ImpatientLine, name: str) -> None:
    before = line.sealed()

    with fault(line, *FAULTS[name]):
        if name != "every other packet":  # That is slow, and no more.
            line.wait_until_noticed()
            assert "dmz-broker.example:8883" in line.uplink().reason
        line.wait(lambda: line.sealed() > before + 20)

    line.assert_recovers()


def test_a_broker_that_stands_still_is_noticed_from_both_sides(line: ImpatientLine) -> None:
    """Its machine takes bytes until the window is zero."""
    line.broker.send_signal(signal.SIGSTOP)
    try:
        line.wait_until_noticed()
    finally:
        line.broker.send_signal(signal.SIGCONT)

    line.assert_recovers()


def test_a_broker_that_reads_a_few_bytes_a_second_loses_nothing(line: ImpatientLine) -> None:
    cables = (line.dmz, "ot"), (line.dmz, "it"), (line.zones.gateway, "dmz"), (line.zones.relay, "dmz")
    for machine, cable in cables:
        machine.run("tc", "qdisc", "add", "dev", cable, "root", "tbf", *SLOW)
    try:
        before = line.sealed()
        line.wait(lambda: line.sealed() > before + 40)
    finally:
        for machine, cable in cables:
            machine.run("tc", "qdisc", "del", "dev", cable, "root")

    line.assert_recovers()


def test_a_broker_whose_machine_is_gone_without_a_word_is_found_again(line: ImpatientLine) -> None:
    """The connections of both neighbours are half open: the machine that comes back knows nothing of them."""
    with fault(line, *BOTH_WAYS):
        line.broker.kill()
        line.broker.wait()
        line.broker = line.dmz.start_broker()

    line.assert_recovers()


def test_a_gateway_whose_machine_is_gone_is_given_up_and_then_let_in_again(line: ImpatientLine) -> None:
    """The broker has its half of the connection, and the client's name, until the keep-alive has passed."""
    timeouts = line.dmz.log.read_text().count(TIMED_OUT)
    with fault(line, *BOTH_WAYS):
        line.gateway.kill()
        line.gateway.wait()
        line.dmz.wait(lambda: line.dmz.log.read_text().count(TIMED_OUT) > timeouts, line.broker)
    line.start_gateway()

    line.assert_recovers()


def test_a_relay_whose_machine_is_gone_gets_what_was_on_its_way(line: ImpatientLine) -> None:
    """The broker had sent it messages that it never acknowledged."""
    with fault(line, *BOTH_WAYS):
        before = line.sealed()
        line.relay.kill()
        line.relay.wait()
        line.dmz.wait(lambda: line.sealed() > before + 20, line.gateway)
    line.start_relay()

    line.assert_recovers()


def test_a_name_that_is_gone_stops_only_new_connections(line: ImpatientLine) -> None:
    """Once it is back, it is asked for again, without a restart."""
    hosts = [machine.folder / "hosts" for machine in (line.zones.gateway, line.zones.relay)]
    written = hosts[0].read_text()
    for path in hosts:
        path.write_text("127.0.0.1 localhost\n")
    try:
        line.assert_recovers()
        line.end_connection()
        line.wait(lambda: "name resolution" in line.uplink().reason)
    finally:
        for path in hosts:
            path.write_text(written)

    line.assert_recovers()
