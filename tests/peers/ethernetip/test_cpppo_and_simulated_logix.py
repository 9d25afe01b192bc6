"""The simulated Logix controller, cross-checked with a second client: cpppo's."""

from __future__ import annotations

import subprocess
import sys

import pytest

from drivers.ethernetip.simulator import Controller, LogixServer


def cpppo(logix: LogixServer, *arguments: str) -> subprocess.CompletedProcess[str]:
    address = f"127.0.0.1:{logix.port}"
    command = [sys.executable, "-m", "cpppo.server.enip.client", "--print", "--address", address, *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60)


@pytest.mark.parametrize("how", [[], ["--multiple"], ["--simple"], ["--fragment"]], ids=str)
def test_tags_are_read_with_and_without_a_route(logix: LogixServer, how: list[str]) -> None:
    result = cpppo(logix, *how, "Vials", "Volume", "Samples[0-4]", "Program:MainProgram.Step")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "Vials              == [70000]: 'OK'" in result.stdout
    assert "[0.0, 0.25, 0.5, 0.75, 1.0]: 'OK'" in result.stdout
    assert "Step              == [12]: 'OK'" in result.stdout


def test_a_long_array_comes_in_fragments(logix: LogixServer) -> None:
    result = cpppo(logix, "--fragment", "Long[0-999]")

    assert result.returncode == 0, result.stdout + result.stderr
    assert "== [0, 1, 2, 3, 4," in result.stdout


def test_a_tag_that_is_not_there_is_refused(logix: LogixServer) -> None:
    result = cpppo(logix, "Nope")

    assert result.returncode == 1
    assert "Status 4 [0]" in result.stdout


def test_it_says_what_it_is(logix: LogixServer) -> None:
    identity, services = cpppo(logix, "--list-identity"), cpppo(logix, "--list-services")

    assert "'1756-L83E/B'" in identity.stdout
    assert "'Communications'" in services.stdout


def test_a_write_is_refused_and_counted(plc: Controller, logix: LogixServer) -> None:
    result = cpppo(logix, "Vials=(DINT)5")
    asked, plc.writes_asked = plc.writes_asked, 0

    assert "Status 15" in result.stdout
    assert asked > 0
    assert int.from_bytes(plc["Vials"].memory, "little") == 70_000
