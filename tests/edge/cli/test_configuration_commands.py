from __future__ import annotations

import json
import socketserver
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.cli.diff import Difference, waiting_sections

SITE = """\
gateway: {name: g, path: acme/basel, state: state}
uplink: {mqtt: {host: 127.0.0.1, tls: off}}
devices:
  - name: plc
    driver: modbus
    host: 127.0.0.1
    port: %d
    scan_groups:
      - every: 1 s
        tags:
          - {name: temperature, address: "holding 0", type: float32, unit: Cel, range: [0, 100]}
          - {name: speed, address: "holding 2", type: uint16, scale: 0.1, range: [0, 5]}
          - {name: label, address: "holding 3", type: text, length: 4}
"""


class _Registers(socketserver.BaseRequestHandler):
    """Answers function code 3 from five registers, and any other address with an exception."""

    data = struct.pack(">fH4s", 21.7, 123, b"abcd")

    def handle(self) -> None:
        while header := self.request.recv(12, 256):
            transaction, _, _, unit, function, first, count = struct.unpack(">HHHBBHH", header)
            cells = self.data[2 * first : 2 * (first + count)]
            good = function == 3 and len(cells) == 2 * count
            pdu = struct.pack(">BB", 3, len(cells)) + cells if good else struct.pack(">BB", function | 0x80, 2)
            self.request.sendall(struct.pack(">HHHB", transaction, 0, len(pdu) + 1, unit) + pdu)


@pytest.fixture
def port() -> Iterator[int]:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Registers) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join()


@pytest.fixture
def site(tmp_path: Path, port: int) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(SITE % port)
    return path


def tidegate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def test_a_good_configuration_shows_what_it_will_cost(site: Path) -> None:
    result = tidegate("check", site)

    assert result.exit_code == 0
    assert result.stdout.startswith("plc: 3 tags -> 1 request, about ")
    assert "no problems; digest " in result.stdout


def test_a_bad_configuration_lists_its_problems_and_exits_with_78(site: Path) -> None:
    site.write_text(site.read_text().replace("unit: Cel", "unti: Cel").replace("every: 1 s", "every: 1"))

    result = tidegate("check", site)

    assert result.exit_code == 78
    lines = result.stdout.splitlines()
    assert lines[0].startswith(f"{site}:9:16: devices[0].scan_groups[0].every: needs a number with a unit")
    assert lines[1:] == [
        f"{site}:11:70: devices[0].scan_groups[0].tags[0].unti: unknown key; did you mean unit?",
        "2 problems; nothing was started",
    ]


def test_scripts_get_the_same_as_json(site: Path) -> None:
    good = json.loads(tidegate("check", site, "--json").stdout)
    site.write_text("gateway: {name: g, pth: a/b}")
    bad = tidegate("check", site, "--json")

    [configuration] = good["configurations"]
    assert (good["usable"], configuration["problems"], configuration["scan_groups"][0]["requests"]) == (True, [], 1)
    assert bad.exit_code == 78
    assert json.loads(bad.stdout)["configurations"][0]["problems"][1] == {
        "file": str(site),
        "line": 1,
        "column": 20,
        "path": "gateway.pth",
        "message": "unknown key; did you mean path?",
    }


def test_a_misspelled_driver_is_told_once_and_the_rest_is_checked(site: Path) -> None:
    site.write_text(site.read_text().replace("driver: modbus", "driver: modbuss"))

    result = tidegate("check", site)

    [problem] = [line for line in result.stdout.splitlines() if "driver" in line]
    assert "no driver is called 'modbuss'; installed are " in problem
    assert problem.endswith("; did you mean modbus?")


def test_a_plan_shows_the_requests_of_a_device(site: Path) -> None:
    result = tidegate("plan", site, "--device", "plc")

    assert result.exit_code == 0
    assert "  holding 0-4 (5 registers, 3 tags)" in result.stdout.splitlines()
    assert json.loads(tidegate("plan", site, "--json").stdout)["scan_groups"][0]["request_texts"]
    assert tidegate("plan", site, "--device", "other").exit_code == 2


