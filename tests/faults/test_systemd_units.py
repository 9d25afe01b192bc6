"""The shipped units are judged by systemd itself, on copies that name a program which exists here."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
SHIPPED = {
    "tidegate.service": ["tidegate.service.d/network.conf"],
    "tidegate-relay.service": [],
    "tidegate@acquire.service": ["tidegate@acquire.service.d/acquire.conf"],
    "tidegate@forward.service": ["tidegate@forward.service.d/forward.conf"],
}
EXPOSURE_LIMIT = 1.2


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(command), check=False, capture_output=True, text=True)


def unit(name: str) -> str:
    """The text of a unit with its example drop-ins, on a program that exists here."""
    file = re.sub("@.*[.]", "@.", name)
    text = "\n".join((UNITS / part).read_text() for part in (file, *SHIPPED[name]))
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
    tried = {re.sub("@.*[.]", "@.", name) for name in SHIPPED} | {part for parts in SHIPPED.values() for part in parts}

    assert shipped - {"sysusers.d/tidegate.conf"} == tried


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
