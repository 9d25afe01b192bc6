"""`tidegate status --check` on real processes: what a monitoring system reads of it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge.cli import cli
from tests.peers.operated.conftest import Operated

pytestmark = pytest.mark.timeout(120)

# One line: text, a bar, and figures 'label=value[unit];[warning];[critical];[least];[most]'.
LINE = re.compile(
    r"TIDEGATE (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+(?: \|((?: \w+=-?[\d.]+[s%]?(?:;[\d.:~@-]*){0,4})+))?\n"
)


def figures(line: str) -> dict[str, str]:
    found = LINE.fullmatch(line)
    assert found is not None, line
    return dict(each.split("=") for each in (found[2] or "").split())


def test_a_gateway_and_a_relay_with_which_nothing_is_wrong_are_ok(running: Operated) -> None:
    gateway = running.tidegate("status", "gateway.yaml", "--check")
    relay = running.tidegate("status", "--socket", "archive/status.sock", "--check")

    assert (gateway.returncode, gateway.stderr) == (0, "")
    assert gateway.stdout.startswith("TIDEGATE OK - line-4: 1 of 1 devices answer, uplink up | devices_down=0;0;;0 ")
    assert {"buffer", "lost", "waiting_age"} <= figures(gateway.stdout).keys()
    assert (relay.returncode, relay.stderr) == (0, "")
    assert relay.stdout.startswith(
        "TIDEGATE OK - basel: receiving, 1 gateways up | gateways_silent=0;0;;0 missing=0;0;;0"
    )


def test_what_the_limits_of_the_user_say_counts(running: Operated) -> None:
    warned = running.tidegate("status", "gateway.yaml", "--check", "--warning", "devices_down=1:")
    critical = running.tidegate("status", "gateway.yaml", "--check", "--critical", "devices_down=@0:5")

    assert (warned.returncode, critical.returncode) == (1, 2)
    assert "TIDEGATE WARNING - line-4: devices_down is 0, fine is 1:" in warned.stdout
    assert "devices_down is 0, fine is @0:5" in critical.stdout


def test_a_gateway_that_does_not_run_is_critical(operated: Operated) -> None:
    ended = operated.tidegate("status", "gateway.yaml", "--check")

    assert ended.returncode == 2
    assert ended.stdout.startswith("TIDEGATE CRITICAL - status: ")
    assert ended.stdout.endswith("is the gateway or relay running?\n")


@pytest.mark.parametrize(
    "arguments",
    [["--check"], ["absent.yaml", "--check"], ["bad.yaml", "--check", "--json"], ["bad.yaml", "--check"],
     ["bad.yaml", "--check", "--warning", "nothing=1"], ["bad.yaml", "--check", "--critical", "buffer=x"],
     ["bad.yaml", "--check", "--wrong"]],
)  # fmt: skip
def test_what_cannot_be_asked_is_unknown_and_never_a_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]
) -> None:
    """2 is the exit code of a typing mistake elsewhere: here it would wake somebody."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bad.yaml").write_text("gateway: {name: g, pth: x}\n")

    ended = CliRunner().invoke(cli, ["status", *arguments])

    assert ended.exit_code == 3, ended.output
    assert LINE.fullmatch(ended.stdout)
