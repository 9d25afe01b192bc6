"""Installation qualification: is what runs here what was delivered, and is the machine set up as it has to be?

The Debian packages bring two lists: `RECORD` of the wheel has the hash of each file of Tidegate, and the SBOM names the
libraries and the units with their hashes. What is there is compared with both.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import platform
import re
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import Distribution, PackageNotFoundError, distributions
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import orjson

from edge.accounts import account_name
from edge.config.settings import GatewaySettings
from edge.doctor import machine
from edge.doctor.examine import Patient, examine
from edge.doctor.files import SECRETS, references
from edge.doctor.findings import Area, DoctorAnswer
from edge.doctor.service import Unit, run, units_of
from edge.errors import ConfigError
from edge.qualify.checks import Outcome, Task, named
from edge.seal.signed_folder import sha256_of
from edge.units import counted, is_loopback

PACKAGE = "tidegate"
_NOT_INSTALLED = ("edge/testing/",)  # In the wheel for those who write drivers, and not in the Debian package.
_LISTENING, _UNCONNECTED = "0A", "07"  # The states of /proc/net.
_WITHOUT_SBOM = ("installed from a wheel: the SBOM comes with the Debian package, and the record has the list of what "
                 "is installed")  # fmt: skip


def installed_distribution() -> Distribution:
    """Tidegate as it is installed. Raises ConfigError where it is not."""
    try:
        return Distribution.from_name(PACKAGE)
    except PackageNotFoundError:
        raise ConfigError("tidegate is not installed here: it runs from a directory") from None


def build_of(own: Distribution) -> str:
    """SHA-256 of the list of files that was installed."""
    return hashlib.sha256((own.read_text("RECORD") or "").encode()).hexdigest()


class Installation:
    """The checks of one machine.

    Args:
        patient: what the doctor looks at: configuration, settings, and what the running process says.
        own: Tidegate as it is installed.
        root: where the files of the system begin.
    """

    def __init__(self, patient: Patient, own: Distribution, root: Path = Path("/")) -> None:
        self._patient, self._own, self._root = patient, own, root
        self._found: DoctorAnswer | None = None

    def tasks(self) -> list[Task]:
        """All of them."""
        return [
            Task(id="IQ-01", title="Host and kernel", requirements=("REQ-PACK-01",),
                 done="Asked the system what it is.",
                 expected="Linux with Python 3.11 or newer.", look=self.host),
            Task(id="IQ-02", title="Packages", requirements=("REQ-PACK-01",),
                 done="Asked dpkg which packages are installed, and whether their files "
                 "are as delivered.", expected="All are installed whole, and no file differs.", look=self.packages),
            Task(id="IQ-03", title="Files of Tidegate", requirements=("REQ-PACK-01",),
                 done="Compared the SHA-256 of each file with RECORD.",
                 expected="Each file is as delivered, and none was added.", look=self.files),
            Task(id="IQ-04", title="Libraries", requirements=("REQ-PACK-01",),
                 done="Compared what is installed with the SBOM (CycloneDX).",
                 expected="Exactly the libraries of the SBOM, each in its version.", look=self.libraries),
            Task(id="IQ-05", title="Units as shipped", requirements=("REQ-SAFE-06",),
                 done="Compared the units of systemd, and those of users and "
                 "directories, with the hashes of the SBOM.", expected="Each is as shipped; what the site adds is in "
                 "drop-ins.", look=self.units),
            Task(id="IQ-06", title="Exposure of the units", requirements=("REQ-SAFE-06",),
                 done="Asked systemd-analyze security, and compared the "
                 "addresses that the units allow with the configuration.", expected="Exposure of 2.0 or less; no root; "
                 "named addresses only.", look=self.exposure),
            Task(id="IQ-07", title="Users and modes", requirements=("REQ-SEAL-02", "REQ-SAFE-05"),
                 done="Looked at owner and mode of directories, keys and "
                 "configuration.", expected="No one else may read secrets or change files.", look=self.modes),
            Task(id="IQ-08", title="Time source", requirements=("REQ-TIME-01", "REQ-TIME-02"),
                 done="Asked what keeps the clock, and how far it may be off.",
                 expected="A source keeps the clock, and bounds its error.", look=self.time_source),
            Task(id="IQ-09", title="Certificates", requirements=("REQ-SAFE-03", "REQ-OPER-02"),
                 done="Looked at ends and keys of all certificates that are named.",
                 expected="Each fits its key, and is valid for 30 days or more.", look=self.certificates),
            Task(id="IQ-10", title="Listening sockets", requirements=("REQ-SAFE-06",),
                 done="Looked in /proc/net for what listens, and whose it is.",
                 expected="The service listens on loopback only, or where the configuration says so.",
                 look=self.sockets),
            Task(id="IQ-11", title="Configuration", requirements=("REQ-CONF-01", "REQ-CONF-04"),
                 done="Checked the configuration, and compared its SHA-256 with the "
                 "one that runs.", expected="No error, and the running one is this one.", look=self.configuration),
            Task(id="IQ-12", title="Devices", done="Asked the running gateway for its devices and their identities.",
                 expected="The devices of the configuration, and no other.", look=self.devices),
            Task(id="IQ-13", title="Running", requirements=("REQ-OPER-01",),
                 done="Asked the running service how it is, and looked at disks, broker "
                 "and sinks.", expected="It runs, and nothing has to be done.", look=self.running),
        ]  # fmt: skip

    def host(self) -> Outcome:
        """What the machine is."""
        release = self._text("etc/os-release")
        name = re.search(r'^PRETTY_NAME="?([^"\n]*)', release, re.MULTILINE)
        uname, python = platform.uname(), platform.python_version()
        found = (f"{uname.node}: {name[1] if name else 'an unnamed system'}, {uname.system} {uname.release}, "
                 f"{uname.machine}, Python {python}")  # fmt: skip
        raw = "\n".join([" ".join(uname), sys.version, release, self._text("proc/meminfo")[:200]])
        return Outcome(found, sys.platform == "linux" and sys.version_info >= (3, 11), raw)

    def packages(self) -> Outcome:
        """What dpkg says of the packages."""
        shown = run("dpkg-query", "-W", "-f", "${Package} ${Version} ${Architecture} ${Status}\n", "tidegate*")
        lines = [line for line in (shown.stdout if shown else "").splitlines() if not line.endswith("not-installed")]
        if not lines:
            return Outcome(f"tidegate {self._own.version} is installed without a Debian package", held=None)
        verified = run("dpkg", "--verify", *(line.split()[0] for line in lines))
        elsewhere = {each["name"] for each in self._components("file")}  # Judged by IQ-05, and what follows by IQ-03.
        own = tuple(f"{self._own.locate_file(name)}" for name in ("edge/", "drivers/"))
        differing = [line for line in (verified.stdout.splitlines() if verified else [])
                     if (path := line.split()[-1]) not in elsewhere and not path.startswith(own)]  # fmt: skip
        whole = all(line.endswith("install ok installed") for line in lines)
        names = ", ".join(" ".join(line.split()[:2]) for line in lines)
        said = f"; {named([each.split()[-1] for each in differing])} differ" if differing else ""
        return Outcome(names + said, whole and not differing, "\n".join([*lines, *differing]))

    def files(self) -> Outcome:
        """Tidegate's own files, by the hashes of RECORD."""
        hashed = {str(file): file.hash for file in self._own.files or () if file.hash is not None}
        site = Path(str(self._own.locate_file("")))
        wanted = {name: each for name, each in hashed.items() if not name.startswith(("../", *_NOT_INSTALLED))}
        if not any(name.startswith("edge/") for name in wanted):
            return Outcome("installed as a link to a directory of sources: no file has a hash", held=False)
        wrong, lines = [], []
        for name, recorded in wanted.items():
            try:
                digest = hashlib.new(recorded.mode, (site / name).read_bytes()).digest()
            except OSError:
                wrong.append(f"{name} is missing")
                continue
            lines.append(f"{digest.hex()}  {name}")
            if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != recorded.value:
                wrong.append(f"{name} was changed")
        added = [path.relative_to(site).as_posix() for top in ("edge", "drivers") for path in (site / top).rglob("*")
                 if path.is_file() and path.suffix != ".pyc"]  # fmt: skip
        wrong += [f"{name} was added" for name in sorted(added) if name not in hashed]
        return Outcome(named(wrong) or f"{len(wanted)} files are as delivered", not wrong, "\n".join(lines))

    def libraries(self) -> Outcome:
        """What is installed beside Tidegate, by the SBOM."""
        site = str(self._own.locate_file(""))
        there = {_canonical(each.name): each.version for each in distributions(path=[site])}
        there.pop(PACKAGE, None)
        raw = json.dumps(there, indent=1, sort_keys=True)
        listed = {each["name"]: each["version"] for each in self._components("library")}
        if not self._sboms():
            return Outcome(_WITHOUT_SBOM, held=None, raw=raw, suffix="json")
        wrong = [f"{name} is {there.get(name, 'missing')}, the SBOM says {version}"
                 for name, version in sorted(listed.items()) if there.get(name) != version]  # fmt: skip
        wrong += [f"{name} {version} is not in the SBOM" for name, version in sorted(there.items())
                  if name not in listed]  # fmt: skip
        return Outcome(named(wrong) or f"{len(listed)} libraries as in the SBOM", not wrong, raw, "json")

    def units(self) -> Outcome:
        """The files of systemd, and the units that are loaded."""
        shipped = {each["name"]: each["hashes"][0]["content"] for each in self._components("file")}
        if not shipped:
            return Outcome("installed without the Debian package: no list of shipped units is here", held=None)
        wrong, lines = [], []
        for name, sha256 in shipped.items():
            path = self._root / name.lstrip("/")
            actual = sha256_of(path) if path.is_file() else ""
            lines.append(f"{actual or 'missing'}  {name}")
            if actual != sha256:
                wrong.append(f"{name} {'was changed' if actual else 'is missing'}")
        loaded = self._units()
        for unit in loaded:
            place = unit.properties.get("FragmentPath", "")
            lines.append(f"{unit.name} is loaded from {place}, drop-ins: {unit.properties.get('DropInPaths', '')}")
            if place and not any(os.path.realpath(place) == os.path.realpath(name) for name in shipped):
                wrong.append(f"{unit.name} is loaded from {place}, in place of the shipped one")
        said = f"{len(shipped)} files as shipped, " + (
            f"loaded: {', '.join(each.name for each in loaded)}" if loaded else "no unit of them is loaded here"
        )
        return Outcome(named(wrong) or said, not wrong, "\n".join(lines))

    def exposure(self) -> Outcome:
        """What the units let the service do."""
        if not Path("/run/systemd/system").exists():
            return Outcome("systemd does not run on this machine: no unit limits the service", held=None)
        analyzed = [run("systemd-analyze", "security", "--no-pager", "--", each.name) for each in self._units()]
        return self._of_doctor(("unit", "firewall"), "\n".join(each.stdout for each in analyzed if each))

    def modes(self) -> Outcome:
        """Owners and modes."""
        return self._of_doctor(("files",), "\n".join(self._owned()))

    def time_source(self) -> Outcome:
        """What keeps the clock."""
        tracking = run("chronyc", "-n", "tracking")
        found = self._of_doctor(("clock",), tracking.stdout if tracking else "chronyc is not installed")
        status = self._patient.status
        if status is None or status.clock is None:
            return found
        clock = status.clock  # To the doctor one that runs free is well where the configuration asks for no better.
        is_kept = clock.state == "SYNCHRONIZED" and clock.bound_ns is not None
        said = f"{clock.words}, says {clock.source}" if is_kept else f"{clock.words} ({clock.reason or clock.source})"
        return replace(found, found=said if found.held else f"{said}; {found.found}", held=bool(found.held) and is_kept)

    def certificates(self) -> Outcome:
        """Of all that the configuration names."""
        return self._of_doctor(("certificates",), nothing="the configuration names no certificate")

    def sockets(self) -> Outcome:
        """What listens on this machine, and of that the service."""
        listening = list(listening_sockets())
        raw = "\n".join(f"{protocol} {host}:{port} inode {inode}" for protocol, host, port, inode in listening)
        status = self._patient.status
        if status is None:
            return Outcome("the service does not answer: what it listens at is not known", held=None, raw=raw)
        inodes = _inodes_of(status.gateway.pid)
        if inodes is None:
            return Outcome("the sockets of the service may not be looked at: run it as root", held=False, raw=raw)
        own = [(protocol, host, port) for protocol, host, port, inode in listening if inode in inodes]
        ports = set(self._named_ports())
        wrong = [f"{protocol} {host}:{port}" for protocol, host, port in own
                 if not is_loopback(host) and port not in ports]  # fmt: skip
        said = ", ".join(f"{protocol} {host}:{port}" for protocol, host, port in own) or "the service listens nowhere"
        more = f"; not in the configuration: {named(wrong)}" if wrong else ""
        return Outcome(
            f"{said}{more}; {counted(len(listening), 'socket')} of the whole machine on record", not wrong, raw
        )

    def configuration(self) -> Outcome:
        """The configuration, and the one that runs."""
        checked, status = self._patient.checked, self._patient.status
        digest = checked.digest.hex()
        raw = "\n".join([f"SHA-256 {digest}", *map(str, checked.problems)])
        if checked.errors:
            return Outcome(named(list(map(str, checked.errors))), held=False, raw=raw)
        running = status.gateway.configuration if status else ""
        if running and running != digest:
            return Outcome(f"{digest}, and {running} runs", held=False, raw=raw)
        return Outcome(f"SHA-256 {digest}" + (", which runs" if running else ""), held=True, raw=raw)

    def devices(self) -> Outcome:
        """The inventory."""
        settings, status = self._patient.settings, self._patient.status
        if not isinstance(settings, GatewaySettings):
            return Outcome("a relay has no devices", held=None)
        if status is None:
            return Outcome("the gateway does not answer, and only it knows its devices", held=False)
        wanted, there = {each.name for each in settings.devices}, {each.name for each in status.devices}
        inventory = [{"device": each.name, "driver": each.driver, "address": each.address, "state": each.state,
                      "identity": each.identity} for each in status.devices]  # fmt: skip
        wrong = [f"{name} is not read" for name in sorted(wanted - there)]
        wrong += [f"{name} is read, and not in the configuration" for name in sorted(there - wanted)]
        known = sum(each.identity is not None for each in status.devices)
        said = f"{counted(len(there), 'device')}, of which {known} say what they are"
        raw = orjson.dumps(inventory, option=orjson.OPT_INDENT_2)
        return Outcome(named(wrong) or said, not wrong, raw, "json")

    def running(self) -> Outcome:
        """How the service is."""
        return self._of_doctor(("running", "disk", "broker", "sinks"))

    # What they share

    def _of_doctor(self, areas: tuple[Area, ...], raw: str = "", nothing: str = "nothing has to be done") -> Outcome:
        """What the doctor finds in these areas; what it could not look at as root is shown to the service only."""
        if self._found is None:
            self._found = examine(self._patient)
        found = [each for each in self._found.findings if each.area in areas]
        is_blind = not self._found.as_root and any(each.severity == "unseen" for each in found)
        wrong = [each.text for each in found if each.severity in ("critical", "warning")
                 or (is_blind and each.severity == "unseen")]  # fmt: skip
        said = [each.text for each in found if each.severity in ("ok", "notice", "unseen")]
        lines = [f"{each.severity}: {each.area}: {each.text}" for each in found]
        return Outcome(named(wrong) or named(said) or nothing, not wrong, "\n".join([*lines, raw]).strip())

    def _units(self) -> Sequence[Unit]:
        status = self._patient.status
        return units_of(self._patient.config, self._patient.checked.kind, status.gateway.pid if status else None)

    def _owned(self) -> Iterator[str]:
        """Owner, group and mode of what the configuration names."""
        settings = self._patient.settings
        paths = [Path(self._patient.config)]
        if settings is not None:
            paths += machine.directories(settings)
            paths += [Path(each.name) for _, name, each in references(settings)
                      if each.kind == "file" and (name in SECRETS or name)]  # fmt: skip
        if isinstance(settings, GatewaySettings) and settings.identity_key.kind == "file":
            paths.append(Path(settings.identity_key.name))
        for path in dict.fromkeys(paths):
            try:
                about = path.stat()
            except OSError as error:
                yield f"{path}: {error.strerror}"
                continue
            yield f"{about.st_mode & 0o7777:04o} {account_name(about.st_uid)} group {about.st_gid} {path}"

    def _named_ports(self) -> Iterator[int]:
        """The ports at which the configuration lets other machines in."""
        if (settings := self._patient.settings) is None:
            return
        status = settings.status if isinstance(settings, GatewaySettings) else settings.relay.status
        if status.metrics is not None:
            port = int(status.metrics.rpartition(":")[2])
            yield from (port, port + 1)  # That of the role forward is the next one.
        if isinstance(settings, GatewaySettings):
            for device in settings.devices:
                listen = getattr(device, "listen", None)  # Of a driver whose devices dial in.
                yield from (port for port in (getattr(listen, "port", None),) if port is not None)

    def _sboms(self) -> list[Path]:
        return sorted(self._root.glob("usr/share/doc/tidegate*/sbom.cdx.json"))

    def _components(self, kind: str) -> list[dict[str, Any]]:
        return [each for path in self._sboms() for each in json.loads(path.read_text("utf-8"))["components"]
                if each["type"] == kind]  # fmt: skip

    def _text(self, name: str) -> str:
        try:
            return (self._root / name).read_text("utf-8", "replace")
        except OSError:
            return ""


