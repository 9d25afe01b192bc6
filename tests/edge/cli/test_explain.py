"""`tidegate explain`: what the reference says about a name, from wherever it was copied."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.cli.explain import entries_of_all
from edge.config.check import check
from edge.errors import ErrorCode
from edge.gateway.audit import EventKind
from edge.health.families import FAMILIES
from edge.model import StatusCode
from edge.syslog import SECURITY_EVENTS

PAGES = ("error-codes", "events", "metrics", "settings", "status-codes")
REFERENCE = Path(__file__).parents[3] / "docs/reference"


def explain(name: str) -> Result:
    return CliRunner().invoke(cli, ["explain", name])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("BAD_ADDRESS", "BAD_ADDRESS: status 0x80340000, quality BAD\n  The device has no such address.\n"),
        ("0x80340000", "BAD_ADDRESS: status 0x80340000"),
        ("bad_address", "BAD_ADDRESS: "),
        ("TG-D02", "TG-D02: code of a failure\n  The device took the connection or the request, and gave no answer"),
        ("device_silent", "TG-D02: code of a failure\n"),
        ("TG-S04", "TG-S04: security event in the system's log: uplink.inbound\n  The broker sent what"),
        ("tg-s04", "TG-S04: "),
        ("uplink.no_subscriber", "uplink.no_subscriber: event, warning\n  The broker took a record"),
        ("chain.new", "chain.new: event, error; in the system's log as TG-S10\n"),
        ("tidegate_buffer_ok", "tidegate_buffer_ok: gauge\n  0 when the buffer is full"),
        ("gateway.state", "gateway.state: setting of the gateway: path, by default /var/lib/tidegate\n  Directory"),
        ("buffer.when_full", "buffer.when_full: setting of the gateway: "),
    ],
)
def test_a_name_is_explained_as_the_reference_does(name: str, words: str) -> None:
    ran = explain(name)

    assert ran.exit_code == 0
    assert ran.stdout.startswith(words)


def test_the_key_of_a_problem_of_check_is_explained(tmp_path: Path) -> None:
    """What `tidegate check` names can be handed to `explain` as it stands."""
    (tmp_path / "site.yaml").write_text(
        "gateway: {name: g, path: a/b, state: state}\n"
        "devices: [{name: d, driver: modbus, host: h, scan_groups: [{every: -1 s, tags: "
        "[{name: t, address: holding 0, type: float99}]}]}]\n"
    )
    keys = [problem.path for problem in check(tmp_path / "site.yaml").errors]
    assert keys == ["devices[0].scan_groups[0].every", "devices[0].scan_groups[0].tags[0].type"]

    shown = [explain(key) for key in keys]

    assert [ran.exit_code for ran in shown] == [0, 0]
    assert (
        "devices[].scan_groups[].every: setting of devices of the driver modbus: duration\n  Required. Scan"
        in shown[0].stdout
    )
    assert "devices[].scan_groups[].tags[].type: setting of devices of the driver modbus" in shown[1].stdout


def test_everything_on_the_reference_pages_is_explained() -> None:
    names = {entry.name for entry in entries_of_all()}
    pages = {name: (REFERENCE / f"{name}.md").read_text() for name in PAGES}

    assert {kind.label for kind in EventKind} | {each.id for each in SECURITY_EVENTS} <= names
    assert {code.id for code in ErrorCode} <= names
    assert {family.name for family in FAMILIES} | {code.name for code in StatusCode} <= names
    keys = {name.rpartition(".")[2] for name in names}
    assert set(re.findall(r"^\| `(?:[\w.\[\]]+\.)?(\w+)` \|", pages["settings"], re.MULTILINE)) <= keys
    shown = " ".join("".join(pages.values()).split())
    for entry in entries_of_all():
        for text in entry.text.splitlines():
            told = text.removeprefix("Required. ").removeprefix("The data meanwhile: ").removeprefix("What to do: ")
            assert " ".join(told.replace("|", r"\|").split()) in shown, entry.name


@pytest.mark.parametrize(
    ("name", "meant"),
    [("BAD_ADRESS", "BAD_ADDRESS"), ("TG-S99", "TG-S"), ("uplink.no_subscribers", "uplink.no_subscriber"),
     ("tidegate_bufer_ok", "tidegate_buffer_ok"), ("when_ful", "buffer.when_full")],
)  # fmt: skip
def test_a_near_miss_is_a_suggestion(name: str, meant: str) -> None:
    ran = explain(name)

    assert ran.exit_code == 1
    assert f"nothing is called {name!r}; did you mean " in ran.stderr
    assert meant in ran.stderr


def test_what_is_like_nothing_names_the_pages() -> None:
    assert "the reference pages: codes, events, metrics, settings, status" in explain("qqqqqqqqqqqqqqqq").stderr


def test_a_long_answer_wraps_at_the_width_of_the_terminal() -> None:
    ran = subprocess.run(
        ["script", "-qec", f"stty cols 50; {sys.executable} -m edge.cli explain every", "/dev/null"],
        capture_output=True, text=True, check=True, env={**os.environ, "TERM": "dumb"},
    )  # fmt: skip

    lines = ran.stdout.replace("\r", "").splitlines()
    assert 40 < max(map(len, lines)) <= 50
    assert lines[0].startswith("devices[].scan_groups[].every: setting of devices")
