"""`tidegate check DIRECTORY`, where a host has a gateway, a relay and other files side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli

GATEWAY = """\
gateway: {name: %s, path: acme/basel, state: state}
uplink: {mqtt: {host: 127.0.0.1, tls: off}}
"""
DEVICES = """\
devices:
  - name: plc
    driver: modbus
    host: 127.0.0.1
    scan_groups: [{every: 1 s, tags_from: tags.csv}]
"""
RELAY = "relay: {name: office, archive: archive, trust: [trusted], mqtt: {host: 127.0.0.1, tls: off}}\n"


def tidegate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """What a host has in /etc/tidegate."""
    files = {
        "gateway.yaml": GATEWAY % "line-4" + DEVICES,
        "relay.yaml": RELAY,
        "tags.csv": "name,address,type\ntemperature,holding 0,float32\n",
        "old.csv": "",
        "tidegate.schema.json": "{}",
        "gateway.yaml.bak": "gateway: [",
        "gateway.yaml.j2": "gateway: {{ name }}",
        ".gateway.yaml": "gateway: [",
        "compose.yaml": "services: {}",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "trusted").mkdir()
    return tmp_path


def answer(folder: Path) -> tuple[int, Any]:
    result = tidegate("check", folder, "--json")
    return result.exit_code, json.loads(result.stdout)


def test_a_host_with_a_gateway_and_a_relay_is_fine(folder: Path) -> None:
    code, found = answer(folder)

    assert (code, found["usable"], found["problems"]) == (0, True, [])
    assert [(each["kind"], each["name"], each["files"], each["usable"]) for each in found["configurations"]] == [
        ("gateway", "line-4", ["gateway.yaml", "tags.csv"], True),
        ("relay", "office", ["relay.yaml"], True),
    ]
    assert {each["file"] for each in found["others"]} == {
        "old.csv", "tidegate.schema.json", "gateway.yaml.bak", "gateway.yaml.j2", ".gateway.yaml", "compose.yaml",
        "trusted",
    }  # fmt: skip


def test_each_file_is_named_with_what_it_is(folder: Path) -> None:
    lines = tidegate("check", folder).stdout.splitlines()

    assert lines[0] == "gateway.yaml, tags.csv: gateway line-4"
    assert "relay.yaml: relay office" in lines
    assert "compose.yaml (no configuration: it has neither gateway nor relay, but services)" in lines[-2]
    assert lines[-1] == "2 configurations, 2 without problems; 0 problems"


def test_a_problem_in_one_is_the_answer_for_the_whole(folder: Path) -> None:
    (folder / "relay.yaml").write_text(RELAY.replace("archive:", "archiv:"))

    code, found = answer(folder)

    assert (code, found["usable"]) == (78, False)
    assert [each["usable"] for each in found["configurations"]] == [True, False]


def test_commands_take_the_configuration_they_are_for(folder: Path) -> None:
    plan = json.loads(tidegate("plan", folder, "--json").stdout)

    assert [group["device"] for group in plan["scan_groups"]] == ["plc"]


def test_a_gateway_may_be_in_several_files_beside_a_relay(folder: Path) -> None:
    (folder / "gateway.yaml").write_text(GATEWAY % "line-4")
    (folder / "plc.yaml").write_text(DEVICES)

    code, found = answer(folder)

    assert code == 0
    assert found["configurations"][0]["files"] == ["gateway.yaml", "plc.yaml", "tags.csv"]


def test_a_part_that_may_belong_to_two_gateways_is_a_problem(folder: Path) -> None:
    (folder / "other.yaml").write_text(GATEWAY % "line-5" + DEVICES)
    (folder / "plc.yaml").write_text(DEVICES)

    code, found = answer(folder)

    assert code == 78
    assert "may belong to gateway.yaml, other.yaml" in found["problems"][0]["message"]


def test_two_gateways_are_told_apart_and_a_copy_is_noticed(folder: Path) -> None:
    (folder / "other.yaml").write_text(GATEWAY % "line-5" + DEVICES)
    (folder / "save.yaml").write_text(GATEWAY % "line-4" + DEVICES)

    code, found = answer(folder)
    plan = CliRunner().invoke(cli, ["plan", str(folder)])

    assert code == 0
    assert [len(each["warnings"]) for each in found["configurations"]] == [0, 0, 1, 1]
    assert "name one of them: gateway.yaml, other.yaml, save.yaml" in str(plan.exception)


@pytest.mark.parametrize(
    ("text", "words"),
    [("gateway: {{ name }}\n", "template"), ("gatway: {name: g}\n", ""), ("- gateway\n", "keys and values"),
     ("a: [", "site.yaml")],
)  # fmt: skip
def test_a_file_that_cannot_be_judged_is_never_passed_over(folder: Path, text: str, words: str) -> None:
    """It may be the part of the gateway that somebody just edited."""
    (folder / "site.yaml").write_text(text)

    code, found = answer(folder)
    problems = [*found["problems"], *(problem for each in found["configurations"] for problem in each["problems"])]

    assert code == 78
    assert any(words in f"{problem['file']}: {problem['message']}" for problem in problems)
    assert CliRunner().invoke(cli, ["plan", str(folder)]).exit_code != 0


def test_a_directory_without_a_configuration_says_so(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {}")

    result = tidegate("check", tmp_path)

    assert result.exit_code == 78
    assert "no configuration is in this directory: compose.yaml" in result.stdout


def test_trust_files_with_which_the_relay_would_not_start_are_said_before(folder: Path) -> None:
    relay = folder / "relay.yaml"

    empty = tidegate("check", relay)
    (folder / "trusted/line-4.pub.pem").write_text("not PEM\n")
    wrong = tidegate("check", relay)
    started = tidegate("relay", relay)

    assert (empty.exit_code, wrong.exit_code) == (0, 78)
    assert f"{relay}: relay.trust: warning: the relay will not start: trust directory" in empty.output
    reason = "line-4.pub.pem is neither a P-256 or Ed25519 public key"
    assert reason in wrong.output
    assert reason in str(started.exception)
