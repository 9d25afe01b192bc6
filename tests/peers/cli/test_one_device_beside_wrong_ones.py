"""One device of a file is read and planned while another one in it is wrong; what it lists answers for its tags."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from textwrap import dedent

import pytest
from click.testing import CliRunner, Result

from drivers.ethernetip.simulator import DINT, Controller, in_thread
from edge.cli import cli
from tests.support.field.ethernetip_addresses import remote_io


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Path]:
    plc = Controller("Filler")
    plc.tag("Operator", plc.string("STRING20", 20), "Anna")
    plc.tag("Step", DINT, 12, program=plc.program("Main"))
    with in_thread(plc, remote_io()) as (controller, io):
        (tmp_path / "site.yaml").write_text(
            dedent(f"""\
            gateway: {{name: filling, path: acme/basel, state: {tmp_path}/state}}
            devices:
              - name: io
                driver: ethernetip
                host: 127.0.0.1
                port: {io.port}
                family: generic
                scan_groups: [{{every: 1 s, tags: [{{name: speed, address: "cip 4/100/3 +2", type: UINT}}]}}]
              - name: unfinished
                driver: ethernetip
                host: 192.0.2.1
                scan_groups: [{{every: 1 s, tags: [{{name: speed, address: "N7:0", type: INT}}]}}]
              - name: controller
                driver: ethernetip
                host: 127.0.0.1
                port: {controller.port}
                scan_groups:
                  - every: 1 s
                    tags:
                      - {{name: step, address: Step, type: DINT}}
                      - {{name: operator, address: Operator, type: STRING}}
            """)
        )
        yield tmp_path / "site.yaml"


def ran(command: str, path: Path, *more: str) -> Result:
    return CliRunner().invoke(cli, [command, str(path), *more], catch_exceptions=False)


def test_the_others_are_read_planned_and_browsed(site: Path) -> None:
    """A file grows device by device, and the first ones are tried before the last ones are right."""
    assert ran("read", site, "io").stdout.splitlines()[0] == "speed: 1500  GOOD"
    assert ran("plan", site, "--device", "io").stdout.startswith("io, 1 s: 1 tag -> 1 request")
    assert "cip 4/100/3" in ran("browse", site, "io").stdout


def test_what_is_no_tag_is_left_out_by_name(site: Path) -> None:
    shown = ran("browse", site, "io", "--yaml")

    assert "{name: product, address: cip 1/1/7, type: SHORT_STRING}" in shown.stdout
    assert 'write byte and type of each, as in "cip 4/100/3 +0"' in shown.stderr


@pytest.mark.parametrize("command", [["read"], ["plan", "--device"]], ids=str)
def test_the_wrong_one_and_an_unknown_one_are_answered(site: Path, command: list[str]) -> None:
    (name, *option) = command
    wrong = CliRunner().invoke(cli, [name, str(site), *option, "unfinished"])
    unknown = ran(name, site, *option, "mixer")

    assert wrong.exit_code != 0
    assert "an address of an SLC" in wrong.output + str(wrong.exception)
    assert "no device is called 'mixer'; there are io, unfinished, controller" in unknown.stderr


def test_a_wrong_scope_and_a_missing_length_are_answered_from_the_list_of_tags(site: Path) -> None:
    shown = ran("read", site, "controller")
    answer = json.loads(ran("read", site, "controller", "--json").stdout)

    said = ["Step exists as Program:Main.Step", "Operator is a text of up to 20 characters; write length: 20"]
    assert answer["explanations"] == said
    assert [line for line in shown.stderr.splitlines() if line in said] == said


def test_a_slice_on_the_command_line_is_so_many_rows(site: Path) -> None:
    rows = ran("read", site, "io", "--address", "cip 4/100/3 +8[0..3]", "--set", "type=INT").stdout.splitlines()

    assert rows[:4] == [
        f"cip 4/100/3 +8[{at}]: {value}  GOOD" for at, value in enumerate((-1, -2, 30_000, 4))
    ]  # fmt: skip
