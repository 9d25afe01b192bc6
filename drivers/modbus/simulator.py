"""A read-only Modbus TCP device in memory, for the demo, rigs and tests; it can record the values it served.

unit = SimulatedUnit([Signal("holding 100", "float32", sine(mean=37.0, swing=0.5, period_s=30))])
async with SimulatedDevice({1: unit}) as device:
    ...  # It listens on 127.0.0.1, at device.port.
"""

from __future__ import annotations

import asyncio
import math
import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Self

from drivers.modbus.address import AddressRange, Table, parse_range
from drivers.modbus.codec import ILLEGAL_ADDRESS, ILLEGAL_FUNCTION, ILLEGAL_VALUE, READ_BITS, READ_DEVICE_IDENTIFICATION
from drivers.modbus.settings import ModbusTag, Order, TypeName
from edge.clock import Clock, SystemClock

Value = float | int | bool | str
Wave = Callable[[float], Value]
"""The value of a signal so many seconds after the device was switched on."""

_FORMATS = {"uint8": "B", "int8": "b", "uint16": "H", "int16": "h", "uint32": "I", "int32": "i",
            "uint64": "Q", "int64": "q", "float32": "f", "float64": "d"}  # fmt: skip


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
class Signal:
    """A value of a simulated device: its address, encoding and course.

    With `is_kept`, `served` has (boot time, value) of every answer with the complete value.
    """

    address: str
    type: TypeName
    wave: Wave
    word_order: Order | None = None
    byte_order: Order | None = None
    length: int | None = None
    is_kept: bool = False
    served: list[tuple[int, Value]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tag = ModbusTag(
            name="signal", address=self.address, type=self.type, word_order=self.word_order,
            byte_order=self.byte_order, length=self.length,
        )  # fmt: skip


def registers_of(tag: ModbusTag, value: Value) -> bytes:
    """A value encoded in registers."""
    if tag.type == "text":
        data = str(value).encode(tag.encoding)[: tag.length].ljust(2 * tag.count, b"\0")
    elif tag.type in ("bcd16", "bcd32"):
        data = bytes.fromhex(f"{int(value):0{4 * tag.count}d}")
    else:
        data = struct.pack(">" + _FORMATS[tag.type or ""], value)
    words = [data[at : at + 2] for at in range(0, len(data), 2)]
    if tag.word_order == "little":
        words.reverse()
    if tag.byte_order == "little":
        words = [word[::-1] for word in words]
    return b"".join(words)


class SimulatedUnit:
    """The four tables of one unit. Addresses without a signal hold zero; `illegal` ones do not exist."""

    def __init__(
        self, signals: Sequence[Signal] = (), *, illegal: Sequence[str] = (), objects: Mapping[int, str] | None = None
    ) -> None:
        self.signals = list(signals)
        self.illegal: list[AddressRange] = [parse_range(text) for text in illegal]
        self.objects = dict(objects) if objects is not None else {0: "Tidegate", 1: "simulated", 2: "1.0"}
        self._words = {table: bytearray(2 * 65536) for table in Table if not table.is_bits}
        self._bits = {table: bytearray(65536) for table in Table if table.is_bits}

    def data(self, table: Table, first: int, count: int, elapsed_s: float, now_ns: int) -> bytes | None:
        """The data of an answer; None where an address does not exist."""
        last = first + count - 1
        if last > 65535 or any(gone.touches(table, first, last) for gone in self.illegal):
            return None
        for signal in self.signals:
            tag = signal.tag
            if tag.parsed_address.table is table and tag.parsed_address.first <= last and first <= tag.last:
                value = signal.wave(elapsed_s)
                self._put(tag, value)
                if signal.is_kept and first <= tag.parsed_address.first and tag.last <= last:
                    signal.served.append((now_ns, value))
        if table.is_bits:
            bits = self._bits[table][first : last + 1]
            return sum(bit << i for i, bit in enumerate(bits)).to_bytes((count + 7) // 8, "little")
        return bytes(self._words[table][2 * first : 2 * last + 2])

    def _put(self, tag: ModbusTag, value: Value) -> None:
        address = tag.parsed_address
        if address.table.is_bits:
            self._bits[address.table][address.first] = bool(value)
            return
        at = 2 * address.first
        words = self._words[address.table]
        is_low_byte_second = tag.byte_order != "little"
        if address.bit is not None:
            at += (address.bit < 8) == is_low_byte_second
            mask = 1 << address.bit % 8
            words[at] = words[at] & ~mask | (mask if value else 0)
        elif address.half is not None:
            at += (address.half == "low") == is_low_byte_second
            words[at : at + 1] = struct.pack(_FORMATS[tag.type or ""], value)
        else:
            words[at : at + 2 * tag.count] = registers_of(tag, value)


class SimulatedDevice:
    """A Modbus TCP server of one or more units on loopback; functions that do not read are refused and counted.

    Attributes:
        received: requests that arrived; `requests` of them were processed, the others wait while it stalls.
        refused_functions: the function codes of refused requests.
        connections_most: the largest number of connections at one time.
    """

    def __init__(
        self, units: Mapping[int, SimulatedUnit], *, port: int = 0, latency_s: float = 0.0, clock: Clock | None = None
    ) -> None:
        self.units = dict(units)
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
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
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
