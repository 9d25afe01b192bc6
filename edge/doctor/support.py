"""What somebody needs who helps from afar, packed into one file of bounded size, without a secret in it."""

from __future__ import annotations

import io
import os
import platform
import shlex
import sys
import tarfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path

import orjson

from edge.config.files import read
from edge.doctor.examine import Patient, examine
from edge.doctor.files import SECRETS, references
from edge.doctor.secrets import Secrets, plain, without_environment
from edge.doctor.service import Unit, run, units_of
from edge.errors import ConfigError
from edge.health.problems import StatusAnswer
from edge.terminal import aligned
from edge.units import format_size, format_utc

MEMBER_BYTES_LIMIT = 8 * 10**6
"""Of a log the newest; of anything else the first."""
_LOG_LINES = "20000"
_CREDENTIALS = Path("/run/credentials")
_HEAD = """\
Made by tidegate support at {at} on {host}, for {config}.

Passwords, keys and other secrets are left out: those that the configuration, the environment and the unit name are
looked for everywhere, and so is whatever has the shape of one. What stays in it: names, addresses and tags of the
configuration, the log, and no value of a tag. Look into it before you send it.

"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A file in the archive."""

    name: str
    size_bytes: int
    what: str
    """What it holds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SupportAnswer:
    """What was packed, and where."""

    file: str
    size_bytes: int
    members: tuple[Member, ...]
    unread_secrets: tuple[str, ...]
    """Files with secrets that this user may not read: what is in them could not be looked for."""


def pack(patient: Patient, file: Path, logs: Sequence[Path] = ()) -> SupportAnswer:
    """Write the archive; `logs` are files with logs besides the journal. Raises OSError."""
    pid = patient.status.gateway.pid if patient.status else None
    units = units_of(patient.config, patient.checked.kind, pid)
    secrets = _secrets(patient, units, pid)
    members: list[Member] = []
    # A new file of this user alone: another could have put one there to read it.
    number = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with open(number, "wb") as opened, tarfile.open(fileobj=opened, mode="w:gz") as archive:  # noqa: PTH123
        for name, what, held in _held(patient, units, logs):
            data = _bounded(name, secrets.remove(held) if isinstance(held, str) else _json(secrets, held))
            members.append(Member(name=name, size_bytes=len(data), what=what))
            _add(archive, name, data)
        _add(archive, "README.txt", secrets.remove(_readme(patient, members, secrets)).encode())
    return SupportAnswer(file=str(file), size_bytes=file.stat().st_size, members=tuple(members),
                         unread_secrets=tuple(secrets.unread))  # fmt: skip


def _secrets(patient: Patient, units: Sequence[Unit], pid: int | None) -> Secrets:
    secrets = Secrets()
    source = read(Path(patient.config))
    if source.root is not None:
        secrets.learn_written(source.root.plain())
    for _, name, reference in references(patient.settings):
        if name in SECRETS:
            try:
                secrets.learn_file(reference.path)
            except ConfigError:
                continue  # A credential: below, of the unit.
    for unit in units:
        secrets.learn_file(_CREDENTIALS / unit.name)
        with suppress(ValueError):  # Quotes that are not closed.
            secrets.learn_environment(_variables(shlex.split(unit.properties.get("Environment", ""))))
    secrets.learn_environment(os.environ)
    if pid is not None:
        try:
            secrets.learn_environment(_variables(_environment(pid)))
        except OSError as error:
            secrets.unread.append(f"the environment of process {pid}: {error.strerror}")
    return secrets


def _environment(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/environ").read_text("utf-8", "replace").split("\0")


def _variables(assignments: Iterable[str]) -> dict[str, str]:
    return {name: value for name, _, value in (each.partition("=") for each in assignments)}


def _held(patient: Patient, units: Sequence[Unit], logs: Sequence[Path]) -> Iterator[tuple[str, str, object]]:
    """(name, what it holds, its text or what JSON says) of each member."""
    yield "doctor.json", "what tidegate doctor found", examine(patient)
    if patient.status is not None:
        yield "status.json", "the status, without values of tags", _without_values(patient.status)
    if patient.settings is not None:
        yield "configuration.json", "the configuration with its defaults", plain(patient.settings)
    if patient.checked.problems:
        problems = "\n".join(map(str, patient.checked.problems))
        yield "configuration-problems.txt", "problems and warnings of the configuration", problems
    yield "versions.txt", "versions of Tidegate, Python, packages and the system", _versions()
    yield "machine.txt", "load, memory, disks, clock and network of the machine", "".join(_machine())
    for unit in units:
        if (shown := run("systemctl", "cat", "--no-pager", "--", unit.name)) is not None:
            state = "\n".join(f"{name}={value}" for name, value in unit.properties.items() if name != "Environment")
            text = f"{without_environment(shown.stdout)}\n{state}\n"
            yield f"unit/{unit.name}.txt", "the unit with its drop-ins and its state", text
        said = run("journalctl", "--no-pager", "-o", "short-iso", "-n", _LOG_LINES, "-u", unit.name)
        if said is not None:
            yield f"log/{unit.name}.log", "its newest lines in the journal", said.stdout or said.stderr
    for log in logs:
        yield f"log/{log.name}", f"the end of {log}", _end_of(log)


def _json(secrets: Secrets, value: object) -> str:
    return orjson.dumps(secrets.remove_from(orjson.loads(orjson.dumps(value))), option=orjson.OPT_INDENT_2).decode()


def _without_values(status: StatusAnswer) -> StatusAnswer:
    """Values are production's own, and nobody needs them to help."""
    devices = tuple(
        replace(device, scan_groups=tuple(replace(group, values=()) for group in device.scan_groups))
        for device in status.devices
    )
    return replace(status, devices=devices)


