"""For all that a controller or drive sends, a value is right or BAD; and it is read again once it behaves."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import pytest

from drivers.ethernetip.browse import discover
from edge.driver import Discovered
from edge.errors import DeviceUnreachable
from edge.model import Identity
from tests.support.hostile import liar
from tests.support.hostile.behaviour import Behaviour, Outcome
from tests.support.hostile.ethernetip import ETHERNETIP, FRAMES, OPENING, REPLIES, STRUCTURES, on, scans, status
from tests.support.hostile.ethernetip_peer import Packet, listening
from tests.support.hostile.trial import mistakes, trial

TIMES = 3
TIMES_TO_LEARN_STRUCTURES = 12  # Each scan carries one question about them.
LIST_IDENTITY, GET_ALL = 0x63, 0x01


def lists(packet: Packet) -> bool:
    return packet.command == LIST_IDENTITY


@pytest.mark.parametrize("behaviour", [*OPENING, *FRAMES], ids=lambda behaviour: behaviour.id)
async def test_a_hostile_conversation_never_yields_a_wrong_value(behaviour: Behaviour, tmp_path: Path) -> None:
    assert await mistakes(ETHERNETIP, behaviour, tmp_path, TIMES) == []


@pytest.mark.parametrize("behaviour", [*REPLIES, *STRUCTURES], ids=lambda behaviour: behaviour.id)
async def test_a_hostile_reply_never_yields_a_wrong_value(behaviour: Behaviour, tmp_path: Path) -> None:
    assert await mistakes(ETHERNETIP, behaviour, tmp_path, TIMES_TO_LEARN_STRUCTURES) == []


@pytest.mark.parametrize(
    "name", ["types-changed", "elements-longer", "symbols-loop", "templates-4-gib", "templates-offsets", "refuses-all"]
)
async def test_what_a_controller_gets_wrong_is_reported(name: str, tmp_path: Path) -> None:
    async with trial(ETHERNETIP, ETHERNETIP[name], tmp_path) as device:
        await device.scan(TIMES_TO_LEARN_STRUCTURES)

    assert device.judge.violations


@pytest.mark.parametrize(
    "make",
    [lambda reply: reply[:10], lambda reply: reply[:18] + b"\xff" + reply[19:], status(0x08), lambda reply: reply[:4]],
    ids=["cut short", "a name of 255 characters", "refused", "nothing"],
)
async def test_a_malformed_identity_is_empty_and_costs_no_value(make: Callable[[bytes], bytes], tmp_path: Path) -> None:
    lie = on(
        lambda packet: scans(packet) and packet.service == GET_ALL, lambda packet: packet.with_reply(make(packet.reply))
    )
    behaviour = Behaviour(id="identity", text="", start=liar.started(listening, lie), expected=(Outcome.GOOD,))
    async with trial(ETHERNETIP, behaviour, tmp_path) as device, device.driver.connect() as session:
        identity = await session.identity()
        await session.read(device.plan)

    assert identity == Identity()
    assert device.judge.outcomes == [Outcome.GOOD]


@pytest.mark.parametrize(
    "make",
    [
        lambda packet: packet.answer[:24] + bytes(len(packet.answer) - 24),
        lambda packet: packet.header(length=3)[:27],
        lambda packet: packet.patched(62, b"\xff"),
        lambda packet: packet.header(length=0xFFFF),
        lambda packet: packet.answer[:40],
        lambda _: b"HTTP/1.1 400 Bad Request\r\n\r\n",
    ],
    ids=["zeros", "three bytes", "a name of 255 characters", "65535 bytes", "cut short", "a web page"],
)
async def test_discovery_takes_no_garbage_for_a_device(make: Callable[[Packet], bytes], tmp_path: Path) -> None:
    async def at_once() -> None:
        pass

    async with liar.started(listening, on(lists, make))(tmp_path) as peer:
        found: Sequence[Discovered] = ()
        with suppress(DeviceUnreachable):
            found = await discover("127.0.0.1", at_once, peer.device["port"])
        peer.behave()
        again = await discover("127.0.0.1", at_once, peer.device["port"])

    assert [one.what for one in found if "1756" in one.what] == []
    assert len(again) == 1
