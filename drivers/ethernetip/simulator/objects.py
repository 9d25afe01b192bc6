"""The objects of a controller: identity, symbols, templates, program name, change log, wall clock, and any other.

Each function answers a service for an object with (status, data), or raises CipError.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Mapping

from drivers.ethernetip.simulator.codes import CipError, Class, Service, Status, unknown_instance, unknown_name
from drivers.ethernetip.simulator.controller import Attribute, Controller
from drivers.ethernetip.simulator.paths import Path
from drivers.ethernetip.simulator.tags import Entry, Scope
from drivers.ethernetip.simulator.types import Array, Structure

Answer = tuple[int, bytes]

_BASE_TAG = 1 << 26
_REVISION = b"\x01\x00"


def text(value: str) -> bytes:
    """A STRING: a length of two bytes, then characters."""
    return len(value).to_bytes(2, "little") + value.encode()


def short_text(value: str) -> bytes:
    """A SHORT_STRING: a length of one byte, then characters."""
    return bytes((len(value),)) + value.encode()


def identity_bytes(controller: Controller) -> bytes:
    """The attributes of the identity object, in a row."""
    return b"".join(_value(value) for value in _identity(controller).values())


def answer(controller: Controller, path: Path, service: int, data: bytes, room: int) -> Answer:
    """Answer a service for an object that is not a tag's value; `room` is what fits an answer."""
    if path.steps or path.class_ is None or path.instance is None:
        raise unknown_name()
    if path.class_ in (Class.SYMBOL, Class.TEMPLATE, Class.WALL_CLOCK) and not controller.personality.has_tags:
        raise unknown_instance()
    scope = scope_of(controller, path.program)
    if path.class_ == Class.SYMBOL and service == Service.GET_INSTANCE_ATTRIBUTE_LIST:
        return _list_symbols(scope, path.instance, data, room)
    if path.class_ == Class.TEMPLATE and service == Service.READ_TAG:
        return _read_template(controller, path.instance, data, room)
    return _answer_attributes(_attributes(controller, scope, path), path.attribute, service, data, room)


def scope_of(controller: Controller, program: str) -> Scope:
    """The scope that a path is in."""
    name = program.lower()
    if not name:
        return controller.scopes[""]
    program = name.removeprefix("program:")
    scope = controller.scopes.get(program) if program and program != name else None
    if scope is None:
        raise unknown_name()
    return scope


