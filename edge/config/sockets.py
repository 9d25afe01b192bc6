"""Where gateways and relays make their sockets, and where commands look for them.

A unit names directories below /run/tidegate, one for each user that serves: only that user may make sockets there, and
the group tidegate-monitor may ask. Control sockets have a directory of their own, for the group tidegate-engineer: who
looks, such as the page, has no way to a device. Outside a unit, sockets are in the directory of state or archive.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

SERVICES = Path("/run/tidegate")
GROUP = "tidegate-monitor"


_CONTROL = "control"


def served_at(name: str, kind: Literal["status", "control", "live", "ptp"], otherwise: Path) -> Path:
    """Where this process makes a socket: in the directory that its unit names for it, otherwise where it is said."""
    for directory in map(Path, os.environ.get("RUNTIME_DIRECTORY", "").split(":")):
        if directory.parent == SERVICES and (directory.name == _CONTROL) == (kind == "control"):
            return directory / f"{name}.{kind}.sock"
    return otherwise


def asked_at(
    service: Literal["gateway", "relay"], name: str, kind: Literal["status", "control", "live"], otherwise: Path
) -> Path:
    """Where a command asks: at the socket of a service, where there is one, otherwise where it is said."""
    path = SERVICES / (_CONTROL if kind == "control" else service) / f"{name}.{kind}.sock"
    is_service = _is_seen(path) or (_is_seen(path.parent) and not _is_seen(otherwise))
    return path if is_service else otherwise


def of_role_forward(path: Path) -> Path:
    """The status socket of the role forward, from that of the other role of the same gateway."""
    if path.parent == SERVICES / "gateway":
        return SERVICES / "forward" / path.name
    return path.with_name(f"{path.stem}-forward{path.suffix}")


def status_sockets() -> list[Path]:
    """Those of the services of this machine that this user may see; the role forward is with its gateway."""
    try:
        found = {path for service in ("gateway", "relay") for path in SERVICES.glob(f"{service}/*.status.sock")}
        alone = {
            path for path in SERVICES.glob("forward/*.status.sock") if SERVICES / "gateway" / path.name not in found
        }
    except OSError:  # This user may not look into a directory.
        return []
    return sorted(found | alone)


def _is_seen(path: Path) -> bool:
    try:
        return path.exists()
    except OSError:  # This user may not look into the directory.
        return False
