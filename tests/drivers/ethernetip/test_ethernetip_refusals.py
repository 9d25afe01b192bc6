"""One wrong part of a device costs the others nothing, and is named."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest

from drivers.ethernetip import simulator
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import Controller, LogixServer
from drivers.ethernetip.simulator.codes import Service
from drivers.ethernetip.simulator.connections import ConnectionManager
from edge.errors import DeviceUnreachable
from edge.model import Identity, Reading, StatusCode
from tests.support.field.ethernetip_refusals import (
    CULPRIT,
    MOTOR_VALUES,
    VALUES,
    Manner,
    beyond,
    closing,
    malformed,
    odd_server,
    only_several,
    plant,
    refusing,
    silent,
    tags,
)

MakeDevice = Callable[..., EtherNetIpDevice]
C = CULPRIT.encode()
FAILED, WRONG = StatusCode.BAD_DEVICE_FAILURE, StatusCode.BAD_DECODING_ERROR
LIMITS = {"timeout": "100 ms"}


def but(status: StatusCode, *names: str) -> list[Any]:
    """All values; of these tags the status."""
    return [status if name in names else value for name, value in VALUES.items()]


def said(readings: Sequence[Reading], word: str) -> list[str]:
    return [text for reading in readings for text in reading.violations if word in text]


@pytest.mark.parametrize(
    ("manner", "status", "reason"),
    [
        (malformed, WRONG, "the answer to Level_017 is malformed"),
        (closing, FAILED, "Level_017 is left out, because it costs the session: 127.0.0.1"),
        (silent, FAILED, "did not answer within 0.1 s"),
        (refusing(0x02), FAILED, "Level_017 is refused: resource unavailable"),
    ],
)
async def test_the_culprit_is_named_in_the_first_scan_and_the_others_are_read(
    make_device: MakeDevice, client: Any, manner: Manner, status: StatusCode, reason: str
) -> None:
    async with odd_server(plant(), {C: manner}) as (server, router):
        one = client(make_device(tags(), port=server.port, limits=LIMITS))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(3)]
            router.asked.clear()
            readings.append(await session.read(one.plan))
            requests = [question for question in router.asked if b"Level" in question]

    assert [one.values(reading) for reading in readings] == [but(status, CULPRIT)] * 4
    assert len(said(readings[:1], reason)) == 1
    assert said(readings[1:], "Level") == []
    assert len(requests) == (1 if status is FAILED and manner in (closing, silent) else 2)


@pytest.mark.parametrize("manner", [closing, silent, malformed])
async def test_a_culprit_that_is_well_again_is_good_again(make_device: MakeDevice, client: Any, manner: Manner) -> None:
    async with odd_server(plant(), {C: manner}) as (server, router):
        one = client(make_device(tags(), port=server.port, limits=LIMITS))
        async with one.driver.connect() as session:
            for _ in range(3):
                await session.read(one.plan)
            one.clock.ahead_ns += 11 * 10**9
            still = await session.read(one.plan)
            router.behave()
            for _ in range(2):
                await session.read(one.plan)
            one.clock.ahead_ns += 21 * 10**9
            well = [await session.read(one.plan) for _ in range(2)][-1]

    assert one.values(still) == but(WRONG if manner is malformed else FAILED, CULPRIT)
    assert still.violations == ()
    assert one.values(well) == list(VALUES.values())


@pytest.mark.parametrize("culprits", [["Level_000"], ["Level_000", "Level_020", "Level_039", "Motor.Code"]])
@pytest.mark.parametrize("manner", [malformed, closing, silent])
async def test_several_culprits_anywhere_are_all_found(
    make_device: MakeDevice, client: Any, manner: Manner, culprits: list[str]
) -> None:
    """The first values do not wait for the last of them, where each costs the time of an answer."""
    names = {name.rpartition(".")[2].encode(): manner for name in culprits}
    async with odd_server(plant(), names) as (server, _):
        one = client(make_device(tags(), port=server.port, limits=LIMITS | {"structures": "members"}))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(8)]

    status = WRONG if manner is malformed else FAILED
    expected = but(status, *culprits)
    assert one.values(readings[-1]) == expected
    given = [value in (right, status) for value, right in zip(one.values(readings[0]), expected, strict=True)]
    assert all(given)
    is_cheap = manner is not silent or len(culprits) == 1
    assert one.values(readings[0]) == expected or not is_cheap
    assert one.values(readings[0])[10] == VALUES["Level_010"]


@pytest.mark.parametrize("manner", [closing, silent])
async def test_what_was_found_out_outlives_the_session(make_device: MakeDevice, client: Any, manner: Manner) -> None:
    async with odd_server(plant(), {C: manner}) as (server, router):
        one = client(make_device(tags(), port=server.port, limits=LIMITS))
        await one.read(times=2)
        router.asked.clear()
        (again,) = await one.read()

    assert one.values(again) == but(FAILED, CULPRIT)
    assert not [question for question in router.asked if C in question]
    assert len(said([again], CULPRIT)) == 1


@pytest.mark.parametrize("status", [(0x02,), (0x06,), (0x11,), (0x1B,), (0x1E,), (0x01, 0x0205)])
async def test_a_status_of_the_whole_packet_costs_no_value(
    make_device: MakeDevice, client: Any, status: tuple[int, ...]
) -> None:
    every = bytes((Service.MULTIPLE_SERVICE_PACKET, 2, 0x20, 2))
    for manners in ({C: only_several(refusing(*status))}, {every: beyond(6, refusing(*status))}):
        async with odd_server(plant(), manners) as (server, _):
            one = client(make_device(tags(), port=server.port, limits=LIMITS))
            readings = await one.read(times=3)
        assert [one.values(reading) for reading in readings] == [list(VALUES.values())] * 3
        assert said(readings, "Level") == []


async def test_a_device_that_answers_no_read_is_lost_and_not_left_out(make_device: MakeDevice, client: Any) -> None:
    async with odd_server(plant(), {b"Level": silent, b"Motor": silent}) as (server, router):
        one = client(make_device(tags(), port=server.port, limits={"timeout": "20 ms"}))
        for _ in range(3):
            with pytest.raises(DeviceUnreachable, match="did not answer"):
                await one.read()
        router.behave()
        (well,) = await one.read()

    assert one.values(well) == list(VALUES.values())


async def test_an_outage_is_no_suspicion(make_device: MakeDevice, client: Any) -> None:
    """What was answered before is asked again as it was, once the device is back."""
    async with odd_server(plant(), {}) as (server, router):
        one = client(make_device(tags(), port=server.port, limits=LIMITS))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            server.controller.silence()
            with pytest.raises(DeviceUnreachable):
                await session.read(one.plan)
        server.controller.resume()
        router.asked.clear()
        (again,) = await one.read()

    assert one.values(again) == list(VALUES.values())
    assert len([question for question in router.asked if b"Level" in question]) == 1


async def test_a_connection_that_the_device_closed_between_scans_is_no_outage(
    make_device: MakeDevice, client: Any
) -> None:
    plc = plant()
    async with LogixServer(plc) as server:
        one = client(make_device(tags(), port=server.port))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            plc.cut()
            await session._session.connection._closed
            again = await session.read(one.plan)
            reopened_ns = await session.reconnected(0)

    assert one.values(again) == list(VALUES.values())
    assert 0 < reopened_ns <= again.asked_at_ns


@pytest.mark.parametrize(
    ("manner", "answer"), [(closing, None), (silent, None), (malformed, Identity()), (refusing(0x08), Identity())]
)
async def test_the_question_what_a_device_is_costs_no_value(
    make_device: MakeDevice, client: Any, manner: Manner, answer: Identity | None
) -> None:
    question = bytes((Service.GET_ATTRIBUTES_ALL, 2, 0x20, 1))
    async with odd_server(plant(), {question: manner}) as (server, _):
        one = client(make_device(tags(), port=server.port, limits=LIMITS))
        async with one.driver.connect() as session:
            await session.read(one.plan)
            identity = await session.identity()
            again = await session.read(one.plan)

    assert identity == answer
    assert one.values(again) == list(VALUES.values())


QUERIES = {
    "counters": bytes((Service.GET_ATTRIBUTE_LIST, 2, 0x20, 0xAC)),
    "clock": bytes((Service.GET_ATTRIBUTE_LIST, 2, 0x20, 0x8B)),
    "tag list": bytes((Service.GET_INSTANCE_ATTRIBUTE_LIST,)),
    "template": bytes((0x20, 0x6C)),
}


@pytest.mark.parametrize("manner", [malformed, closing, silent, refusing(0x0F)])
@pytest.mark.parametrize("query", QUERIES)
async def test_a_query_that_is_only_nice_to_know_costs_no_value(
    make_device: MakeDevice, client: Any, query: str, manner: Manner
) -> None:
    names = list(MOTOR_VALUES)
    motor = [tag for tag in tags() if tag["name"] in names]
    limits = {"timeout": "50 ms", "check_changes": "1 ms"}
    async with odd_server(plant(), {QUERIES[query]: manner}) as (server, router):
        one = client(make_device(motor, port=server.port, limits=limits, clock_limit="1 s"))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(25)]
            asked = sum(QUERIES[query] in question for question in router.asked)

    assert [one.values(reading) for reading in readings] == [list(MOTOR_VALUES.values())] * 25
    if manner in (closing, silent):
        assert asked == 2 or (query == "clock" and asked == 1)


async def test_one_structure_without_a_template_costs_the_others_nothing(make_device: MakeDevice, client: Any) -> None:
    plc = Controller("Two")
    for name in ("Good", "Odd"):
        kind = plc.structure(name, {f"M{number}": simulator.DINT for number in range(4)})
        plc.tag(f"Is{name}", kind, {f"M{number}": number for number in range(4)})
    odd = plc["IsOdd"].data_type.template
    rows = [(f"Is{name}.M{number}", "DINT") for name in ("Good", "Odd") for number in range(4)]
    template = bytes((0x20, 0x6C, 0x25, 0)) + odd.to_bytes(2, "little")
    async with odd_server(plc, {template: refusing(0x08)}) as (server, _):
        one = client(make_device(rows, port=server.port, limits={"check_changes": "1 ms"}))
        async with one.driver.connect() as session:
            readings = [await session.read(one.plan) for _ in range(12)]
            whole = [read.where for read in session._polls[one.plan]._reads if read.is_structure_read]
            with pytest.raises(LookupError, match="is not described: service not supported"):
                await session.browse("IsOdd")
            names = [entry.name for entry in await session.browse("")]

    assert [one.values(reading) for reading in readings] == [[0, 1, 2, 3] * 2] * 12
    assert [str(where) for where in whole] == ["IsGood"]
    assert said(readings, "some structures are read member by member: structure")
    assert {"IsGood", "IsOdd"} <= set(names)


@pytest.mark.parametrize("most", [504, 300, 100])
async def test_a_connection_as_large_as_the_device_says_is_opened(
    make_device: MakeDevice, client: Any, most: int
) -> None:
    plc = plant()
    plc.connection_bytes_most = most
    async with LogixServer(plc) as server:
        one = client(make_device(tags(), port=server.port))
        async with one.driver.connect() as session:
            (reading, granted) = await session.read(one.plan), session._session.message_bytes

    assert one.values(reading) == list(VALUES.values())
    assert granted == most


@pytest.mark.parametrize("manner", [closing, silent, refusing(0x02)])
@pytest.mark.parametrize("services", [(0x5B,), (0x5B, 0x54)])
async def test_a_device_that_does_not_bear_a_request_for_a_connection_is_read(
    make_device: MakeDevice, client: Any, monkeypatch: pytest.MonkeyPatch, manner: Manner, services: tuple[int, ...]
) -> None:
    right = ConnectionManager._forward_open

    def open_oddly(manager: ConnectionManager, service: int, data: bytes) -> bytes:
        return router.made(manner, bytes((service,)), b"") if service in services else right(manager, service, data)

    monkeypatch.setattr(ConnectionManager, "_forward_open", open_oddly)
    async with odd_server(plant(), {}) as (server, router):
        one = client(make_device(tags(), port=server.port, limits=LIMITS))
        readings = await one.read(times=2)

    assert [one.values(reading) for reading in readings] == [list(VALUES.values())] * 2
    assert len(said(readings, "is read without one")) == (len(services) == 2)
