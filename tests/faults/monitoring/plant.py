"""A plant to be alarmed about: gateways and relays as the processes they are, most with a fault of their own."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit, counter
from edge.seal import FileCounter, issuer_of, load_or_create_identity, public_path_of
from tests.faults.gateway.plant_under_test import Deaf
from tests.faults.gateway.site_under_test import HasPort, Process, Site
from tests.support.certificates import PEM, certificate, revocation_list
from tests.support.ports import free_port
from tests.support.prometheus import Prometheus, Target

_TEXTS = 55  # Of 250 characters each, in every scan group.


class Plant:
    """The processes, and what scrapes them.

    Attributes:
        processes: by name of the gateway or relay.
        devices: for all gateways: a good one, a slow one, and one that does not speak Modbus.
    """

    def __init__(self, site: Site, syslog: str = "off") -> None:
        self.site, self.directory, self.syslog = site, site.directory, syslog
        self.prometheus = Prometheus()
        self.processes: dict[str, Process] = {}
        self.devices: dict[str, HasPort] = {
            "good": site.plant.enter(SimulatedDevice({1: unit()})),
            "slow": site.plant.enter(SimulatedDevice({1: unit()}, latency_s=0.8)),
            "wrong": site.plant.enter(Deaf(b"HTTP/1.1 400 Bad Request\r\n\r\n")),
        }
        self.tls_port, self.nothing_here = free_port(), free_port()
        self.trust = self.directory / "trust"
        self.pki = self.directory / "pki"
        for folder in (self.trust, self.pki):
            folder.mkdir()
        self._starts: dict[str, tuple[tuple[str, ...], Mapping[str, str]]] = {}

    # What it consists of

    def broker(self, *refused_topics: str) -> Process:
        """A broker, plain and with TLS, that refuses some topics."""
        for name, days in (("ca", 400), ("broker", 300), ("tomorrow", 1), ("this_month", 20), ("lasting", 300)):
            self.make_certificate(name, days)
        access_list = self.directory / "acl"
        access_list.write_text("topic readwrite #\n" + "".join(f"topic deny {each}\n" for each in refused_topics))
        pki = self.pki
        return self.site.mosquitto(
            f"allow_anonymous true\nacl_file {access_list}\nlistener {self.tls_port} 127.0.0.1\n"
            f"cafile {pki}/ca.pem\ncertfile {pki}/broker.pem\nkeyfile {pki}/broker.key\nrequire_certificate true\n"
        )

    def clock(self) -> dict[str, Any]:
        """A chronyd with a server, neither of which touches this machine's clock; the settings of who asks it."""
        port, asked_at = free_port(), free_port()
        self._chronyd("server", "local stratum 3", "allow 127.0.0.1", f"port {port}", "bindaddress 127.0.0.1",
                      f"cmdport {free_port()}")  # fmt: skip
        self._chronyd("client", f"server 127.0.0.1 port {port} iburst minpoll 0 maxpoll 0", "port 0",
                      f"cmdport {asked_at}", "bindcmdaddress 127.0.0.1")  # fmt: skip
        return {"require": "any", "chrony": f"127.0.0.1:{asked_at}"}

    def trust_in(self, *names: str) -> None:
        """Make the identities of gateways, for the relays to know."""
        for name in names:
            state = self.directory / name
            state.mkdir()
            key = state / "identity.pem"
            load_or_create_identity(key, issuer=issuer_of(name), counter=FileCounter(state / "identity.counter"))
            shutil.copy(public_path_of(key), self.trust / f"{name}.pem")

    def gateway(
        self, name: str, *devices: Mapping[str, Any], environment: Mapping[str, str] | None = None, **settings: Any
    ) -> None:
        """A gateway at work on these devices."""
        state, port = self.directory / name, free_port()
        path = self.site.write(name, {
            "gateway": {"name": name, "path": f"acme/basel/upstream/{name}", "state": str(state)},
            "buffer": {"free_space": 0, "segment": "1 MiB", "limit": "64 MiB"},
            "uplink": self.uplink(),
            "log": {"format": "json", "syslog": self.syslog},
            "status": {"metrics": f"127.0.0.1:{port}"},
            "devices": list(devices),
            **settings,
        })  # fmt: skip
        self.start(name, "run", str(path), environment=environment or {})
        self.prometheus.targets.append(Target("tidegate", name, port))

    def relay(self, name: str, *, port: int, view_port: int, sink_port: int = 0, prefix: tuple[str, ...] = ()) -> None:
        """A relay of the broker at one port, with a view on the broker at another, and perhaps a sink at a third."""
        mqtt = {"host": "127.0.0.1", "tls": "off"}
        metrics, archive = free_port(), self.directory / name
        archive.mkdir()
        path = self.site.write(name, {
            "relay": {
                "name": name, "archive": str(archive), "trust": [str(self.trust)], "mqtt": {**mqtt, "port": port},
                "views": {"unified_namespace": {"prefix": f"uns-{name}", "mqtt": {**mqtt, "port": view_port}}},
                "sinks": {"historian": {"host": "127.0.0.1", "port": sink_port, "tls": "off"}} if sink_port else {},
                "status": {"metrics": f"127.0.0.1:{metrics}"},
            },
            "log": {"format": "json", "syslog": self.syslog},
        })  # fmt: skip
        self.site.prefix, before = prefix, self.site.prefix
        self.start(name, "relay", str(path))
        self.site.prefix = before
        self.prometheus.targets.append(Target("tidegate-relay", name, metrics))

    def revocation_list(self, name: str, days: int) -> Path:
        """A list of the authority that ends in so many days; none of the others is on it."""
        signer = serialization.load_pem_private_key((self.pki / "ca.key").read_bytes(), None)
        assert isinstance(signer, ec.EllipticCurvePrivateKey)
        retired = certificate("retired", signer, "ca", signer)
        begun = datetime.now(UTC) - timedelta(days=30 - days)
        path = self.pki / f"{name}.pem"
        path.write_bytes(revocation_list("ca", signer, retired, begun).public_bytes(PEM))
        return path

    def uplink(self, certificate: str = "", port: int = 0, **tls: str) -> dict[str, Any]:
        """The settings of an uplink, with that certificate where one is named, and more of TLS."""
        if not certificate:
            return {"mqtt": {"host": "127.0.0.1", "port": port or self.site.broker_port, "tls": "off"}}
        own = self.pki / certificate
        files = {"ca": f"{self.pki}/ca.pem", "certificate": f"{own}.pem", "key": f"file:{own}.key", **tls}
        return {"mqtt": {"host": "localhost", "port": self.tls_port, "tls": files}}

    # What happens to it

    def start(self, name: str, *command: str, environment: Mapping[str, str] | None = None) -> None:
        """Start a process, or one again that has ended."""
        if command:
            self._starts[name] = command, environment or {}
        command, environment = self._starts[name]
        self.processes[name] = self.site.command(*command, name=name, environment=environment)

    def is_answering(self, name: str) -> bool:
        """Whether a process serves metrics."""
        return bool(self.metrics(name))

    def metrics(self, name: str) -> str:
        """What it serves; empty where it does not answer."""
        [port] = [target.port for target in self.prometheus.targets if target.instance == name]
        try:
            with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except (URLError, TimeoutError, ConnectionError):
            return ""

    def value(self, name: str, metric: str) -> float | None:
        """The value of a metric, with its labels as they are written; None where it is not there."""
        lines = [line for line in self.metrics(name).splitlines() if line.startswith(f"{metric} ")]
        return float(lines[0].rpartition(" ")[2]) if lines else None

    def wait_for(self, name: str, metric: str, *values: float) -> None:
        """Until a metric has one of these values, or any but 0."""
        self.site.wait(
            lambda: (value := self.value(name, metric)) is not None and (value in values if values else value > 0),
            f"{name}: {metric} to be {values or 'above 0'}",
        )

    def _chronyd(self, name: str, *lines: str) -> None:
        home = self.directory / f"chrony-{name}"
        home.mkdir(mode=0o750)
        (home / "chrony.conf").write_text("\n".join((*lines, f"pidfile {home}/pid", f"bindcmdaddress {home}/sock", "")))
        program = shutil.which("chronyd", path="/usr/sbin:/sbin:/usr/bin") or "chronyd"
        self.site.start(f"chronyd-{name}", [program, "-d", "-x", "-U", "-u", "root", "-f", f"{home}/chrony.conf"])

    def make_certificate(self, name: str, days: int, authority: str = "ca") -> None:
        """A certificate with its key in `pki`, signed by an authority, or by itself where it has the same name."""
        make = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
        signed = ["-CA", f"{authority}.pem", "-CAkey", f"{authority}.key", "-addext", "subjectAltName=DNS:localhost"]
        make += [] if name == authority else signed
        make += ["-subj", f"/CN={name}", "-days", str(days), "-keyout", f"{name}.key", "-out", f"{name}.pem"]
        subprocess.run(make, cwd=self.pki, check=True, capture_output=True)
        (self.pki / f"{name}.key").chmod(0o600)


