"""Whatever an OPC UA server sends, a value is right or BAD, and it is read again once the server behaves."""

from __future__ import annotations

import asyncio
from pathlib import Path

import numpy as np
import pytest

from edge.model import NO_TIME, status_codes
from tests.support.hostile.behaviour import Behaviour, Outcome, Protocol
from tests.support.hostile.opcua import OPCUA, OPCUA_SECURED, OPCUA_SUBSCRIBED, SERVERS
from tests.support.hostile.opcua_values import SOURCE_TIMES, STATUSES
from tests.support.hostile.trial import mistakes, trial

TIMES = 3
AT_ONCE = 8  # More at once would delay each other.


def is_gone(behaviour: Behaviour) -> bool:
    """Whether it costs every scan a timeout: those run together."""
    return behaviour.expected == (Outcome.UNREACHABLE,)


OTHERS = [(one, other) for one in SERVERS for other in one.behaviours if not is_gone(other)]


@pytest.mark.requirement("REQ-READ-04")
@pytest.mark.parametrize(("protocol", "behaviour"), OTHERS, ids=[f"{one.label}, {other.id}" for one, other in OTHERS])
async def test_a_hostile_opcua_server_never_yields_a_wrong_value(
    protocol: Protocol, behaviour: Behaviour, tmp_path: Path
) -> None:
    assert await mistakes(protocol, behaviour, tmp_path, TIMES) == []


@pytest.mark.parametrize("protocol", SERVERS, ids=lambda protocol: protocol.label)
async def test_a_server_that_is_gone_is_found_again(protocol: Protocol, tmp_path: Path) -> None:
    turn = asyncio.Semaphore(AT_ONCE)

    async def tried(behaviour: Behaviour) -> list[str]:
        async with turn:
            return await mistakes(protocol, behaviour, tmp_path / behaviour.id, TIMES)

    found = await asyncio.gather(*map(tried, filter(is_gone, protocol.behaviours)))

    assert [mistake for each in found for mistake in each] == []


async def test_a_status_is_kept_as_it_came(tmp_path: Path) -> None:
    async with trial(OPCUA, OPCUA["statuses"], tmp_path) as device, device.driver.connect() as session:
        reading = await session.read(device.plan)

    assert status_codes(reading.status, len(STATUSES)).tolist() == list(STATUSES)


async def test_a_time_that_cannot_be_is_none(tmp_path: Path) -> None:
    async with trial(OPCUA, OPCUA["source-times"], tmp_path) as device, device.driver.connect() as session:
        reading = await session.read(device.plan)

    assert reading.source_times is not None
    (times,) = reading.source_times
    assert len(times) == len(SOURCE_TIMES)
    assert np.all(times == NO_TIME)


@pytest.mark.parametrize(
    ("protocol", "name", "says"),
    [
        (OPCUA_SECURED, "expired", "expired"),
        (OPCUA_SECURED, "wrong-host", "192.0.2.7"),
        (OPCUA_SECURED, "swapped", "another certificate"),
        (OPCUA_SECURED, "revoked", "revoked"),
        (OPCUA_SECURED, "unknown", "fingerprint"),
        (OPCUA, "endpoints-other", "it offers None Sign"),
        (OPCUA_SUBSCRIBED, "deleted-for-ever", "keeps no subscription"),
        (OPCUA_SUBSCRIBED, "unknown-subscription", "did not say"),
        (OPCUA_SUBSCRIBED, "publishing-nan", "publishing interval"),
    ],
    ids=lambda value: value.label if isinstance(value, Protocol) else value,
)
async def test_why_a_session_is_refused_or_lost_is_a_sentence(
    protocol: Protocol, name: str, says: str, tmp_path: Path
) -> None:
    async with trial(protocol, protocol[name], tmp_path) as device:
        await device.scan(2)

    assert says in device.judge.reasons[0]


async def test_a_server_that_tells_of_others_tags_is_told_in_a_sentence(tmp_path: Path) -> None:
    behaviour = OPCUA_SUBSCRIBED["unknown-handles"]
    async with trial(OPCUA_SUBSCRIBED, behaviour, tmp_path) as device:
        found = await device.scan(TIMES)

    assert Outcome.GOOD not in found
    assert device.judge.violations == ["the server told of an item 999 that nobody asked for"]
