"""The registers of a tag as every type in every order, for finding the right one."""

from __future__ import annotations

from drivers.modbus.decode import Decoder, Field
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.settings import DATA_TYPES, ModbusDevice, ModbusTag
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


def inspect(
    plan: ModbusPlan, tag: int, settings: ModbusTag, device: ModbusDevice, image: bytes
) -> list[tuple[str, str]]:
    """One tag of a plan in the image of its last scan, as (label, text)."""
    block, span = next((block, span) for block in plan.blocks for span in block.spans if span.tag == tag)
    distance = span.first - block.first
    if block.table.is_bits:
        return [("bool", str(bool(image[block.offset + distance // 8] >> distance % 8 & 1)).lower())]
    at = block.offset + 2 * distance
    return readings_of(image[at : at + 2 * settings.count], settings, device)


def readings_of(data: bytes, tag: ModbusTag, device: ModbusDevice) -> list[tuple[str, str]]:
    """Registers as every type in every order, as (label, text); the order that is configured is marked."""
    rows = [("registers", " ".join(data[at : at + 2].hex() for at in range(0, len(data), 2)))]
    width = len(data) // 2
    word_order, byte_order = tag.word_order or device.word_order, tag.byte_order or device.byte_order
    configured = (word_order if width > 1 and tag.type != "text" else "big", byte_order)
    if tag.type == "text":
        for first, order in (("high", "big"), ("low", "little")):
            text = repr(_value(data, _field("text", byte_order=order, tag=tag)))
            rows.append((f"text, {first} byte first{_mark(('big', order) == configured)}", text))
        return rows
    for orders, letters in _ORDERS.get(width, {}).items():
        for kind in _TYPES[width]:
            field = _field(kind, word_order=orders[0], byte_order=orders[1])
            rows.append((_label(kind, letters, *orders) + _mark(orders == configured), _value(data, field)))
    if width == 1:
        rows.append(("bits 15 to 0", f"{int.from_bytes(data):016b}"))
    return rows


def _mark(is_configured: bool) -> str:
    return ", as configured" if is_configured else ""


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
    vectors, faults = Decoder(Layout((DATA_TYPES[field.kind],)), [field]).decode(data)
    return "no such value" if faults else str(vectors[0][0])
