"""`tidegate relay` as a process: killed at any moment it loses nothing acknowledged, and keeps nothing twice."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import paho.mqtt.client as mqtt
import pytest
from click.testing import CliRunner
from paho.mqtt.enums import CallbackAPIVersion

from edge.cli import cli
from edge.health import read_status
from tests.peers.relay.conftest import Plant
from tests.support.chains import archived_records

RECORDS = 1_500
KILLS = 6


@pytest.fixture
def config(tmp_path: Path, plant: Plant, mosquitto_port: int) -> Path:
    path = tmp_path / "relay.yaml"
    path.write_text(
        f"relay:\n  name: it\n  archive: {tmp_path}/archive\n  trust: [{plant.trust}]\n"
        f"  mqtt: {{host: 127.0.0.1, port: {mosquitto_port}, tls: off}}\n"
        f"  status: {{socket: {tmp_path}/s}}\n"
    )
    return path


@contextmanager
def relay_process(config: Path, said: list[str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """A relay that is subscribed, and the lines that it said before in `said`; it is ended when the block is."""
    command = [sys.executable, "-c", "from edge.cli import main; main()", "relay", str(config), "--json"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            said = [] if said is None else said
            for line in process.stderr:
                said.append(line)
                if json.loads(line)["event"] == "subscribed":
                    break
            else:
                pytest.fail(f"the relay ended: {said}")
            yield process
        finally:
            process.kill()


@contextmanager
def publisher(port: int) -> Iterator[mqtt.Client]:
    client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.max_inflight_messages_set(50)
    client.connect("127.0.0.1", port)
    client.loop_start()
    yield client
    client.disconnect()
    client.loop_stop()


def archived(config: Path) -> list[bytes]:
    return archived_records(config.parent / "archive/line-4")


def test_killed_again_and_again_it_archives_every_record_once(config: Path, plant: Plant, mosquitto_port: int) -> None:
    dice = random.Random(7)
    for number in range(RECORDS):
        plant.scan(number)
    with relay_process(config), publisher(mosquitto_port) as client:
        pass  # The broker knows the subscription from here on.
    with publisher(mosquitto_port) as client:
        share = len(plant.records) // KILLS + 1
        for kill in range(KILLS):
            with relay_process(config) as process:
                for record in plant.records[kill * share : (kill + 1) * share]:
                    sent = client.publish(plant.topic(record), record.data, qos=1)
                sent.wait_for_publish(10)
                threading.Event().wait(dice.uniform(0, 0.05))
                process.send_signal(signal.SIGKILL)

    with relay_process(config):
        deadline = threading.Event()
        while len(archived(config)) < len(plant.records):
            assert not deadline.wait(0.02)

    assert sorted(archived(config)) == sorted(record.data for record in plant.records)
    verdict = CliRunner().invoke(cli, ["verify", f"{config.parent}/archive", "--trust", str(plant.trust), "--json"])
    assert orjson.loads(verdict.stdout)["epochs"][0]["verdicts"]["AUTHENTIC"] == len(plant.records)
    assert verdict.exit_code == 0


def test_it_says_how_it_is_and_stops_cleanly_when_asked(config: Path, plant: Plant, mosquitto_port: int) -> None:
    plant.scan(1)
    with relay_process(config) as process, publisher(mosquitto_port) as client:
        for record in plant.records:
            client.publish(plant.topic(record), record.data, qos=1)
        pause = threading.Event()
        while (status := (whole := read_status(config.parent / "s")).relay) is None or not any(
            i.lag_ns for i in status.issuers
        ):
            pause.wait(0.02)
        process.send_signal(signal.SIGTERM)
        code = process.wait(10)

    assert code == 0
    assert status.state == "up"
    assert status.issuers[0].issuer == "urn:tidegate:line-4"
    assert status.issuers[0].authentic == 3
    assert status.view is None
    assert whole.gateway.resident_bytes > 2**20
    assert (config.parent / "archive/relay.snapshot").exists()


def test_it_is_told_to_the_service_manager_when_it_receives(config: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        manager.settimeout(20)
        os.environ["NOTIFY_SOCKET"] = str(tmp_path / "n")
        try:
            with relay_process(config):
                assert manager.recv(200).startswith(b"READY=1")
        finally:
            del os.environ["NOTIFY_SOCKET"]


def test_a_second_relay_on_one_archive_is_refused_with_78(config: Path) -> None:
    with relay_process(config):
        second = subprocess.run(
            [sys.executable, "-c", "from edge.cli import main; main()", "relay", str(config)],
            capture_output=True, text=True, timeout=20, check=False,
        )  # fmt: skip

    assert second.returncode == 78
    assert "in use by another relay" in second.stderr