def _attributes(controller: Controller, scope: Scope, path: Path) -> Mapping[int, Attribute]:
    class_, instance = path.class_, path.instance
    assert class_ is not None
    assert instance is not None
    if (own := controller.attributes.get((class_, instance))) is not None:
        return own
    if not controller.personality.has_tags and (listed := _listed(controller, class_, instance)):
        return listed
    if class_ == Class.SYMBOL:
        return _symbols(scope) if instance == 0 else _symbol(scope, instance)
    if class_ == Class.TEMPLATE and (made := controller.structures.get(instance)) is not None:
        return _template(made)
    has_project = controller.personality.has_programs
    match class_, instance:
        case Class.IDENTITY, 1:
            return _identity(controller)
        case Class.PROGRAM_NAME, 1 if has_project:
            return {1: text(controller.name)}
        case Class.CHANGES, 1 if has_project:
            return _changes(controller)
        case Class.WALL_CLOCK, 1:
            return {6: lambda: struct.pack("<Q", time.time_ns() // 1000 + controller.time_offset_us)}
        case ((Class.IDENTITY | Class.MESSAGE_ROUTER | Class.CONNECTION_MANAGER | Class.TEMPLATE), 0):
            return {1: _REVISION}
        case _:
            raise unknown_instance()


def _listed(controller: Controller, class_: int, instance: int) -> Mapping[int, Attribute]:
    """What a device without tags lists: its classes (CIP Vol 1 5-3), and of each class the instances."""
    if (class_, instance) == (Class.MESSAGE_ROUTER, 1):
        classes = sorted({Class.IDENTITY, Class.MESSAGE_ROUTER, *(known for known, _ in controller.attributes)})
        return {1: struct.pack(f"<{1 + len(classes)}H", len(classes), *classes)}
    instances = [number for known, number in controller.attributes if known == class_]
    if instance or not instances:
        return {}
    return {1: _REVISION, 2: struct.pack("<H", max(instances)), 3: struct.pack("<H", len(instances))}


def _identity(controller: Controller) -> Mapping[int, Attribute]:
    is_ = controller.identity
    return {
        1: struct.pack("<H", is_.vendor), 2: struct.pack("<H", is_.device_type), 3: struct.pack("<H", is_.product_code),
        4: bytes(is_.revision), 5: struct.pack("<H", is_.status), 6: struct.pack("<I", is_.serial),
        7: short_text(is_.product),
    }  # fmt: skip


def _changes(controller: Controller) -> Mapping[int, Attribute]:
    """1756-PM020, "Create and maintain a symbol object list", step of detecting changes: class 0xAC."""
    log = controller.changes
    return {
        1: struct.pack("<H", log[0] & 0xFFFF), 2: struct.pack("<H", log[1]), 3: struct.pack("<I", log[2]),
        4: struct.pack("<I", log[3]), 10: struct.pack("<I", log[4]),
    }  # fmt: skip


def _template(made: Structure) -> Mapping[int, Attribute]:
    return {
        1: struct.pack("<H", made.handle), 2: struct.pack("<H", len(made.members)),
        4: struct.pack("<I", made.definition_words), 5: struct.pack("<I", made.size),
    }  # fmt: skip


def _symbols(scope: Scope) -> Mapping[int, Attribute]:
    last = max(scope.by_instance, default=0)
    return {1: _REVISION, 2: struct.pack("<I", last), 3: struct.pack("<I", len(scope.by_instance))}


def _symbol(scope: Scope, instance: int) -> Mapping[int, Attribute]:
    if (entry := scope.by_instance.get(instance)) is None:
        raise unknown_instance()
    return _entry(entry)


def _entry(entry: Entry) -> Mapping[int, bytes]:
    """1756-PM020, "Symbol object"; attributes 3, 5, 6 and 10 as clients that read them understand them."""
    number, tag = entry.instance, entry.tag
    data_type = tag.data_type if tag else None
    dimensions = data_type.sizes if isinstance(data_type, Array) else ()
    element = data_type.element if isinstance(data_type, Array) else data_type
    return {
        1: text(entry.name), 2: struct.pack("<H", entry.symbol_type), 3: struct.pack("<I", number * 64),
        5: struct.pack("<I", 0x10000 + number * 64), 6: struct.pack("<I", 0 if tag and tag.is_alias else _BASE_TAG),
        7: struct.pack("<H", min(element.size, 0xFFFF) if element else 0),
        8: struct.pack("<3I", *(*dimensions, 0, 0, 0)[:3]), 10: bytes((tag.access if tag else 0,)),
    }  # fmt: skip


def _list_symbols(scope: Scope, first: int, data: bytes, room: int) -> Answer:
    wanted = _attribute_numbers(data)
    found = b""
    for number, entry in scope.by_instance.items():
        if number < first:
            continue
        attributes = _entry(entry)
        if not set(wanted) <= set(attributes):
            raise CipError(Status.ATTRIBUTE_LIST_ERROR)
        row = struct.pack("<I", number) + b"".join(attributes[attribute] for attribute in wanted)
        if len(found) + len(row) > room:
            if not found:
                raise CipError(Status.REPLY_TOO_LARGE)
            return Status.PARTIAL_TRANSFER, found
        found += row
    return Status.SUCCESS, found


def _read_template(controller: Controller, instance: int, data: bytes, room: int) -> Answer:
    made = controller.structures.get(instance)
    if made is None:
        raise unknown_instance()
    offset, count = _exactly("<IH", data)
    held = made.definition.ljust(4 * made.definition_words - 20, b"\0")
    wanted = held[offset : offset + count]
    if len(wanted) > room:
        return Status.PARTIAL_TRANSFER, wanted[:room]
    return Status.SUCCESS, wanted


def _answer_attributes(
    held: Mapping[int, Attribute], attribute: int | None, service: int, data: bytes, room: int
) -> Answer:
    if service == Service.GET_ATTRIBUTES_ALL:
        status, found = Status.SUCCESS, b"".join(_value(value) for value in held.values())
    elif service == Service.GET_ATTRIBUTE_SINGLE:
        if attribute is None:
            raise unknown_name()
        if attribute not in held:
            raise CipError(Status.ATTRIBUTE_NOT_SUPPORTED)
        status, found = Status.SUCCESS, _value(held[attribute])
    elif service == Service.GET_ATTRIBUTE_LIST:
        status, found = _attribute_list(held, _attribute_numbers(data))
    else:
        raise CipError(Status.SERVICE_NOT_SUPPORTED)
    if len(found) > room:
        raise CipError(Status.REPLY_TOO_LARGE)
    return status, found


def _attribute_list(held: Mapping[int, Attribute], wanted: tuple[int, ...]) -> tuple[Status, bytes]:
    rows = [struct.pack("<H", len(wanted))]
    for number in wanted:
        if number in held:
            rows.append(struct.pack("<HH", number, 0) + _value(held[number]))
        else:
            rows.append(struct.pack("<HH", number, Status.ATTRIBUTE_NOT_SUPPORTED))
    is_whole = set(wanted) <= set(held)
    return Status.SUCCESS if is_whole else Status.ATTRIBUTE_LIST_ERROR, b"".join(rows)


def _attribute_numbers(data: bytes) -> tuple[int, ...]:
    if len(data) < 2:
        raise CipError(Status.NOT_ENOUGH_DATA)
    count = int.from_bytes(data[:2], "little")
    return _exactly(f"<{count}H", data[2:])


def _exactly(layout: str, data: bytes) -> tuple[int, ...]:
    size = struct.calcsize(layout)
    if len(data) != size:
        raise CipError(Status.NOT_ENOUGH_DATA if len(data) < size else Status.TOO_MUCH_DATA)
    return struct.unpack(layout, data)


def _value(attribute: Attribute) -> bytes:
    return attribute() if callable(attribute) else attribute
