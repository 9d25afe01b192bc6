"""The Debian packages in clean, booted Debians: what an engineer does with apt, and what may go wrong meanwhile."""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support import debian
from tests.support.booted import BootedMachine
from tests.support.postgres import Postgres, running_postgres
from tests.support.sinks.world import SealedPlant, Site, scan

pytestmark = pytest.mark.timeout(600)

GATEWAY = """
gateway: {name: line-4, path: acme/basel/upstream/line-4, state: /var/lib/tidegate}
devices:
  - name: press
    driver: simulator
    scan_groups: [{every: 200 ms, tags: [{name: temperature, signal: constant, value: R-17}]}]
"""
RELAY = """
relay:
  name: it
  archive: /var/lib/tidegate-relay
  trust: [/etc/tidegate/trusted]
  mqtt: {host: 127.0.0.1, tls: off}
  sinks:
    historian: {host: /run/postgresql, port: PORT, tls: off}
    lake: {directory: /srv/lake}
"""
PACKAGES = ("tidegate", "tidegate-relay", "tidegate-opcua")
LAKE = "tidegate-lake"  # As large as it is, it is there only where it matters.
KEPT = ("etc/tidegate/gateway.yaml", "etc/tidegate/tls/mqtt-key.pem", "var/lib/tidegate/identity.pem")
VERSIONS = {"old": "0.1.0-1~deb12", "new": "0.2.0-1~deb12"}


class Debian(BootedMachine):
    """A clean Debian with packages in /old and /new, no network, and an /opt of its own that can be full."""

    def __init__(self, folder: Path, release: str, server: Postgres | None = None) -> None:
        super().__init__(folder, name=f"packages-{release}", below=debian.root(release))
        self._upper, self._server = folder / "upper", server
        old = debian.packages(release)
        for name, packages in ("old", old), ("new", debian.later(old, folder / "later")):
            (self._upper / name).mkdir(parents=True)
            for package in packages:
                shutil.copy(package, self._upper / name)

    def arguments(self) -> list[str]:
        bound = [f"--bind={self._server.socket}:/run/postgresql"] if self._server else []
        return [*super().arguments(), *bound]

    def wait_until_up(self) -> None:
        super().wait_until_up()
        self.run("mount", "-t", "tmpfs", "-o", "size=1G", "opt", "/opt")

    def file(self, name: str) -> Path:
        """A file as the machine sees it."""
        return Path(f"/proc/{self._leader}/root") / name

    def try_apt(self, *arguments: str) -> tuple[int, str]:
        """With which code apt ends, and what it says."""
        apt = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet", "-o", "DPkg::Use-Pty=0")
        ran = self.try_run("bash", "-c", 'exec "$@" 2>&1', "apt", *apt, *arguments)
        return ran.returncode, ran.stdout

    def apt(self, *arguments: str) -> str:
        code, said = self.try_apt(*arguments)
        assert code == 0, said
        return said

    def install(self, folder: str, *options: str) -> str:
        return self.apt("install", *options, *self.packages_in(folder))

    def have(self, folder: str) -> None:
        if self.state() != f"ii {VERSIONS[folder]}":
            self.install(folder, "--allow-downgrades")

    def packages_in(self, folder: str) -> list[str]:
        found = sorted(f"/{folder}/{path.name}" for path in (self._upper / folder).iterdir())
        return [name for name in found if LAKE not in name]

    def state(self, package: str = "tidegate") -> str:
        return self.run("dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Version}", package)

    def process(self) -> str:
        """The number of the gateway's process, "0" where none runs."""
        return self.show("tidegate", "MainPID")

    def wait_for_another_process(self, before: str) -> None:
        self.wait(
            lambda: self.process() not in ("0", before) and self.show("tidegate", "ActiveState") == "active",
            "the gateway to be started again",
        )

    def digests(self) -> list[str]:
        return [hashlib.sha256(self.file(name).read_bytes()).hexdigest() for name in KEPT]

    def chain(self) -> list[str]:
        """The chain in the buffer, every record of which is authentic and none missing."""
        self.run("openssl", "pkey", "-in", "/var/lib/tidegate/identity.pem", "-pubout", "-out", "/tmp/line-4.pub.pem")
        verify = ("tidegate", "verify", "/var/lib/tidegate/buffer", "--trust", "line-4=/tmp/line-4.pub.pem", "--json")
        answer = json.loads(self.run(*verify, "--admit", "linked"))
        assert (answer["damage"], answer["refused"]) == ([], [])
        return [epoch["epoch"] for epoch in answer["epochs"]]


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """A database beside the machine, which reaches its socket."""
    with running_postgres() as server:
        server.create("tidegate", with_schema=False)
        yield server


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory, server: Postgres) -> Iterator[Debian]:
    with Debian(tmp_path_factory.mktemp("bookworm"), "bookworm", server) as machine:
        machine.wait_until_up()
        yield machine


