"""Consumers in Node and Python have from SQL, MQTT and Kafka what the device served, knowing the contracts only."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from itertools import groupby
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from tests.support.contracts import promised, types
from tests.support.kafka import Kafka, running_kafka
from tests.support.mosquitto import running_mosquitto
from tests.support.postgres import Postgres

TEMPERATURES = (20.5, 21.3, 37.25, 36.9)
BATCHES = ("B-0", "B-1 \N{GREEK SMALL LETTER MU}", 'B"2,;', "B-3")
SPEEDS = (100.0, 110.0, 120.0, 130.0)
"""What the device serves, a second each; then it holds the last."""
GATEWAY = """\
gateway: {name: line-4, path: acme/basel, state: state}
clock: {require: any, chrony: off}
uplink: {mqtt: {host: 127.0.0.1, port: PORT, tls: off}}
devices:
  - name: mixer
    driver: simulator
    replay: {file: run.csv, at_end: hold}
    scan_groups:
      - every: 100 ms
        tags:
          - {name: temperature, signal: replay, column: temperature, type: float32, unit: Cel}
          - {name: speed, signal: replay, column: speed, type: uint16, scale: 0.1, unit: /min}
          - {name: batch, signal: replay, column: batch, type: text}
          - {name: count, signal: counter, period: 100 ms, type: uint64}
"""
RELAY = """\
relay:
  name: basel
  archive: archive
  trust: [state/identity.pub.pem]
  mqtt: {host: 127.0.0.1, port: PORT, tls: off}
  views: {unified_namespace: {prefix: uns}}
  kafka: {servers: ["KAFKA"], prefix: plant., tls: off}
  sinks: {historian: {host: SOCKET, port: SQL, database: consumed, tls: off}, stream: {}}