def listening_sockets() -> Iterator[tuple[str, str, int, int]]:
    """(protocol, address, port, inode) of each socket that listens, or takes datagrams from everybody."""
    for protocol, state in ("tcp", _LISTENING), ("tcp6", _LISTENING), ("udp", _UNCONNECTED), ("udp6", _UNCONNECTED):
        try:
            lines = Path("/proc/net", protocol).read_text("ascii").splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            words = line.split()
            if words[3] == state:
                host, _, port = words[1].rpartition(":")
                yield protocol, _address(host), int(port, 16), int(words[9])


def _address(text: str) -> str:
    """An address of /proc/net, which is in words of the machine's byte order."""
    data = b"".join(bytes.fromhex(text[at : at + 8])[:: -1 if sys.byteorder == "little" else 1]
                    for at in range(0, len(text), 8))  # fmt: skip
    return str(ip_address(socket.inet_ntop(socket.AF_INET if len(data) == 4 else socket.AF_INET6, data)))


def _inodes_of(pid: int) -> set[int] | None:
    """The sockets of a process; None where this user may not look."""
    found = set()
    try:
        handles = list(Path(f"/proc/{pid}/fd").iterdir())
    except OSError:
        return None
    for each in handles:
        with suppress(FileNotFoundError):  # It is closed by now.
            if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(each)):  # noqa: PTH115 - a text, no path
                found.add(int(match[1]))
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