@pytest.fixture(scope="module")
def installed(machine: Debian) -> str:
    """What was said when the packages were installed."""
    return machine.install("old")


@pytest.fixture
def gateway(machine: Debian, installed: str) -> Debian:
    """A gateway that runs."""
    machine.file("etc/tidegate/gateway.yaml").write_text(GATEWAY)
    machine.file("etc/tidegate/tls/mqtt-key.pem").write_text("kept as it is\n")
    machine.run("systemctl", "enable", "tidegate")
    machine.run("systemctl", "restart", "tidegate")
    return machine


def test_nothing_starts_before_it_is_configured(machine: Debian, installed: str) -> None:
    """And one line says what is next."""
    units = machine.run("systemctl", "list-units", "--all", "--plain", "--no-legend", "tidegate*")

    assert units == ""
    assert "tidegate: nothing runs yet: write /etc/tidegate/gateway.yaml" in installed
    assert "tidegate-relay: nothing runs yet: write /etc/tidegate/relay.yaml" in installed


def test_the_systems_python_is_as_it_was(machine: Debian, installed: str) -> None:
    assert machine.try_run("python3", "-c", "import edge").returncode != 0
    assert machine.run("dpkg", "--verify") == ""
    assert machine.run("find", "/usr/lib/python3", "/usr/local/lib", "-newer", "/opt/tidegate/pyvenv.cfg", "-type", "f",
                       "-name", "*.py") == ""  # fmt: skip


def test_the_relays_unit_fills_a_historian_and_a_lake(
    tmp_path: Path, machine: Debian, installed: str, server: Postgres
) -> None:
    """With nothing but the packages, from the archive that is there, and as locked in as the unit is."""
    plant = SealedPlant()
    plant.announce()
    for _ in range(10):
        plant.data()
    plant.data(scan(7200))
    site = Site(tmp_path, [plant])
    asyncio.run(site.receive(plant.records))
    site.store.close()
    for name in ("schema.sql", "accounts.sql"):
        server.psql_file(machine.file(f"usr/share/doc/tidegate/examples/historian/{name}"), "tidegate")
    shutil.copytree(site.archive, machine.file("var/lib/tidegate-relay"), dirs_exist_ok=True)
    shutil.copy(site.trust[0], machine.file("etc/tidegate/trusted"))
    machine.file("etc/tidegate/relay.yaml").write_text(RELAY.replace("PORT", str(server.port)))
    machine.run("install", "--directory", "--owner", "tidegate-relay", "/srv/lake")
    machine.run("chown", "--recursive", "tidegate-relay:", "/var/lib/tidegate-relay")
    drop_in = machine.file("etc/systemd/system/tidegate-relay.service.d/lake.conf")
    drop_in.parent.mkdir(parents=True)
    drop_in.write_text("[Service]\nReadWritePaths=/srv/lake\n")
    machine.run("systemctl", "daemon-reload")
    without = machine.try_run("tidegate", "check", "/etc/tidegate/relay.yaml")
    machine.apt("install", machine.run("sh", "-c", f"echo /old/{LAKE}_*").strip())

    machine.run("systemctl", "start", "tidegate-relay")

    machine.wait(lambda: server.psql("SELECT count(*) FROM tidegate.block", "tidegate") == "11", "rows in the database")
    machine.wait(lambda: machine.try_run("bash", "-c", "compgen -G '/srv/lake/readings/*/*/*.parquet'").returncode == 0,
                 "a file in the lake")  # fmt: skip
    machine.run("systemctl", "disable", "--now", "tidegate-relay")
    machine.apt("purge", LAKE)
    assert without.returncode == 78
    assert "install the Debian package tidegate-lake" in without.stdout + without.stderr


