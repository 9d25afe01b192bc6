"""The simulated Logix controller, cross-checked with a client that talks to real ones: pycomm3."""

from __future__ import annotations

import datetime
import struct
from collections.abc import Iterator
from typing import Any

import pytest
from pycomm3 import CIPDriver, LogixDriver, ResponseError

from drivers.ethernetip.simulator import (
    BOOL,
    DINT,
    INT,
    REAL,
    SHORT_STRING,
    STRING,
    TIMER,
    Controller,
    LogixServer,
    in_thread,
    micro800,
)
from drivers.ethernetip.simulator.controller import crowd, showcase


@pytest.fixture
def client(logix: LogixServer) -> Iterator[LogixDriver]:
    with LogixDriver(f"127.0.0.1:{logix.port}/0") as client:
        yield client


def values(client: LogixDriver, *tags: str) -> list[Any]:
    read = client.read(*tags)
    answers = read if isinstance(read, list) else [read]
    assert [answer.error for answer in answers] == [None] * len(answers)
    return [answer.value for answer in answers]


def test_it_is_recognised(client: LogixDriver) -> None:
    info = client.info

    assert (info["product_name"], info["revision"], info["serial"]) == ("1756-L83E/B", {"major": 33, "minor": 11},
                                                                        "00c0ffee")  # fmt: skip
    assert info["keyswitch"] == "REMOTE RUN"
    assert info["name"] == "Showcase"
    assert info["programs"] == {"MainProgram": {"instance_id": info["programs"]["MainProgram"]["instance_id"],
                                                "routines": ["MainRoutine"]}}  # fmt: skip
    assert list(info["tasks"]) == ["MainTask"]


def test_it_is_found_by_list_identity(logix: LogixServer) -> None:
    identity = CIPDriver.list_identity(f"127.0.0.1:{logix.port}")

    assert identity is not None
    assert (identity["product_name"], identity["ip_address"]) == ("1756-L83E/B", "127.0.0.1")
    assert identity["vendor"].startswith("Rockwell")


def test_the_tag_list_is_uploaded(client: LogixDriver) -> None:
    tags = client.tags

    assert {name: tags[name]["data_type_name"] for name in ("Running", "Total", "Recipe", "Operator", "Dwell", "Line1",
            "Program:MainProgram.Step", "Program:MainProgram.Lines")} == {
        "Running": "BOOL", "Total": "LINT", "Recipe": "STRING", "Operator": "STRING20", "Dwell": "TIMER",
        "Line1": "Line", "Program:MainProgram.Step": "DINT", "Program:MainProgram.Lines": "Line"}  # fmt: skip
    assert tags["Grid"]["dimensions"] == [2, 3, 4]
    assert (tags["Shortcut"]["alias"], tags["Vials"]["alias"]) == (True, False)
    assert tags["Guarded"]["external_access"] == "Read Only"


def test_templates_are_understood(client: LogixDriver) -> None:
    line = client.data_types["Line"]

    assert line["attributes"] == ["Running", "Lot", "Drives", "Limits", "Bits", "Total"]
    assert line["internal_tags"]["Lot"]["data_type_name"] == "STRING"
    assert line["internal_tags"]["Drives"]["array"] == 3
    assert line["internal_tags"]["Drives"]["data_type"]["attributes"] == ["Ready", "Fault", "Code", "Speed"]


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("Running", True), ("Small", -5), ("Count", -1234), ("Vials", 70_000), ("Total", 1 << 40), ("Volume", 1.5),
        ("Vials.4", True), ("Vials.5", True), ("Vials.0", False), ("Mask.31", True), ("Mask.1", False),
        ("Samples[99]", 24.75), ("Samples[4]{3}", [1.0, 1.25, 1.5]), ("Grid[1,2,3]", 23), ("Grid[0,1,0]{5}",
        [4, 5, 6, 7, 8]), ("Alarms[3]", True), ("Alarms[4]", False), ("Alarms{64}", [at % 3 == 0 for at in range(64)]),
        ("Recipe", "LOT-2041-A"), ("Operator", "Anna"), ("Dwell.ACC", 1200), ("Dwell.TT", True), ("Dwell.DN", False),
        ("Dwell", {"PRE": 5000, "ACC": 1200, "EN": True, "TT": True, "DN": False}), ("Parts.DN", True),
        ("Line1.Running", True), ("Line1.Lot", "A-7"), ("Line1.Drives[2].Speed", 21.0), ("Line1.Limits{4}",
        [1.0, 2.0, 3.0, 4.0]), ("Line1.Total", -9), ("Line1.Drives[1]",
        {"Ready": True, "Fault": False, "Code": 1, "Speed": 10.5}), ("Program:MainProgram.Step", 12),
        ("Program:MainProgram.Lines[1].Drives[0].Code", 0), ("Guarded", 1), ("Shortcut", 70_000),
    ],
    ids=str,
)  # fmt: skip
def test_every_kind_of_tag_is_read(shared_client: LogixDriver, tag: str, value: object) -> None:
    assert values(shared_client, tag) == [value]


@pytest.fixture(scope="module")
def shared_client() -> Iterator[LogixDriver]:
    with in_thread(showcase()) as (server,), LogixDriver(f"127.0.0.1:{server.port}/0") as client:
        yield client


def test_a_whole_structure_is_read(shared_client: LogixDriver) -> None:
    [line] = values(shared_client, "Line1")

    assert line["Drives"][2] == {"Ready": True, "Fault": False, "Code": 2, "Speed": 21.0}
    assert (line["Running"], line["Lot"], line["Total"]) == (True, "A-7", -9)
    assert line["Bits"][:40] == [True] * 40


