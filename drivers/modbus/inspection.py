"""The registers of one tag read in every way, side by side: the engineer sees which one makes sense."""

from __future__ import annotations

from drivers.modbus.codec import exception_text, read_request
from drivers.modbus.conversation import Conversation
from drivers.modbus.decode import Decoder, Field
from drivers.modbus.exchange import Exchange, Fault
from drivers.modbus.settings import DATA_TYPES, ModbusTag
from edge.model import Layout

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
