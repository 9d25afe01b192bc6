"""Files that the gateway's user may not read or change: a sentence names them, and no other device suffers."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import cli
from tests.faults.gateway.plant_under_test import asked_group, opcua, points
from tests.faults.gateway.site_under_test import Site
from tests.peers.opcua.plant import running

POWERS = "-dac_override,-dac_read_search"
AS_ANYBODY = ("setpriv", "--bounding-set", POWERS, "--inh-caps", POWERS) if os.geteuid() == 0 else ()
"""Root may read everything: here it has to keep to the modes of files, as anybody does."""


@pytest.fixture
def site(site: Site) -> Site:
    site.prefix = AS_ANYBODY
    return site


def pki(folder: Path) -> Path:
    CliRunner().invoke(cli, ["keys", "opcua", "create", str(folder), "--name", "line-4", "--host", "gateway-4"])
    return folder


def test_keys_that_cannot_be_read_and_folders_that_cannot_be_changed_cost_their_device_only(site: Site) -> None:
    unreadable, unchangeable = pki(site.state / "opcua"), pki(site.state / "other")
    (unreadable / "own" / "key.pem").chmod(0)
    (unchangeable / "rejected").chmod(0o500)
    site.add_counter("mixer")
    with running("asyncua", site.directory) as server:
        for name, certificates in (("no-key", unreadable), ("no-folder", unchangeable)):
            site.settings["devices"].append(
                opcua(
                    name, f"opc.tcp://127.0.0.1:{server.port}/plant", asked_group(points([1])),
                    security={"policy": "Basic256Sha256"}, certificates=str(certificates),
                )
            )  # fmt: skip
        del site.settings["uplink"]
        gateway = site.gateway()
        site.wait(lambda: len(gateway.said("device.refused")) == 2, "both to be refused")
        site.wait_for_scans()
        assert gateway.stop() == 0
    (unchangeable / "rejected").chmod(0o700)

    told = site.told(site.buffered())
    reasons = {event.subject: str(event.data["reason"]) for event in told.events("device.refused")}
    assert f"{unreadable}/own/key.pem" in reasons["no-key"]
    assert "Permission denied); see to its owner and mode" in reasons["no-key"]
    assert "compare the fingerprint" in reasons["no-folder"]
    assert "it could not be kept here: Permission denied" in reasons["no-folder"]
    site.assert_accounted_for(told, "mixer")


@pytest.mark.parametrize("words", [("list",), ("show",), ("trust", "3f9a61c0"), ("create", "--name", "line-4")])
def test_certificates_of_another_user_are_not_looked_at(site: Site, words: tuple[str, ...]) -> None:
    folder = pki(site.directory / "opcua")
    below = [*folder.iterdir()]
    for each in below:
        each.chmod(0)

    command = site.command("keys", "opcua", words[0], str(folder), *words[1:], name="keys")

    code = command.wait()
    for each in below:
        each.chmod(0o700)
    [sentence] = command.log().splitlines()
    assert code == 78
    assert sentence.startswith(str(folder))
    assert "Permission denied; run this as the user that the gateway runs as, or see to owner and mode" in sentence


@pytest.mark.parametrize("what", ["state", "buffer"])
def test_a_directory_that_cannot_be_changed_is_refused_at_the_start(site: Site, what: str) -> None:
    device = site.add_counter("mixer")
    directory: Path = getattr(site, what)
    directory.mkdir()
    directory.chmod(0o500)

    gateway = site.gateway(is_awaited=False)

    code = gateway.wait()
    directory.chmod(0o700)
    [sentence] = gateway.log().splitlines()
    assert code == 78
    assert str(directory) in sentence
    assert "Permission denied; " in sentence
    assert device.received == 0
