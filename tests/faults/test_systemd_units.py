"""The shipped units are judged by systemd itself, on copies that name a program which exists here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SHIPPED = {
    "tidegate.service": ["network.conf", "serial.conf", "dial-in.conf"],
    "tidegate-relay.service": [],
    "tidegate@acquire.service": ["acquire.conf", "serial.conf", "dial-in.conf"],
    "tidegate@forward.service": ["forward.conf"],
}
EXPOSURE_LIMIT = 1.2


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(command), check=False, capture_output=True, text=True)


def unit(name: str, drop_ins: Sequence[str] | None = None) -> str:
    """The text of a unit with its drop-ins, by default all of them, on a program that exists here."""
    parts = SHIPPED[name] if drop_ins is None else drop_ins
    file = re.sub("@.*[.]", "@.", name)
    text = "\n".join((UNITS / part).read_text() for part in (file, *(f"{name}.d/{part}" for part in parts)))
    return text.replace("/opt/tidegate/bin/tidegate", shutil.which("true") or "").replace("/opt/tidegate", "/usr")


def verify(folder: Path, name: str, text: str) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(text)
    return run("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", folder / name)


def security(folder: Path, name: str, text: str) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(text)
    limit = f"--threshold={EXPOSURE_LIMIT * 10:.0f}"
    return run("systemd-analyze", "security", "--offline=true", limit, "--no-pager", folder / name)


def test_no_unit_is_left_out() -> None:
    shipped = {path.relative_to(UNITS).as_posix() for path in UNITS.rglob("*") if path.suffix in (".service", ".conf")}
    tried = {re.sub("@.*[.]", "@.", name) for name in SHIPPED}
    tried |= {f"{name}.d/{part}" for name, parts in SHIPPED.items() for part in parts}

    assert shipped - {"sysusers.d/tidegate.conf", "tmpfiles.d/tidegate.conf"} == tried


@pytest.mark.parametrize("name", SHIPPED)
def test_systemd_understands_every_line(tmp_path: Path, name: str) -> None:
    result = verify(tmp_path, name, unit(name))

    assert (result.returncode, result.stderr) == (0, "")


def test_a_typing_mistake_is_not_overlooked(tmp_path: Path) -> None:
    """Plain `systemd-analyze verify` would let it pass, and the protection would be missing in silence."""
    text = unit("tidegate.service").replace("NoNewPrivileges=", "NoNewPrivilege=")

    result = verify(tmp_path, "tidegate.service", text)

    assert result.returncode != 0
    assert "NoNewPrivilege" in result.stderr


@pytest.mark.parametrize("name", SHIPPED)
def test_exposure_is_within_the_limit(tmp_path: Path, name: str, record_property: pytest.RecordProperty) -> None:
    result = security(tmp_path, name, unit(name))
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", result.stdout)

    assert exposure is not None, result.stdout + result.stderr
    record_property("exposure", exposure[1])
    print(f"{name}: exposure {exposure[1]}")
    assert float(exposure[1]) <= EXPOSURE_LIMIT
    assert result.returncode == 0


@pytest.mark.parametrize("name", ["tidegate.service", "tidegate@acquire.service"])
def test_without_serial_conf_no_device_file_is_seen(tmp_path: Path, name: str) -> None:
    text = unit(name, [part for part in SHIPPED[name] if part != "serial.conf"])

    result = security(tmp_path, name, text)

    assert "\nPrivateDevices=yes\n" in text
    assert "DeviceAllow=" not in text
    assert re.search(r"exposure level for \S+: (0|1[.]0)", result.stdout), result.stdout


@pytest.mark.parametrize("part", ["serial.conf", "dial-in.conf"])
def test_a_device_is_reached_in_the_same_way_by_one_process_and_by_two(part: str) -> None:
    whole, half = (UNITS / f"{name}.d" / part for name in ("tidegate.service", "tidegate@acquire.service"))

    assert whole.read_text() == half.read_text()


def test_only_serial_ports_may_be_opened(tmp_path: Path) -> None:
    """The real /dev is seen then: what may be opened in it is another list."""
    result = security(tmp_path, "tidegate.service", unit("tidegate.service"))

    [devices] = re.findall(r"device ACL with some special devices: (.*?)  ", result.stdout)
    assert set(devices.split()) == {
        "char-rtc:r", "char-ttyUSB:rw", "char-ttyACM:rw", "char-ttyAMA:rw", "char-ttyS:rw"
    }  # fmt: skip


def test_neither_role_owns_the_directory_that_both_write(tmp_path: Path) -> None:
    """StateDirectory= would give every file in it to whichever role starts, the keys of OPC UA included."""
    text = unit("tidegate@acquire.service")
    (tmp_path / "etc").mkdir()

    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        made = run(*command, f"--root={tmp_path}", UNITS / f"{command[0].removeprefix('systemd-')}.d/tidegate.conf")
        assert made.returncode == 0, made.stderr

    directory = (tmp_path / "var/lib/tidegate").stat()
    [group] = re.findall(r"^tidegate-roles:x:(\d+):", (tmp_path / "etc/group").read_text(), re.MULTILINE)
    assert (directory.st_mode & 0o7777, directory.st_uid, directory.st_gid) == (0o3770, 0, int(group))
    assert "\nReadWritePaths=/var/lib/tidegate\n" in text
    assert "\nStateDirectory=" not in text


@pytest.mark.parametrize("line", ["CapabilityBoundingSet=", "PrivateUsers=yes", "SystemCallFilter=@system-service"])
def test_exposure_without_one_protection_is_over_the_limit(tmp_path: Path, line: str) -> None:
    text = unit("tidegate.service")
    assert f"\n{line}\n" in text

    result = security(tmp_path, "tidegate.service", text.replace(f"\n{line}\n", "\n"))

    assert result.returncode != 0


def test_the_sysusers_file_is_understood(tmp_path: Path) -> None:
    result = run("systemd-sysusers", "--dry-run", f"--root={tmp_path}", UNITS / "sysusers.d/tidegate.conf")

    assert result.returncode == 0, result.stderr
    assert "tidegate-forward" in result.stdout + result.stderr


def test_the_split_gateway_takes_no_name_from_the_users_that_others_bring() -> None:
    """A group `tidegate` would keep DynamicUser= from making the user: going back to one process ended with 217."""
    taken = set(re.findall(r"^[ug] (\S+)", (UNITS / "sysusers.d/tidegate.conf").read_text(), re.MULTILINE))
    brought = {name for name in SHIPPED if "DynamicUser=yes" in unit(name)}

    assert {f"{name}.service" for name in taken}.isdisjoint(brought)
    assert brought == {"tidegate.service", "tidegate-relay.service"}


@pytest.mark.parametrize("name", ["tidegate@acquire.service", "tidegate@forward.service"])
def test_a_split_role_holds_only_its_own_secrets(name: str) -> None:
    held = set(re.findall(r"^LoadCredential=([\w-]+):", unit(name), re.MULTILINE))

    assert held == ({"identity"} if "acquire" in name else {"broker-ca", "mqtt-certificate", "mqtt-key"})


def test_the_gateway_runs_without_memory_that_is_both_writable_and_executable() -> None:
    """MemoryDenyWriteExecute=, as the kernel itself has it since 6.3: what the daemon imports and signs with works."""
    program = """
import ctypes
PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 65, 1
libc = ctypes.CDLL(None, use_errno=True)
# An older kernel knows no such wish (EINVAL); the imports are tried all the same.
assert libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0 or ctypes.get_errno() == 22
import asyncio, numpy, orjson, pydantic, uvloop, zstandard, cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
ec.generate_private_key(ec.SECP256R1()).sign(b"record", ec.ECDSA(hashes.SHA256()))
async def main():
    await asyncio.to_thread(print, "works")
uvloop.run(main())
"""
    result = run(sys.executable, "-c", program)

    assert result.stdout == "works\n", result.stderr
