"""What a volley of scans asks of the event loop: each wake-up of a gateway with little to do costs more than a scan."""

from __future__ import annotations

import asyncio

import pytest

from drivers.modbus.codec import read_request
from drivers.modbus.tcp import TcpTransport, TransactionIds, TransactionMatcher
from drivers.modbus.transport import RequestBatch
from edge.testing.clock import ManualClock

DEVICES, REQUESTS, REGISTERS = 10, 9, 4


class ScriptedDevice(asyncio.WriteTransport):
    """A connection whose requests are answered when the test says so."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.requests: list[bytes] = []
        matcher = TransactionMatcher(f"device {number}", TransactionIds(number))
        self.transport = TcpTransport(f"device {number}", ManualClock(), matcher, 1, 0.0, check_every_s=1.0)
        self.transport.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.requests.append(bytes(data))

    def abort(self) -> None:
        self.transport.connection_lost(None)

    def answer(self) -> None:
        """Answer the newest request."""
        head = self.requests[-1][:4] + (3 + 2 * REGISTERS).to_bytes(2, "big") + self.requests[-1][6:8]
        answer = head + bytes((2 * REGISTERS,)) + bytes(2 * REGISTERS)
        self.transport.get_buffer(len(answer))[: len(answer)] = answer
        self.transport.buffer_updated(len(answer))


def a_scan() -> RequestBatch:
    size = 2 * REGISTERS
    requests = [read_request(1, 3, 100 * number, REGISTERS, size * number) for number in range(REQUESTS)]
    return RequestBatch(requests, bytearray(2 * REGISTERS * REQUESTS), timeout_s=1.0)


async def begin_volley(devices: list[ScriptedDevice]) -> list[asyncio.Task[None]]:
    scans = [asyncio.create_task(device.transport.transact(a_scan())) for device in devices]
    await asyncio.sleep(0)
    return scans


async def test_the_next_request_leaves_in_the_turn_in_which_an_answer_arrives() -> None:
    """A volley of ten devices with nine requests each takes nine turns of the event loop, not ninety."""
    devices = [ScriptedDevice(number) for number in range(DEVICES)]
    scans = await begin_volley(devices)
    sent = [[len(device.requests) for device in devices]]
    for _ in range(REQUESTS):
        for device in devices:
            device.answer()
        sent.append([len(device.requests) for device in devices])  # Nothing else has run since.

    await asyncio.gather(*scans)

    assert sent == [[min(turn, REQUESTS)] * DEVICES for turn in range(1, REQUESTS + 2)]
    for device in devices:
        await device.transport.close()


async def test_the_timeouts_of_a_volley_are_one_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    loop = asyncio.get_running_loop()
    devices = [ScriptedDevice(number) for number in range(DEVICES)]
    checks: list[float] = []
    call_at = loop.call_at
    monkeypatch.setattr(
        loop, "call_at", lambda when, *call, **more: (checks.append(when), call_at(when, *call, **more))[1]
    )
    begun_s = loop.time()
    moments = iter(begun_s + 0.0005 * number for number in range(100_000))
    monkeypatch.setattr(loop, "time", lambda: next(moments))

    scans = await begin_volley(devices)
    for _ in range(REQUESTS):
        for device in devices:
            device.answer()
    await asyncio.gather(*scans)

    assert len(checks) == DEVICES  # One for each connection, and not for each request.
    assert len({round(when, 6) for when in checks}) <= 2  # The volley may begin on both sides of a tenth.
    assert all(begun_s + 1.0 <= when <= begun_s + 1.0 + 0.1 + 0.0005 * DEVICES * REQUESTS for when in checks)
    monkeypatch.undo()
    for device in devices:
        await device.transport.close()
