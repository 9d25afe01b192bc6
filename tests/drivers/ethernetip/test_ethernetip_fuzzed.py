"""For any bytes at any time, only errors of a lost session are raised: any other error would end the gateway."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from random import Random
from typing import Any

import pytest

from drivers.ethernetip.browse import discover
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.simulator import LogixServer
from drivers.ethernetip.simulator.controller import showcase
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation

MakeDevice = Callable[..., EtherNetIpDevice]
SEEDS = 24
LIMITS = {"timeout": "30 ms", "connect_timeout": "200 ms", "check_changes": "1 ms"}
LOST = (DeviceUnreachable, DeviceRefused, ProtocolViolation)
MEMBERS = {"Ready": "BOOL", "Fault": "BOOL", "Code": "INT", "Speed": "REAL"}
TAGS = [("Vials", "DINT"), ("Vials.3", "BOOL"), ("Alarms[33]", "BOOL"), ("Recipe", "STRING"), ("Nowhere", "INT")]
TAGS += [(f"Line1.Drives[{index}].{name}", kind) for index in range(3) for name, kind in MEMBERS.items()]
TAGS += [(f"Long[{9 * index}]", "DINT") for index in range(40)]
ATTRIBUTES = [("cip 1/1/7", "STRING"), ("cip 1/1/6", "UDINT"), ("cip 9/9/9", "INT")]
WAYS: dict[str, dict[str, Any]] = {
    "on a connection": {"clock_limit": "1 s"},
    "in small packets": {"limits": {**LIMITS, "connection_bytes": 200}},
    "without a connection": {"messaging": "unconnected"},
    "by attributes": {"family": "generic", "route": "1,0"},
}


class Fuzz:
    """Spoils one answer of a conversation, and now and then a later one."""

    def __init__(self, dice: Random) -> None:
        self._dice = dice
        self._first = dice.randrange(1, 30)
        self._seen = 0

    def __call__(self, frame: bytes) -> bytes:
        self._seen += 1
        if self._seen != self._first and self._dice.random() > 0.02:
            return frame
        spoil = self._dice.choice([self._frame, self._reply])
        for _ in range(self._dice.choice([1, 1, 3])):
            frame = spoil(frame)
        return frame

    def _frame(self, frame: bytes) -> bytes:
        """Bytes changed, put in or taken away anywhere, or the whole twice."""
        dice, at = self._dice, self._dice.randrange(len(frame) + 1)
        some = dice.randbytes(dice.choice([1, 2, 4, 30]))
        return dice.choice([
            frame[:at] + some + frame[at + len(some) :], frame[:at] + some + frame[at:], frame[:at] + frame[at + 3 :],
            frame + frame,
        ])  # fmt: skip

    def _reply(self, frame: bytes) -> bytes:
        """The same in what the frame carries, with all lengths right."""
        head = {0x6F: 40, 0x70: 46}.get(frame[0] if frame else 0, 24)
        data = self._frame(frame[head:])
        sizes = {40: {38: len(data)}, 46: {42: len(data) + 2}}.get(head, {}) | {2: head - 24 + len(data)}
        made = bytearray(frame[:head])
        for at, size in sizes.items():
            made[at : at + 2] = (size & 0xFFFF).to_bytes(2, "little")
        return bytes(made) + data


async def talk(one: Any, dice: Random) -> None:
    async with one.driver.connect() as session:
        await session.identity()
        for _ in range(dice.choice([2, 10])):
            await session.read(one.plan)
        for path in ("", "Line1", "Line1.Drives[1]", "Alarms", "Program:MainProgram"):
            with contextlib.suppress(LookupError):
                await session.browse(path)


@pytest.mark.parametrize("way", WAYS)
async def test_a_spoilt_answer_loses_the_conversation_at_most(make_device: MakeDevice, client: Any, way: str) -> None:
    plc = showcase()
    async with LogixServer(plc) as server:
        settings = {"port": server.port, "limits": LIMITS, **WAYS[way]}
        one = client(make_device(ATTRIBUTES if "attributes" in way else TAGS, **settings))
        for seed in range(SEEDS):
            dice = Random(f"{way} {seed}")
            plc.distort = Fuzz(dice)
            with contextlib.suppress(*LOST):
                await talk(one, dice)
            plc.distort = None
        patient = client(make_device(TAGS, port=server.port))
        (after,) = await patient.read()

    assert patient.values(after)[0] == 70_000


async def test_a_spoilt_answer_to_whoever_looks_for_devices_is_none() -> None:
    plc = showcase()

    async def pause() -> None: ...

    async with LogixServer(plc) as server:
        for seed in range(SEEDS):
            plc.distort = Fuzz(Random(seed))
            plc.distort._first = 1
            with contextlib.suppress(DeviceUnreachable):
                await discover("127.0.0.1", pause, server.port)
