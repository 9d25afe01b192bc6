"""The shipped units are judged by systemd itself, on copies that name a program which exists here."""

from __future__ import annotations

import grp
import re
import shutil
import socket
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

UNITS = Path(__file__).parents[2] / "systemd"
DEVICE_SIDE = ["devices", "serial", "dial-in", "hardware-clock", "tpm", "identity-credential", "device-credentials"]
PAGE = "tidegate-page.service"
CONTROL = "run/tidegate/control"
OF_OTHERS = {"ptp4l"}
"""Drop-ins for units of other packages."""
DROP_INS = {
    "tidegate.service": [*DEVICE_SIDE, "broker"],
    "tidegate@.service": [*DEVICE_SIDE, "broker"],
    "tidegate-acquire.service": DEVICE_SIDE,
    "tidegate-forward.service": ["broker"],
    "tidegate-relay.service": ["broker", "intake", "worker"],
    "tidegate-page.service": ["browsers"],
}
EXPOSURE_LIMIT = 1.2


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(list(command), check=False, capture_output=True, text=True)


def unit(name: str, drop_ins: Sequence[str] | None = None) -> str:
    """The text of a unit with its drop-ins, by default all of them, on a program that exists here."""
    parts = DROP_INS[name] if drop_ins is None else drop_ins
    text = "\n".join(path.read_text() for path in (UNITS / name, *(UNITS / f"drop-ins/{part}.conf" for part in parts)))
    return text.replace("/opt/tidegate/bin/tidegate", shutil.which("true") or "").replace("/opt/tidegate", "/usr")


def verify(folder: Path, name: str, text: str) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(text)
    return run("systemd-analyze", "verify", "--recursive-errors=yes", "--man=no", folder / name)


def security(folder: Path, name: str, text: str) -> subprocess.CompletedProcess[str]:
    (folder / name).write_text(text)
    limit = f"--threshold={EXPOSURE_LIMIT * 10:.0f}"
    return run("systemd-analyze", "security", "--offline=true", limit, "--no-pager", folder / name)


def test_no_unit_and_no_drop_in_is_left_out() -> None:
    assert {path.name for path in UNITS.glob("*.service")} == set(DROP_INS)
    assert {path.stem for path in UNITS.glob("drop-ins/*")} == OF_OTHERS.union(*DROP_INS.values())


@pytest.mark.parametrize("part", sorted(set().union(*DROP_INS.values())))
def test_a_drop_in_names_the_units_that_it_is_for(part: str) -> None:
    comment = (UNITS / f"drop-ins/{part}.conf").read_text().partition("\n[")[0].replace("\n# ", " ")

    named = {name.replace("NAME", "") for name in re.findall(r"tidegate[\w@-]*[.]service", comment)}
    assert named == {name for name, parts in DROP_INS.items() if part in parts}


def test_the_protection_of_every_unit_is_the_same() -> None:
    """Each file is whole, so that an auditor reads one; what differs is the part before "# Bounds."."""
    protections = {(UNITS / name).read_text().partition("# Bounds.")[2] for name in DROP_INS}

    [protection] = {re.sub(r"(?m)^# No peer until.*\n", "", text) for text in protections}
    assert len(re.findall(r"(?m)^\w+=", protection)) > 30


@pytest.mark.parametrize("name", DROP_INS)
def test_systemd_understands_every_line(tmp_path: Path, name: str) -> None:
    result = verify(tmp_path, name, unit(name))

    assert (result.returncode, result.stderr) == (0, "")


def test_a_typing_mistake_is_not_overlooked(tmp_path: Path) -> None:
    """Plain `systemd-analyze verify` would let it pass, and the protection would be missing in silence."""
    text = unit("tidegate.service").replace("NoNewPrivileges=", "NoNewPrivilege=")

    result = verify(tmp_path, "tidegate.service", text)

    assert result.returncode != 0
    assert "NoNewPrivilege" in result.stderr


@pytest.mark.requirement("REQ-SAFE-06")
@pytest.mark.parametrize("name", DROP_INS)
def test_exposure_is_within_the_limit(tmp_path: Path, name: str, record_property: pytest.RecordProperty) -> None:
    result = security(tmp_path, name, unit(name))
    exposure = re.search(r"exposure level for \S+: ([\d.]+)", result.stdout)

    assert exposure is not None, result.stdout + result.stderr
    record_property("exposure", exposure[1])
    print(f"{name}: exposure {exposure[1]}")
    assert float(exposure[1]) <= EXPOSURE_LIMIT
    assert result.returncode == 0


@pytest.mark.parametrize("name", DROP_INS)
def test_without_a_drop_in_no_device_file_is_seen(tmp_path: Path, name: str) -> None:
    text = unit(name, [])

    result = security(tmp_path, name, text)

    assert "\nPrivateDevices=yes\n" in text
    assert "DeviceAllow=" not in text
    assert re.search(r"exposure level for \S+: (0|1[.]0)", result.stdout), result.stdout