def unit() -> SimulatedUnit:
    """A unit with a counter, and an address that it does not have."""
    return SimulatedUnit([Signal("holding 0", "uint32", counter())], illegal=["holding 900"])


def device(name: str, port: int, address: str = "holding 0") -> dict[str, Any]:
    """A Modbus device of one tag, as a configuration has it."""
    tag = {"name": "count", "address": address, "type": "uint32", "word_order": "big"}
    return {"name": name, "driver": "modbus", "host": "127.0.0.1", "port": port,
            "retry": "100 ms", "retry_limit": "300 ms", "limits": {"timeout": "3 s"},
            "scan_groups": [{"every": "500 ms", "tags": [tag]}]}  # fmt: skip


def flood() -> dict[str, Any]:
    """A device that fills disks."""

    def tag(group: str, number: int) -> dict[str, Any]:
        return {"name": f"{group}-{number}", "signal": "text", "texts": ["a" * 250, "b" * 250], "period": "20 ms"}

    groups = [{"name": name, "every": "20 ms", "tags": [tag(name, n) for n in range(_TEXTS)]} for name in "abcdef"]
    return {"name": "flood", "driver": "simulator", "scan_groups": groups}


def build(library: Path, source: Path) -> Path:
    """A library to be loaded before all others."""
    subprocess.run(["gcc", "-O1", "-Wall", "-Werror", "-shared", "-fPIC", "-o", library, source], check=True)
    return library
