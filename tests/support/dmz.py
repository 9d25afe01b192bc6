"""The broker as it is shipped: its files, installed with the commands of their page on Debian's main configuration.

It runs in namespaces that have only a loopback, so that port, paths and names are the real ones.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event
from typing import Self

import orjson

from edge.health import read_status
from edge.health.relay_snapshot import RelayStatus
from hil.namespaces import Machine

ROOT = Path(__file__).parents[2]

_LAY_OUT = """
mount -t tmpfs tidegate-test /run
mount --bind "$1/etc" /etc/mosquitto
mount --bind "$1/lib" /var/lib/mosquitto
mount --bind "$1/log" /var/log/mosquitto
mount --bind "$1/hosts" /etc/hosts
install -d -o mosquitto /run/mosquitto
chown mosquitto "$1/lib" "$1/log"
echo ready
exec sleep infinity
"""
_ON_A_DEBIAN = 'sudo() { "$@"; }; apt-get() { :; }; systemctl() { :; }\n'
TIDEGATE = [sys.executable, "-c", "from edge.cli import main; main()"]
_GATEWAY = """
gateway: {name: line-4, path: acme/basel/upstream/line-4, state: ./state}
clock: {require: any}
uplink:
  mqtt:
    host: dmz-broker.example
    tls: {ca: "file:ca.pem", certificate: "file:line-4.pem", key: "file:line-4.key"}
devices:
  - name: mixer
    driver: simulator
    scan_groups:
      - every: 50 ms
        tags: [{name: count, signal: counter, period: 50 ms, type: uint32}]