def test_tags_are_read_in_their_unit_with_their_quality(site: Path) -> None:
    """12.3 is above the range of speed: it is shown, as UNCERTAIN, and the command says no."""
    result = tidegate("read", site, "plc", "--json")

    tags = json.loads(result.stdout)["values"]
    assert [(tag["tag"], tag["value"], tag["quality"]) for tag in tags] == [
        ("temperature", 21.7, "GOOD"),
        ("speed", pytest.approx(12.3), "UNCERTAIN"),
        ("label", "abcd", "GOOD"),
    ]
    assert result.exit_code == 1


def test_one_tag_is_shown_in_every_byte_order(site: Path) -> None:
    result = tidegate("read", site, "plc", "temperature")

    assert result.exit_code == 0
    assert result.stdout.splitlines()[0] == "temperature: 21.7 Cel  GOOD"
    assert "word_order little" in result.stdout
    assert result.stdout.splitlines()[-1].startswith("answered in ")


def test_an_address_can_be_tried_before_it_is_in_the_file(site: Path) -> None:
    good = tidegate("read", site, "plc", "--address", "holding 2", "--set", "type=uint16", "--json")
    absent = tidegate("read", site, "plc", "--address", "holding 90", "--set", "type=uint16")

    assert json.loads(good.stdout)["values"][0]["value"] == 123
    assert (absent.exit_code, absent.stdout.splitlines()[0]) == (1, "holding 90: -  BAD_ADDRESS 0x80340000")


def test_an_address_can_be_tried_before_its_type_is_known(site: Path) -> None:
    """In one, two and four registers; what reaches beyond the last register is left out, and is no failure."""
    result = tidegate("read", site, "plc", "--address", "holding 2")
    absent = tidegate("read", site, "plc", "--address", "holding 90")

    lines = result.stdout.splitlines()
    assert [line for line in lines if line.startswith("holding")] == [
        "holding 2 as uint16: 123  GOOD",
        f"holding 2 as uint32: {123 << 16 | 0x6162}  GOOD",
    ]
    assert sum("int32 ABCD, word_order big, byte_order big, as configured" in line for line in lines) == 2
    assert (result.exit_code, result.stderr) == (0, "")
    assert (absent.exit_code, absent.stdout.count("BAD_ADDRESS")) == (1, 3)


def test_a_device_that_is_not_there_is_an_answer_and_not_a_traceback(site: Path) -> None:
    with socketserver.TCPServer(("127.0.0.1", 0), socketserver.BaseRequestHandler) as closed:
        free = closed.server_address[1]
    site.write_text(SITE % free)

    result = tidegate("read", site, "plc")

    assert result.exit_code == 1
    assert result.stderr.startswith("plc: 127.0.0.1:")


@pytest.mark.parametrize("arguments", [("plc", "nothing"), ("other",), ("plc", "--set", "type=uint16")])
def test_a_name_that_is_not_in_the_file_is_a_wrong_use(site: Path, arguments: tuple[str, ...]) -> None:
    assert tidegate("read", site, *arguments).exit_code == 2


def test_schemas_are_json() -> None:
    assert "devices" in json.loads(tidegate("schema").stdout)["properties"]
    assert "relay" in json.loads(tidegate("schema", "--relay").stdout)["properties"]


@pytest.mark.parametrize("command", ["check", "plan", "read", "schema"])
def test_help_shows_an_example(command: str) -> None:
    result = tidegate(command, "--help")

    assert f"  tidegate {command} " in result.stdout.split("Example")[1]


def test_contexts_are_taken_into_use_while_it_runs_and_a_clock_is_not() -> None:
    found = [Difference(path=path, old="1 s", new="2 s") for path in ("contexts[0].unit", "clock.poll")]

    assert waiting_sections(found) == ("clock",)
