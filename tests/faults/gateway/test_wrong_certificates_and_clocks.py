"""A gateway whose broker cannot be trusted, or whose clock is wrong by years, goes on reading and says what helps."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edge.health import StatusSnapshot, read_status
from edge.health.problems import problems_of
from hil.wall_clock import WallClock
from tests.support.authority import OpensslAuthority
from tests.support.mosquitto import running_mosquitto
from tests.support.ports import free_port

TIDEGATE = [sys.executable, "-c", "from edge.cli import main; main()"]
WITHIN_S = 90
_GATEWAY = """
gateway: {{name: line-4, path: acme/basel, state: ./state}}
clock: {{require: any}}
status: {{socket: ./status.sock}}
uplink:
  mqtt: {{host: 127.0.0.1, port: {port}, tls: {{ca: ca.pem, certificate: line-4.pem, key: "file:line-4.key"}}}}
devices:
  - name: mixer
    driver: simulator
    scan_groups:
      - every: 50 ms
        tags: [{{name: count, signal: counter, period: 50 ms, type: uint32}}]
"""
_RELAY = """
relay:
  name: it-1
  archive: ./archive
  trust: [trusted]
  mqtt:
    host: 127.0.0.1
    port: {port}
    tls: {{ca: ca.pem, certificate: relay.pem, key: "file:relay.key", crl: crl.pem}}
  status: {{socket: ./relay.sock}}