def test_many_tags_are_read_in_few_packets(plc: Controller, client: LogixDriver) -> None:
    names = ["Vials", "Count", "Volume", "Line1.Drives[2].Speed", "Samples[3]{4}", "Program:MainProgram.Step"]
    before = plc.services[0x0A, 2]

    read = values(client, *names)

    assert read == [70_000, -1234, 1.5, 21.0, [0.75, 1.0, 1.25, 1.5], 12]
    assert plc.services[0x0A, 2] - before == 1


@pytest.mark.parametrize("is_large_refused", [False, True])
def test_long_values_come_in_fragments(plc: Controller, logix: LogixServer, is_large_refused: bool) -> None:
    """Over a large connection, and over a small one where the controller knows no large ones."""
    plc.is_large_refused = is_large_refused
    with LogixDriver(f"127.0.0.1:{logix.port}/0") as client:
        size = client.connection_size
        [long] = values(client, "Long{5000}")

    assert size == (500 if is_large_refused else 4000)
    assert long == list(range(5000))
    assert plc.services[0x52, 0x6B] > 4


def test_a_long_tag_list_comes_in_pages() -> None:
    plc = crowd(2500)
    with in_thread(plc) as (server,), LogixDriver(f"127.0.0.1:{server.port}/0") as client:
        assert len(client.tags) == 2500
        assert values(client, "Tag2496", "Tag2497", "Tag2498") == [2496.0, 2497, True]
    assert plc.services[0x55, 0x6B] > 10


def test_what_is_wrong_is_said(plc: Controller, client: LogixDriver) -> None:
    plc.fail("Count", 0x0F)
    read = client.read("Vials", "Count", "Samples[99]{2}")

    assert read[0].error is None
    assert read[1].error == "Permission denied"
    assert "beyond end of the object" in read[2].error


def test_a_download_takes_old_numbers_away(plc: Controller, client: LogixDriver) -> None:
    plc.remove("Vials")
    plc.download()
    gone = client.read("Line1")
    client.get_tag_list(program="*")

    assert gone.error or gone.type != "Line"
    assert "Vials" not in client.tags
    assert values(client, "Line1.Lot") == ["A-7"]


def test_the_clock_is_read(client: LogixDriver) -> None:
    now = client.get_plc_time(tz=datetime.UTC).value["datetime"]

    assert abs(now - datetime.datetime.now(datetime.UTC)) < datetime.timedelta(minutes=1)


def test_attributes_of_other_objects_are_read(plc: Controller, logix: LogixServer) -> None:
    """As of a drive: no route, no connection."""
    plc.attribute(0x93, 1, 3, struct.pack("<h", 600))
    with CIPDriver(f"127.0.0.1:{logix.port}") as client:
        speed = client.generic_message(
            service=0x0E, class_code=0x93, instance=1, attribute=3, connected=False, route_path=False
        )
        missing = client.generic_message(
            service=0x0E, class_code=0x93, instance=1, attribute=9, connected=False, route_path=False
        )

    assert speed.value == b"\x58\x02"
    assert missing.error


def test_a_module_is_asked_through_a_route(logix: LogixServer) -> None:
    with CIPDriver(f"127.0.0.1:{logix.port}/bp/0") as client:
        assert client.get_module_info(0)["product_name"] == "1756-L83E/B"


def test_a_wrong_slot_leads_nowhere(logix: LogixServer) -> None:
    client = LogixDriver(f"127.0.0.1:{logix.port}/3")

    with pytest.raises(ResponseError, match="PLC info"):
        client.open()

    client.close()


def test_a_micro800_has_its_ways() -> None:
    plc = micro800()
    plc.tag("Level", REAL, 1.5)
    plc.tag("Label", SHORT_STRING, "hello")
    plc.tag("Rows", INT[10], list(range(10)))
    plc.tag("On", BOOL, True)

    with in_thread(plc) as (server,), LogixDriver(f"127.0.0.1:{server.port}") as client:
        assert client.info["product_name"] == "2080-LC50-24QBB"
        assert values(client, "Level", "Label", "Rows{10}", "On") == [1.5, "hello", list(range(10)), True]
    assert plc.services[0x0A, 2] == 0
    assert plc.writes_asked == 0


def test_structures_deep_in_structures_are_understood() -> None:
    plc = Controller("Deep")
    inner = plc.structure("Inner", {"a": BOOL, "t": TIMER, "s": STRING, "b": BOOL})
    middle = plc.structure("Middle", {"x": INT, "inner": inner[2], "flags": BOOL[33]})
    outer = plc.structure("Outer", {"m": middle, **{f"bit{at}": BOOL for at in range(17)}, "last": DINT})
    plc.tag("O", outer[2])
    plc["O[1].m.inner[1].t.ACC"] = 77
    plc["O[1].m.inner[1].s"] = "deep"
    plc["O[1].m.inner[1].b"] = True
    plc["O[1].m.flags[32]"] = True
    plc["O[1].bit16"] = True
    plc["O[1].last"] = -1

    with in_thread(plc) as (server,), LogixDriver(f"127.0.0.1:{server.port}/0") as client:
        whole = values(client, "O{2}")[0][1]
        parts = values(client, "O[1].m.inner[1].t.ACC", "O[1].m.inner[1].s", "O[1].bit16", "O[1].bit15")

    assert parts == [77, "deep", True, False]
    assert whole["m"]["inner"][1] == {"a": False, "b": True, "s": "deep",
                                      "t": {"PRE": 0, "ACC": 77, "EN": False, "TT": False, "DN": False}}  # fmt: skip
    assert whole["m"]["flags"][32] is True
    assert (whole["bit16"], whole["bit15"], whole["last"]) == (True, False, -1)
