"""`tidegate relay` with a historian: from a real broker into a real PostgreSQL, over the end of either."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.health import read_status
from edge.health.relay_snapshot import SinkStatus
from tests.peers.relay.conftest import Plant
from tests.peers.relay.test_relay_process import publisher, relay_process
from tests.support.authority import OpensslAuthority
from tests.support.postgres import ROOT_OF_CONFIGS, Postgres, running_postgres

SCANS = 200


@pytest.fixture
def server() -> Iterator[Postgres]:
    with running_postgres() as server:
        server.create("tidegate", with_schema=False)
        for name in ("schema.sql", "accounts.sql"):
            server.psql_file(ROOT_OF_CONFIGS / name, "tidegate")
        yield server


def configured(tmp_path: Path, plant: Plant, port: int, historian: str) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"relay:\n  name: it\n  archive: {tmp_path}/archive\n  trust: [{plant.trust}]\n"
        f"  mqtt: {{host: 127.0.0.1, port: {port}, tls: off}}\n"
        f"  sinks: {{historian: {{{historian}}}}}\n"
        f"  status: {{socket: {tmp_path}/s}}\n"
    )
    return path


def wait_for_certificates(folder: Path, count: int) -> list[tuple[str, str, str]]:
    """Whose they are, their names, and what needs them, of those in the status, once there are so many."""
    pause = threading.Event()
    while len(held := read_status(folder / "s").certificates) < count:
        pause.wait(0.05)
    return [(each.whose, each.name, each.device) for each in held]


def publish(plant: Plant, port: int, first: int, last: int) -> None:
    with publisher(port) as client:
        for record in plant.records[first:last]:
            sent = client.publish(plant.topic(record), record.data, qos=1)
        sent.wait_for_publish(10)


def wait_for_sink(folder: Path, is_so: Callable[[SinkStatus], bool]) -> SinkStatus:
    pause = threading.Event()
    while True:
        relay = read_status(folder / "s").relay
        if relay is not None and relay.sinks and is_so(relay.sinks[0]):
            return relay.sinks[0]
        pause.wait(0.05)


def has(count: int, server: Postgres) -> Callable[[SinkStatus], bool]:
    return lambda sink: (
        sink.state == "up" and server.psql("SELECT count(*) FROM tidegate.block", "tidegate") == str(count)
    )


def test_a_relay_fills_a_historian_over_kills_of_itself_and_absences_of_the_database(
    tmp_path: Path, plant: Plant, mosquitto_port: int, server: Postgres
) -> None:
    for number in range(SCANS):
        plant.scan(number, 1_800_000_000 * 10**9 + number * 10**9)
    config = configured(tmp_path, plant, mosquitto_port, f"host: {server.socket}, port: {server.port}, tls: off")
    with relay_process(config):
        pass  # The broker knows the subscription from here on.
    with relay_process(config):
        publish(plant, mosquitto_port, 0, 60)  # Killed wherever it is.
    with relay_process(config):
        publish(plant, mosquitto_port, 60, 120)
        wait_for_sink(tmp_path, has(118, server))
        server.stop()
        publish(plant, mosquitto_port, 120, len(plant.records))
        away = wait_for_sink(tmp_path, lambda sink: sink.state == "down")
        server.start()
        wait_for_sink(tmp_path, has(SCANS, server))
        counts = server.psql(
            "SELECT count(*), count(DISTINCT value), min(value), max(value) FROM tidegate.reading WHERE tag = 'count'",
            "tidegate", "analyst",
        )  # fmt: skip

    assert counts == f"{SCANS}|{SCANS}|0|{(SCANS - 1) / 2:g}"
    assert away.code == "TG-R08"
    assert f"tidegate at {server.socket}:{server.port}" in away.reason


def test_the_relay_comes_in_by_its_certificate_and_by_nothing_else(
    tmp_path: Path, plant: Plant, mosquitto_port: int, server: Postgres
) -> None:
    authority = OpensslAuthority(tmp_path / "pki")
    authority.issue("server", use="serverAuth")
    for name in ("tidegate", "analyst"):
        authority.issue(name)
    files = [server.folder / name for name in ("ca.pem", "server.pem", "server.key")]
    for file in files:
        shutil.copy(authority.folder / file.name, file)
    server.own(files)
    local = "local all postgres trust\n"
    (server.folder / "data/pg_hba.conf").write_text(local + (ROOT_OF_CONFIGS / "pg_hba.conf").read_text())
    for name, value in [("ssl", "on"), ("ssl_cert_file", "server.pem"), ("ssl_key_file", "server.key"),
                        ("ssl_ca_file", "ca.pem")]:  # fmt: skip
        path = value if value == "on" else f"{server.folder}/{value}"
        server.psql(f"ALTER SYSTEM SET {name} = '{path}'")
    server.stop()
    server.start()

    def historian(account: str, name: str) -> str:
        at = authority.folder
        tls = f"tls: {{ca: {at}/ca.pem, certificate: {at}/{name}.pem, key: 'file:{at}/{name}.key'}}"
        return f"host: 127.0.0.1, port: {server.port}, account: {account}, {tls}"

    with relay_process(configured(tmp_path, plant, mosquitto_port, historian("tidegate", "analyst"))):
        refused = wait_for_sink(tmp_path, lambda sink: "not connected yet" not in sink.reason)
    with relay_process(configured(tmp_path, plant, mosquitto_port, historian("tidegate", "tidegate"))):
        taken = wait_for_sink(tmp_path, lambda sink: "not connected yet" not in sink.reason)
        held = wait_for_certificates(tmp_path, 3)

    assert refused.state == "down"
    assert "it does not let us in" in refused.reason
    assert (taken.state, taken.reason) == ("up", "")
    assert held == [
        ("ours", "CN=tidegate", "historian"),
        ("our authority's", "CN=plant authority", "historian"),
        ("the database's", "CN=server", "historian"),
    ]
