"""What a device says it is (MODBUS Application Protocol V1.1b3, 6.21: function 43, type 14)."""

from __future__ import annotations

from drivers.modbus.codec import identification_request, parse_identification
from drivers.modbus.conversation import Conversation
from drivers.modbus.exchange import Exchange
from edge.model import Identity

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