"""
TAGS = ("batch", "count", "speed", "temperature")
WITHIN_S = 60
EXAMPLE = Path(__file__).parents[3] / "docs/examples/stream_in_range.py"


@contextmanager
def running(folder: Path, *command: str) -> Iterator[None]:
    """A command of Tidegate in a folder, its log beside it."""
    program = [sys.executable, "-c", "from edge.cli import main; main()", *command]
    with (folder / f"{command[0]}.log").open("wb") as log:
        process = subprocess.Popen(program, cwd=folder, stdout=subprocess.DEVNULL, stderr=log)
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(WITHIN_S)


def wait(is_so: Callable[[], bool], folder: Path) -> None:
    """Wait until it is so."""
    pause = Event()
    for _ in range(WITHIN_S * 5):
        if is_so():
            return
        pause.wait(0.2)
    pytest.fail("\n".join(file.read_text() for file in folder.glob("*.log")))


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    with running_kafka() as broker:
        for topic in ("values", "events"):
            broker.create_topic(f"plant.{topic}", 3)
        yield broker


@pytest.fixture
def consumed(tmp_path: Path, postgres: Postgres, kafka: Kafka) -> Iterator[dict[str, Any]]:
    """What the consumer printed, after the device has served its run."""
    postgres.create("consumed")
    postgres.psql("CREATE ROLE consumer LOGIN IN ROLE tidegate_reader")
    rows = zip(range(4), TEMPERATURES, (round(speed * 10) for speed in SPEEDS), BATCHES, strict=True)
    quoted = ['{},{},{},"{}"'.format(*row[:3], row[3].replace('"', '""')) for row in rows]
    (tmp_path / "run.csv").write_text("\n".join(["seconds,temperature,speed,batch", *quoted, ""]))
    (tmp_path / "broker").mkdir()
    with ExitStack() as stack:
        port = stack.enter_context(running_mosquitto(tmp_path / "broker", "topic readwrite #\n"))
        for name, text in (("gateway.yaml", GATEWAY), ("relay.yaml", RELAY)):
            settings = {"PORT": str(port), "SOCKET": postgres.socket, "SQL": str(postgres.port),
                        "KAFKA": kafka.address()}  # fmt: skip
            for word, value in settings.items():
                text = text.replace(word, value)
            (tmp_path / name).write_text(text)
        stack.enter_context(running(tmp_path, "run", "gateway.yaml"))
        wait((tmp_path / "state/identity.pub.pem").exists, tmp_path)
        stack.enter_context(running(tmp_path, "relay", "relay.yaml"))
        last = f"SELECT count(*) FROM tidegate.newest WHERE tag = 'batch' AND text = '{BATCHES[-1]}'"
        wait(lambda: postgres.psql(last, "consumed") == "1", tmp_path)
        topics = [f"uns/acme/basel/mixer/{tag}" for tag in TAGS]
        database = (postgres.socket, str(postgres.port), "consumer", "consumed")
        result = subprocess.run(
            ["node", Path(__file__).with_name("consumer.mjs"), *database, "line-4", "mixer", str(port), *topics],
            env={**os.environ, "NODE_PATH": "/usr/share/nodejs"}, capture_output=True, text=True, check=False,
            timeout=WITHIN_S,
        )  # fmt: skip
        assert result.returncode == 0, result.stderr
        found: dict[str, Any] = json.loads(result.stdout)
        found["shown"] = {topic.rpartition("/")[2]: message for topic, message in found["shown"].items()}
        # The last value in SQL may be a moment before it in Kafka.
        last = [row["src"] for row in found["history"] if row["tag"] == "temperature"][-1]
        wait(lambda: last in streamed(kafka)["by_source"], tmp_path)
        found["gaps"] = postgres.psql("SELECT from_ns FROM tidegate.gap", "consumed").split()
        wait(lambda: len(found["gaps"]) <= len(streamed(kafka)["missing"]), tmp_path)
        found["streamed"] = streamed(kafka)
        status = [sys.executable, "-c", "from edge.cli import main; main()", "status", "relay.yaml", "--json"]
        told = subprocess.run(status, cwd=tmp_path, capture_output=True, check=True, timeout=WITHIN_S).stdout
        found["sinks"] = {sink["name"]: sink for sink in json.loads(told)["relay"]["sinks"]}
        yield found


def streamed(kafka: Kafka) -> dict[str, Any]:
    """What the example of a consumer answers of the topics by now."""
    words = (kafka.address(), "plant.", "line-4", "mixer", "temperature", "20", "37")
    result = subprocess.run([sys.executable, EXAMPLE, *words], capture_output=True, text=True, check=False,
                            timeout=WITHIN_S)  # fmt: skip
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def is_in_order(found: Sequence[object], run: Sequence[object]) -> bool:
    """Whether these are values of the run in its order, to its last: a busy machine may miss a moment of it."""
    rest = iter(run)
    return all(value in rest for value, _ in groupby(found)) and found[-1] == run[-1]


def test_consumers_have_what_the_device_served_from_sql_and_mqtt_and_kafka(consumed: dict[str, Any]) -> None:
    history = {tag: [*rows] for tag, rows in groupby(consumed["history"], lambda row: row["tag"])}
    newest = {row["tag"]: row for row in consumed["newest"]}
    shown = consumed["shown"]
    served = {
        tag: [row["text" if tag == "batch" else "value"] for row in rows if row["quality"] == "good"]
        for tag, rows in history.items()
    }
    bad = [row for rows in history.values() for row in rows if row["quality"] == "bad"]
    counts = [int(row["exact"]) for row in history["count"] if row["quality"] == "good"]

    for tag, run in (("temperature", TEMPERATURES), ("speed", SPEEDS), ("batch", BATCHES)):
        assert is_in_order(served[tag], run), served[tag]
    assert counts == sorted(counts)
    assert {(row["value"], row["text"], row["exact"]) for row in bad} <= {(None, None, None)}
    assert {tag: {row["unit"] for row in rows} for tag, rows in history.items()} == {
        "batch": {""}, "count": {""}, "speed": {"/min"}, "temperature": {"Cel"},
    }  # fmt: skip
    places = [(row["tag"], row["src"]) for rows in history.values() for row in rows]
    assert len(places) == len({*places})
    assert (newest["temperature"]["value"], newest["speed"]["value"], newest["batch"]["text"]) == (36.9, 130.0, "B-3")
    assert (shown["temperature"]["v"], shown["speed"]["v"], shown["batch"]["v"]) == (36.9, 130.0, "B-3")
    assert int(shown["count"]["v"]) >= counts[-1]
    # One value has one source, whichever way it came.
    assert shown["batch"]["src"] == history["batch"][-1]["src"]
    assert {*shown["batch"]} - {"retained"} <= {*promised("PREFIX/PATH/DEVICE/TAG")}
    assert {*history["batch"][0]} - {"src"} <= {*types("tidegate.reading")}
    assert shown["batch"]["retained"]
    answer = consumed["streamed"]
    rows = {row["src"]: row["value"] for row in history["temperature"]}
    assert {src: answer["by_source"][src] for src in rows} == rows
    assert (answer["in_range"], answer["unit"]) == (False, "Cel")
    missing = {str(np.datetime64(each["t"].removesuffix("Z"), "ns").astype(np.int64)) for each in answer["missing"]}
    assert {*consumed["gaps"]} <= missing  # A busy machine may miss a moment.
    assert {each["value"] for each in answer["outside"]} == {value for value in TEMPERATURES if not 20 <= value <= 37}
    assert {name: (sink["state"], sink["refused"]) for name, sink in consumed["sinks"].items()} == {
        "historian": ("up", 0), "stream": ("up", 0),
    }  # fmt: skip
