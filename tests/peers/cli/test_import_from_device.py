"""`tidegate import --from-device`: which tags are gone, new or of another type after a download; and bringing it in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from drivers.ethernetip.simulator import BOOL, DINT, REAL, STRING, Controller, in_thread
from drivers.modbus.simulator import SimulatedDevice, SimulatedUnit
from edge.cli import cli
from edge.testing.proxy import RecordingProxy
from tests.faults.gateway.site_under_test import LoopThread, Site, sites
from tests.peers.opcua.plant import NODES, running

GATEWAY = "gateway: {name: line-4, path: acme/basel, state: state}\nclock: {require: any, chrony: off}\n"
TABLE = """\
name,address,type,unit,serial,every
speed,Motor.Speed,REAL,/min,0815,
count,COUNT,DINT,,,5 s
level,Levels[0..4],REAL,%,,
lot,Lot,STRING,,,
old,Old,DINT,,,
"""


def tidegate(*arguments: object) -> Result:
    return CliRunner().invoke(cli, [str(argument) for argument in arguments])


def compared(config: Path, *more: str) -> tuple[int, dict[str, dict[str, Any]], dict[str, Any]]:
    """The exit code, the differences by name, and the answer."""
    ran = tidegate("import", config, "--from-device", "--device", "it", "--json", *more)
    if not ran.stdout:
        raise ran.exception or AssertionError(ran.output)
    answer = json.loads(ran.stdout)
    return ran.exit_code, {each["name"]: each for each in answer["differences"]}, answer


def what(differences: dict[str, dict[str, Any]]) -> dict[str, str]:
    return {name: each["what"] for name, each in differences.items()}


def plc() -> Controller:
    """The program that the table was made for."""
    made = Controller("Line4")
    made.tag("Motor", made.structure("Motor", {"Speed": REAL, "Runs": BOOL}))
    made.tag("Count", DINT, 7)
    made.tag("Levels", REAL[5])
    made.tag("Lot", STRING, "A-1")
    made.tag("Old", DINT, 1)
    return made


def change(made: Controller) -> None:
    """Download another program."""
    for name in ("Count", "Levels", "Old"):
        made.remove(name)
    made.tag("Count", REAL, 7.5)
    made.tag("Levels", REAL[3])
    made.tag("Fresh", DINT, 3)
    made.download()


PAGE = Path(__file__).parents[3] / "docs/how-to/import-tags.md"
Write = Callable[..., Path]


@pytest.fixture
def logix(tmp_path: Path) -> Write:
    def write(port: int, table: str = TABLE, group: str = "{every: 1 s, tags_from: it.csv}") -> Path:
        path = tmp_path / "site.yaml"
        path.write_text(f"{GATEWAY}devices:\n  - name: it  # in cabinet 3\n    driver: ethernetip\n"
                        f"    host: 127.0.0.1\n    port: {port}\n    scan_groups:\n      - {group}\n")  # fmt: skip
        path.with_name("it.csv").write_text(table)
        return path

    return write


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    for site in sites(tmp_path):
        site.settings.pop("uplink")
        yield site


def test_what_a_download_changed_is_a_table_of_differences(logix: Write) -> None:
    made = plc()
    with in_thread(made) as (server,):
        config = logix(server.port, TABLE + "runs,Motor.Runs,BOOL,,,\n")
        same = tidegate("import", config, "--from-device", "--device", "it")
        change(made)
        other = tidegate("import", config, "--from-device", "--device", "it")

    assert same.exit_code == 0
    assert same.stdout == f"{config.with_name('it.csv')}: 6 unchanged\n"
    assert other.exit_code == 1
    sample = PAGE.read_text().partition("--from-device --device plc-4\n")[2].partition("```")[0]
    assert other.stdout.replace(str(config.with_name("it")), "plc-4") == sample
    assert config.with_name("it.csv").read_text() == TABLE + "runs,Motor.Runs,BOOL,,,\n"
    assert made.writes_asked == 0


@pytest.mark.parametrize(
    ("mode", "expected", "names"),
    [
        ("create", {"Fresh": "added", "runs": "kept", "count": "kept", "old": "kept"}, {"Fresh", "old"}),
        ("merge-safe", {"Fresh": "added", "count": "kept", "old": "kept"}, {"Fresh", "old"}),
        ("merge-overwrite", {"Fresh": "added", "count": "changed", "old": "kept"}, {"Fresh", "old"}),
        ("overwrite", {"Fresh": "added", "count": "changed", "old": "removed"}, {"Fresh"}),
        ("delete", {"Fresh": "kept", "count": "kept", "old": "removed"}, set()),
    ],
)
def test_a_mode_brings_the_changes_in(logix: Write, mode: str, expected: dict[str, str], names: set[str]) -> None:
    made = plc()
    change(made)
    with in_thread(made) as (server,):
        config = logix(server.port, TABLE + "runs,Motor.Runs,BOOL,,,\n")
        before = config.read_text()

        code, found, answer = compared(config, "--mode", mode)

        checked = tidegate("check", config)
        again, left, _ = compared(config)
    table = config.with_name("it.csv").read_text().splitlines()
    assert what(found) == {"level": "kept"} | {name: how for name, how in expected.items() if name != "runs"}
    assert answer["is_written"]
    assert code == again == 1  # Of the array a part is gone, which stays to be done by hand.
    assert set(left) == {name for name, each in found.items() if each["what"] == "kept"}
    assert {line.partition(",")[0] for line in table[1:]} == {"speed", "count", "level", "lot", "runs", *names}
    assert config.read_text() == before
    assert checked.exit_code == 0
    assert table[1] == "speed,Motor.Speed,REAL,/min,0815,"
    assert table[2] == ("count,COUNT,REAL,,,5 s" if expected["count"] == "changed" else "count,COUNT,DINT,,,5 s")


def test_after_overwriting_nothing_is_left(logix: Write) -> None:
    made = plc()
    with in_thread(made) as (server,):
        config = logix(server.port, "name,address,type\nold,Old,DINT\ncount,Count,DINT\n")
        change(made)
        first = compared(config, "--mode", "overwrite")[0]
        second, left, answer = compared(config)

    assert (first, second, left) == (0, 0, {})
    assert answer["unchanged"] == 8  # Count, Fresh, Lot, two members of Motor, three elements of Levels.


def test_a_device_without_tags_gets_those_that_it_has(logix: Write) -> None:
    with in_thread(plc()) as (server,):
        config = logix(server.port, "", "{every: 1 s}")
        config.with_name("it.csv").unlink()

        code, found, _ = compared(config, "--mode", "merge-safe", "--filter", "*o*")

        answer = json.loads(tidegate("read", config, "it", "--json").stdout)
    assert code == 0
    assert set(what(found)) == {"Motor/Speed", "Motor/Runs", "Count", "Lot", "Old"}
    assert {value["quality"] for value in answer["values"]} == {"GOOD"}


def test_only_names_that_match_are_compared(logix: Write) -> None:
    made = plc()
    change(made)
    with in_thread(made) as (server,):
        code, found, _ = compared(logix(server.port), "--filter", "o*", "--mode", "overwrite")

    assert (code, what(found)) == (0, {"old": "removed"})


def test_tags_written_in_the_configuration_itself_are_compared_and_stay(logix: Write) -> None:
    made = plc()
    change(made)
    with in_thread(made) as (server,):
        tags = "[{name: count, address: Count, type: DINT}, {name: gone, address: Old, type: DINT}]"
        config = logix(server.port, "", f"{{every: 1 s, tags: {tags}}}")
        config.with_name("it.csv").unlink()
        before = config.read_text()

        code, found, _ = compared(config)

    assert code == 1
    assert found["count"]["reason"].startswith("its type is REAL now; it is written in ")
    assert found["gone"]["reason"].startswith("the device has it no more; it is written in ")
    assert what(found)["Fresh"] == "added"
    assert config.read_text() == before


def test_a_tag_that_became_a_structure_is_said(logix: Write) -> None:
    made = plc()
    made.remove("Old")
    made.tag("Old", made.structure("Pair", {"A": DINT, "B": DINT}))
    with in_thread(made) as (server,):
        code, found, _ = compared(logix(server.port))

    assert code == 1
    assert found["old"]["what"] == "kept"
    assert "Pair" in found["old"]["reason"]
    assert {"Old/A", "Old/B"} <= {name for name, how in what(found).items() if how == "added"}


def opcua(folder: Path, port: int, rows: str) -> Path:
    path = folder / "site.yaml"
    path.write_text(f"{GATEWAY}devices:\n  - name: it\n    driver: opcua\n    url: opc.tcp://127.0.0.1:{port}\n"
                    "    security: none\n    namespaces: {p: 'urn:tidegate:plant'}\n    scan_groups:\n"
                    "      - {every: 1 s, tags_from: it.csv}\n")  # fmt: skip
    path.with_name("it.csv").write_text(rows)
    return path


def test_nodes_that_come_go_and_change_are_found_however_they_are_addressed(tmp_path: Path) -> None:
    rows = (
        "name,address,type,index,field,scale\n"
        f"by-id,{NODES}Float64,float64,,,10\n"
        "by-path,/Objects/p:Plant/p:Int16,int16,,,\n"
        "short,nsu=p;s=Int32,int32,,,\n"
        f"target,{NODES}Setpoint,float64,,Target,\n"
        f"array,{NODES}Floats,float32,0..2,,\n"
        f"broken,{NODES}Broken,float64,,,\n"
        "clock,i=2258,datetime,,,\n"
    )
    with running("asyncua", tmp_path) as server:
        config = opcua(tmp_path, server.port, rows)
        before = compared(config, "--mode", "merge-safe")[1]
        first = compared(config)
        server.tell("remove", "Float64")
        server.tell("add", "Float64", "Int64", 5)
        server.tell("remove", "Int16")
        server.tell("remove", "Point7")
        server.tell("add", "Fresh", "Double", 1.5)
        code, found, _ = compared(config)
        compared(config, "--mode", "overwrite")
        last = compared(config)

    assert "Plant/Int8" in before
    assert not {f"Plant/{name}" for name in ("Float64", "Int16", "Int32", "Broken", "Floats")} & set(before)
    assert not any("Server" in name for name in before)
    assert (first[0], first[1]) == (0, {})
    assert [each["message"] for each in first[2]["findings"] if each["name"] == "broken"] == [
        "it is there, and has no value now: BAD 0x808C0000"
    ]
    assert code == 1
    assert what(found) == {"by-id": "changed", "by-path": "removed", "Plant/Point7": "removed", "Plant/Fresh": "added"}
    assert found["by-id"]["keys"] == [{"key": "type", "old": "float64", "new": "int64"}]
    assert (last[0], last[1]) == (0, {})
    assert f"by-id,{NODES}Float64,int64,,,10" in config.with_name("it.csv").read_text()


def test_a_tag_of_the_same_name_at_another_place_is_changed_and_keeps_what_was_written(tmp_path: Path) -> None:
    rows = "name,address,type,scale,serial\nPlant/Int8,nsu=urn:old;s=Int8,int8,2,007\n"
    with running("asyncua", tmp_path) as server:
        config = opcua(tmp_path, server.port, rows)
        found = compared(config, "--mode", "merge-overwrite", "--filter", "*/int8")[1]

    assert what(found) == {"Plant/Int8": "changed"}
    assert config.with_name("it.csv").read_text().splitlines()[1] == f"Plant/Int8,{NODES}Int8,int8,2,007"


def test_a_device_without_a_list_says_which_addresses_no_longer_answer(tmp_path: Path) -> None:
    plant = LoopThread()
    try:
        device: SimulatedDevice = plant.enter(SimulatedDevice({1: SimulatedUnit(illegal=["holding 40"])}))
        path = tmp_path / "site.yaml"
        path.write_text(f"{GATEWAY}devices:\n  - name: it\n    driver: modbus\n    host: 127.0.0.1\n"
                        f"    port: {device.port}\n    scan_groups: [{{every: 1 s, tags_from: it.csv}}]\n")  # fmt: skip
        path.with_name("it.csv").write_text("name,address,type\na,holding 0,uint16\nb,holding 40,uint16\n")

        ran = tidegate("import", path, "--from-device", "--device", "it")
        written, _, answer = compared(path, "--mode", "overwrite")
    finally:
        plant.close()

    assert ran.exit_code == 1
    assert "-  b  its address no longer answers" in ran.stdout
    assert "compared is whether each configured address still answers; new tags, and other types, cannot" in ran.stderr
    assert written == 0
    assert answer["unchanged"] == 1
    assert path.with_name("it.csv").read_text() == "name,address,type\na,holding 0,uint16\n"


def test_a_running_gateway_asks_for_both(site: Site) -> None:
    made = plc()
    with in_thread(made) as (server,):
        proxy = site.plant.enter(RecordingProxy("127.0.0.1", server.port))
        (site.directory / "it.csv").write_text("name,address,type\ncount,Count,DINT\nold,Old,DINT\n")
        site.settings["devices"].append(
            {"name": "it", "driver": "ethernetip", "host": "127.0.0.1", "port": proxy.port,
             "scan_groups": [{"every": "1 s", "tags_from": "it.csv"}]}
        )  # fmt: skip
        site.gateway()
        site.wait_for_status(lambda status: status.devices[0].scan_groups[0].scans > 1, "scans")
        change(made)
        connections = len(proxy.recordings)

        code, found, answer = compared(site.directory / "gateway.yaml")

        assert len(proxy.recordings) == connections
        direct = compared(site.directory / "gateway.yaml", "--direct")
        assert len(proxy.recordings) > connections
    assert code == 1
    assert {"count": "changed", "old": "removed", "Fresh": "added"}.items() <= what(found).items()
    assert any("asked by the running gateway" in note for note in answer["notes"])
    assert direct[1] == found
    assert not direct[2]["notes"]


@pytest.mark.parametrize("words", [["list.csv", "--from-device"], [], ["list.csv", "--direct"]])
def test_a_file_or_the_device_is_named(logix: Write, words: list[str]) -> None:
    assert tidegate("import", logix(1), *words, "--device", "it").exit_code == 2


def test_a_device_that_does_not_answer_changes_nothing(logix: Write) -> None:
    config = logix(1)

    ran = tidegate("import", config, "--from-device", "--device", "it", "--mode", "overwrite")

    assert (ran.exit_code, ran.stderr.startswith("it: ")) == (1, True)
    assert config.with_name("it.csv").read_text() == TABLE