def _versions() -> str:
    packages = sorted(f"{each.metadata['Name']} {each.version}" for each in distributions())
    system = Path("/etc/os-release")
    release = system.read_text("utf-8", "replace") if system.exists() else ""
    systemd = run("systemctl", "--version")
    parts = [f"Python {sys.version}", " ".join(platform.uname()), release, systemd.stdout if systemd else "no systemd"]
    return "\n".join([*parts, "packages:", *packages, ""])


def _machine() -> Iterator[str]:
    for name in ("uptime", "loadavg", "meminfo", "pressure/io", "mounts"):
        path = Path("/proc", name)
        if path.exists():
            yield f"--- {path}\n{path.read_text('utf-8', 'replace')}\n"
    for command in (["df", "-h"], ["df", "-i"], ["ip", "-brief", "address"], ["ip", "route"], ["timedatectl"],
                    ["chronyc", "-n", "tracking"], ["chronyc", "-n", "sources"]):  # fmt: skip
        said = run(*command)
        yield f"--- {' '.join(command)}\n{(said.stdout or said.stderr) if said else 'not installed'}\n"


def _end_of(log: Path) -> str:
    with log.open("rb") as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - MEMBER_BYTES_LIMIT))
        return file.read().decode("utf-8", "replace")


def _bounded(name: str, text: str) -> bytes:
    data = text.encode("utf-8", "replace")
    if name.startswith("log/"):
        return data[-MEMBER_BYTES_LIMIT:]
    return data[:MEMBER_BYTES_LIMIT]


def _readme(patient: Patient, members: Sequence[Member], secrets: Secrets) -> str:
    head = _HEAD.format(at=format_utc(time.time_ns()), host=platform.node(), config=patient.config)
    rows = [(each.name, format_size(each.size_bytes), each.what) for each in members]
    unread = [f"could not be looked for: {each}" for each in secrets.unread]
    return head + "\n".join([*aligned(rows), *unread, ""])


def _add(archive: tarfile.TarFile, name: str, data: bytes) -> None:
    entry = tarfile.TarInfo(f"tidegate-support/{name}")
    entry.size, entry.mtime, entry.mode = len(data), int(time.time()), 0o600
    archive.addfile(entry, io.BytesIO(data))
