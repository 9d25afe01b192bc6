"""The broker's files exactly as they are shipped, attacked by everybody who has a certificate.

A real gateway sends through it to a real relay, whose configuration is the shipped one: its view is on.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.seal import RecordType
from tests.support.dmz import ROOT, Dmz, Line

VALUE = "uns/acme/basel/upstream/line-4/mixer/count"


@pytest.fixture
def dmz(tmp_path: Path) -> Iterator[Dmz]:
    with Dmz(tmp_path) as dmz:
        yield dmz


@pytest.fixture
def broker(dmz: Dmz) -> Dmz:
    """The broker alone."""
    dmz.start_broker()
    return dmz


@pytest.fixture
def line(broker: Dmz) -> Line:
    return Line(broker)


def test_values_go_from_a_gateway_to_their_user(line: Line) -> None:
    """Four names, four connections, and none ends another."""
    user = line.dmz.subscribe("historian", "uns/#", "-C", "3")

    values, _ = user.communicate()

    assert [text.split()[0] for text in values.splitlines()] == [VALUE] * 3
    line.assert_unharmed()


def test_no_other_client_gets_the_relays_session(line: Line) -> None:
    """A client id is the name in the certificate, whatever the client says: a queue cannot be emptied."""
    ids = [["-i", "relay"], ["-i", "view"], ["-i", "relay", "-c", "-x", "3600"], ["-i", "tidegate-relay-basel-relay"]]

    for name in ("line-5", "historian"):
        for options in ids:
            assert "CONNACK (0)" in line.dmz.publish(name, "tidegate/v1/line-4/r/data", *options)
    line.assert_unharmed()

    line.relay.send_signal(signal.SIGTERM)
    line.relay.wait()
    for options in ids:
        thief = line.dmz.subscribe("line-5", "tidegate/v1/#", *options)
        assert line.dmz.stop_and_read(thief) == ""
    line.start_relay()
    line.assert_unharmed()


@pytest.mark.requirement("REQ-SAFE-04")
@pytest.mark.parametrize(
    ("name", "topics"),
    [
        (
            "line-5",
            "tidegate/v1/line-4/r/data tidegate/v1/line-4/status tidegate/v1/line-5/r/invented tidegate/v1/line-5",
        ),
        (
            "line-5",
            "uns/acme/basel/upstream/line-4/mixer/count uns/x relay/x $SYS/broker/uptime tidegate/v1/LINE-5/r/data",
        ),
        ("relay", "tidegate/v1/relay/r/data tidegate/v1/line-4/r/data tidegate/v1/relay/status uns/x"),
        ("view", "tidegate/v1/view/r/data tidegate/v1/line-4/r/data tidegate/v1/view/status"),
        ("historian", "tidegate/v1/historian/r/data tidegate/v1/line-4/r/data uns/x uns/historian"),
    ],
)
def test_nobody_publishes_outside_the_own_topics(broker: Dmz, name: str, topics: str) -> None:
    accepted = [topic for topic in topics.split() if not broker.is_refused(name, topic, "-r")]
    reader, user = broker.subscribe("relay", "#", "-C", "1"), broker.subscribe("historian", "#", "-C", "1")
    broker.publish("line-5", "tidegate/v1/line-5/status", text="last")
    broker.publish("view", "uns/x", text="last")

    assert accepted == []
    # What is retained comes before what is published later: there was nothing.
    assert reader.communicate()[0] == "tidegate/v1/line-5/status last\n"
    assert user.communicate()[0] == "uns/x last\n"


def test_what_is_refused_reaches_nobody_over_mqtt_3_either(line: Line) -> None:
    """Over MQTT 3.1.1 the broker cannot say that it refuses."""
    user = line.dmz.subscribe("historian", "uns/#")
    said = line.dmz.publish("line-5", "tidegate/v1/line-4/r/data", version="311")
    line.dmz.publish("line-5", VALUE, "-n", "-r", version="311")
    line.assert_unharmed()

    assert "PUBACK" in said
    values = line.dmz.stop_and_read(user)
    assert VALUE in values
    assert "(null)" not in values


def test_a_gateway_that_subscribes_gets_nothing(line: Line) -> None:
    topics = ("#", "tidegate/v1/#", "tidegate/v1/line-5/#", "uns/#", "$SYS/#", "$share/relay/tidegate/v1/#")
    for topic in topics:
        thief = line.dmz.subscribe("line-5", topic)
        line.wait_for_more()
        assert line.dmz.stop_and_read(thief) == ""
        assert f"line-5 1 {topic}\n" in line.dmz.log.read_text()  # The log names each.
    user = line.dmz.subscribe("historian", "#")
    line.wait_for_more()
    assert set(re.findall("^[^/]+", line.dmz.stop_and_read(user), re.MULTILINE)) <= {"uns"}
    line.assert_unharmed()


def test_what_a_gateway_can_leave_behind_is_bounded_and_cuts_nobody_off(line: Line) -> None:
    """Retained messages outlive their sender: they come again with each start of the relay."""
    own = [line.removeprefix("topic write ") for line in (ROOT / "configs/dmz/acl").read_text().splitlines()
           if line.startswith("topic write tidegate/")]  # fmt: skip
    types = {f"tidegate/v1/line-4/r/{kind.name.lower()}" for kind in RecordType if kind is not RecordType.CHECKPOINT}
    line.relay.send_signal(signal.SIGTERM)
    line.relay.wait()

    for topic in own:
        line.dmz.publish("line-5", topic.replace("line-4", "line-5"), "-r", text=f"not a record, on {topic}" * 2_000)
    line.start_relay()

    assert set(own) == types | {"tidegate/v1/line-4/checkpoint", "tidegate/v1/line-4/status"}
    bad = len(own) - 1  # A status is no record.
    line.dmz.wait(lambda: (line.status().issuers[-1].rejected, line.status().issuers[-1].duplicates) == (bad, bad))
    assert [issuer.rejected for issuer in line.status().issuers] == [0, bad]


def test_a_will_is_no_way_round(line: Line) -> None:
    """The broker publishes a will by itself, when its client dies."""
    topics = (VALUE, "tidegate/v1/line-4/status", "tidegate/v1/line-4/r/data")
    for died, topic in enumerate(topics, 1):
        will = ["--will-topic", topic, "--will-payload", "forged", "--will-retain", "--will-qos", "1"]
        dying = line.dmz.subscribe("line-5", "#", *will)
        dying.kill()
        dying.communicate()
        ended = re.compile("Client line-5 (closed its connection|disconnected: )")
        line.dmz.wait(lambda died=died, ended=ended: len(ended.findall(line.dmz.log.read_text())) == died)

    user = line.dmz.subscribe("historian", "uns/#", "-C", "5")
    assert "forged" not in user.communicate()[0]
    line.assert_unharmed()


@pytest.mark.requirement("REQ-SAFE-03")
def test_without_a_certificate_of_the_plant_there_is_no_connection(broker: Dmz) -> None:
    stranger = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -keyout {0}.key -out {0}.pem -subj"
    broker.run("bash", "-euc", f"cd {broker.folder}; " + stranger.format("stranger") + " /CN=relay")

    said = broker.publish("stranger", "tidegate/v1/line-4/r/data")

    assert "CONNACK" not in said
    assert " as relay " not in broker.log.read_text()
