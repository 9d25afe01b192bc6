"""`tidegate simulate`: a foreign client and the gateway itself read a configuration's tags without its devices."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from pymodbus.client import ModbusTcpClient

from drivers.modbus.settings import TypeName
from edge.cli import cli
from edge.config.check import load
from tests.support.ports import free_port

ROOT = Path(__file__).parents[3]
TIDEGATE = [sys.executable, "-m", "edge.cli"]
SITE = """\
gateway: {{name: site, path: acme/basel, state: state}}
clock: {{require: any, chrony: off}}
devices:
  - name: reactor
    driver: modbus
    host: 127.0.0.1
    port: {port}
    scan_groups: [{{every: 200 ms, tags_from: reactor.csv}}]
  - name: meter
    driver: modbus
    host: 127.0.0.1
    port: {port}
    unit: 7
    word_order: little
    scan_groups: [{{every: 200 ms, tags: [{{name: energy, address: "input 10", type: uint32, unit: kW.h}}]}}]
"""
TAGS = """\
name,address,type,unit,scale,range,length
temperature,4x00101,float32,Cel,,0..150,
level,holding 103,uint16,%,0.1,0..100,
alarms/high,holding 104.3,,,,,
mode,holding 105.0-3,,,,,
batch,holding 110,text,,,,12
started,holding 120,datetime64,,,,
running,coil 5,,,,,
"""
HELD = {"temperature": 36.75, "level": 42.5, "alarms/high": True, "mode": 9, "batch": "LOT-7", "running": True}


@contextmanager
def simulated(folder: Path, *options: object) -> Iterator[Sequence[str]]:
    """What the command says once it serves; in the end it is asked to stop and has no complaint."""
    command = [*TIDEGATE, "simulate", *map(str, options)]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        lines: list[str] = []
        try:
            while not lines or "Ctrl-C" not in lines[-1]:
                lines.append(process.stdout.readline())
                assert lines[-1], "it ended"
            yield lines
            process.send_signal(signal.SIGINT)
            assert process.wait(20) == 0
        finally:
            process.kill()


@pytest.fixture
def port(tmp_path: Path) -> int:
    port = free_port()
    (tmp_path / "site.yaml").write_text(SITE.format(port=port))
    (tmp_path / "reactor.csv").write_text(TAGS)
    return port


@pytest.fixture
def client(port: int) -> Iterator[ModbusTcpClient]:
    client = ModbusTcpClient("127.0.0.1", port=port, timeout=1, retries=0, reconnect_delay=0)
    yield client
    client.close()


def read_all(file: Path, device: str) -> tuple[int, list[dict[str, Any]]]:
    ran = CliRunner().invoke(cli, ["read", str(file), device, "--json"])
    return ran.exit_code, json.loads(ran.stdout)["values"] if ran.stdout else []


def test_a_foreign_client_reads_the_values_and_can_write_none(
    tmp_path: Path, port: int, client: ModbusTcpClient
) -> None:
    (tmp_path / "values.csv").write_text("tag,signal\n" + "".join(f"{name},{value}\n" for name, value in HELD.items()))
    with simulated(tmp_path, "site.yaml", "--values", "values.csv", "--set", "meter/energy=123456", "--tags") as said:
        client.connect()
        analog = client.read_holding_registers(100, count=6)
        batch = client.read_holding_registers(110, count=6)
        energy = client.read_input_registers(10, count=2, device_id=7)
        codes = [
            answer.exception_code
            for answer in (
                client.read_holding_registers(0),
                client.read_holding_registers(10, device_id=7),
                client.read_coils(900),
                client.write_register(103, 1),
                client.write_registers(100, [1, 2]),
                client.write_coil(5, False),
                client.write_coils(5, [False]),
                client.mask_write_register(address=103, and_mask=0, or_mask=0),
            )
        ]
        again = client.read_holding_registers(100, count=6)

    assert said[0].split() == ["reactor", f"127.0.0.1:{port}", "unit", "1", "7", "tags"]
    assert said[1].split() == ["temperature", "4x00101", "36.75"]
    assert client.convert_from_registers(analog.registers[:2], client.DATATYPE.FLOAT32) == 36.75
    assert analog.registers[3:] == [425, 1 << 3, 9]
    assert client.convert_from_registers(batch.registers, client.DATATYPE.STRING) == "LOT-7"
    assert client.convert_from_registers(energy.registers[::-1], client.DATATYPE.UINT32) == 123456
    assert codes == [2, 2, 2, 1, 1, 1, 1, 1]
    assert again.registers == analog.registers


def test_the_gateway_reads_every_tag_as_the_simulator_says(tmp_path: Path, port: int) -> None:
    pairs = [word for name, value in HELD.items() for word in ("--set", f"{name}={str(value).lower()}")]
    pairs[pairs.index("batch=lot-7")] = "batch=LOT-7"
    with (
        simulated(tmp_path, "site.yaml", *pairs),
        subprocess.Popen([*TIDEGATE, "run", "site.yaml"], cwd=tmp_path, stderr=subprocess.DEVNULL) as gateway,
    ):
        try:
            while not (tmp_path / "state/control.sock").exists():
                assert gateway.poll() is None
                time.sleep(0.05)
            rows = []
            for device in ("reactor", "meter"):
                while (answer := read_all(tmp_path / "site.yaml", device))[0]:
                    time.sleep(0.1)  # It was not read yet; the limit of the test ends it.
                rows += answer[1]
        finally:
            gateway.send_signal(signal.SIGTERM)
            assert gateway.wait(20) == 0

    values = {row["tag"]: row["value"] for row in rows}
    assert {row["quality"] for row in rows} == {"GOOD"}
    assert {name: values[name] for name in HELD} == HELD
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?", values["started"])
    assert 0 <= values["energy"] <= 100


@pytest.mark.parametrize("name", ["line-4", "modbus-lines", "every-type"])
def test_every_configuration_reads_good_without_its_devices(tmp_path: Path, name: str) -> None:
    """The shipped ones, and one with every type."""
    source = ROOT / "configs" / f"{name}.yaml" if name != "every-type" else every_type(tmp_path)
    (tmp_path / "chromatography.csv").write_text((ROOT / "configs/chromatography.csv").read_text())
    (tmp_path / "site.yaml").write_text(source.read_text())
    with simulated(tmp_path, "site.yaml", "--port", "0", "--copy", "lab.yaml"):
        devices = load(tmp_path / "lab.yaml").devices
        read = {device.name: read_all(tmp_path / "lab.yaml", device.name)[1] for device in devices}

    assert [device.name for device in devices] == [device.name for device in load(source).devices]
    for device in devices:
        names = {tag.name for group in device.scan_groups for tag in group.tags}
        assert {row["tag"] for row in read[device.name] if row["quality"] == "GOOD"} == names


def test_a_copy_changes_nothing_but_the_places(tmp_path: Path, port: int) -> None:
    with simulated(tmp_path, "site.yaml", "--device", "meter", "--port", "0", "--copy", "lab.yaml") as said:
        found = re.search(r"127\.0\.0\.1:(\d+)", "".join(said))

    assert found is not None
    assert said[0] == "lab.yaml reads from these devices\n"
    before, after = ((tmp_path / name).read_text().splitlines() for name in ("site.yaml", "lab.yaml"))
    changed = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert changed == [(f"    port: {port}", f"    port: {found[1]}")]


@pytest.mark.parametrize(
    ("more", "sentence"),
    [
        (["--set", "speed=2"], "no tag of these devices is called 'speed'; there are "),
        (["--set", "level"], "--set level: write it as TAG=SIGNAL"),
        (["--device", "boiler"], "no device is called 'boiler'; there are reactor, meter"),
        (["--copy", "elsewhere/lab.yaml"], "--copy names a file beside"),
        (["--values", "values.csv"], 'values.csv:1:1: the columns are "tag" and "signal", or "seconds" and one for'),
        (["--values", "times.csv"], "times.csv:3:1: the time 5 is not later than the one before"),
        (["--set", "level=9e9"], "reactor/level: 9e9 does not fit uint16 (0 to 6553.5)"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, port: int, monkeypatch: pytest.MonkeyPatch, more: list[str],
                           sentence: str) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    (tmp_path / "values.csv").write_text("name,value\n")
    (tmp_path / "times.csv").write_text("seconds,level\n5,1\n5,2\n")

    ran = CliRunner().invoke(cli, ["simulate", "site.yaml", *more])

    assert ran.exit_code != 0
    assert sentence in ran.output + str(ran.exception)


def test_a_recording_is_replayed_in_the_unit_of_the_tag(tmp_path: Path, port: int, client: ModbusTcpClient) -> None:
    (tmp_path / "values.csv").write_text("seconds,level,batch\n0,12.5,LOT-8\n3600,13,LOT-9\n")
    with simulated(tmp_path, "site.yaml", "--values", "values.csv"):
        rows = {row["tag"]: row["value"] for row in read_all(tmp_path / "site.yaml", "reactor")[1]}

    assert (rows["level"], rows["batch"]) == (12.5, "LOT-8")


def every_type(folder: Path) -> Path:
    kinds = [kind for kind in TypeName.__args__ if kind not in ("bool", "uint8", "int8", "text")]  # type: ignore[attr-defined]
    rows = [f"          - {{name: {kind}, address: holding {10 * at}, type: {kind}}}" for at, kind in enumerate(kinds)]
    file = folder / "every.yaml"
    file.write_text(
        "gateway: {name: site, path: acme, state: state}\ndevices:\n  - name: plc\n    driver: modbus\n"
        "    host: 192.0.2.7\n    word_order: little\n    byte_order: little\n    invalid: sunspec\n"
        "    scan_groups:\n      - every: 1 s\n        tags:\n" + "\n".join(rows) + "\n"
    )
    return file