"""


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> OpensslAuthority:
    plant = OpensslAuthority(tmp_path_factory.mktemp("plant"), days=5.5)
    plant.issue("broker", use="serverAuth", days=3.5)
    plant.issue("line-4", days=20.5)
    plant.issue("relay", days=0.5)
    return plant


@contextmanager
def gateway(plant: OpensslAuthority, port: int, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    (plant.folder / "site.yaml").write_text(_GATEWAY.format(port=port))
    with process(plant, "run", "site.yaml", **environment) as running:
        yield running


@contextmanager
def process(plant: OpensslAuthority, *command: str, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    with (plant.folder / "log").open("ab") as log:
        running = subprocess.Popen(
            [*TIDEGATE, *command], cwd=plant.folder, env={**os.environ, **environment}, stdout=log, stderr=log
        )
    try:
        yield running
    finally:
        running.send_signal(signal.SIGTERM)
        try:
            running.wait(WITHIN_S)
        finally:
            running.kill()


def until(
    plant: OpensslAuthority, running: subprocess.Popen[bytes], condition: Callable[[StatusSnapshot], object],
    socket: str = "status.sock",
) -> StatusSnapshot:  # fmt: skip
    """The first status of which something is true."""
    end = time.monotonic() + WITHIN_S
    while True:
        assert running.poll() is None, (plant.folder / "log").read_text()[-3000:]
        try:
            snapshot = read_status(plant.folder / socket)
            if condition(snapshot):
                return snapshot
        except OSError:
            pass
        assert time.monotonic() < end, (plant.folder / "log").read_text()[-3000:]
        time.sleep(0.1)


def tls_settings(plant: OpensslAuthority, name: str = "broker") -> str:
    """For mosquitto."""
    files = f"certfile {plant.folder}/{name}.pem\nkeyfile {plant.folder}/{name}.key\n"
    return f"cafile {plant.path}\n{files}require_certificate true\n"


def reads_on(snapshot: StatusSnapshot) -> Callable[[StatusSnapshot], object]:
    """Whether more was read and stored since then."""
    assert snapshot.chain is not None
    sealed = snapshot.chain.readings
    return lambda now: now.chain and now.chain.readings > sealed + 20 and now.uplink and now.uplink.waiting


def reason(snapshot: StatusSnapshot) -> str:
    return snapshot.uplink.reason if snapshot.uplink else ""


def test_an_attackers_certificate_is_refused_and_what_is_read_waits(
    plant: OpensslAuthority, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    attacker = OpensslAuthority(tmp_path_factory.mktemp("attacker"), "plant authority")  # The same name, another key.
    attacker.issue("broker", use="serverAuth")
    port = free_port()
    command = ["openssl", "s_server", "-accept", f"127.0.0.1:{port}", "-cert", str(attacker.folder / "broker.pem"),
               "-key", str(attacker.folder / "broker.key"), "-quiet"]  # fmt: skip
    with (tmp_path / "received").open("wb") as received:
        attacking = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=received, stderr=subprocess.DEVNULL)
    with attacking, gateway(plant, port) as running:
        try:
            refused = until(plant, running, lambda now: "its certificate" in reason(now))
            until(plant, running, reads_on(refused))
            sentences = [problem.sentence for problem in problems_of(refused)]
        finally:
            attacking.kill()

    assert any(
        "not in our CA file; check uplink.mqtt.tls.ca, or find out who answers in its place" in each
        for each in sentences
    ), sentences
    assert (tmp_path / "received").read_bytes() == b""


@pytest.mark.parametrize(
    ("years", "sentence"),
    [
        (-10, "is not valid yet; this machine's clock says {}-"),
        (10, "has expired; renew it, or check this machine's clock, which says {}-"),
    ],
)
def test_a_clock_that_is_wrong_by_years_stops_sending_only(
    plant: OpensslAuthority, tmp_path: Path, years: int, sentence: str
) -> None:
    """With every certificate invalid by it, readings wait; they leave once the clock is set, without a restart."""
    clock = WallClock(tmp_path)
    clock.shift(years * 31_556_952)

    with (
        running_mosquitto(tmp_path, "topic write #\n", tls_settings(plant)) as port,
        gateway(plant, port, **clock.environment) as running,
    ):
        refused = until(plant, running, lambda now: "its certificate" in reason(now))
        until(plant, running, reads_on(refused))
        clock.shift(0)
        until(plant, running, lambda now: now.uplink and now.uplink.connects)

    assert sentence.format(time.gmtime().tm_year + years) in reason(refused)


def test_a_brokers_certificate_that_ends_while_connected_ends_no_connection_and_is_renewed_without_a_restart(
    plant: OpensslAuthority, tmp_path: Path
) -> None:
    plant.issue("brief", use="serverAuth", days=1.5)
    clock, settings, access = WallClock(tmp_path), tls_settings(plant, "brief"), "topic write #\n"
    port = free_port()
    with gateway(plant, port, **clock.environment) as running:
        with running_mosquitto(tmp_path, access, settings, port):
            connected = until(plant, running, lambda now: now.uplink and now.uplink.published)
            assert connected.uplink
            clock.shift(2 * 86_400)
            sent = connected.uplink.published
            still = until(plant, running, lambda now: now.uplink and now.uplink.published > sent + 20)
            assert still.uplink
            assert still.uplink.connects == connected.uplink.connects
        with running_mosquitto(tmp_path, access, settings, port):
            refused = until(plant, running, lambda now: "its certificate" in reason(now))
            until(plant, running, reads_on(refused))
        plant.issue("brief", use="serverAuth", days=4.5)
        with running_mosquitto(tmp_path, access, settings, port):
            renewed = until(plant, running, lambda now: now.uplink and now.uplink.connects > still.uplink.connects)

    assert "has expired; renew it" in reason(refused)
    assert renewed.buffer
    assert not renewed.buffer.dropped_records


def ends(snapshot: StatusSnapshot) -> list[str]:
    """What is said of ends, with days or hours alone."""
    found = [problem.sentence for problem in problems_of(snapshot) if " expires in " in problem.text]
    return [re.sub(r"( in \d+ [dh])[^;]*", r"\1", each) for each in found]


def test_each_side_says_when_certificates_end_its_own_and_the_others(plant: OpensslAuthority, tmp_path: Path) -> None:
    """Of the broker, of the authority of both, and of the revocation list: in `status`, and once in the log."""
    (plant.folder / "trusted").mkdir(exist_ok=True)
    (plant.folder / "trusted/ca.pem").write_bytes(plant.path.read_bytes())
    plant.write_list(days=2.5)
    with running_mosquitto(tmp_path, "topic readwrite #\n", tls_settings(plant)) as port:
        (plant.folder / "relay.yaml").write_text(_RELAY.format(port=port))
        (plant.folder / "log").write_bytes(b"")
        with gateway(plant, port) as running:
            ours = until(plant, running, lambda now: any(each.whose == "the broker's" for each in now.certificates))
        with process(plant, "relay", "relay.yaml", "--json") as running:
            theirs = until(plant, running, lambda now: any(each.whose == "the broker's" for each in now.certificates),
                           "relay.sock")  # fmt: skip

    assert ends(ours) == [
        "gateway: our authority's certificate CN=plant authority expires in 5 d; renew it (TG-K03)",
        "gateway: the broker's certificate CN=broker expires in 3 d; renew it (TG-K03)",
        "gateway: our certificate CN=line-4 expires in 20 d; renew it (TG-K03)",
    ]
    assert ends(theirs) == [
        "relay: our certificate CN=relay expires in 11 h; renew it (TG-K03)",
        "relay: our authority's certificate CN=plant authority expires in 5 d; renew it (TG-K03)",
        "relay: the revocation list of CN=plant authority expires in 2 d; renew it (TG-K03)",
        "relay: the broker's certificate CN=broker expires in 3 d; renew it (TG-K03)",
    ]
    log = (plant.folder / "log").read_text()
    assert log.count('"cert.expiring"') == 7
