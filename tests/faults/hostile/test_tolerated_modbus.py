"""Devices whose header is wrong, read with `tolerate`: no answer passes for another, also late, twice or elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from drivers.modbus import late_answers
from tests.support.hostile import liar
from tests.support.hostile.behaviour import Behaviour, Outcome
from tests.support.hostile.liar import Lie, Writer, answer
from tests.support.hostile.modbus import MODBUS_TCP, Question, listen
from tests.support.hostile.trial import trial

ALL = ("transaction", "unit", "length")


def tolerating(what: Sequence[str], lie: Lie[Question] | Behaviour) -> Behaviour:
    settings = {"tolerate": list(what)}
    if isinstance(lie, Behaviour):
        return replace(lie, settings=settings)
    start = liar.started(lambda: listen, lie)
    return Behaviour(id="careless", text="", start=start, expected=(Outcome.GOOD,), settings=settings)


@pytest.mark.parametrize(
    ("what", "name"),
    [
        ("transaction", "transaction-0"),
        ("transaction", "transaction-unknown"),
        ("unit", "other-unit"),
        ("unit", "unit-0"),
        ("length", "length-0"),
        ("length", "length-short"),
        ("length", "length-large"),
        ("length", "length-255"),
        ("transaction", "checksum-after"),
        ("transaction", "byte-by-byte"),
    ],
)
async def test_what_is_tolerated_is_read_and_nothing_else(what: str, name: str, tmp_path: Path) -> None:
    async with trial(MODBUS_TCP, tolerating([what], MODBUS_TCP[name]), tmp_path) as device:
        assert await device.scan(3) == [Outcome.GOOD] * 3
    other = next(each for each in ALL if each != what)
    async with trial(MODBUS_TCP, tolerating([other], MODBUS_TCP[name]), tmp_path) as device:
        found = await device.scan(2)

    assert (Outcome.GOOD in found) == (name in ("checksum-after", "byte-by-byte"))
    assert device.judge.wrong == []


async def test_tolerating_all_yields_no_wrong_value(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All at once: most of them keep a client waiting. None of them answers later than after five seconds."""
    monkeypatch.setattr(late_answers, "_KEPT_S", 5.0)

    async def wrong_of(behaviour: Behaviour) -> list[str]:
        # Two answers to one request, of which one is for another unit: that unit is what is tolerated.
        what = ALL if behaviour.id != "right-after-wrong" else ("transaction", "length")
        # Where nothing is refused at once, the patience for that would be waited for at every scan.
        impatient = replace(tolerating(what, behaviour), expected=(Outcome.GOOD,))
        async with trial(MODBUS_TCP, impatient, tmp_path) as device:
            await device.scan(3)
            device.peer.behave()
            await device.scan_until_good()
        return [f"{behaviour.id}: {each}" for each in device.judge.wrong]

    assert await asyncio.gather(*map(wrong_of, MODBUS_TCP.behaviours)) == [[] for _ in MODBUS_TCP.behaviours]


@pytest.mark.parametrize("is_same", [True, False], ids=["the same", "the next"])
async def test_a_late_answer_on_a_connection_never_passes_for_another(tmp_path: Path, *, is_same: bool) -> None:
    """Each fifth answer comes before the next one. A timeout ends the connection; but a gateway keeps an answer for the
    client that comes next.
    """
    kept: list[Question] = []
    requests = 0

    async def hand_out(asked: list[Question], writer: Writer) -> None:
        nonlocal requests
        requests += 1
        if requests % 5 == 0:
            kept.append(asked[-1])
            return
        late = [each for each in kept if each in asked or not is_same]
        writer.write(b"".join(each.frame(transaction=0) for each in (*late, asked[-1])))
        kept.clear()

    async with trial(MODBUS_TCP, tolerating(["transaction"], hand_out), tmp_path) as device:
        found = await device.scan(20)

    assert device.judge.wrong == []
    assert found.count(Outcome.GOOD) + found.count(Outcome.UNREACHABLE) == 20
    assert device.sessions - found.count(Outcome.UNREACHABLE) in (0, 1)
    assert found.count(Outcome.UNREACHABLE) > 3
    assert all("a late answer could pass for the next one (tolerate)" in reason for reason in device.judge.reasons)


async def test_one_request_is_under_way_at_a_time(tmp_path: Path) -> None:
    under_way = most = 0

    async def count(asked: list[Question], writer: Writer) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        for _ in range(20):  # Whatever was sent along would have come by now.
            await asyncio.sleep(0)
        under_way -= 1
        writer.write(asked[-1].frame(transaction=0))

    async with trial(MODBUS_TCP, tolerating(["transaction"], count), tmp_path) as device:
        assert await device.scan(3) == [Outcome.GOOD] * 3

    assert most == 1


async def test_other_answers_than_those_with_a_tolerated_error_are_refused_in_a_sentence(tmp_path: Path) -> None:
    unit = answer(lambda question: question.frame(unit=8))
    async with trial(MODBUS_TCP, tolerating(["transaction"], unit), tmp_path) as device:
        assert await device.scan(1) == [Outcome.UNREACHABLE]

    assert "what came for unit 7, function 3, is no answer to it: " in device.judge.reasons[0]