@pytest.mark.requirement("REQ-OPER-03")
def test_an_upgrade_keeps_everything_and_goes_on_with_the_new_version(gateway: Debian) -> None:
    gateway.have("old")
    kept, process, chain = gateway.digests(), gateway.process(), gateway.chain()

    gateway.install("new")

    gateway.wait_for_another_process(process)
    assert gateway.state() == f"ii {VERSIONS['new']}"
    assert gateway.digests() == kept
    assert gateway.chain() == chain


def test_an_older_version_over_a_newer_one_says_so_and_goes_on(gateway: Debian) -> None:
    gateway.have("new")
    process, chain = gateway.process(), gateway.chain()

    said = gateway.install("old", "--allow-downgrades")

    gateway.wait_for_another_process(process)
    assert "tidegate: 0.1.0-1~deb12 is older than the installed 0.2.0-1~deb12: what the newer one wrote is kept" in said
    assert gateway.chain() == chain


def test_no_space_for_an_upgrade_is_said_before_anything_is_changed(gateway: Debian) -> None:
    gateway.have("old")
    process = gateway.process()
    gateway.run("mount", "-o", "remount,size=256M", "/opt")

    code, said = gateway.try_apt("install", *gateway.packages_in("new"))

    gateway.run("mount", "-o", "remount,size=1G", "/opt")
    assert code != 0
    assert re.search(r"tidegate: /opt/tidegate has \d+ MB free and this version needs \d+ MB .*: free some space", said)
    assert {gateway.state(name) for name in PACKAGES} == {f"ii {VERSIONS['old']}"}
    assert gateway.process() == process
    assert gateway.run("dpkg", "--verify") == ""


@pytest.mark.requirement("REQ-OPER-03")
def test_a_disk_that_is_full_in_the_middle_of_an_upgrade_leaves_the_old_version_working(gateway: Debian) -> None:
    """What is full here are the file system's entries, which no look at the space foresees."""
    gateway.have("old")
    process = gateway.process()
    used = gateway.run("df", "--output=iused", "/opt").split()[-1]
    gateway.run("mount", "-o", f"remount,nr_inodes={int(used) + 500}", "/opt")

    code, said = gateway.try_apt("install", *gateway.packages_in("new"))

    assert code != 0
    assert "No space left on device" in said
    assert {gateway.state(name) for name in PACKAGES} == {f"ii {VERSIONS['old']}"}
    assert gateway.process() == process
    assert gateway.run("dpkg", "--verify") == ""
    gateway.run("systemctl", "restart", "tidegate")
    gateway.run("mount", "-o", "remount,nr_inodes=1000000", "/opt")
    gateway.install("new")


@pytest.mark.requirement("REQ-OPER-03")
def test_a_version_that_refuses_the_configuration_does_not_stop_what_runs(gateway: Debian) -> None:
    gateway.have("new")
    process = gateway.process()
    gateway.file("etc/tidegate/gateway.yaml").write_text(GATEWAY.replace("path:", "no-longer-known:"))

    said = gateway.install("old", "--allow-downgrades")

    assert "tidegate.service still runs the version before, because this one does not accept its configuration" in said
    assert gateway.process() == process


def test_removing_and_purging_keep_records_keys_and_configuration(gateway: Debian) -> None:
    """A new installation goes on with them."""
    kept, chain = gateway.digests(), gateway.chain()

    gateway.apt("remove", *PACKAGES)
    after_removing = gateway.process(), gateway.digests()
    said = gateway.apt("purge", *PACKAGES)

    assert after_removing == ("0", kept)
    assert gateway.digests() == kept
    assert "tidegate: kept, because records and keys are evidence: /etc/tidegate /var/lib/tidegate" in said
    assert not gateway.file("opt/tidegate").exists()
    assert not gateway.file("etc/systemd/system/multi-user.target.wants/tidegate.service").is_symlink()
    gateway.install("old")
    gateway.run("systemctl", "enable", "--now", "tidegate")
    assert gateway.chain() == chain
