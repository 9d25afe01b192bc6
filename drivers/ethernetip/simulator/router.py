"""The message router: parses requests and answers them; a request that was seen before is not parsed again."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from drivers.ethernetip.simulator import objects, paths
from drivers.ethernetip.simulator.codes import (
    CipError,
    Class,
    Service,
    Status,
    beyond_end,
    unknown_instance,
    unknown_name,
)
from drivers.ethernetip.simulator.controller import Controller
from drivers.ethernetip.simulator.paths import Path
from drivers.ethernetip.simulator.tags import Location, Tag
from drivers.ethernetip.simulator.types import BOOL, SHORT_STRING, Atomic

READING = frozenset(Service)
_TAG_READS = (Service.READ_TAG, Service.READ_TAG_FRAGMENTED)
_TAG_WRITES = (0x4D, 0x4E, 0x53)
_KNOWN_MAX = 20_000
_HEAD_BYTES = 4
_NO_ACCESS = 3

Respond = Callable[[int], bytes]
"""Builds the answer to one request, in at most so many bytes."""


@dataclass(frozen=True, slots=True)
class Request:
    """A parsed request, or one that is always refused."""

    asked: tuple[int, int | None]
    respond: Respond
    parts: tuple[Request, ...] = ()


def reply(service: int, status: int, data: bytes = b"", extended: Sequence[int] = ()) -> bytes:
    """An answer (CIP Vol 1 2-4.2)."""
    head = bytes((service | 0x80, 0, status, len(extended)))
    return head + struct.pack(f"<{len(extended)}H", *extended) + data if extended else head + data


def refusal(service: int, error: CipError) -> bytes:
    """The answer to a request that is refused."""
    return reply(service, error.status, error.data, error.extended)


def split(message: bytes) -> tuple[int, bytes, bytes]:
    """(service, path, data) of a request. Raises CipError where the path is longer than the request."""
    if len(message) < 2:
        raise CipError(Status.NOT_ENOUGH_DATA)
    end = 2 + 2 * message[1]
    if end > len(message):
        raise CipError(Status.PATH_SIZE_INVALID)
    return message[0], message[2:end], message[end:]


class Router:
    """Answers requests for one controller."""

    def __init__(self, controller: Controller) -> None:
        self._controller = controller
        self._known: dict[bytes, Request] = {}
        self._edition = -1
        self._moment = 0.0

    def answer(self, message: bytes, limit: int) -> bytes:
        """The answer to a request, in at most `limit` bytes."""
        controller = self._controller
        self._moment = controller.elapsed_s
        if self._edition != controller.edition:
            self._edition = controller.edition
            self._known.clear()
        request = self._understand(message)
        self._count(request)
        for part in request.parts:
            self._count(part)
        return request.respond(limit)

    def _count(self, request: Request) -> None:
        self._controller.services[request.asked] += 1
        if request.asked[0] not in READING:
            self._controller.writes_asked += 1

    def _understand(self, message: bytes) -> Request:
        request = self._known.get(message)
        if request is None:
            request = self._compile(message)
            if len(self._known) < _KNOWN_MAX:
                self._known[message] = request
        return request

    def _compile(self, message: bytes) -> Request:
        service = message[0] if message else 0
        class_: int | None = None
        try:
            service, route, data = split(message)
            path = paths.parse(route)
            class_ = path.class_
            if service == Service.MULTIPLE_SERVICE_PACKET and class_ == Class.MESSAGE_ROUTER:
                return self._packet(data)
            return Request((service, class_), self._one(service, path, data))
        except CipError as error:
            refused = refusal(service, error)
            return Request((service, class_), lambda _: refused)

    def _one(self, service: int, path: Path, data: bytes) -> Respond:
        is_tag = path.class_ is None or (path.class_ == Class.SYMBOL and path.instance)
        if is_tag and not self._controller.personality.has_tags:
            raise CipError(Status.SERVICE_NOT_SUPPORTED)
        if is_tag and service in _TAG_READS:
            return self._read(service, path, data)
        if service not in READING:
            settable = service in (0x02, 0x04, 0x10)
            known = is_tag and service in _TAG_WRITES
            raise CipError(
                Status.ATTRIBUTE_NOT_SETTABLE if settable
                else Status.PRIVILEGE_VIOLATION if known else Status.SERVICE_NOT_SUPPORTED
            )  # fmt: skip
        return lambda limit: self._ask(service, path, data, limit)

    def _ask(self, service: int, path: Path, data: bytes, limit: int) -> bytes:
        try:
            status, found = objects.answer(self._controller, path, service, data, limit - _HEAD_BYTES)
        except CipError as error:
            return refusal(service, error)
        return reply(service, status, found)

    # Tags.

    def _read(self, service: int, path: Path, data: bytes) -> Respond:
        tag, place = self._locate(path)
        layout = "<H" if service == Service.READ_TAG else "<HI"
        if len(data) != struct.calcsize(layout):
            raise CipError(Status.NOT_ENOUGH_DATA if len(data) < struct.calcsize(layout) else Status.TOO_MUCH_DATA)
        count, begin = (*struct.unpack(layout, data), 0)[:2]
        if tag.failure:
            raise CipError(*tag.failure)
        if tag.access == _NO_ACCESS:
            raise CipError(Status.PRIVILEGE_VIOLATION)
        if count == 0 or count > place.count or begin >= count * place.data_type.size:
            raise beyond_end()
        if place.bit is not None:
            return self._read_bit(service, tag, place)
        return self._read_memory(service, tag, place, count, begin)

    def _read_bit(self, service: int, tag: Tag, place: Location) -> Respond:
        bit = place.bit or 0
        mask, reply_type = 1 << bit, bytes((BOOL.code, bit % 8))  # 1756-PM020, Tag type service parameter values.
        answers = [reply(service, Status.SUCCESS, reply_type + BOOL.encode(value)) for value in (False, True)]

        def respond(limit: int) -> bytes:  # noqa: ARG001 - it always fits
            if tag.is_moving:
                tag.move(self._moment)
            return answers[bool(tag.memory[place.offset] & mask)]

        return respond

    def _read_memory(self, service: int, tag: Tag, place: Location, count: int, begin: int) -> Respond:
        first, end = place.offset + begin, place.offset + count * place.data_type.size
        reply_type = place.data_type.reply_type
        whole = reply(service, Status.SUCCESS, reply_type)
        part = reply(service, Status.PARTIAL_TRANSFER, reply_type)
        size = end - first
        grain = place.data_type.size if isinstance(place.data_type, Atomic) else 1
        is_short_text = place.data_type is SHORT_STRING and count == 1 and not begin

        def respond(limit: int) -> bytes:
            if tag.is_moving:
                tag.move(self._moment)
            memory = tag.memory
            if is_short_text:
                return whole + memory[first : first + 1 + memory[first]]
            room = limit - len(whole)
            if size <= room:
                return whole + memory[first:end]
            return part + memory[first : first + max(room, 0) // grain * grain]

        return respond

    def _locate(self, path: Path) -> tuple[Tag, Location]:
        controller = self._controller
        if path.class_ is not None:
            if not controller.personality.has_instance_addressing or path.attribute is not None:
                raise unknown_instance()
            scope, steps = objects.scope_of(controller, path.program), path.steps
            entry = scope.by_instance.get(path.instance or 0)
            if entry is None or entry.tag is None:
                raise unknown_instance()
            return entry.tag, entry.tag.find(steps)
        name, *_ = (*path.steps, "")
        in_program = str(name).lower().startswith("program:")
        scope = objects.scope_of(controller, str(name) if in_program else "")
        steps = path.steps[1:] if in_program else path.steps
        tag = scope.tags.get(str(steps[0]).lower()) if steps else None
        if tag is None:
            raise unknown_name()
        return tag, tag.find(steps[1:])

    # Several services in one packet (1756-PM020, "Multiple Service Packet service").

    def _packet(self, data: bytes) -> Request:
        service = Service.MULTIPLE_SERVICE_PACKET
        if not self._controller.personality.has_multiple_services:
            raise CipError(Status.SERVICE_NOT_SUPPORTED)
        messages = unpack(data)
        if any(message[:1] == bytes((service,)) for message in messages):
            raise CipError(Status.SERVICE_NOT_SUPPORTED)
        parts = tuple(self._understand(message) for message in messages)
        kept: tuple[int, int, bytes] | None = None

        def respond(limit: int) -> bytes:
            nonlocal kept
            controller = self._controller
            if kept is not None and kept[:2] == (limit, controller.values) and not controller.is_moving:
                return kept[2]
            kept = limit, controller.values, _join(parts, limit)
            return kept[2]

        return Request((service, Class.MESSAGE_ROUTER), respond, parts)


def unpack(data: bytes) -> list[bytes]:
    """The requests in a packet of several services. Raises CipError where they are not laid out as they should be."""
    if len(data) < 2:
        raise CipError(Status.NOT_ENOUGH_DATA)
    count = int.from_bytes(data[:2], "little")
    if count == 0 or len(data) < 2 + 2 * count:
        raise CipError(Status.NOT_ENOUGH_DATA)
    offsets = struct.unpack_from(f"<{count}H", data, 2)
    ends = (*offsets[1:], len(data))
    if offsets[0] != 2 + 2 * count or any(end - begin < 2 for begin, end in zip(offsets, ends, strict=True)):
        raise CipError(Status.INVALID_PARAMETER)
    return [data[begin:end] for begin, end in zip(offsets, ends, strict=True)]


def _join(parts: Sequence[Request], limit: int) -> bytes:
    """The answers in one packet; where it is full, the rest get the status that they do not fit."""
    service = Service.MULTIPLE_SERVICE_PACKET
    count = len(parts)
    at = 2 + 2 * count
    room = limit - _HEAD_BYTES - at - _HEAD_BYTES * count
    if room < 0:
        return reply(service, Status.REPLY_TOO_LARGE)
    answers, offsets, is_good = [], [], True
    for part in parts:
        answer = part.respond(room + _HEAD_BYTES)
        if len(answer) > room + _HEAD_BYTES:
            answer = reply(part.asked[0], Status.PARTIAL_TRANSFER)
        is_good = is_good and not answer[2]
        answers.append(answer)
        offsets.append(at)
        at += len(answer)
        room -= len(answer) - _HEAD_BYTES
    status = Status.SUCCESS if is_good else Status.EMBEDDED_SERVICE_ERROR
    return reply(service, status, struct.pack(f"<{count + 1}H", count, *offsets) + b"".join(answers))
