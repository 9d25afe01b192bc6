"""For all bytes of a Modbus device, a value is right or BAD; and it is read again when the device behaves."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge.model import StatusCode
from tests.support.hostile import liar
from tests.support.hostile.behaviour import Behaviour, Outcome, Protocol
from tests.support.hostile.liar import Lie, Writer
from tests.support.hostile.modbus import BLOCKS, MODBUS_TCP, Question, listen
from tests.support.hostile.modbus_lines import LINES
from tests.support.hostile.trial import mistakes, trial

TIMES = 3


def in_flight(behaviour: Behaviour, requests: int) -> Behaviour:
    return replace(behaviour, settings={"limits": {**MODBUS_TCP.settings["limits"], "in_flight": requests}})


def lying(lie: Lie[Question]) -> Behaviour:
    return Behaviour(id="lying", text="", start=liar.started(lambda: listen, lie), expected=(Outcome.GOOD,))


@pytest.mark.requirement("REQ-READ-04")
@pytest.mark.parametrize("behaviour", MODBUS_TCP.behaviours, ids=lambda behaviour: behaviour.id)
async def test_a_hostile_modbus_device_never_yields_a_wrong_value(behaviour: Behaviour, tmp_path: Path) -> None:
    """With one request and with three outstanding at a time."""
    found = await asyncio.gather(
        *(mistakes(MODBUS_TCP, in_flight(behaviour, requests), tmp_path, TIMES) for requests in (1, 3))
    )

    assert found == [[], []]


@pytest.mark.parametrize("protocol", LINES, ids=lambda protocol: protocol.label)
async def test_a_hostile_unit_of_a_line_never_yields_a_wrong_value(protocol: Protocol, tmp_path: Path) -> None:
    """All at once, except for behaviours that take the time of others."""
    quiet = [behaviour for behaviour in protocol.behaviours if not behaviour.is_heavy]
    found = await asyncio.gather(*(mistakes(protocol, behaviour, tmp_path, TIMES) for behaviour in quiet))
    for behaviour in protocol.behaviours:
        if behaviour.is_heavy:
            found.append(await mistakes(protocol, behaviour, tmp_path, TIMES))

    assert [mistake for each in found for mistake in each] == []


@pytest.mark.parametrize(
    "name", ["other-unit", "other-function", "too-few-registers", "transaction-0", "device-failure"]
)
async def test_a_wrong_answer_is_reported_in_a_sentence(name: str, tmp_path: Path) -> None:
    async with trial(MODBUS_TCP, MODBUS_TCP[name], tmp_path) as device:
        await device.scan(1)

    assert len(device.judge.violations) == len(BLOCKS)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("checksum-after", "sent 2 bytes that belong to no answer and were dropped: "),
        ("padding-after", "sent 30 bytes that belong to no answer and were dropped: 00 00 "),
        ("transaction-0", "transaction 0, which was never asked; where no answer has the right one, try toler"),
        ("unit-0", "unit 0 answered for unit 7; try unit: 0, or tolerate: [unit]"),
        ("length-short", "the length field says 13 where 23 bytes follow; try tolerate: [length]"),
        ("length-large", "the length field says 29 where 23 bytes follow; try tolerate: [length]"),
        ("length-0", "the length field says 0 where 23 bytes follow; try tolerate: [length]"),
    ],
)  # fmt: skip
async def test_what_is_said_names_the_setting_that_helps(name: str, says: str, tmp_path: Path) -> None:
    async with trial(MODBUS_TCP, in_flight(MODBUS_TCP[name], 1), tmp_path) as device:
        await device.scan(1)

    assert says in "\n".join(device.judge.violations + device.judge.reasons)


@pytest.mark.parametrize("name", ["checksum-after", "checksum-apart", "padding-after"])
async def test_bytes_behind_the_only_answer_under_way_cost_nothing(name: str, tmp_path: Path) -> None:
    """Where several are under way they may be the end of an answer that was cut short."""
    async with trial(MODBUS_TCP, in_flight(MODBUS_TCP[name], 1), tmp_path) as device:
        assert await device.scan(20) == [Outcome.GOOD] * 20
        assert device.sessions == 1
        assert device.judge.wrong == []


async def test_what_was_asked_on_a_connection_that_is_gone_is_late_on_the_next(tmp_path: Path) -> None:
    """A gateway answers it there. It is no answer that nobody asked for, and its id is not used meanwhile."""
    all_asked: list[Question] = []

    async def close_and_answer_later(asked: list[Question], writer: Writer) -> None:
        all_asked.append(asked[-1])
        if len(all_asked) == 1:
            writer.close()
        else:
            writer.write((all_asked[0].answer if len(all_asked) == 2 else b"") + asked[-1].answer)

    async with trial(MODBUS_TCP, in_flight(lying(close_and_answer_later), 1), tmp_path) as device:
        pool_user = device.driver.connect()  # Keeps the pool, as the other units of a gateway do.
        async with pool_user:
            found = await device.scan(3)

    assert found == [Outcome.GOOD] * 3  # What closed the connection is asked for in smaller parts on the next.
    assert device.judge.wrong == []
    assert all("closed the connection when it was asked for" in violation for violation in device.judge.violations)


async def test_a_late_answer_is_no_violation(tmp_path: Path) -> None:
    """A slow device is not a faulty one."""
    async with trial(MODBUS_TCP, MODBUS_TCP["late"], tmp_path) as device:
        found = await device.scan(4)

    assert Outcome.GOOD not in found
    assert Outcome.PARTLY in found
    assert all(": no answer; asked again" in violation for violation in device.judge.violations)


async def test_one_lost_answer_costs_only_its_tags(tmp_path: Path) -> None:
    async with (
        trial(MODBUS_TCP, MODBUS_TCP["silence-now-and-then"], tmp_path) as device,
        device.driver.connect() as session,
    ):
        readings = [await session.read(device.plan) for _ in range(TIMES)]

    assert [reading.status for reading in readings] == [((5, 1, StatusCode.BAD_NO_COMMUNICATION),)] * TIMES


async def test_a_busy_device_is_asked_once_more(tmp_path: Path) -> None:
    async def busy_at_first(asked: list[Question], writer: Writer) -> None:
        times = sum(before.first == asked[-1].first for before in asked)
        writer.write(asked[-1].exception(6) if times == 1 else asked[-1].answer)

    async with trial(MODBUS_TCP, lying(busy_at_first), tmp_path) as device:
        found = await device.scan(1)

    assert found == [Outcome.GOOD]
    assert device.judge.violations == []


async def test_tags_that_were_refused_return_with_right_values(tmp_path: Path) -> None:
    """A tag that was not asked for in a scan is BAD in it, also when a neighbour of it has returned."""
    is_refusing = True

    async def refuse(asked: list[Question], writer: Writer) -> None:
        writer.write(asked[-1].exception(2) if is_refusing else asked[-1].answer)

    async with trial(MODBUS_TCP, lying(refuse), tmp_path) as device:
        await device.scan(TIMES)
        is_refusing = False
        await device.scan_until_good()

    assert device.judge.outcomes[0] is Outcome.BAD
    assert device.judge.wrong == []


@pytest.mark.parametrize("name", ["silence", "flood", "byte-by-byte", "garbage"])
async def test_a_session_next_to_a_hostile_one_is_not_disturbed(name: str, tmp_path: Path) -> None:
    async def honest(asked: list[Any], writer: Writer) -> None:
        writer.write(asked[-1].answer)

    async with (
        trial(MODBUS_TCP, MODBUS_TCP[name], tmp_path) as bad,
        trial(MODBUS_TCP, lying(honest), tmp_path) as good,
    ):
        trouble = asyncio.create_task(bad.scan(4))
        found = await good.scan(30)
        await trouble

    assert found == [Outcome.GOOD] * 30
    assert good.judge.wrong == good.judge.violations == []
