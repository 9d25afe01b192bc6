"""What took part in a run, by version and hash."""

from __future__ import annotations

import hashlib
import platform
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from importlib.metadata import PackageNotFoundError, distribution, version
from pathlib import Path

import orjson

from hil.document import ScenarioResult, Version

_ROOT = Path(__file__).parents[1]
_LIBRARIES = ("cbor2", "cryptography", "numpy", "zstandard", "asyncua")
_PROGRAMS = {"mosquitto": "-h", "chronyd": "--version", "ptp4l": "-v"}
_NUMBER = re.compile(r"\d+(?:\.\d+)+")


def versions(results: Iterable[ScenarioResult]) -> tuple[Version, ...]:
    """What took part in these; the hash of a tree is that of its files' `sha256sum` lines."""
    played = [each for each in results if not each.not_played]
    under_test = sorted({each.gateway_version for each in played if each.gateway_version})
    witnesses = sorted({library for each in played for library in each.witnesses})
    return (
        *(Version(name="Tidegate, as the gateway under test says", version=each) for each in under_test),
        Version(name="Tidegate on this machine", version=version("tidegate"), sha256=tree_sha256("edge", "drivers")),
        _wheel(),
        Version(name="Tidegate's rig and scenarios", version=version("tidegate"), sha256=tree_sha256("hil")),
        *(
            Version(name=f"{name}, a witness", version=number)
            for name, _, number in (each.partition(" ") for each in witnesses)
        ),
        *_libraries(),
        *_programs(),
        Version(name="Python", version=platform.python_version()),
        Version(name="Machine of the rig", version=f"{platform.system()} {platform.release()} {platform.machine()}"),
    )


def scenario_version(module: str) -> Version:
    """The source of a scenario, by the name of its file."""
    source = _ROOT / "hil" / "scenarios" / f"{module}.py"
    return Version(name=f"Scenario {module}", version="", sha256=hashlib.sha256(source.read_bytes()).hexdigest())


def tree_sha256(*folders: str) -> str:
    """The output of `sha256sum $(find FOLDERS -name '*.py' | LC_ALL=C sort) | sha256sum` beside the packages."""
    names = sorted(path.relative_to(_ROOT).as_posix() for folder in folders for path in (_ROOT / folder).rglob("*.py"))
    lines = [f"{hashlib.sha256((_ROOT / name).read_bytes()).hexdigest()}  {name}\n" for name in names]
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def _wheel() -> Version:
    """The wheel that the product was installed from, as the installer noted it."""
    noted = orjson.loads(distribution("tidegate").read_text("direct_url.json") or "{}")
    digests = noted.get("archive_info", {}).get("hashes", {})
    if noted.get("dir_info"):
        return Version(name="Wheel", version="not from a wheel: from a source tree")
    name = str(noted.get("url", "")).rpartition("/")[2] or "not noted by its installer"
    return Version(name="Wheel", version=name, sha256=digests.get("sha256", ""))


def _programs() -> Iterator[Version]:
    """Programs of this machine that take part, by what they say of themselves."""
    for name, option in _PROGRAMS.items():
        if path := shutil.which(name, path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin"):
            said = subprocess.run([path, option], check=False, capture_output=True, text=True, timeout=10)
            number = _NUMBER.search(said.stdout + said.stderr)
            yield Version(name=name, version=number[0] if number else "")


def _libraries() -> list[Version]:
    found = []
    for name in _LIBRARIES:
        try:
            found.append(Version(name=name, version=version(name)))
        except PackageNotFoundError:
            continue
    return found