@pytest.mark.parametrize(
    ("part", "opened"),
    [
        ("serial", {"char-ttyUSB:rw", "char-ttyACM:rw", "char-ttyAMA:rw", "char-ttyS:rw"}),
        ("hardware-clock", {"char-ptp:r"}),
        ("tpm", {"/dev/tpmrm0:rw"}),
    ],
)
def test_only_the_devices_of_a_drop_in_may_be_opened(tmp_path: Path, part: str, opened: set[str]) -> None:
    """The real /dev is seen then: what may be opened in it is another list."""
    result = security(tmp_path, "tidegate.service", unit("tidegate.service", [part]))

    [devices] = re.findall(r"device ACL with some special devices: (.*?)  ", result.stdout)
    assert set(devices.split()) == {"char-rtc:r", *opened}  # ProtectClock= brings the first along.


def test_users_and_directories_are_as_the_units_need_them(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()

    for command in (["systemd-sysusers"], ["systemd-tmpfiles", "--create"]):
        parts = (UNITS / f"{command[0].removeprefix('systemd-')}.d").glob("*.conf")
        made = run(*command, f"--root={tmp_path}", *sorted(parts))
        assert made.returncode == 0, made.stderr

    groups = dict(re.findall(r"^([\w-]+):x:(\d+):", (tmp_path / "etc/group").read_text(), re.MULTILINE))
    users = re.findall(r"^([\w-]+):x:(\d+):(\d+):", (tmp_path / "etc/passwd").read_text(), re.MULTILINE)
    accounts = {user: (number, group) for user, number, group in users}

    def owned(path: str) -> tuple[int, str, str]:
        status = (tmp_path / path).stat()
        [user] = [name for name, (number, _) in {"root": ("0", ""), **accounts}.items() if int(number) == status.st_uid]
        [group] = [name for name, number in groups.items() if int(number) == status.st_gid]
        return status.st_mode & 0o7777, user, group

    assert accounts["tidegate-forward"][1] == accounts["tidegate"][1] == groups["tidegate"]
    assert owned("etc/tidegate/tls") == (0o750, "root", "tidegate-tls")
    assert owned("var/lib/tidegate") == (0o750, "tidegate", "tidegate")
    assert owned("var/lib/tidegate/buffer") == (0o1770, "tidegate", "tidegate")
    assert owned("run/tidegate/gateway") == (0o2750, "tidegate", "tidegate-monitor")
    assert owned(CONTROL) == (0o2750, "tidegate", "tidegate-engineer")
    assert owned("run/tidegate/forward") == (0o2750, "tidegate-forward", "tidegate-monitor")
    assert owned("run/tidegate/relay") == (0o2750, "tidegate-relay", "tidegate-monitor")
    for name in set(DROP_INS) - {PAGE}:
        text = unit(name, [])
        [user], [named] = re.findall(r"(?m)^User=(.*)$", text), re.findall(r"(?m)^Environment=\w+=/(.*)$", text)
        looked_at, *controlled = named.split(":/")
        assert owned(looked_at)[1:] == (user, "tidegate-monitor")
        assert controlled == ([] if name in ("tidegate-forward.service", "tidegate-relay.service") else [CONTROL])
        assert f"\nReadWritePaths=/{' /'.join([looked_at, *controlled])}\n" in text


def test_the_page_may_ask_and_owns_nothing() -> None:
    text = unit(PAGE, [])

    assert "\nUser=tidegate-page\n" in text
    assert re.findall(r"(?m)^SupplementaryGroups=(.*)$", text) == ["tidegate-monitor"]
    assert not re.search(r"(?m)^(ReadWritePaths|StateDirectory|BindPaths|LoadCredential)=", text)
    assert "\nInaccessiblePaths=-/var/lib/tidegate -/var/lib/tidegate-relay -/run/tidegate/control\n" in text


@pytest.mark.parametrize("line", ["CapabilityBoundingSet=", "PrivateUsers=yes", "SystemCallFilter=@system-service"])
def test_exposure_without_one_protection_is_over_the_limit(tmp_path: Path, line: str) -> None:
    text = unit("tidegate.service")
    assert f"\n{line}\n" in text

    result = security(tmp_path, "tidegate.service", text.replace(f"\n{line}\n", "\n"))

    assert result.returncode != 0


@pytest.mark.parametrize("name", DROP_INS)
def test_a_unit_starts_without_any_secret_and_only_the_network_side_may_read_those_of_the_broker(name: str) -> None:
    text = unit(name, [])

    assert "Credential" not in text.replace("a credential", "")
    assert "\nDynamicUser=" not in text
    assert ("\nSupplementaryGroups=tidegate-tls\n" in text) == (name not in ("tidegate-acquire.service", PAGE))


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


def test_the_drop_in_of_ptp4l_gives_its_socket_to_the_group_of_the_gateway(tmp_path: Path) -> None:
    """Where the service manager runs its command: linuxptp 3 has no setting for that."""
    text = (UNITS / "drop-ins/ptp4l.conf").read_text()
    path, group = tmp_path / "ptp4l", grp.getgrnam("daemon")
    [command] = re.findall(r"^ExecStartPost=/bin/sh -c '(.*)'$", text, re.MULTILINE)
    command = command.replace("/run/ptp4l", str(path)).replace("tidegate", group.gr_name)

    with subprocess.Popen(["/bin/sh", "-c", command]) as waiting, socket.socket(socket.AF_UNIX) as serving:
        serving.bind(str(path))
        assert waiting.wait() == 0

    assert (stat.S_IMODE(path.stat().st_mode), path.stat().st_gid) == (0o660, group.gr_gid)
    assert "\nExecStartPre=/bin/rm -f /run/ptp4l\n" in text
