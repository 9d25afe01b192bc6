"""The device: its tables, and a server of read requests."""

from __future__ import annotations

import asyncio
import math
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from drivers.modbus.address import LAST_ADDRESS, AddressRange, Table, parse_range
from drivers.modbus.codec import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, READ_BITS, READ_DEVICE_IDENTIFICATION
from drivers.modbus.settings import ModbusTag, Order, TypeName
from drivers.modbus.simulator.registers import Value, registers_of
from edge.clock import Clock, SystemClock

Wave = Callable[[float], Value]
"""The value of a signal so many seconds after the device was switched on."""


def sine(*, mean: float = 0.0, swing: float = 1.0, period_s: float = 10.0) -> Wave:
    """Up and down around a mean."""
    return lambda elapsed_s: mean + swing * math.sin(2 * math.pi * elapsed_s / period_s)


def ramp(*, low: float = 0.0, high: float = 100.0, period_s: float = 10.0) -> Wave:
    """From low to high, then from low again."""
    return lambda elapsed_s: low + (high - low) * (elapsed_s / period_s % 1.0)


def counter(first: int = 1) -> Wave:
    """One more with each answer."""
    last = first - 1

    def count(elapsed_s: float) -> int:  # noqa: ARG001
        nonlocal last
        last += 1
        return last

    return count


def steady(value: Value) -> Wave:
    """A constant."""
    return lambda elapsed_s: value  # noqa: ARG005


@dataclass
class TagSignal:
    """A tag of a simulated device, and the course of its raw value.

    With `is_kept`, `served` has (boot time, value) of every answer with the complete value.
    """

    tag: ModbusTag
    wave: Wave
    is_kept: bool = False
    served: list[tuple[int, Value]] = field(default_factory=list)


class Signal(TagSignal):
    """A `TagSignal` by its address and encoding."""

    def __init__(
        self, address: str, type: TypeName, wave: Wave, *, word_order: Order | None = None,  # noqa: A002
        byte_order: Order | None = None, length: int | None = None, is_kept: bool = False,
    ) -> None:  # fmt: skip
        tag = ModbusTag(name="signal", address=address, type=type, word_order=word_order, byte_order=byte_order,
                        length=length)  # fmt: skip
        super().__init__(tag, wave, is_kept)


