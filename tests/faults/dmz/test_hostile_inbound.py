"""One way, seen from inside TLS: the gateway never subscribes, and nothing that is sent to it changes anything.

The recorder has the broker's own key, as somebody has who has taken over the machine in the DMZ.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path
from random import Random

import orjson
import pytest

from edge.health import read_status
from edge.health.snapshot import UplinkStatus
from edge.mqtt.codec import PacketType, packet
from tests.support.dmz import TIDEGATE
from tests.support.tls_recorder import packet_types
from tests.support.zones import BROKER, DEVICE, GATEWAY, ZonedLine, attack, load, packets, tapped, unload

RECONNECTS = int(os.environ.get("TIDEGATE_RECONNECTS", "60"))
"""An hour in which the broker ends the connection every minute; 4800 are as many as an hour can have."""
MESSAGES, AT_ONCE = int(os.environ.get("TIDEGATE_HOSTILE", "10000")), 200
MORE_BYTES = 16 * 2**20
ENDS = bytes((PacketType.PINGRESP << 4, 0))  # Allowed at any time, and without effect.


def hostile(random: Random) -> bytes:
    """A packet that no broker may send to a client that has subscribed to nothing."""
    topic = random.choice([b"tidegate/v1/line-4/cmd", b"$SYS/x", b"#", b"\xff", b""])
    named = len(topic).to_bytes(2, "big") + topic
    kind = random.choice([each for each in PacketType if each not in (PacketType.PUBACK, PacketType.PINGRESP)])
    return random.choice([
        packet(PacketType.PUBLISH << 4 | random.randrange(16), named, random.randbytes(random.randrange(200))),
        packet(PacketType.SUBSCRIBE << 4 | 2, b"\0\1\0", named, b"\1"),
        packet(kind << 4, random.randbytes(random.randrange(60))),
        packet(PacketType.PUBACK << 4, b"\xff\xff"),  # Of what was never sent.
        packet(PacketType.PUBACK << 4, b"\0\0"),
        bytes((kind << 4, 0xFF, 0xFF, 0xFF, 0x7F)),  # 268 MB are said to follow.
        bytes((kind << 4, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF)),
        packet(random.randrange(16), random.randbytes(4)),
    ])  # fmt: skip


def uplink(line: ZonedLine) -> UplinkStatus:
    snapshot = read_status(line.dmz.folder / "state/status.sock").uplink
    assert snapshot is not None
    return snapshot


def resident_bytes(line: ZonedLine) -> int:
    [kilobytes] = re.findall(r"VmRSS:\s+(\d+)", Path(f"/proc/{line.gateway.pid}/status").read_text())
    return int(kilobytes) * 1024


def state_of(line: ZonedLine) -> dict[str, object]:
    """What somebody might want to change: the process and what it holds open, its key and its files, who listens."""
    folder = line.dmz.folder / "state"
    kept = {path.name: path.read_bytes() for path in folder.glob("*") if path.suffix in (".pem", ".sha256")}
    return {
        "process": (line.gateway.pid, line.gateway.poll()),
        "files": (sorted(path.name for path in folder.iterdir() if path.suffix != ".new"), kept),  # No drafts.
        "listens": line.zones.gateway.run("ss", "--no-header", "--listening", "--tcp", "--udp", "--raw"),
        "chains": len(line.status().issuers),
    }


def events(line: ZonedLine) -> Counter[str]:
    """What has happened to the gateway: each is on record, and in its log; but not what a busy machine does to time."""
    log = (line.dmz.folder / "gateway.log").read_text().splitlines(keepends=True)
    kinds = (orjson.loads(each)["event"] for each in log if each.endswith("\n"))
    return Counter(kind for kind in kinds if kind.split(".")[0] not in ("poll", "time"))


def tracked_connections(line: ZonedLine) -> int:
    return int(line.zones.gateway.run("sysctl", "--values", "net.netfilter.nf_conntrack_count"))


def connections(folder: Path) -> int:
    return sum(1 for _ in folder.glob("*.line-4"))


@pytest.mark.requirement("REQ-SAFE-02")
@pytest.mark.timeout(max(120, RECONNECTS))
def test_in_an_hour_of_reconnects_the_gateway_never_subscribes(line: ZonedLine) -> None:
    with tapped(line, [b""] * RECONNECTS) as folder:
        line.dmz.wait(lambda: connections(folder) > RECONNECTS, line.gateway)
        line.wait_for_more()
        topic = "tidegate/v1/#"
        client = [*line.dmz.client("mosquitto_sub", "line-5"), "-t", topic, "-E"]
        line.zones.gateway.run("env", f"--chdir={line.dmz.folder}", *client)  # The control.
        recordings = [(path.suffix, Counter(packet_types(path.read_bytes()))) for path in folder.iterdir()]

    said = sum((types for name, types in recordings if name == ".line-4"), Counter[PacketType]())
    assert set(said) <= {PacketType.CONNECT, PacketType.PUBLISH, PacketType.PINGREQ, PacketType.DISCONNECT}
    assert said[PacketType.CONNECT] > RECONNECTS
    assert said[PacketType.PUBLISH] > RECONNECTS
    assert [types[PacketType.SUBSCRIBE] for name, types in recordings if name == ".line-5"] == [1]
    subscribed = set(re.findall(r"\d+: (\S+) \d (?:\S+)$", line.dmz.log.read_text(), re.MULTILINE))
    assert "line-5" in subscribed
    assert "line-4" not in subscribed
    line.assert_unharmed()


@pytest.mark.requirement("REQ-SAFE-02")
@pytest.mark.timeout(max(120, MESSAGES // 50))
def test_hostile_packets_of_the_broker_change_nothing(line: ZonedLine) -> None:
    """The first that is not allowed ends the connection, and is on record; the rest is not read any more."""
    random = Random(5)
    before, memory, known = state_of(line), resident_bytes(line), events(line)
    batches = [
        ENDS * (AT_ONCE // 2) + b"".join(hostile(random) for _ in range(AT_ONCE // 2))
        for _ in range(MESSAGES // AT_ONCE)
    ]

    with tapped(line, batches) as folder:
        line.dmz.wait(lambda: connections(folder) > len(batches), line.gateway)
        line.wait_for_more()

    line.assert_unharmed()
    assert state_of(line) == before
    assert resident_bytes(line) < memory + MORE_BYTES
    more = events(line) - known
    assert {kind.split(".")[0] for kind in more} == {"uplink"}
    assert more["uplink.inbound"] > 0
    asked = ["log", str(line.dmz.folder / "archive"), "--kind", "uplink.inbound", "--json"]
    assert '"kind":"uplink.inbound"' in line.dmz.run(*TIDEGATE, *asked)


def test_hostile_packets_on_the_wire_change_nothing(line: ZonedLine) -> None:
    """From the broker's own machine, past its firewall, in the name of the broker, of the device and of others."""
    zones = line.zones
    before, memory, known = state_of(line), resident_bytes(line), events(line)
    connects, refused = uplink(line).connects, packets(zones.gateway, "refused_in")
    answers, tracked = packets(zones.dmz, "not_for_broker", "watch"), tracked_connections(line)

    attack(zones.dmz, "ot", 10_000, GATEWAY, BROKER, DEVICE, "198.51.100.2", "203.0.113.77")

    line.assert_unharmed()
    assert packets(zones.gateway, "refused_in") > refused + 1_000  # A busy kernel drops some before its firewall.
    assert uplink(line).connects == connects  # Not even the connection has ended.
    assert state_of(line) == before
    assert resident_bytes(line) < memory + MORE_BYTES
    assert events(line) == known
    assert packets(zones.dmz, "not_for_broker", "watch") == answers
    assert tracked_connections(line) < tracked + 50

    unload(zones.gateway)  # The control: without its firewall the kernel answers.
    attack(zones.dmz, "ot", 1_000, GATEWAY, BROKER, "203.0.113.77")
    load(zones.gateway, "gateway")
    assert packets(zones.dmz, "not_for_broker", "watch") > answers
