"""`tidegate doctor` and the broker as it is shipped: the certificate is the name, and a second one ends the first."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.health import UplinkStatus, read_status
from tests.support.dmz import TIDEGATE, Dmz, Line

pytestmark = pytest.mark.timeout(240)


@pytest.fixture
def dmz(tmp_path: Path) -> Iterator[Dmz]:
    with Dmz(tmp_path) as dmz:
        yield dmz


def found(dmz: Dmz, config: str) -> set[tuple[str, str]]:
    """(severity, text) of what is found of the broker."""
    said = dmz.run("sh", "-c", '"$@" || test $? = 1', "-", *TIDEGATE, "doctor", config, "--json")
    return {(each["severity"], each["text"]) for each in json.loads(said)["findings"] if each["area"] == "broker"}


def test_doctor_ends_no_session_and_knows_what_the_access_list_refuses(dmz: Dmz) -> None:
    broker = dmz.start_broker()
    line = Line(dmz)

    def uplink() -> UplinkStatus:
        held = read_status(dmz.folder / "state/status.sock").uplink
        assert held is not None
        return held

    dmz.wait(lambda: uplink().state == "up", line.gateway, broker)
    before = uplink().connects
    of_gateway, of_relay = found(dmz, "line-4.yaml"), found(dmz, "relay.yaml")
    line.assert_unharmed()
    after = uplink().connects
    dmz.publish("line-4", "tidegate/v1/line-4/r/data")  # What doctor does not do: come as the gateway.
    dmz.wait(lambda: uplink().connects > after and uplink().state == "up", line.gateway, broker)
    allowed = Path(dmz.folder / "etc/tidegate/acl")
    allowed.write_text(allowed.read_text().replace("topic write tidegate/v1/line-4/r/data\n", ""))
    broker.send_signal(signal.SIGHUP)
    dmz.wait(lambda: uplink().state == "refused", line.gateway, broker)
    refused = found(dmz, "line-4.yaml")

    name = "broker dmz-broker.example:8883"
    assert after == before
    assert ("ok", f"{name} is reached in TLS") in of_gateway & of_relay
    assert ("ok", f"{name} refuses who has no certificate and no account") in of_gateway & of_relay
    assert ("ok", "the broker takes every topic of the running gateway") in of_gateway
    assert any(severity == "warning" and "tidegate/v1/line-4/r/data" in text for severity, text in refused), refused
