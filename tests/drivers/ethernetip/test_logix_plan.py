"""Few packets that fit both ways, and every tag in one of them, before anything is known of the controller."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.ethernetip.cip import Routed, route_path
from drivers.ethernetip.plan import SEQUENCE_BYTES, EtherNetIpPlan, packets
from drivers.ethernetip.settings import EtherNetIpDevice
from edge.config.validate import settings_from
from edge.errors import ConfigError

MakeDevice = Callable[..., EtherNetIpDevice]


def plan_of(device: EtherNetIpDevice) -> EtherNetIpPlan:
    return EtherNetIpPlan(device.scan_groups[0].tags, device)


def labels(plan: EtherNetIpPlan) -> list[str]:
    return [str(read) for read in plan.reads]


def test_neighbours_are_read_together(make_device: MakeDevice) -> None:
    plan = plan_of(
        make_device(
            [("Level[2]", "REAL"), ("Level[0]", "REAL"), ("level[7]", "REAL"), ("Level[30]", "REAL"),
             ("Level[1]", "DINT")]
        )
    )  # fmt: skip

    assert labels(plan) == ["Level[0..7]", "Level[30]", "Level[1]"]


def test_elements_of_several_dimensions_are_read_one_by_one(make_device: MakeDevice) -> None:
    """Consecutive elements continue in the next row, and the length of a row is not known."""
    plan = plan_of(make_device([("Grid[1,0]", "INT"), ("Grid[1,1]", "INT"), ("Grid[2,0]", "INT")]))

    assert labels(plan) == ["Grid[1,0]", "Grid[1,1]", "Grid[2,0]"]


def test_bits_of_one_word_and_bools_of_one_array_share_a_read(make_device: MakeDevice) -> None:
    plan = plan_of(
        make_device(
            [("Word.0", "BOOL"), ("Word.31", "BOOL"), ("WORD.7", "BOOL"), ("Alarms[1]", "BOOL"), ("Alarms[40]", "BOOL")]
        )
    )

    assert labels(plan) == ["Word", "Alarms[0..1]"]
    assert [[(f.at, f.bit) for f in read.fields] for read in plan.reads] == [
        [(0, 0), (3, 7), (0, 7)],
        [(0, 1), (5, 0)],
    ]


def test_a_micro800_has_bools_of_a_byte_and_one_read_in_a_packet(make_device: MakeDevice) -> None:
    plan = plan_of(make_device([("Alarms[1]", "BOOL"), ("Alarms[40]", "BOOL"), ("Level", "REAL")], family="micro800"))

    assert labels(plan) == ["Alarms[1]", "Alarms[40]", "Level"]
    assert plan.cost().requests == 3


def test_the_cost_is_known_offline(make_device: MakeDevice) -> None:
    plan = plan_of(make_device([(f"Tank_{number:04d}.Level", "REAL") for number in range(500)]))

    cost = plan.cost()

    assert (cost.tags, cost.requests) == (500, 4)
    assert len(plan.describe()) == 4
    assert "Tank_0000.Level" in plan.describe()[0]


@pytest.mark.parametrize("settings", [{}, {"limits": {"connection_bytes": 100}}, {"messaging": "unconnected"}])
@pytest.mark.parametrize("parts", [2, 11, 13, 25])
def test_a_path_that_no_message_holds_is_a_problem_of_its_tag(
    make_device: MakeDevice, parts: int, settings: dict[str, Any]
) -> None:
    device = make_device([(".".join(["a" * 40] * parts), "DINT")], **settings)
    is_short = 42 * parts <= (76 if "limits" in settings else 465)

    if is_short:
        assert plan_of(device).cost().requests == 1
        return
    with pytest.raises(ConfigError, match="is too long: names and indices take more than") as caught:
        plan_of(device)
    assert [problem.path for problem in caught.value.problems] == ["tag-0"]


def test_a_question_on_a_route_leaves_room_for_the_route(make_device: MakeDevice) -> None:
    """Without a connection, a message holds 504 bytes in all."""
    tags = [(f"Program:Main.Tank_{number:04d}", "DINT") for number in range(200)]
    plan = plan_of(make_device(tags, messaging="unconnected", route="1,4,2,192.168.100.200,1,0"))
    route = route_path(plan.device.parsed_route)

    found = list(packets(plan.reads, plan.message_bytes, plan.packet_reads))

    assert max(len(Routed.through(packet.question, route).data) for packet in found) <= 504


def test_a_generic_device_has_no_tags_by_name(make_device: MakeDevice) -> None:
    with pytest.raises(ConfigError, match="a generic device has attributes") as caught:
        plan_of(make_device([("cip 1/1/7", "STRING"), ("Speed", "REAL")], family="generic"))

    assert [problem.path for problem in caught.value.problems] == ["tag-1"]


def test_an_array_of_bool_has_one_dimension(make_device: MakeDevice) -> None:
    with pytest.raises(ConfigError, match="one dimension") as caught:
        plan_of(make_device([("Alarms[1,2]", "BOOL")]))

    assert [problem.path for problem in caught.value.problems] == ["tag-0"]


ADDRESSES = st.one_of(
    st.builds(lambda number: (f"Tank_{number}", "REAL"), st.integers(0, 40)),
    st.builds(lambda number: (f"Level[{number}]", "DINT"), st.integers(0, 900)),
    st.builds(lambda number, bit: (f"Word{number}.{bit}", "BOOL"), st.integers(0, 3), st.integers(0, 31)),
    st.builds(lambda number: (f"Alarms[{number}]", "BOOL"), st.integers(0, 300)),
    st.builds(lambda number: (f"cip 1/1/{number}", "UINT"), st.integers(1, 9)),
    st.builds(lambda number: (f"Program:Main.Text{number}", "STRING"), st.integers(1, 9)),
)


@given(
    tags=st.lists(ADDRESSES, min_size=1, max_size=60),
    size=st.sampled_from([110, 300, 504, 4002]),
    hole=st.integers(0, 40),
)
def test_packets_fit_and_hold_each_tag_once(tags: list[tuple[str, str]], size: int, hole: int) -> None:
    device = settings_from(EtherNetIpDevice,
        {"name": "plc", "driver": "ethernetip", "host": "h", "limits": {"connection_bytes": size, "hole": hole},
         "scan_groups": [{"every": "1 s", "tags": [
             {"name": f"t{number}", "address": address, "type": kind} for number, (address, kind) in enumerate(tags)
         ]}]}
    )  # fmt: skip
    plan = plan_of(device)

    found = list(packets(plan.reads, size, plan.packet_reads))

    held = sorted(field.tag for packet in found for read in packet.reads for field in read.fields)
    assert held == list(range(len(tags)))
    for packet in found:
        assert len(packet.question.data) <= size - SEQUENCE_BYTES
        assert packet.is_fragmented == (packet.answer_bytes > size - SEQUENCE_BYTES)
        for read in packet.reads:
            assert all(field.at < read.data_bytes for field in read.fields)
