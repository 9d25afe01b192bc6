"""The bridge as it is shipped: the enterprise broker takes values from the DMZ, and can give nothing back."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from tests.support.dmz import Machine
from tests.support.zones import BROKER, ENTERPRISE, FILES, ZonedLine, flows, forget

VALUE = "uns/acme/basel/upstream/line-4/mixer/count"
# Everybody may do everything at the enterprise's own broker; its bridge is what is tried.
OWN = """
listener 1883 127.0.0.1
allow_anonymous true
user root
log_dest stderr
log_type all
include_dir /etc/mosquitto/conf.d
"""
ISSUE = """
openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout enterprise.key -subj /CN=enterprise |
    openssl x509 -req -CA ca.pem -CAkey ca.key -out enterprise.pem -extfile <(echo extendedKeyUsage=clientAuth)
"""


@pytest.fixture
def enterprise(line: ZonedLine) -> Machine:
    """The machine of the enterprise broker, with the file where its head says; its broker runs."""
    line.dmz.run("bash", "-euc", f"cd {line.dmz.folder}; {ISSUE}")
    machine, etc = line.zones.enterprise, line.zones.enterprise.folder / "etc"
    (etc / "conf.d").mkdir(parents=True, exist_ok=True)
    (etc / "mosquitto.conf").write_text(OWN)
    shutil.copy(FILES / "bridge.conf", etc / "conf.d")
    (etc / "tidegate").mkdir(exist_ok=True)
    for name in ("ca.pem", "enterprise.pem", "enterprise.key"):
        shutil.copy(line.dmz.folder / name, etc / "tidegate")
    machine.run("mount", "--bind", str(etc), "/etc/mosquitto")
    (machine.folder / "log").write_text("")
    return machine


def start(machine: Machine) -> subprocess.Popen[str]:
    with (machine.folder / "log").open("a") as log:
        return machine.start("/usr/sbin/mosquitto", "-c", "/etc/mosquitto/mosquitto.conf", stderr=log)


def received(machine: Machine) -> str:
    return (machine.folder / "log").read_text()


def test_values_go_to_the_enterprise_and_nothing_comes_back(line: ZonedLine, enterprise: Machine) -> None:
    forget(line.zones.dmz)
    forget(enterprise)
    broker = start(enterprise)

    line.dmz.wait(lambda: VALUE in received(enterprise), broker)
    user = line.dmz.subscribe("historian", "#")
    for topic in ("uns/back", VALUE, "tidegate/v1/line-4/r/data"):
        enterprise.run("mosquitto_pub", "-V", "5", "-q", "1", "-t", topic, "-m", "back")
    line.wait_for_more()
    values = line.dmz.stop_and_read(user)

    assert VALUE in values
    assert "back" not in values
    assert "tidegate/v1" not in re.sub(".*auto-.*", "", received(enterprise))
    assert line.dmz.is_refused("line-5", "uns/back")
    assert flows(line.zones.dmz) >= {(ENTERPRISE, BROKER, "tcp", 8883)}
    assert flows(enterprise) == set()
    line.assert_unharmed()
    broker.terminate()
    broker.wait()
    assert line.dmz.is_refused("enterprise", "uns/back")  # With its certificate, at the DMZ itself.
    assert line.dmz.is_refused("enterprise", "tidegate/v1/line-4/r/data")


def test_what_comes_while_the_enterprise_is_away_waits_in_the_dmz(line: ZonedLine, enterprise: Machine) -> None:
    broker = start(enterprise)
    line.dmz.wait(lambda: VALUE in received(enterprise), broker)
    broker.terminate()
    broker.wait()
    line.wait_for_more()
    line.relay.terminate()  # What arrives from here on is either retained, or has waited.
    line.relay.wait()
    (enterprise.folder / "log").write_text("")

    broker = start(enterprise)

    waited = re.compile(rf"Received PUBLISH from local.enterprise \(d\d, q1, r0, m\d+, '{VALUE}'")
    line.dmz.wait(lambda: waited.search(received(enterprise)), broker)
    broker.terminate()
    broker.wait()
    line.start_relay()
    line.assert_unharmed()
