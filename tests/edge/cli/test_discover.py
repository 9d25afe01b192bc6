"""Looking for devices: gently, one after the other, and whatever one of them does."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from edge.cli.hosts import hosts_of, targets_of
from edge.config.check import check
from edge.config.devices import connection
from edge.driver import Discovered, Target
from edge.errors import DeviceUnreachable

Tidegate = Callable[..., Result]

PLC = Discovered(
    port=502, what="Acme P-1 2.4", details=(("security", "none"),), device={"host": "192.0.2.10", "unit": 7}
)
FAST = ("--rate", "100", "--yes")


def test_what_was_found_is_a_table(toy: Any, tidegate: Tidegate) -> None:
    toy.answers["192.0.2.10"] = [PLC]

    result = tidegate("discover", "192.0.2.8/29", *FAST)

    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "host        port  driver  device",
        "192.0.2.10  502   toy     Acme P-1 2.4",
        "    security  none",
    ]
    assert toy.asked == [f"192.0.2.{n}" for n in range(9, 15)]


def test_of_several_devices_at_a_host_one_is_chosen_before_it_is_added(
    toy: Any, tidegate: Tidegate, tmp_path: Path
) -> None:
    other = Discovered(port=502, what="Acme P-2", device={"host": "192.0.2.10", "unit": 8})
    toy.answers["192.0.2.10"] = [PLC, other]
    (tmp_path / "site.yaml").write_text("gateway: {name: g, path: a/b}\n")

    unsaid = tidegate("add", tmp_path / "site.yaml", "192.0.2.10", "--rate", "100")
    said = tidegate("add", tmp_path / "site.yaml", "192.0.2.10", "--rate", "100", "--set", "unit=8")

    assert (unsaid.exit_code, said.exit_code > 0) == (1, True)
    assert "1  toy  Acme P-1 2.4\n2  toy  Acme P-2\n" in unsaid.stderr
    assert "192.0.2.10 has 2 devices; choose one with HOST:PORT, --driver or --set" in unsaid.stderr
    assert "has 2 devices" not in said.stderr


def test_of_one_host_without_a_device_the_reason_is_said_and_of_many_hosts_none(toy: Any, tidegate: Tidegate) -> None:
    toy.answers["192.0.2.9"] = DeviceUnreachable("192.0.2.9:502 cannot be reached")

    one, many = tidegate("discover", "192.0.2.9"), tidegate("discover", "192.0.2.9-10", *FAST, "--json")

    assert one.stderr.splitlines()[-2:] == ["nothing was found", "  toy: 192.0.2.9:502 cannot be reached"]
    assert (many.exit_code, many.stderr.splitlines()[-1]) == (1, "nothing was found")
    assert json.loads(many.stdout)["failed"] == []


def test_it_warns_of_old_devices_and_asks_before_more_than_one_host(toy: Any, tidegate: Tidegate) -> None:
    refused = tidegate("discover", "192.0.2.8/29", input="n\n")
    one = tidegate("discover", "192.0.2.9")

    assert refused.exit_code == 1
    assert "Some old devices stop" in refused.stderr
    assert "6 hosts (toy), up to 5 requests a second: at least 1.2 s" in refused.stderr
    assert (one.exit_code, one.stderr.splitlines()[-1]) == (1, "nothing was found")
    assert toy.asked == ["192.0.2.9"]


def test_a_host_that_makes_trouble_does_not_keep_the_others_from_being_asked(toy: Any, tidegate: Tidegate) -> None:
    toy.answers |= {"192.0.2.9": IndexError("a bug"), "192.0.2.10": [PLC], "192.0.2.11": TimeoutError()}

    result = tidegate("discover", "192.0.2.9-11", *FAST, "--json")

    answer = json.loads(result.stdout)
    assert [each["settings"] for each in answer["devices"]] == [{"host": "192.0.2.10", "unit": 7}]
    assert [(each["host"], each["reason"]) for each in answer["failed"]] == [
        ("192.0.2.9", "a bug"),
        ("192.0.2.11", "gave up: TimeoutError"),
    ]
    assert (result.exit_code, answer["hosts"], answer["hosts_done"]) == (0, 3, 3)


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C does what it does in a terminal, also where the tests were started in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_what_was_found_until_ctrl_c_is_printed(toy: Any, tidegate: Tidegate) -> None:
    toy.answers |= {"192.0.2.10": [PLC], "192.0.2.11": int(signal.SIGINT)}

    result = tidegate("discover", "192.0.2.10-12", *FAST)

    assert "192.0.2.10  502   toy     Acme P-1 2.4" in result.stdout
    assert "discover: stopped with Ctrl-C after 1 of 3 hosts\n" in result.stderr
    assert (result.exit_code, toy.asked) == (130, ["192.0.2.10", "192.0.2.11"])


def test_a_device_is_written_as_it_goes_into_a_configuration(
    toy: Any, tidegate: Tidegate, site: Callable[..., Path]
) -> None:
    toy.answers["192.0.2.10"] = [PLC, PLC]

    result = tidegate("discover", "192.0.2.10", "--yaml")

    path = site(result.stdout)
    _, settings = connection(path, "toy-192.0.2.10-2", lambda name: toy)
    assert (settings.name, settings.driver) == ("toy-192.0.2.10-2", "toy")
    assert {(settings.host, settings.unit)} == {("192.0.2.10", 7)}  # type: ignore[attr-defined]
    assert {problem.message for problem in check(path, lambda name: toy).errors} == {
        "reads nothing: write its tags, or name a CSV file in tags_from"
    }


def test_what_a_device_says_cannot_command_the_terminal(toy: Any, tidegate: Tidegate) -> None:
    toy.answers["192.0.2.10"] = [Discovered(port=1, what="\x1b[2J\nx", details=(("\x07", "\x9b"),))]

    for form in ((), ("--yaml",)):
        text = tidegate("discover", "192.0.2.10", *form).stdout
        assert all(character.isprintable() or character == "\n" for character in text)


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("192.0.2.10", ["192.0.2.10"]),
        ("plc-4.example", ["plc-4.example"]),
        ("PLC_4", ["PLC_4"]),
        ("192.0.2.4/30", ["192.0.2.5", "192.0.2.6"]),
        ("192.0.2.5/30", ["192.0.2.5", "192.0.2.6"]),
        ("192.0.2.4/31", ["192.0.2.4", "192.0.2.5"]),
        ("192.0.2.254-192.0.3.1", ["192.0.2.254", "192.0.2.255", "192.0.3.0", "192.0.3.1"]),
        ("192.0.2.10-12", ["192.0.2.10", "192.0.2.11", "192.0.2.12"]),
        ("2001:db8::1", ["2001:db8::1"]),
        ("2001:db8::1-2001:db8::2", ["2001:db8::1", "2001:db8::2"]),
    ],
)
def test_hosts_as_people_name_them(text: str, hosts: list[str]) -> None:
    assert hosts_of(text) == hosts


@pytest.mark.parametrize(
    "text",
    ["10.0.0.0/19", "2001:db8::/64", "255.255.255.255", "224.0.0.1", "224.0.0.0/28", "0.0.0.0", "192.0.2.300",
     "192.0.2.20-10", "192.0.2.1-2001:db8::1", "10.0.0.0-10.1.0.0", "a b", "", "192.0.2.1/33", "x..y", "x" * 64,
     "192.0.2.*"],
)  # fmt: skip
def test_what_is_too_much_or_no_host_is_a_wrong_use(toy: Any, tidegate: Tidegate, text: str) -> None:
    result = tidegate("discover", text, *FAST)

    assert (result.exit_code, toy.asked) == (2, [])


def test_many_networks_together_are_no_way_around_the_limit(toy: Any, tidegate: Tidegate) -> None:
    assert tidegate("discover", "10.0.0.0/20", "10.0.16.0/20", *FAST).exit_code == 2


def test_a_driver_that_is_not_there_is_told(toy: Any, tidegate: Tidegate) -> None:
    result = tidegate("discover", "192.0.2.1", "--driver", "other", "--json")

    assert "there are toy" in result.stderr
    assert tidegate("discover", "192.0.2.1", "--json", "--yaml").exit_code == 2


@pytest.mark.parametrize(
    ("text", "targets"),
    [
        ("192.0.2.10:1502", [Target("192.0.2.10", (1502,))]),
        ("192.0.2.10:502, 1502", [Target("192.0.2.10", (502, 1502))]),
        ("plc-4.example", [Target("plc-4.example", (9, 10))]),
        ("192.0.2.10-11:502", [Target("192.0.2.10", (502,)), Target("192.0.2.11", (502,))]),
        ("192.0.2.4/31:502", [Target("192.0.2.4", (502,)), Target("192.0.2.5", (502,))]),
        ("[2001:db8::1]:502", [Target("2001:db8::1", (502,))]),
        ("2001:db8::1", [Target("2001:db8::1", (9, 10))]),
        ("opc.tcp://plc-4:49320/a/b", [Target("plc-4", (49320,), "opc.tcp://plc-4:49320/a/b")]),
        ("opc.tcp://[2001:db8::1]", [Target("2001:db8::1", (), "opc.tcp://[2001:db8::1]")]),
    ],
)
def test_ports_belong_to_what_names_them(text: str, targets: list[Target]) -> None:
    assert targets_of(text, (9, 10)) == targets


def test_ports_are_asked_and_shown(toy: Any, tidegate: Tidegate) -> None:
    toy.answers |= {"192.0.2.9": ValueError("a bug"), "2001:db8::1": [PLC]}

    result = tidegate("discover", "192.0.2.9:1502", "192.0.2.10", "2001:db8::1", "--ports", "502,5020", *FAST)

    assert toy.asked == ["192.0.2.9:1502", "192.0.2.10:502,5020", "[2001:db8::1]:502,5020"]
    assert "192.0.2.9:1502 (toy): a bug" in result.stderr
    assert "3 hosts (toy), up to 100 requests a second: at least 50 ms" in result.stderr
    assert "2001:db8::1  502" in result.stdout


@pytest.mark.parametrize("text", ["192.0.2.1:0", "192.0.2.1:65536", "plc-4:", "plc-4:modbus", "opc.tcp://", "http://x:y",
                                  "192.0.2.1:" + ",".join(map(str, range(1, 18)))])  # fmt: skip
def test_what_is_no_port_is_a_wrong_use(toy: Any, tidegate: Tidegate, text: str) -> None:
    result = tidegate("discover", text, *FAST)

    assert (result.exit_code, toy.asked) == (2, [])
    assert tidegate("discover", "192.0.2.1", "--ports", "502;503").exit_code == 2