"""


class Dmz(Machine):
    """A machine with the broker, and the keys of everybody."""

    def __init__(self, folder: Path, hosts: str = "127.0.0.1 dmz-broker.example") -> None:
        super().__init__(folder, _LAY_OUT, hosts)
        self.log = folder / "broker.log"

    def __enter__(self) -> Self:
        for name in ("lib", "log", "etc/conf.d"):
            (self.folder / name).mkdir(parents=True)
        (self.folder / "etc/mosquitto.conf").write_bytes(Path("/etc/mosquitto/mosquitto.conf").read_bytes())
        super().__enter__()
        for name in ("acl", "mosquitto.conf"):
            (self.folder / name).write_bytes((ROOT / "configs/dmz" / name).read_bytes())
        for page, heading in (
            ("certificates", "No authority yet?"), ("broker", "Install"), ("broker", "More gateways, more users")
        ):  # fmt: skip
            self.run("bash", "-euc", f"{_ON_A_DEBIAN}cd {self.folder}\n{commands_of(page, heading)}")
        return self

    def start_broker(self) -> subprocess.Popen[str]:
        """Started as by its unit."""
        with self.log.open("a") as log:
            broker = self.start("/usr/sbin/mosquitto", "-c", "/etc/mosquitto/mosquitto.conf", stderr=log)
        knock = [*self.enter, "bash", "-c", "exec 2>/dev/null 3</dev/tcp/127.0.0.1/8883"]
        self.wait(lambda: subprocess.run(knock, check=False).returncode == 0, broker)
        return broker

    def wait(self, condition: Callable[[], object], *alive: subprocess.Popen[str]) -> None:
        """Wait until something is so."""
        pause = Event()
        while not condition():
            for process in alive:
                assert process.poll() is None, (process.args, self._said())
            pause.wait(0.02)

    def publish(self, name: str, topic: str, *options: str, text: str = "x", version: str = "5") -> str:
        """Publish one message with the certificate of that name; what the client says of it."""
        command = [*self.client("mosquitto_pub", name, version), "-t", topic, "-q", "1", "-d", *options]
        command += [] if "-n" in options else ["-m", text]
        done = subprocess.run([*self.enter, *command], capture_output=True, text=True, check=False)
        return done.stdout + done.stderr

    def is_refused(self, name: str, topic: str, *options: str) -> bool:
        """Whether this is refused as not authorized."""
        return "RC:135" in self.publish(name, topic, *options)

    def subscribe(self, name: str, topic: str, *options: str, output: Path | None = None) -> subprocess.Popen[str]:
        """A client that is subscribed; what it receives can be read from it, or goes to a file."""
        before = self._said().count(f" {name} 1 {topic}\n")
        command = ["stdbuf", "-oL", *self.client("mosquitto_sub", name), "-t", topic, "-q", "1", "-v", *options]
        if output is None:
            client = self.start(*command, stdout=subprocess.PIPE)
        else:
            with output.open("w") as file:
                client = self.start(*command, stdout=file)
        self.wait(lambda: self._said().count(f" {name} 1 {topic}\n") > before, client)
        return client

    def stop_and_read(self, client: subprocess.Popen[str]) -> str:
        """What a client received."""
        client.kill()  # It writes line by line, and may hang when it is asked to end.
        return client.communicate()[0]

    def client(self, program: str, name: str, version: str = "5") -> list[str]:
        """A command with the certificate of that name, for this folder."""
        files = ["--cafile", "ca.pem", "--cert", f"{name}.pem", "--key", f"{name}.key"]
        return [program, "-V", version, "-h", "dmz-broker.example", "-p", "8883", *files]

    def _said(self) -> str:
        return self.log.read_text()


class Line:
    """A gateway and a relay at work on that broker."""

    settings = _GATEWAY
    relay_settings = (ROOT / "configs/relay.yaml").read_text()

    def __init__(self, dmz: Dmz) -> None:
        self.dmz = dmz
        folder = dmz.folder
        (folder / "line-4.yaml").write_text(self.settings)
        (folder / "relay.yaml").write_text(self.relay_settings)
        (folder / "trust").mkdir()
        credentials = folder / "credentials"
        credentials.mkdir()
        (credentials / "broker-ca").write_bytes((folder / "ca.pem").read_bytes())
        for name in ("relay", "view"):
            (credentials / f"{name}-certificate").write_bytes((folder / f"{name}.pem").read_bytes())
            (credentials / f"{name}-key").write_bytes((folder / f"{name}.key").read_bytes())
        self.start_gateway()
        key = folder / "state/identity.pub.pem"
        dmz.wait(key.exists, self.gateway)
        (folder / "trust/line-4.pem").write_bytes(key.read_bytes())
        self.start_relay()

    def start_gateway(self) -> None:
        self.gateway = self._start("gateway.log", "run", "line-4.yaml")

    def start_relay(self) -> None:
        said = self.events().count("subscribed")
        self.relay = self._start("relay.log", "relay", "relay.yaml", "--json")
        self.dmz.wait(lambda: self.events().count("subscribed") > said, self.relay)
        self.wait_for_more()

    def _start(self, log: str, *command: str) -> subprocess.Popen[str]:
        with (self.dmz.folder / log).open("a") as file:
            return self.dmz.start(*TIDEGATE, *command, stderr=file, stdout=subprocess.DEVNULL)

    def events(self) -> list[str]:
        """What the relay logged."""
        path = self.dmz.folder / "relay.log"
        lines = path.read_text().splitlines(keepends=True) if path.exists() else []
        return [orjson.loads(line)["event"] for line in lines if line.endswith("\n")]

    def status(self) -> RelayStatus:
        """The status of the relay."""
        relay = read_status(self.dmz.folder / "archive/status.sock").relay
        assert relay is not None
        return relay

    def wait_for_more(self) -> None:
        """Wait until records that are sealed from here on are archived."""
        before = self.status().archived_records
        self.dmz.wait(lambda: self.status().archived_records > before + 20, self.gateway, self.relay)

    def assert_unharmed(self) -> None:
        """Every record arrives and none is refused; the relay had one connection for each purpose all the time."""
        self.wait_for_more()
        self.dmz.wait(lambda: not self.status().issuers[0].missing, self.gateway, self.relay)
        relay = self.status()
        assert relay.state == "up"
        assert [(issuer.issuer, issuer.rejected) for issuer in relay.issuers] == [("urn:tidegate:line-4", 0)]
        assert not {"broker lost", "view lost", "view refused"} & set(self.events())


def commands_of(page: str, heading: str) -> str:
    """The commands that a page gives under a heading."""
    text = (ROOT / f"docs/how-to/{page}.md").read_text()
    section = text.split(f"## {heading}\n")[1].split("\n## ")[0]
    return "\n".join(re.findall(r"```sh\n(.*?)```", section, re.DOTALL))
