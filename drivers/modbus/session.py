"""A conversation with one unit: plans in, readings out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from drivers.modbus.codec import (
    GATEWAY_FAILURES,
    ILLEGAL_ADDRESS,
    ILLEGAL_VALUE,
    WORTH_ASKING_AGAIN,
    exception_text,
    identification_request,
    parse_identification,
    read_request,
)
from drivers.modbus.decode import Decoder, Field
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.pool import Line
from drivers.modbus.request_set import Blocks, Piece
from drivers.modbus.settings import DATA_TYPES, ModbusDevice, ModbusTag
from drivers.modbus.transport import Conversation, Exchange, Fault
from edge.clock import Clock
from edge.errors import DeviceUnreachable
from edge.model import Identity, Layout, Reading, StatusCode, StatusRun, Vector, status_runs

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


_BASIC, _REGULAR = 1, 2
_ROUNDS_MAX = 8
_VENDOR, _PRODUCT_CODE, _REVISION, _VENDOR_URL, _PRODUCT_NAME, _MODEL_NAME, _APPLICATION_NAME = range(7)
_MORE = {
    _PRODUCT_CODE: "product code",
    _VENDOR_URL: "vendor url",
    _MODEL_NAME: "model",
    _APPLICATION_NAME: "application",
}


async def read_identity(conversation: Conversation, unit: int, timeout_s: float) -> Identity:
    """Basic and regular identification; empty for a device that does not know the function, or is silent to it."""
    objects: dict[int, str] = {}
    for category in (_BASIC, _REGULAR):
        found = await _read_objects(conversation, unit, category, timeout_s)
        if not found:
            break  # It does not know the function: some need a while to get over being asked.
        objects |= found
    return Identity(
        vendor=objects.get(_VENDOR, ""),
        product=objects.get(_PRODUCT_NAME) or objects.get(_PRODUCT_CODE, ""),
        firmware=objects.get(_REVISION, ""),
        more=tuple((label, objects[number]) for number, label in _MORE.items() if objects.get(number)),
    )


async def _read_objects(conversation: Conversation, unit: int, category: int, timeout_s: float) -> dict[int, str]:
    objects: dict[int, str] = {}
    wanted: int | None = 0
    for _ in range(_ROUNDS_MAX):
        if wanted is None:
            break
        request = identification_request(unit, category, wanted)
        exchange = Exchange([request], bytearray(), timeout_s)
        await conversation.carry(exchange)
        if request not in exchange.data:
            break
        try:
            answer = parse_identification(exchange.data[request])
        except ValueError:
            break  # Not worth losing the readings over.
        objects |= {number: _printable(value) for number, value in answer.objects.items()}
        wanted = answer.next_object
    return objects


def _printable(value: bytes) -> str:
    text = value.rstrip(b"\0 ").decode("latin-1")
    return "".join(character if character.isprintable() else "?" for character in text)


_ORDERS = {
    1: {("big", "big"): "AB", ("big", "little"): "BA"},
    2: {("big", "big"): "ABCD", ("little", "big"): "CDAB", ("big", "little"): "BADC", ("little", "little"): "DCBA"},
    4: {("big", "big"): "ABCDEFGH", ("little", "big"): "GHEFCDAB", ("big", "little"): "BADCFEHG",
        ("little", "little"): "HGFEDCBA"},
}  # fmt: skip
_TYPES = {
    1: ("uint16", "int16", "bcd16"),
    2: ("float32", "uint32", "int32", "bcd32"),
    4: ("float64", "uint64", "int64"),
}


async def inspect_registers(
    conversation: Conversation, unit: int, tag: ModbusTag, timeout_s: float
) -> list[tuple[str, str]]:
    """Every reading of the tag's registers as (label, text)."""
    place = tag.place
    image = bytearray(2 * tag.count)
    request = read_request(unit, place.table.function, place.first, tag.count)
    exchange = Exchange([request], image, timeout_s)
    await conversation.carry(exchange)
    if request in exchange.faults:
        fault = exchange.faults[request]
        return [("answer", fault.value if isinstance(fault, Fault) else exception_text(fault))]
    if place.table.is_bits:
        return [("bool", str(bool(image[0] & 1)).lower())]
    return readings_of(bytes(image), tag)


def readings_of(data: bytes, tag: ModbusTag) -> list[tuple[str, str]]:
    """Every reading of some registers as (label, text)."""
    rows = [("registers", " ".join(data[at : at + 2].hex() for at in range(0, len(data), 2)))]
    width = len(data) // 2
    if tag.type == "text":
        return rows + [
            (f"text, {order} byte first", repr(_value(data, _field("text", byte_order=byte_order, tag=tag))))
            for order, byte_order in (("high", "big"), ("low", "little"))
        ]
    for order, letters in _ORDERS.get(width, {}).items():
        for kind in _TYPES[width]:
            field = _field(kind, word_order=order[0], byte_order=order[1])
            rows.append((_label(kind, letters, *order), _value(data, field)))
    if width == 1:
        rows.append(("bits 15 to 0", f"{int.from_bytes(data):016b}"))
    return rows


def _label(kind: str, letters: str, word_order: str, byte_order: str) -> str:
    words = f", word_order {word_order}" if len(letters) > 2 else ""
    return f"{kind} {letters}{words}, byte_order {byte_order}"


def _field(kind: str, *, byte_order: str, word_order: str = "big", tag: ModbusTag | None = None) -> Field:
    return Field(
        kind=kind,
        at=0,
        characters=(tag.length or 0) if tag else 0,
        encoding=tag.encoding if tag else "ascii",
        padding=tag.padding if tag else "any",
        is_high_word_first=word_order == "big",
        is_high_byte_first=byte_order == "big",
    )


def _value(data: bytes, field: Field) -> str:
    vectors, wrong = Decoder(Layout((DATA_TYPES[field.kind],)), [field]).decode(data)
    return "no such value" if wrong else str(vectors[0][0])
