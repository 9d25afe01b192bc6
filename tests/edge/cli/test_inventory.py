"""What the devices are, from a running gateway, from the devices themselves, and from records."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from edge.config.check import check
from edge.health import DeviceIdentity, DeviceStatus, GatewayStatus, StatusSnapshot
from edge.model import Identity
from edge.seal import KnownDevice, RecordType, encode_identities
from tests.support.chains import TIME, Plant, grow, start

Tidegate = Callable[..., Result]

DEVICES = """\
devices:
  - {name: plc, driver: toy, host: h, scan_groups: [{every: 1 s, tags: [{name: a, address: a}]}]}
  - {name: drive, driver: toy, host: away, scan_groups: [{every: 1 s, tags: [{name: a, address: a}]}]}
"""
ACME = Identity(vendor="Acme", product="P-1", firmware="2.4", serial="77", more=(("revision", "B"),))
OTHER = replace(ACME, serial="78")
S = 10**9
NOON_NS = 1_769_860_800 * S


@pytest.fixture
def config(toy: Any, site: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> Path:
    others = (check.__defaults__ or ())[1:]
    monkeypatch.setattr("edge.config.check.check.__defaults__", (lambda name: toy, *others))
    return site(DEVICES)


@contextmanager
def running(path: Path, snapshot: StatusSnapshot) -> Iterator[None]:
    """A gateway that says this of itself, once."""
    path.parent.mkdir(exist_ok=True)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()

        def answer() -> None:
            connection, _ = listening.accept()
            with connection:
                connection.sendall(snapshot.to_json())

        thread = threading.Thread(target=answer)
        thread.start()
        yield
        thread.join()


def test_a_running_gateway_is_asked(config: Path, tidegate: Tidegate) -> None:
    known = DeviceIdentity(vendor="Acme", product="P-1", firmware="2.4", serial="77", since_ns=NOON_NS)
    devices = (
        DeviceStatus(name="plc", driver="toy", identity=known),
        DeviceStatus(name="drive", driver="toy", reason="nobody answers"),
    )
    with running(
        config.parent / "state" / "status.sock", StatusSnapshot(gateway=GatewayStatus(name="g"), devices=devices)
    ):
        result = tidegate("inventory", config)

    assert result.stdout.splitlines() == [
        "gateway  device  vendor  product  firmware  serial  since",
        "line-4   plc     Acme    P-1      2.4       77      2026-01-31T12:00:00Z",
        "line-4   drive",
    ]
    assert (result.exit_code, result.stderr) == (1, "drive: nobody answers\n")


def test_a_gateway_that_does_not_run_is_told_what_helps(config: Path, tidegate: Tidegate) -> None:
    result = tidegate("inventory", config)

    assert (result.exit_code, "ask the devices with --ask" in result.stderr) == (1, True)


def test_each_device_is_asked_once_and_one_that_is_away_does_not_hide_the_others(
    toy: Any, config: Path, tidegate: Tidegate
) -> None:
    toy.identities["h"] = replace(ACME, product="\x1b[31mP-1")

    result = tidegate("inventory", config, "--ask")

    assert "Acme    \N{REPLACEMENT CHARACTER}[31mP-1" in result.stdout
    assert (result.exit_code, result.stderr) == (1, "drive: away: nobody answers\n")
    assert toy.asked == ["h", "away"]


# From records


def tell(plant: Plant, *devices: KnownDevice) -> None:
    for payload in encode_identities(bytes(8), "acme/basel", devices):
        plant.records.append(plant.chain.seal(RecordType.CATALOG, payload))


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """The plc was swapped, and swapped back; the drive was told once, and everything is repeated each hour."""
    plant = start()
    first, drive = KnownDevice("plc", ACME, NOON_NS), KnownDevice("drive", replace(ACME, serial="5"), NOON_NS)
    for told in ([first, drive], [first, drive], [KnownDevice("plc", OTHER, NOON_NS + S)]):
        tell(plant, *told)
        grow(plant, 3, stop=False)
    tell(plant, KnownDevice("plc", ACME, NOON_NS + 2 * S), drive)
    plant.records += plant.chain.stop(TIME)
    _write(tmp_path, plant, [record.data for record in plant.records])
    return tmp_path


def _write(folder: Path, plant: Plant, records: Sequence[bytes]) -> None:
    (folder / "line-4").mkdir(exist_ok=True)
    (folder / "line-4" / "2026-01-31.rec").write_bytes(b"".join(records))
    (folder / "line-4.pem").write_bytes(plant.identity.public_pem(plant.chain.issuer))


def inventory(tidegate: Tidegate, archive: Path, *more: str) -> Result:
    return tidegate("inventory", archive, "--trust", archive / "line-4.pem", *more)


def test_records_tell_what_the_devices_were_at_last(archive: Path, tidegate: Tidegate) -> None:
    result = inventory(tidegate, archive, "--json")

    devices = json.loads(result.stdout)["devices"]
    assert [(each["device"], each["serial"], each["since_ns"]) for each in devices] == [
        ("drive", "5", NOON_NS),
        ("plc", "77", NOON_NS + 2 * 10**9),
    ]
    assert (result.exit_code, devices[0]["more"]) == (0, {"revision": "B"})


def test_every_change_is_shown_once_with_its_time_and_its_first_record(archive: Path, tidegate: Tidegate) -> None:
    result = inventory(tidegate, archive, "--history")

    heading, *rows = [line.split() for line in result.stdout.splitlines()]
    assert heading[-2:] == ["since", "record"]
    assert [(row[1], row[-3], row[-2][-9:], row[-1].partition("/")[2]) for row in rows] == [
        ("drive", "5", "12:00:00Z", "1"),
        ("plc", "77", "12:00:00Z", "1"),
        ("plc", "78", "12:00:01Z", "7"),
        ("plc", "77", "12:00:02Z", "10"),
    ]


def test_what_is_not_authentic_is_not_believed(archive: Path, tidegate: Tidegate) -> None:
    path = archive / "line-4" / "2026-01-31.rec"
    path.write_bytes(path.read_bytes().replace(b"b78", b"b79"))
    forged = inventory(tidegate, archive, "--history")
    strange = start()
    tell(strange, KnownDevice("plc", OTHER, 1))
    other = archive / "other"
    other.mkdir()
    _write(other, strange, [record.data for record in strange.records])
    (other / "line-4.pem").write_bytes((archive / "line-4.pem").read_bytes())

    assert "79" not in [line.split()[-3] for line in forged.stdout.splitlines()]
    assert (inventory(tidegate, other).exit_code, inventory(tidegate, other).stderr) == (
        1, "no record tells of a device\n"
    )  # fmt: skip


@pytest.mark.parametrize("arguments", [(), ("--trust", "x", "--json", "--cyclonedx")])
def test_a_use_that_makes_no_sense_is_told(archive: Path, tidegate: Tidegate, arguments: tuple[str, ...]) -> None:
    assert tidegate("inventory", archive, *arguments).exit_code == 2


def test_history_is_a_matter_of_records(config: Path, tidegate: Tidegate) -> None:
    assert tidegate("inventory", config, "--history").exit_code == 2


def test_a_cyclonedx_document_has_a_component_for_each_device(archive: Path, tidegate: Tidegate) -> None:
    first, again = (inventory(tidegate, archive, "--cyclonedx").stdout for _ in range(2))

    document = json.loads(first)
    assert first == again
    assert (document["bomFormat"], document["specVersion"], document["version"]) == ("CycloneDX", "1.6", 1)
    drive, plc = document["components"]
    assert plc == {
        "type": "device",
        "bom-ref": "line-4/plc",
        "manufacturer": {"name": "Acme"},
        "name": "P-1",
        "version": "2.4",
        "properties": plc["properties"],
    }
    said = {each["name"]: each["value"] for each in plc["properties"]}
    assert said.pop("tidegate:record").endswith("/10")
    assert said == {
        "cdx:device:serialNumber": "77",
        "tidegate:gateway": "line-4",
        "tidegate:device": "plc",
        "tidegate:since": "2026-01-31T12:00:02Z",
        "tidegate:revision": "B",
    }
    assert drive["bom-ref"] == "line-4/drive"


def test_a_device_of_which_nothing_is_known_is_in_the_document_too(toy: Any, config: Path, tidegate: Tidegate) -> None:
    document = json.loads(tidegate("inventory", config, "--ask", "--cyclonedx").stdout)

    assert [(each["name"], "version" in each, "manufacturer" in each) for each in document["components"]] == [
        ("plc", False, False),
        ("drive", False, False),
    ]
