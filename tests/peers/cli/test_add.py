"""A device of the network is added to a configuration: real servers of three protocols, and nothing else changes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from edge.config.check import check
from tests.edge.cli.test_init import at_terminal
from tests.peers.opcua.plant import running
from tests.support.ports import free_port

TIDEGATE = [sys.executable, "-m", "edge.cli"]
SITE = """\
# Line 4, as agreed on 3 May.
gateway: {name: line-4, path: acme/basel, state: state}   # tail
devices:
  # The first one.
  - name: simulated
    driver: simulator
    scan_groups:
      - {every: 1 s, tags: [{name: t, signal: ramp}]}  # every second

# What comes last.
log: {level: info}
"""
MODBUS = """\
import asyncio
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, steady

async def serve():
    unit = SimulatedUnit([Signal("holding 100", "float32", steady(20.5)), Signal("holding 102", "uint16", steady(1))])
    # What answers for each usual unit is one device, and others are not asked.
    async with SimulatedDevice(dict.fromkeys((1, 255, 0), unit)) as device:
        print(device.port, flush=True)
        await asyncio.Event().wait()

asyncio.run(serve())
"""
FAST = ("--rate", "100")


def tidegate(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [*TIDEGATE, *map(str, arguments)]
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@contextmanager
def started(*command: str) -> Iterator[str]:
    """A program, while it runs; its first line."""
    with subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip()
        finally:
            process.kill()


@pytest.fixture(scope="module")
def controller() -> Iterator[str]:
    """Where a Logix controller answers."""
    with started("-m", "drivers.ethernetip.simulator") as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture(scope="module")
def modbus() -> Iterator[str]:
    """Where a Modbus device answers."""
    with started("-c", MODBUS) as port:
        yield f"127.0.0.1:{port}"


@pytest.fixture
def site(tmp_path: Path) -> Path:
    file = tmp_path / "site.yaml"
    file.write_text(SITE)
    file.chmod(0o640)
    return file


def assert_added(site: Path, name: str) -> None:
    """The file has the device where it belongs, and every other byte as before; it passes the check."""
    head, _, tail = SITE.partition("\n# What comes last.\n")
    text = site.read_text()
    assert text.startswith(head)
    assert text.endswith("\n# What comes last.\n" + tail)
    assert [device.name for device in check(site).gateway().devices] == ["simulated", name]
    assert (site.stat().st_mode & 0o777, (site.parent / f"{name}.csv").stat().st_mode & 0o777) == (0o640, 0o640)


def values_of(site: Path, name: str) -> dict[str, str]:
    answer = json.loads(tidegate("read", site, name, "--json").stdout)
    return {value["tag"]: value["quality"] for value in answer["values"]}


def test_a_controller_with_the_tags_that_are_chosen(site: Path, controller: str) -> None:
    added = tidegate("add", site, controller, "--driver", "ethernetip", *FAST, "--name", "filler",
                     "--filter", "*temp*", "--every", "500 ms")  # fmt: skip

    assert added.returncode == 0, added.stderr
    assert "Some old devices stop" in added.stderr
    assert_added(site, "filler")
    assert "  # 1756-L83E/B, programmable logic controller\n  - name: filler\n" in site.read_text()
    assert "      - every: 500 ms\n        tags_from: filler.csv\n" in site.read_text()
    assert values_of(site, "filler") == {"Temperature": "GOOD"}


def test_a_server_without_the_security_that_it_would_rather_have(site: Path, tmp_path: Path) -> None:
    with running("asyncua", tmp_path) as server:
        url = f"opc.tcp://127.0.0.1:{server.port}"
        options = (*FAST, "--name", "plant", "--filter", "*float*")
        refused = tidegate("add", site, url, *options)
        untouched = site.read_text()
        added = tidegate("add", site, url, *options, "--set", "security=none", "--set", "certificates=")

        assert (refused.returncode > 0, untouched) == (True, SITE)
        assert "tidegate keys opcua create" in refused.stderr
        assert added.returncode == 0, added.stderr
        assert_added(site, "plant")
        assert "GOOD" in values_of(site, "plant").values()


def test_a_device_that_cannot_list_its_tags(site: Path, modbus: str) -> None:
    options = ("--driver", "modbus", *FAST, "--name", "plc")
    unsaid = tidegate("add", site, modbus, *options)
    wrong = tidegate("add", site, modbus, *options, "--tag", "t holding 100 float23")
    untouched = site.read_text()
    added = tidegate("add", site, modbus, *options, "--tag", "t holding 100 float32", "--tag", "on holding 102.0")

    assert (unsaid.returncode, wrong.returncode, untouched) == (2, 2, SITE)
    assert 'write each as --tag "NAME ADDRESS TYPE"' in unsaid.stderr
    assert "'t holding 100 float23' is no tag, which is NAME ADDRESS TYPE: type " in wrong.stderr
    assert added.returncode == 0, added.stderr
    assert_added(site, "plc")
    assert (site.parent / "plc.csv").read_text() == "name,address,type\nt,holding 100,float32\non,holding 102.0,\n"
    assert values_of(site, "plc") == {"t": "GOOD", "on": "GOOD"}


def test_a_device_that_is_there_already(site: Path, modbus: str, controller: str) -> None:
    for place, driver, tag in (
        (modbus, "modbus", "t holding 100 float32"),
        (controller, "ethernetip", "t Running BOOL"),
    ):
        options = ("--driver", driver, *FAST, "--tag", tag)
        assert tidegate("add", site, place, *options).returncode == 0
        text = site.read_text()

        again = tidegate("add", site, place, *options)

        assert (again.returncode, site.read_text()) == (1, text)
        assert f"this device is in the configuration already, as {driver}-127.0.0.1" in again.stderr


def test_a_dry_run_shows_what_would_be_written_and_writes_nothing(site: Path, modbus: str) -> None:
    options = ("--driver", "modbus", *FAST, "--name", "plc", "--tag", "t holding 100 float32", "--dry-run")

    shown = tidegate("add", site, modbus, *options)
    answer = json.loads(tidegate("add", site, modbus, *options, "--json").stdout)

    assert "  - name: plc\n    driver: modbus\n" in shown.stdout
    assert "  t,holding 100,float32\n" in shown.stdout
    assert (answer["is_written"], answer["device"]["port"]) == (False, int(modbus.split(":")[1]))
    assert [path.name for path in site.parent.iterdir()] == ["site.yaml"]
    assert site.read_text() == SITE


def test_at_a_terminal_it_asks_for_name_and_tags_and_whether_to_write(site: Path, modbus: str) -> None:
    arguments = ["add", str(site), modbus, "--driver", "modbus", *FAST]
    answers = ["plc", "t holding", "t holding 100 float32", "", ""]

    shown, code = at_terminal(arguments, answers)

    assert code == 0, shown
    assert "'t holding' is no tag" in shown
    assert_added(site, "plc")


def test_at_a_terminal_no_is_no(site: Path, controller: str) -> None:
    shown, code = at_terminal(
        ["add", str(site), controller, "--driver", "ethernetip", *FAST], ["filler", "*temp*", "n"]
    )

    assert (code, "Write it?" in shown) == (1, True), shown
    assert [path.name for path in site.parent.iterdir()] == ["site.yaml"]
    assert site.read_text() == SITE


def test_a_list_in_brackets_is_not_touched_and_the_lines_to_paste_are_printed(site: Path, modbus: str) -> None:
    devices = "devices: [{name: s, driver: simulator, scan_groups: [{every: 1 s, tags: [{name: t, signal: ramp}]}]}]\n"
    text = SITE.partition("devices:")[0] + devices
    site.write_text(text)

    refused = tidegate(
        "add", site, modbus, "--driver", "modbus", *FAST, "--name", "plc", "--tag", "t holding 100 float32"
    )

    assert (refused.returncode, site.read_text()) == (1, text)
    assert "paste the lines above" in refused.stderr
    pasted = text.partition("devices:")[0] + refused.stdout
    assert check(site, instead={"site.yaml": pasted.encode()}).gateway().devices[0].name == "plc"
    assert [path.name for path in site.parent.iterdir()] == ["site.yaml"]


def test_of_a_directory_the_file_with_devices_gets_it(site: Path, modbus: str) -> None:
    head, colon, tail = SITE.partition("devices:")
    (site.parent / "a.yaml").write_text(head)
    (site.parent / "b.yaml").write_text(colon + tail)
    site.unlink()

    added = tidegate(
        "add", site.parent, modbus, "--driver", "modbus", *FAST, "--name", "plc", "--tag", "on holding 102.0"
    )

    assert added.returncode == 0, added.stderr
    assert (site.parent / "a.yaml").read_text() == head
    assert [device.name for device in check(site.parent).gateway().devices] == ["simulated", "plc"]


def test_devices_of_types_stay(tmp_path: Path, modbus: str) -> None:
    for name in ("fillers.yaml", "fillers.csv"):
        shutil.copy(Path(__file__).parents[3] / "configs" / name, tmp_path)
    file = tmp_path / "fillers.yaml"
    before = [device.name for device in check(file).gateway().devices]

    added = tidegate("add", file, modbus, "--driver", "modbus", *FAST, "--name", "plc", "--tag", "on holding 102.0")

    assert added.returncode == 0, added.stderr
    assert [device.name for device in check(file).gateway().devices] == [*before, "plc"]


def test_a_reference_whose_devices_would_be_gone_is_refused(tmp_path: Path, modbus: str) -> None:
    shutil.copy(Path(__file__).parents[3] / "configs/fillers.csv", tmp_path)
    text = (Path(__file__).parents[3] / "configs/fillers.yaml").read_text()
    (tmp_path / "enterprise").write_text("parameters: {site: null}\n" + text)
    file = tmp_path / "site.yaml"
    file.write_text("reference: enterprise\nvalues: {site: basel}\n")
    assert check(file).gateway().devices

    refused = tidegate("add", file, modbus, "--driver", "modbus", *FAST, "--name", "plc", "--tag", "on holding 102.0")

    assert (refused.returncode, "others would be gone" in refused.stderr) == (78, True), refused.stderr
    assert file.read_text() == "reference: enterprise\nvalues: {site: basel}\n"


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (("--name", "simulated"), 2, "a device is called simulated already"),
        (("--name", "taken"), 1, "taken.csv is there already"),
        (("--name", "a b"), 78, "name"),
        (("--every", "often"), 78, "every"),
        (("--set", "unit"), 2, "write a key of the device and its value"),
        (("--set", "untit=1"), 78, "did you mean unit"),
        (("--tag", "on holding 103.0"), 78, "on"),
    ],
)
def test_a_wrong_option_is_a_sentence_and_nothing_is_written(
    site: Path, modbus: str, options: Sequence[str], code: int, said: str
) -> None:
    taken = site.parent / "taken.csv"
    taken.touch()

    refused = tidegate("add", site, modbus, "--driver", "modbus", *FAST, "--tag", "on holding 102.0", *options)

    assert (refused.returncode, said in refused.stderr) == (code, True), refused.stderr
    assert (site.read_text(), sorted(site.parent.iterdir())) == (SITE, [site, taken])


@pytest.mark.parametrize(
    ("place", "code", "said"),
    [
        ("127.0.0.1:PORT", 1, "nothing was found at 127.0.0.1:"),
        ("192.0.2.0/30", 2, "192.0.2.0/30 is 2 hosts"),
        ("a b", 2, "a b is no address"),
        ("/dev/ttyUSB0", 2, "/dev/ttyUSB0 is a port of this machine"),
    ],
)
def test_a_place_without_a_device(site: Path, place: str, code: int, said: str) -> None:
    refused = tidegate("add", site, place.replace("PORT", str(free_port())), "--driver", "modbus", *FAST)

    assert (refused.returncode, said in refused.stderr) == (code, True), refused.stderr


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--set", "unit=7"), "takes the connection, but unit 7 does not answer"),
        (("--driver", "opcua"), "closed the connection"),
        (("--driver", "ethernetip"), "what answers does not speak EtherNet/IP"),
    ],
)
def test_a_wrong_unit_or_driver_is_told_from_a_wrong_address(
    site: Path, modbus: str, options: Sequence[str], said: str
) -> None:
    known = () if "--driver" in options else ("--driver", "modbus")

    refused = tidegate("add", site, modbus, *FAST, *known, *options)

    assert (refused.returncode, site.read_text()) == (1, SITE)
    assert refused.stderr.splitlines()[-1].startswith(f"  {(*known, *options)[1]}: {modbus} "), refused.stderr
    assert said in refused.stderr


def test_a_misspelt_tag_is_said_before_a_device_is_looked_for(site: Path, modbus: str) -> None:
    refused = tidegate("add", site, modbus, "--driver", "modbus", "--tag", "t holding 100 REAL")

    assert (refused.returncode, "did you mean float32?" in refused.stderr) == (2, True)
    assert "Some old devices stop" not in refused.stderr


def test_a_file_of_twelve_lines_reads_a_device(tmp_path: Path, modbus: str) -> None:
    """What a new user has after two commands."""
    file = tmp_path / "line-4.yaml"

    tidegate("init", file, "--path", "acme/basel/line-4", "--broker", "none", "--empty")
    added = tidegate(
        "add", file, modbus, "--driver", "modbus", *FAST, "--name", "plc", "--tag", "t holding 100 float32"
    )

    assert added.returncode == 0, added.stderr
    assert len([line for line in file.read_text().splitlines() if line.strip() and "#" not in line]) <= 12
    assert values_of(file, "plc") == {"t": "GOOD"}


def test_a_table_that_cannot_be_written_changes_nothing(
    site: Path, modbus: str, monkeypatch: pytest.MonkeyPatch, run_here: Callable[..., Any]
) -> None:
    """The disk is full when the file that names the table is to be replaced."""
    real = os.fsync
    left = iter([True])

    def fsync(handle: int) -> None:
        if "site.yaml" in str(Path(f"/proc/self/fd/{handle}").readlink()) and next(left, False):
            raise OSError(28, "No space left on device", str(site))
        real(handle)

    monkeypatch.setattr(os, "fsync", fsync)

    with pytest.raises(OSError, match="No space left"):
        run_here("add", site, modbus, "--driver", "modbus", *FAST, "--name", "plc", "--tag", "on holding 102.0")

    assert (site.read_text(), (site.parent / "plc.csv").exists()) == (SITE, False)


@pytest.fixture
def run_here() -> Callable[..., Any]:
    """A command in this process."""
    from click.testing import CliRunner

    from edge.cli import cli

    return lambda *arguments: CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
