"""Pages typed from top to bottom: every command on them works, in this order, and shows what the page shows."""

from __future__ import annotations

import getpass
import json
import re
from pathlib import Path

import pytest

from tests.support.ports import free_port
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