class SimulatedUnit:
    """The four tables of one unit.

    Addresses without a signal hold zero. `illegal` ones do not exist, nor those outside of `existing` if it is given.
    """

    def __init__(
        self,
        signals: Sequence[TagSignal] = (),
        *,
        illegal: Sequence[str] = (),
        existing: Sequence[AddressRange] | None = None,
        objects: Mapping[int, str] | None = None,
    ) -> None:
        self.signals = sorted(signals, key=lambda signal: signal.tag.parsed_address.first)
        self.illegal: list[AddressRange] = [parse_range(text) for text in illegal]
        self.existing = existing
        self.objects = dict(objects) if objects is not None else {0: "Tidegate", 1: "simulated", 2: "1.0"}
        self._words = {table: bytearray(2 * 65536) for table in Table if not table.is_bits}
        self._bits = {table: bytearray(65536) for table in Table if table.is_bits}
        self._firsts = [signal.tag.parsed_address.first for signal in self.signals]
        self._longest = max((signal.tag.count for signal in self.signals), default=1)

    def data(self, table: Table, first: int, count: int, elapsed_s: float, now_ns: int) -> bytes | None:
        """The data of an answer; None where an address does not exist."""
        last = first + count - 1
        if not self._has(table, first, last):
            return None
        begin = bisect_left(self._firsts, first - self._longest + 1)
        for signal in self.signals[begin : bisect_right(self._firsts, last)]:
            tag = signal.tag
            if tag.parsed_address.table is table and first <= tag.last:
                value = signal.wave(elapsed_s)
                self._put(tag, value)
                if signal.is_kept and first <= tag.parsed_address.first and tag.last <= last:
                    signal.served.append((now_ns, value))
        if table.is_bits:
            bits = self._bits[table][first : last + 1]
            return sum(bit << i for i, bit in enumerate(bits)).to_bytes((count + 7) // 8, "little")
        return bytes(self._words[table][2 * first : 2 * last + 2])

    def _has(self, table: Table, first: int, last: int) -> bool:
        if last > LAST_ADDRESS or any(gone.touches(table, first, last) for gone in self.illegal):
            return False
        return self.existing is None or any(
            each.table is table and each.first <= first and last <= each.last for each in self.existing
        )

    def _put(self, tag: ModbusTag, value: Value) -> None:
        address = tag.parsed_address
        if address.table.is_bits:
            self._bits[address.table][address.first] = bool(value)
            return
        at = 2 * address.first
        words = self._words[address.table]
        if address.bit is not None:
            order = tag.byte_order or "big"
            mask = (1 << address.bits) - 1 << address.bit
            word = int.from_bytes(words[at : at + 2], order) & ~mask | int(value) << address.bit & mask
            words[at : at + 2] = word.to_bytes(2, order)
        elif address.half is not None:
            at += (address.half == "low") == (tag.byte_order != "little")
            words[at : at + 1] = registers_of(tag, value)[:1]
        else:
            words[at : at + 2 * tag.count] = registers_of(tag, value)


class SimulatedDevice:
    """A Modbus TCP server of one or more units, on loopback; functions that do not read are refused and counted.

    Attributes:
        received: requests that arrived; `requests` of them were processed, the others wait while it stalls.
        refused_functions: the function codes of refused requests.
        connections_most: the largest number of connections at one time.
    """

    def __init__(
        self,
        units: Mapping[int, SimulatedUnit],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency_s: float = 0.0,
        clock: Clock | None = None,
    ) -> None:
        self.units = dict(units)
        self.host = host
        self.port = port
        self.latency_s = latency_s
        self.received = 0
        self.requests = 0
        self.refused_functions: list[int] = []
        self.connections_most = 0
        self._clock = clock or SystemClock()
        self._started_ns = self._clock.boot_ns()
        self._tasks: set[asyncio.Task[None]] = set()
        self._may_answer = asyncio.Event()
        self._may_answer.set()
        self._server: asyncio.Server | None = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self) -> None:
        """Switch the device on; it keeps its port when it was on before."""
        self._server = await asyncio.start_server(self._serve, self.host, self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        """Switch the device off, and abort every connection."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        """Abort every connection."""
        for task in self._tasks:
            task.cancel()

    @property
    def connections(self) -> int:
        """Connections that are open now."""
        return len(self._tasks)

    def stall(self) -> None:
        """Answer nothing until `resume`; requests that arrive meanwhile are answered then, late."""
        self._may_answer.clear()

    def resume(self) -> None:
        """Answer again."""
        self._may_answer.set()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections_most = max(self.connections_most, len(self._tasks))
        try:
            while True:
                header = await reader.readexactly(7)
                transaction, protocol, length, unit = struct.unpack(">HHHB", header)
                if protocol != 0 or not 2 <= length <= 254:
                    return
                pdu = await reader.readexactly(length - 1)
                self.received += 1
                if self.latency_s:
                    await asyncio.sleep(self.latency_s)
                await self._may_answer.wait()
                answer = self._answer(unit, pdu)
                if answer is not None:
                    writer.write(struct.pack(">HHHB", transaction, 0, len(answer) + 1, unit) + answer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass  # The client left, or the device was switched off.
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    def _answer(self, unit_number: int, pdu: bytes) -> bytes | None:
        """The answer to one request; None where there is no such unit."""
        self.requests += 1
        unit = self.units.get(unit_number)
        if unit is None:
            return None
        function = pdu[0]
        table = next((table for table in Table if table.function == function), None)
        if table is not None and len(pdu) == 5:
            return self._read(unit, table, *struct.unpack(">HH", pdu[1:]))
        if function == READ_DEVICE_IDENTIFICATION and pdu[1:2] == b"\x0e" and unit.objects:
            return _identification(unit.objects, pdu[2])
        self.refused_functions.append(function)
        return bytes((function | 0x80, ILLEGAL_FUNCTION))

    def _read(self, unit: SimulatedUnit, table: Table, first: int, count: int) -> bytes:
        refusal = table.function | 0x80
        if not 1 <= count <= (2000 if table.function in READ_BITS else 125):
            return bytes((refusal, ILLEGAL_VALUE))
        now_ns = self._clock.boot_ns()
        data = unit.data(table, first, count, (now_ns - self._started_ns) / 1e9, now_ns)
        if data is None:
            return bytes((refusal, ILLEGAL_ADDRESS))
        return bytes((table.function, len(data))) + data


def _identification(objects: Mapping[int, str], category: int) -> bytes:
    wanted = {number: text.encode() for number, text in objects.items() if number < 3 or category > 1}
    body = b"".join(bytes((number, len(text))) + text for number, text in sorted(wanted.items()))
    return bytes((READ_DEVICE_IDENTIFICATION, 14, category, 0x82, 0, 0, len(wanted))) + body
