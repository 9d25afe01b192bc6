"""From an unknown device to a configuration that reads it, with nothing but what the commands print."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.model import StatusCode
from tests.peers.opcua.plant import running

GATEWAY = "gateway: {name: line-4, path: acme/basel, state: state}\nclock: {require: any, chrony: off}\n"
DEVICES = {
    "opcua": "devices:\n  - {{name: it, driver: opcua, url: 'opc.tcp://127.0.0.1:{port}', security: none{more}}}\n",
    "ethernetip": "devices:\n  - {{name: it, driver: ethernetip, host: 127.0.0.1, port: {port}{more}}}\n",
}


def tidegate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@contextmanager
def controller() -> Iterator[int]:
    """A Logix controller in a process of its own; its port."""
    command = [sys.executable, "-m", "drivers.ethernetip.simulator"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield int(process.stdout.readline())
        finally:
            process.kill()


@pytest.fixture(scope="module", params=DEVICES)
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Path]]:
    """Writes a configuration of a real device, with more keys of the device where they are given."""
    folder = tmp_path_factory.mktemp("site")

    def write(more: str = "") -> Path:
        path = folder / "site.yaml"
        path.write_text(GATEWAY + DEVICES[request.param].format(port=port, more=more))
        return path

    if request.param == "ethernetip":
        with controller() as port:
            yield write
    else:
        with running("asyncua", folder) as server:
            port = server.port
            yield write


@pytest.mark.parametrize("form", ["--yaml", "--csv"])
def test_what_is_browsed_passes_the_check_and_can_be_read(site: Callable[..., Path], form: str) -> None:
    printed = tidegate("browse", site(), "it", "--depth", 3, "--limit", 300, form)

    if form == "--csv":
        site().with_name("tags.csv").write_text(printed.stdout)
        path = site(", scan_groups: [{every: 1 s, tags_from: tags.csv}]")
    else:
        path = site()
        path.write_text(_with_groups(path.read_text(), printed.stdout))
    checked = tidegate("check", path, "--json")
    answer = json.loads(tidegate("read", path, "it", "--json").stdout)

    assert json.loads(checked.stdout)["configurations"][0]["problems"] == []
    statuses = [tag["status"] for tag in answer["values"]]
    assert statuses.count(0) > 20
    assert not {StatusCode.BAD_ADDRESS, StatusCode.BAD_DECODING_ERROR} & set(statuses)


def _with_groups(text: str, groups: str) -> str:
    """The device in lines of its own, with what was printed below."""
    head, _, device = text.partition("  - {")
    keys = device.strip().removesuffix("}").split(", ")
    return f"{head}  - " + "\n    ".join(keys) + "\n" + groups


def test_a_tree_names_types_and_values(site: Callable[..., Path]) -> None:
    result = tidegate("browse", site(), "it", "--depth", 2, "--json")

    entries = json.loads(result.stdout)["entries"]
    assert any(entry["value"] and entry["type"] and entry["settings"].get("address") for entry in entries)
    assert any(entry["path"] for entry in entries)


def test_a_path_that_is_not_there_is_an_answer(site: Callable[..., Path]) -> None:
    result = tidegate("browse", site(), "it", "i=999999")

    assert (result.exit_code, "there is no 'i=999999' in it" in result.stderr) == (1, True)


def test_each_device_says_what_it_is(site: Callable[..., Path]) -> None:
    tags = tidegate("browse", site(), "it", "--depth", 3, "--limit", 300, "--csv").stdout
    site().with_name("tags.csv").write_text(tags)

    result = tidegate("inventory", site(", scan_groups: [{every: 1 s, tags_from: tags.csv}]"), "--ask", "--json")

    [device] = json.loads(result.stdout)["devices"]
    assert result.exit_code == 0
    assert device["product"]
