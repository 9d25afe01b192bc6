"""Pages typed from top to bottom: every command on them works, in this order, and shows what the page shows."""

from __future__ import annotations

import asyncio
import getpass
import json
import re
import time
from pathlib import Path

import pytest

from edge.model import SampleBlock
from tests.support.chains import BOOT_NS, UTC_NS
from tests.support.ports import free_port
from tests.support.postgres import running_postgres
from tests.support.sinks.world import S, SealedPlant, Site, values, vectors_of
from tests.support.typist import ROOT, shows, typist


def test_simulating_the_devices_of_a_table(tmp_path: Path) -> None:
    with typist(tmp_path, {"5020": str(free_port())}) as person:
        person.type_page("docs/how-to/simulate-modbus-devices.md")

        assert shows("temperature: 21 Cel  GOOD", person.run("tidegate read lab.yaml reactor temperature")) == ""


def test_the_first_gateway_of_a_newcomer(tmp_path: Path) -> None:
    """All but making the clone, which the tests have."""
    here = {
        "sudo apt-get install git make python3-venv": "true", "```sh\nmake demo\n```": "",
        "export PATH=$PWD/.venv/bin:$PATH": "true",
    }  # fmt: skip
    with typist(tmp_path, here) as person:
        person.type_page("docs/start.md")
        person.stop("tidegate run")

        assert "Wholly authentic: yes" in person.run("tidegate verify state/buffer --trust state/identity.pub.pem")


@pytest.mark.timeout(300)
def test_the_whole_chain_on_one_laptop_and_its_outages(tmp_path: Path) -> None:
    ports = {"1884": str(free_port()), "5020": str(free_port())}
    me = {"allow_anonymous false": f"allow_anonymous false\nuser {getpass.getuser()}"}  # A broker started by root.
    with typist(tmp_path, ports | me) as person:
        person.type_page("docs/how-to/broker-and-relay-on-a-laptop.md")
        person.type_page("docs/how-to/lab-chain.md")
        person.stop("mosquitto -c")
        person.stop("tidegate simulate")
        person.type_page("docs/how-to/replace-a-gateway.md")
        person.type_page("docs/how-to/backup-and-replace.md")


def test_an_identity_key_from_its_creation_to_its_end(tmp_path: Path) -> None:
    with typist(tmp_path) as person:
        person.type_page("docs/how-to/keys.md")


def test_a_look_at_the_clock(tmp_path: Path) -> None:
    with typist(tmp_path) as person:
        person.type_page("docs/how-to/clock.md")

        answer = json.loads((tmp_path / "clock.json").read_text())
        assert (answer["name"], answer["asked"], answer["require"]) == ("line-4", "sources", "bounded")


def test_metrics_for_another_machine(tmp_path: Path) -> None:
    port = free_port()
    with typist(tmp_path, {"line-4.example": "localhost", ":9464": f":{port}"}) as person:
        person.type_page("docs/how-to/metrics-from-another-machine.md")
        metrics = person.run(
            f"curl --silent --cacert ca.pem --cert prometheus.pem --key prometheus.key https://localhost:{port}/metrics"
        )

        held = set(re.findall(r'tidegate_certificate_expiry.*name="(.*?)",whose="(.*?)"', metrics))
        assert held == {("CN=metrics", "ours"), ("CN=plant authority", "our authority's")}


def test_the_page_of_a_gateway_in_a_browser(tmp_path: Path) -> None:
    with typist(tmp_path, {":9480": f":{free_port()}"}) as person:
        person.type_page("docs/how-to/page.md")


def test_the_rules_for_the_firewall_load(tmp_path: Path) -> None:
    """In a namespace of its own, where it may; nothing is changed either way."""
    alone = "unshare --user --map-root-user --net"
    loaded = f"{alone} sh -c 'nft -f gateway.nft && nft \"$@\"' nft list"
    here = {
        "sudo nft list": loaded,
        "sudo nft": f"{alone} nft",
        "/usr/share/doc/tidegate/examples/": f"{ROOT}/configs/",
    }
    with typist(tmp_path, here) as person:
        person.type_page("docs/how-to/ports-and-firewall.md")
        (tmp_path / "gateway.nft").write_text("table inet tidegate { chain input { tcp dport nowhere accept } }")
        person.run("unshare --user --map-root-user --net nft -c -f gateway.nft  # exit code 1")


def test_who_changed_a_scale(tmp_path: Path) -> None:
    with typist(tmp_path, {"account tidegate": f"account {getpass.getuser()}", "'tide*'": "'*'"}) as person:
        person.type_page("docs/how-to/history.md")

        assert "tags[TT-101].scale from 0.1 to 0.5" in (tmp_path / "history.html").read_text()
        assert "tags[TT-101].scale,0.1,0.5" in (tmp_path / "history.csv").read_text()


def test_a_change_that_a_second_person_approves(tmp_path: Path) -> None:
    with typist(tmp_path, {"account tidegate": f"account {getpass.getuser()}"}) as person:
        person.type_page("docs/how-to/approve-changes.md")

        said = person.run("tidegate verify state/buffer --trust state/identity.pub.pem --approvers approvers")
        assert re.search(r"APPROVED +line-4: configuration \w{8} at \S+Z by berta@acme.example, Head of quality", said)
        assert "Wholly authentic: yes" in said


RELAY = """\
relay:
  name: it
  archive: archive
  trust: [line-4.pub.pem]
  mqtt: {host: 127.0.0.1, port: 1, tls: off}
  status: {socket: status.sock}
"""


def test_rows_of_an_archive_in_postgresql(tmp_path: Path) -> None:
    """On a server of Debian's own, whose administrator comes in without sudo, and beside a relay without its unit."""
    plant = SealedPlant()
    plant.announce()
    began_ns = BOOT_NS + (time.time_ns() - UTC_NS) // S * S - 10 * S + 213_000  # No time in it ends with a zero.
    for number in range(4):
        at_ns = began_ns + number * S
        plant.data(SampleBlock(0, at_ns, at_ns + 1_000_000, tuple(vectors_of(values(number))[0])))
    site = Site(tmp_path, [plant])
    asyncio.run(site.receive(plant.records))
    site.store.close()
    with running_postgres() as server:
        here = {
            "sudo -u postgres": f"PGHOST={server.socket} PGPORT={server.port} PGUSER=postgres PGTZ=UTC",
            "/usr/share/doc/tidegate/examples/": f"{ROOT}/configs/",
            "`historian/relay.yaml`": "`relay.yaml`",
            "  sinks:\n    historian: {host: /run/postgresql,":
                f"{RELAY}  sinks:\n    historian: {{host: {server.socket}, port: {server.port},",
            "sudo tidegate": "tidegate",
            "/etc/tidegate/": "",
            "sudo systemctl restart tidegate-relay": "```\n\n```sh\ntidegate relay relay.yaml",
        }  # fmt: skip
        with typist(tmp_path, here) as person:
            person.type_page("docs/how-to/historian.md")

        value = "SELECT value FROM reading WHERE tag = 'temperature' ORDER BY t DESC LIMIT 1"
        assert float(server.psql(value, "tidegate", "analyst")) == float(str(values(3)["temperature"]))
