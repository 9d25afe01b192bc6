"""A conversation with one unit: plans in, readings out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from drivers.modbus.blocks import Blocks, Piece
from drivers.modbus.codec import (
    GATEWAY_FAILURES,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    WORTH_ASKING_AGAIN,
    exception_text,
)
from drivers.modbus.conversation import Conversation
from drivers.modbus.exchange import Exchange, Fault
from drivers.modbus.identity import read_identity
from drivers.modbus.inspection import inspect_registers
from drivers.modbus.link import Line
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.settings import ModbusDevice, ModbusTag
from edge.clock import Clock
from edge.errors import DeviceUnreachable
from edge.model import Identity, Reading, StatusCode, StatusRun, Vector, status_runs

SPLITS_PER_SCAN = 24


class PlanMemory:
    """What is known about one plan from scan to scan."""

    def __init__(self, plan: ModbusPlan) -> None:
        self.blocks = Blocks(plan)
        self._plan = plan
        self._images = bytearray(self.blocks.image_bytes), bytearray(self.blocks.image_bytes)
        self._vectors: tuple[Vector, ...] | None = None
        self._wrong: tuple[int, ...] = ()

    @property
    def image(self) -> bytearray:
        """Where the next scan's data goes; the last scan's stays beside it."""
        return self._images[0]

    def decode(self) -> tuple[tuple[Vector, ...], tuple[int, ...]]:
        """The vectors of the image, the very same as before when no register changed."""
        image, last = self._images
        if self._vectors is None or image != last:
            self._vectors, self._wrong = self._plan.decoder.decode(image)
        self._images = last, image
        return self._vectors, self._wrong


@dataclass(slots=True)
class _Trouble:
    """What went wrong in one scan."""

    bad: list[tuple[Piece, StatusCode]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    splits: int = 0
    asked_twice: set[Piece] = field(default_factory=set)


class ModbusSession:
    """See `edge.driver.Session`."""

    def __init__(self, line: Line, device: ModbusDevice, clock: Clock, memories: dict[ModbusPlan, PlanMemory]) -> None:
        self._line, self._device, self._clock, self._memories = line, device, clock, memories
        self._timeout_s = device.limits.timeout / 1e9
        # A connection that another session opens later is not this conversation.
        self._conversation: Conversation = line.conversation

    async def read(self, plan: ModbusPlan) -> Reading:
        """See `edge.driver.Session.read`.

        When no register changed since the last scan, `vectors` is the very same tuple as in the reading before.
        """
        memory = self._memories.get(plan)
        if memory is None:
            memory = self._memories[plan] = PlanMemory(plan)
        blocks = memory.blocks
        pieces = blocks.due(self._clock.boot_ns())
        if not pieces:
            return self._nothing_to_ask(plan, memory)
        exchange = Exchange([piece.request for piece in pieces], memory.image, self._timeout_s)
        await self._conversation.carry(exchange)
        asked_at_ns, answered_at_ns = exchange.asked_at_ns, exchange.answered_at_ns
        status: tuple[StatusRun, ...] = ()
        violations: tuple[str, ...] = tuple(exchange.violations)
        bad: Sequence[tuple[Piece, StatusCode]] = ()
        if exchange.faults or blocks.is_troubled:
            self._raise_if_gone(exchange)
            trouble = _Trouble(violations=exchange.violations)
            answered_at_ns = await self._settle(blocks, memory.image, pieces, exchange, trouble)
            bad, violations = trouble.bad, tuple(trouble.violations)
        self._line.heard(self._device.unit)
        vectors, wrong = memory.decode()
        if bad or wrong:
            status = _status(plan, bad, wrong)
        return Reading(vectors, asked_at_ns, answered_at_ns, status, violations)

    async def probe(self) -> None:
        """Ask a unit that was silent for as little as possible. Raises as `read`."""
        blocks = next((memory.blocks for memory in self._memories.values()), None)
        pieces = blocks.due(self._clock.boot_ns()) if blocks is not None else ()
        if blocks is not None and pieces:
            exchange = Exchange([pieces[0].request], bytearray(blocks.image_bytes), self._timeout_s)
            await self._conversation.carry(exchange)
            self._raise_if_gone(exchange)
            self._line.heard(self._device.unit)

    async def identity(self) -> Identity:
        """See `edge.driver.Session.identity`."""
        return await read_identity(self._conversation, self._device.unit, self._timeout_s)

    async def inspect(self, tag: ModbusTag) -> list[tuple[str, str]]:
        """Every reading of a tag's registers, by type and byte order, as (label, text): for finding the right one."""
        return await inspect_registers(self._conversation, self._device.unit, tag, self._timeout_s)

    def _nothing_to_ask(self, plan: ModbusPlan, memory: PlanMemory) -> Reading:
        now_ns = self._clock.boot_ns()
        vectors, _ = memory.decode()
        return Reading(vectors, now_ns, now_ns, _status(plan, memory.blocks.refused_alone(), ()))

    def _raise_if_gone(self, exchange: Exchange) -> None:
        """Raise DeviceUnreachable when the unit said nothing at all, or its gateway says so."""
        if exchange.is_unanswered:
            why = f"unit {self._device.unit} did not answer within {self._timeout_s:g} s"
            if self._line.is_dead_without(self._device.unit, self._timeout_s):
                self._conversation.drop(DeviceUnreachable(why))
            raise DeviceUnreachable(why)
        codes = set(exchange.faults.values())
        if len(exchange.faults) == len(exchange.requests) and codes <= set(GATEWAY_FAILURES):
            self._line.heard(self._device.unit)
            texts = ", ".join(exception_text(int(code)) for code in GATEWAY_FAILURES if code in codes)
            raise DeviceUnreachable(f"the gateway cannot reach unit {self._device.unit}: {texts}")

    async def _settle(
        self, blocks: Blocks, image: bytearray, pieces: Iterable[Piece], exchange: Exchange, trouble: _Trouble
    ) -> int:
        """Ask again for what was refused, in smaller parts; returns when the last answer came."""
        # An answer may make a block whole again, from the next scan on: what was not asked in this one has no value.
        trouble.bad += blocks.refused_alone()
        while True:
            again: list[Piece] = []
            for piece in pieces:
                fault = exchange.faults.get(piece.request)
                if fault is None:
                    blocks.answered(image, piece)
                else:
                    again += self._excuse(blocks, image, piece, fault, trouble)
            if not again:
                break
            pieces = again
            exchange = Exchange([piece.request for piece in again], image, self._timeout_s)
            exchange.violations = trouble.violations
            await self._conversation.carry(exchange)
        if trouble.splits:
            blocks.settle()
        trouble.bad += blocks.refused_alone()
        return exchange.answered_at_ns

    def _excuse(
        self, blocks: Blocks, image: bytearray, piece: Piece, fault: Fault | int, trouble: _Trouble
    ) -> Sequence[Piece]:
        """What to ask for instead of a piece that was not answered as hoped; note what is bad."""
        if fault in WORTH_ASKING_AGAIN and piece not in trouble.asked_twice:
            trouble.asked_twice.add(piece)
            return [piece]
        blocks.blank(image, piece)
        if fault is Fault.UNANSWERED:
            blocks.postpone(piece)
            trouble.bad.append((piece, StatusCode.BAD_NO_COMMUNICATION))
        elif fault is Fault.WRONG:
            trouble.bad.append((piece, StatusCode.BAD_DECODING_ERROR))
        elif fault in (ILLEGAL_ADDRESS, ILLEGAL_VALUE):
            parts = blocks.refused(piece, int(fault), self._clock.boot_ns())
            trouble.splits += 1
            if parts and trouble.splits <= SPLITS_PER_SCAN:
                return parts
            trouble.bad.append((piece, StatusCode.BAD_ADDRESS))
            if not parts:
                pause = f"asked again every {self._device.limits.retry_refused / 1e9:g} s"
                trouble.violations.append(f"{piece}: {exception_text(int(fault))}; {pause}")
        else:
            trouble.bad.append((piece, StatusCode.BAD_DEVICE_FAILURE))
            trouble.violations.append(f"{piece}: {exception_text(int(fault))}")
        return ()


def _status(plan: ModbusPlan, bad: Iterable[tuple[Piece, StatusCode]], wrong: Sequence[int]) -> tuple[StatusRun, ...]:
    codes = np.zeros(len(plan.layout), np.uint32)
    codes[list(wrong)] = StatusCode.BAD_DECODING_ERROR
    for piece, code in bad:
        codes[[span.tag for span in piece.spans]] = code
    return status_runs(codes)
