"""The unit of systemd: whether it runs, starts with the machine, and limits what the service may do."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from pathlib import Path

from edge.config.settings import GatewaySettings, RelaySettings
from edge.doctor.findings import Finding
from edge.units import is_loopback, server_address

EXPOSURE_LIMIT = 2.0
"""As systemd-analyze counts it, from 0 to 10. The shipped units have 1.2 or less; drop-ins for devices add to it."""

_PAIR = ("tidegate-acquire.service", "tidegate-forward.service")
_RESTARTS = 3
_ANSWER_WITHIN_S = 20.0
_PROPERTIES = ("Id", "LoadState", "ActiveState", "UnitFileState", "NeedDaemonReload", "Result", "ExecMainStatus",
               "NRestarts", "User", "DynamicUser", "DropInPaths", "FragmentPath", "ExecStart", "IPAddressAllow",
               "IPAddressDeny", "Environment")  # fmt: skip
_EVERYWHERE = {"any", "0.0.0.0/0", "::/0"}
_STATUSES = {
    "78": "its configuration has problems: tidegate check",
    "203": "its program is missing",
    "217": "its user is missing: systemd-sysusers",
    "226": "a directory of the unit is missing: systemd-tmpfiles --create",
    "243": "a credential is missing: systemctl cat",
}


@dataclass(frozen=True, slots=True)
class Unit:
    """A unit, by its properties as `systemctl show` names them."""

    name: str
    properties: Mapping[str, str]

    @property
    def is_limited(self) -> bool:
        """Whether it may speak to named addresses only."""
        return bool(_EVERYWHERE & set(self.properties.get("IPAddressDeny", "").split()))

    @property
    def is_meant(self) -> bool:
        """Whether it starts with the machine, or was started."""
        shown = self.properties
        return shown.get("UnitFileState") == "enabled" or shown.get("ActiveState") != "inactive"


def run(*command: str) -> subprocess.CompletedProcess[str] | None:
    """What a program of the system says, in English; None where it is not installed, or hangs."""
    program = shutil.which(command[0], path="/usr/sbin:/usr/bin:/sbin:/bin")
    if program is None:
        return None
    environment = {"LC_ALL": "C.UTF-8", "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "SYSTEMD_COLORS": "0"}
    try:
        return subprocess.run(  # noqa: S603 - programs of the system, by their full path
            [program, *command[1:]], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            errors="replace", check=False, timeout=_ANSWER_WITHIN_S,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return None


def units_of(config: str, kind: str, pid: int | None) -> Sequence[Unit]:
    """The units that run this configuration: of all that could, those that do, or that are meant to."""
    if not Path("/run/systemd/system").exists():
        return ()
    path, running = str(Path(config).resolve()), _unit_of(pid) if pid is not None else ""
    names = [running, "tidegate.service", *_PAIR, f"tidegate@{Path(config).stem}.service"]
    if kind == "relay":
        names = [running, "tidegate-relay.service"]
    loaded = [Unit(name, shown) for name in dict.fromkeys(filter(None, names)) if (shown := _show(name))]
    loaded = [each for each in loaded if each.properties.get("LoadState") == "loaded"]
    if running:
        return [each for each in loaded if each.name == running or {each.name, running} <= set(_PAIR)]
    able = [each for each in loaded if path in each.properties.get("ExecStart", "")]
    return [each for each in able if each.is_meant] or able[:1]


def _unit_of(pid: int) -> str:
    try:
        groups = Path(f"/proc/{pid}/cgroup").read_text()
    except OSError:
        return ""
    match = re.search(r"/([^/\n]+\.service)$", groups, re.MULTILINE)
    return match[1] if match else ""


def _show(name: str) -> dict[str, str]:
    shown = run("systemctl", "show", "--no-pager", "-p", ",".join(_PROPERTIES), "--", name)
    lines = shown.stdout.splitlines() if shown is not None and shown.returncode == 0 else []
    return dict(line.split("=", 1) for line in lines if "=" in line)


def examine(
    units: Sequence[Unit], settings: GatewaySettings | RelaySettings | None, *, is_running: bool
) -> Iterator[Finding]:
    """What is wrong with the units."""
    if not units:
        text = "no unit of systemd runs this configuration: nothing starts it again, and nothing limits what it may do"
        yield Finding(severity="warning" if is_running else "notice", area="unit", text=text,
                      remedy="deploy it with the shipped units")  # fmt: skip
    for unit in units:
        yield from _state(unit)
        yield from _hardening(unit)
    # Of a pair one unit speaks to the devices and the other to the broker.
    if units and all(unit.is_limited for unit in units):
        yield from _addresses(units, settings)


def _state(unit: Unit) -> Iterator[Finding]:
    name, shown = unit.name, unit.properties
    if shown.get("ActiveState") == "failed":
        why = _STATUSES.get(shown.get("ExecMainStatus", ""), f"it ended with {shown.get('Result')}")
        yield Finding(severity="critical", area="unit", text=f"{name} has failed: {why}",
                      remedy=f"journalctl -u {name} -n 20 has the reason; then systemctl restart {name}")  # fmt: skip
    elif shown.get("ActiveState") == "inactive":
        yield Finding(severity="critical", area="unit", text=f"{name} is stopped", remedy=f"systemctl start {name}")
    if int(shown.get("NRestarts") or 0) >= _RESTARTS:
        yield Finding(severity="warning", area="unit", remedy=f"journalctl -u {name} has the reasons",
                      text=f"{name} was started again {shown['NRestarts']} times by systemd")  # fmt: skip
    if shown.get("UnitFileState") == "disabled":
        yield Finding(severity="warning", area="unit", text=f"{name} does not start with the machine",
                      remedy=f"systemctl enable {name}")  # fmt: skip
    if shown.get("NeedDaemonReload") == "yes":
        yield Finding(severity="warning", area="unit", text=f"{name} was changed on disk, and runs as it was",
                      remedy=f"systemctl daemon-reload, then systemctl restart {name}")  # fmt: skip


def _hardening(unit: Unit) -> Iterator[Finding]:
    name, shown = unit.name, unit.properties
    if shown.get("User", "") in ("", "root") and shown.get("DynamicUser") != "yes":
        yield Finding(severity="critical", area="unit", text=f"{name} runs as root",
                      remedy="use the shipped unit, which has a user of its own")  # fmt: skip
    told = run("systemd-analyze", "security", "--no-pager", "--", name)
    match = re.search(r"exposure level for \S+: ([\d.]+)", told.stdout) if told is not None else None
    if match is None:
        said = (told.stderr.strip().splitlines() or ["no answer"])[-1] if told else "systemd-analyze is not installed"
        yield Finding(severity="unseen", area="unit", text=f"{name}: its hardening could not be looked at: {said}",
                      remedy="run it as root")  # fmt: skip
    elif float(match[1]) > EXPOSURE_LIMIT:
        parts = shown.get("DropInPaths", "") or shown.get("FragmentPath", "")
        yield Finding(severity="warning", area="unit", remedy=f"see systemd-analyze security {name}, and {parts}",
                      text=f"{name} may do more than it needs: exposure {match[1]}, 1.2 as shipped")  # fmt: skip
    else:
        yield Finding(severity="ok", area="unit", text=f"{name}: exposure {match[1]}")
    if not unit.is_limited:
        yield Finding(severity="warning", area="unit", text=f"{name} may speak to every address",
                      remedy="set IPAddressDeny=any, and name its peers with IPAddressAllow= in a drop-in")  # fmt: skip


def _addresses(units: Sequence[Unit], settings: GatewaySettings | RelaySettings | None) -> Iterator[Finding]:
    """Peers of the configuration to which no unit may speak; names are not looked up."""
    allowed = {text for unit in units for text in unit.properties.get("IPAddressAllow", "").split()}
    networks = [ip_network(text, strict=False) for text in allowed - {"any", "localhost"}]
    for name, host in _peers(settings):
        try:
            address = ip_address(host)
        except ValueError:
            continue
        if "any" in allowed or is_loopback(host) or any(address in network for network in networks):
            continue
        yield Finding(severity="critical", area="unit", text=f"{units[0].name} may not speak to {host} ({name})",
                      remedy=f"add IPAddressAllow={host} to a drop-in, then daemon-reload and restart")  # fmt: skip


def _peers(settings: GatewaySettings | RelaySettings | None) -> Iterator[tuple[str, str]]:
    if isinstance(settings, RelaySettings):
        if settings.relay.mqtt is not None:
            yield "relay.mqtt", settings.relay.mqtt.host
        if settings.relay.kafka is not None:
            yield from (("relay.kafka", server_address(each)[0]) for each in settings.relay.kafka.servers)
        view = settings.relay.views.unified_namespace
        if view is not None and view.mqtt is not None:
            yield "relay.views.unified_namespace.mqtt", view.mqtt.host
    elif settings is not None:
        if settings.uplink is not None:
            yield "uplink.mqtt", settings.uplink.mqtt.host
        yield from ((device.name, str(device.reached_at)) for device in settings.devices)
