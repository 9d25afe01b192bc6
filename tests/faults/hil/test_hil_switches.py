"""Switches: any command; what was turned off is turned on again, whatever ends the run."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Event

import pytest

from hil.switches import SwitchFailed, command_switch
from tests.faults.hil.conftest import ROOT, hil

SWITCHES = ROOT / "hil/rigs/switches"


@pytest.mark.parametrize(
    ("words", "program", "state", "expected"),
    [
        (["usb-relay", "HURTM_1"], "usbrelay", "off", "HURTM_1=1"),
        (["usb-relay", "HURTM_1"], "usbrelay", "on", "HURTM_1=0"),
        (["pdu-outlet", "pdu", "3"], "snmpset", "off", "-Oq pdu 1.3.6.1.4.1.318.1.1.12.3.3.1.1.4.3 i 2"),
        (["set-clock", "rig@pi"], "ssh", "off", "-o BatchMode=yes -o ConnectTimeout=5 rig@pi sudo -n python3 - off"),
        (["switch-port", "switch", "11"], "snmpset", "on", "-Oq switch 1.3.6.1.2.1.2.2.1.7.11 i 1"),
    ],
)  # fmt: skip
async def test_a_shipped_switch_says_to_its_program_what_to_do(
    words: list[str], program: str, state: str, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The programs speak to hardware; here one writes down what it was asked."""
    stand_in = tmp_path / program
    stand_in.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/said\n')
    stand_in.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    switch = command_switch("power", [f"./{words[0]}", *words[1:]], SWITCHES)

    await (switch.on() if state == "on" else switch.off())

    assert (tmp_path / "said").read_text() == f"{expected}\n"
    assert switch.is_on is (state == "on")


async def test_a_switch_that_fails_is_said_in_a_sentence_and_counts_as_off(tmp_path: Path) -> None:
    switch = command_switch("plc power", ["sh", "-c", "echo no answer from the relay; exit 3"], tmp_path)

    with pytest.raises(SwitchFailed, match="plc power: sh off ended with 3, and said: no answer from the relay"):
        await switch.off()

    assert not switch.is_on


def test_a_switch_that_is_not_there_is_a_mistake_in_the_rig_file(tmp_path: Path) -> None:
    file = tmp_path / "rig.yaml"
    shutil.copy(ROOT / "hil/rigs/bench-example.yaml", file)

    ran = hil("list", file)

    assert ran.returncode == 78
    assert f"gateway.power[0]: {tmp_path}/switches/usb-relay is no program; make it, or chmod +x it" in ran.stderr


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A folder whose path leaves room for a socket."""
    with TemporaryDirectory(prefix="hil-") as name:
        folder = Path(name) / "r"
        folder.mkdir()
        yield folder


@pytest.mark.parametrize(
    ("ended_by", "step", "seconds"),
    [(signal.SIGINT, "1/5", "600"), (signal.SIGINT, "2/5", "600"), (signal.SIGTERM, "5/5", "0.5"),
     (signal.SIGKILL, "5/5", "0.5")],
)  # fmt: skip
def test_a_run_that_is_ended_leaves_nothing_of_the_simulated_rig(
    short_path: Path, ended_by: signal.Signals, step: str, seconds: str
) -> None:
    """No process, with which its namespaces end, and no folder; after a SIGKILL there is nobody to remove that."""
    words = ["run", ROOT / "hil/rigs/simulated.yaml", "broker_outage", "--seconds", seconds, "--report", short_path]
    environment = {**os.environ, "TMPDIR": str(short_path.parent), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [sys.executable, "-m", "hil", *map(str, words)], cwd=ROOT, stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    for line in process.stdout:
        if step in line:
            break
    children = _below(process.pid)
    began = {pid: _began(pid) for pid in children}

    process.send_signal(ended_by)
    said = process.communicate()[0]

    assert children
    await_end(began)
    assert not (short_path / "broker_outage/result.json").exists()
    if ended_by != signal.SIGKILL:
        assert "The same command goes on from here." in said
        assert process.returncode == 1
        assert not list(short_path.parent.glob("tidegate-hil-*"))


def await_end(started: dict[int, str]) -> None:
    """Wait until processes have ended; one that waits to be collected has, and a number may be given again."""
    pause = Event()
    while any(_state(pid) not in ("", "Z") and _began(pid) == began for pid, began in started.items()):
        pause.wait(0.05)


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def _state(pid: int) -> str:
    return "".join(_stat(pid)[:1])


def _began(pid: int) -> str:
    return "".join(_stat(pid)[19:20])


def _below(pid: int) -> set[int]:
    """All processes that a process has started, and theirs."""
    parents = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # It has ended.
            parents[int(stat.parent.name)] = int(stat.read_text().rpartition(")")[2].split()[1])
    found, last = {pid}, set[int]()
    while found != last:
        last = set(found)
        found |= {child for child, parent in parents.items() if parent in found}
    return found - {pid}
