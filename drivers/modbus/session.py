"""A session with one unit: plans to readings, its identity, and a tag's registers in every type."""

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
from drivers.modbus.pool import PooledConnection, SessionTransport
from drivers.modbus.request_set import RequestPart, RequestSet
from drivers.modbus.settings import DATA_TYPES, ModbusDevice, ModbusTag
from drivers.modbus.transport import Fault, RequestBatch, Transport
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import Identity, Layout, Reading, StatusCode, StatusRun, Vector, status_runs

SPLITS_PER_SCAN = 24
_BASIC, _REGULAR = 1, 2
_ROUNDS_MAX = 8
_VENDOR, _PRODUCT_CODE, _REVISION, _VENDOR_URL, _PRODUCT_NAME, _MODEL_NAME, _APPLICATION_NAME = range(7)
_MORE = {
    _PRODUCT_CODE: "product code",
    _VENDOR_URL: "vendor url",
    _MODEL_NAME: "model",
    _APPLICATION_NAME: "application",
}
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


class PlanState:
    """What is kept of one plan between scans: which requests are answered, and the last two images."""

    def __init__(self, plan: ModbusPlan) -> None:
        self.requests = RequestSet(plan)
        self._plan = plan
        self._images = bytearray(self.requests.image_bytes), bytearray(self.requests.image_bytes)
        self._vectors: tuple[Vector, ...] | None = None
        self._faults: tuple[tuple[int, int], ...] = ()

    @property
    def image(self) -> bytearray:
        """Where the data of the next scan goes; that of the last scan is kept in the other image."""
        return self._images[0]

    def decode(self) -> tuple[tuple[Vector, ...], tuple[tuple[int, int], ...]]:
        """The vectors of the image and the tags without a value; the same tuples as before when no register changed."""
        image, last = self._images
        if self._vectors is None or image != last:
            self._vectors, self._faults = self._plan.decoder.decode(image)
        self._images = last, image
        return self._vectors, self._faults


@dataclass(slots=True)
class _ScanFaults:
    """What went wrong in one scan."""

    bad: list[tuple[RequestPart, StatusCode]] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    splits: int = 0
    asked_twice: set[RequestPart] = field(default_factory=set)


class ModbusSession:
    """See `edge.driver.Session`."""

    def __init__(
        self, connection: PooledConnection, transport: SessionTransport, device: ModbusDevice, clock: Clock,
        states: dict[ModbusPlan, PlanState],
    ) -> None:  # fmt: skip
        self._connection, self._device, self._clock, self._states = connection, device, clock, states
        self._timeout_s = device.limits.timeout / 1e9
        self._transport = transport

    async def read(self, plan: ModbusPlan) -> Reading:
        """See `edge.driver.Session.read`.

        When no register changed since the last scan, `vectors` is the same tuple as in the reading before.
        """
        state = self._states.get(plan)
        if state is None:
            state = self._states[plan] = PlanState(plan)
        requests = state.requests
        parts = requests.due(self._clock.boot_ns())
        if not parts:
            return self._read_nothing(plan, state)
        batch = RequestBatch([part.request for part in parts], state.image, self._timeout_s)
        await self._transport.transact(batch)
        asked_at_ns, answered_at_ns = batch.asked_at_ns, batch.answered_at_ns
        status: tuple[StatusRun, ...] = ()
        violations: tuple[str, ...] = tuple(batch.violations)
        bad: Sequence[tuple[RequestPart, StatusCode]] = ()
        if batch.faults or requests.has_refusals:
            self._raise_if_unreachable(batch)
            faults = _ScanFaults(violations=batch.violations)
            answered_at_ns = await self._handle_faults(requests, state.image, parts, batch, faults)
            bad, violations = faults.bad, tuple(faults.violations)
        self._connection.mark_answered(self._device.unit)
        vectors, wrong = state.decode()
        if bad or wrong:
            status = _status(plan, bad, wrong)
        return Reading(vectors, asked_at_ns, answered_at_ns, status, violations)

    async def probe(self) -> None:
        """Send one request to a unit that was silent. Raises as `read`."""
        requests = next((state.requests for state in self._states.values()), None)
        parts = requests.due(self._clock.boot_ns()) if requests is not None else ()
        if requests is not None and parts:
            batch = RequestBatch([parts[0].request], bytearray(requests.image_bytes), self._timeout_s)
            await self._transport.transact(batch)
            self._raise_if_unreachable(batch)
            self._connection.mark_answered(self._device.unit)

    async def identity(self) -> Identity | None:
        """See `edge.driver.Session.identity`."""
        try:
            identity = await read_identity(self._transport, self._device.unit, self._timeout_s)
        except (DeviceUnreachable, ProtocolViolation) as error:
            await self._transport.forgive(f"asked what it is: {error}")  # Readings are worth more than an identity.
            return None
        self._transport.is_doubtful = identity in (None, Identity())
        return identity

    async def reconnected(self, since_ns: int) -> int:
        """See `edge.driver.Reconnecting.reconnected`."""
        return await self._transport.reconnected(since_ns)

    async def inspect(self, tag: ModbusTag) -> list[tuple[str, str]]:
        """A tag's registers read as every type in every byte order, as (label, text): for finding the right one."""
        return await inspect_registers(self._transport, self._device.unit, tag, self._timeout_s)

    def _read_nothing(self, plan: ModbusPlan, state: PlanState) -> Reading:
        now_ns = self._clock.boot_ns()
        vectors, _ = state.decode()
        return Reading(vectors, now_ns, now_ns, _status(plan, state.requests.refused_alone(), ()))

    def _raise_if_unreachable(self, batch: RequestBatch) -> None:
        """Raise DeviceUnreachable when the unit answered nothing, or its gateway cannot reach it."""
        if batch.is_unanswered:
            late = self._transport.late.pop(self._device.unit, "")
            hints = "; ".join(filter(None, (late, *batch.violations[-1:], self._connection.hint(self._device.unit))))
            why = f"unit {self._device.unit} did not answer within {self._timeout_s:g} s" + (
                f"; {hints}" if hints else ""
            )
            self._connection.mark_silent(self._device.unit, self._timeout_s)
            if self._connection.is_dead:
                self._transport.drop(DeviceUnreachable(why))
            raise DeviceUnreachable(why)
        codes = set(batch.faults.values())
        if len(batch.faults) == len(batch.requests) and codes <= set(GATEWAY_FAILURES):
            self._connection.mark_answered(self._device.unit)
            texts = ", ".join(exception_text(int(code)) for code in GATEWAY_FAILURES if code in codes)
            raise DeviceUnreachable(f"the gateway cannot reach unit {self._device.unit}: {texts}")

    async def _handle_faults(
        self,
        requests: RequestSet,
        image: bytearray,
        parts: Iterable[RequestPart],
        batch: RequestBatch,
        faults: _ScanFaults,
    ) -> int:
        """Ask again for what was refused, in smaller parts; returns when the last answer came."""
        # An answer can make a block whole again from the next scan on: what was not asked in this one is BAD in it.
        faults.bad += requests.refused_alone()
        while True:
            again: list[RequestPart] = []
            for part in parts:
                fault = batch.faults.get(part.request)
                if fault is None:
                    requests.mark_answered(image, part)
                else:
                    again += self._handle_fault(requests, image, part, fault, faults)
            if not again:
                break
            parts = again
            batch = RequestBatch([part.request for part in again], image, self._timeout_s)
            batch.violations = faults.violations
            await self._transport.transact(batch)
        if faults.splits:
            requests.join_parts()
        faults.bad += requests.refused_alone()
        return batch.answered_at_ns

    def _handle_fault(
        self, requests: RequestSet, image: bytearray, part: RequestPart, fault: Fault | int, faults: _ScanFaults
    ) -> Sequence[RequestPart]:
        """What to ask for instead of a part that has no data; notes what is BAD."""
        if fault in WORTH_ASKING_AGAIN and part not in faults.asked_twice:
            faults.asked_twice.add(part)
            return [part]
        requests.clear(image, part)
        if fault is Fault.UNANSWERED:
            requests.postpone(part)
            faults.bad.append((part, StatusCode.BAD_NO_COMMUNICATION))
        elif fault is Fault.WRONG:
            faults.bad.append((part, StatusCode.BAD_DECODING_ERROR))
        elif fault in (ILLEGAL_ADDRESS, ILLEGAL_VALUE):
            smaller = requests.split_refused(part, int(fault), self._clock.boot_ns())
            faults.splits += 1
            if smaller and faults.splits <= SPLITS_PER_SCAN:
                return smaller
            faults.bad.append((part, StatusCode.BAD_ADDRESS))
            if not smaller:
                pause = f"asked again every {self._device.limits.retry_refused / 1e9:g} s"
                faults.violations.append(f"{part}: {exception_text(int(fault))}; {pause}")
        else:
            faults.bad.append((part, StatusCode.BAD_DEVICE_FAILURE))
            faults.violations.append(f"{part}: {exception_text(int(fault))}")
        return ()


def _status(
    plan: ModbusPlan, bad: Iterable[tuple[RequestPart, StatusCode]], faults: Iterable[tuple[int, int]]
) -> tuple[StatusRun, ...]:
    codes = np.zeros(len(plan.layout), np.uint32)
    for tag, status in faults:
        codes[tag] = status
    for part, code in bad:
        codes[[span.tag for span in part.spans]] = code
    return status_runs(codes)


async def read_identity(transport: Transport | SessionTransport, unit: int, timeout_s: float) -> Identity | None:
    """Basic and regular identification (V1.1b3, 6.21); empty where the device refuses the function, None where it does
    not answer it."""
    objects: dict[int, str] = {}
    for category in (_BASIC, _REGULAR):
        found = await _read_objects(transport, unit, category, timeout_s)
        if found is None and not objects:
            return None
        if not found:
            break  # The function is not known: some devices need a while to recover from being asked.
        objects |= found
    return Identity(
        vendor=objects.get(_VENDOR, ""),
        product=objects.get(_PRODUCT_NAME) or objects.get(_PRODUCT_CODE, ""),
        firmware=objects.get(_REVISION, ""),
        more=tuple((label, objects[number]) for number, label in _MORE.items() if objects.get(number)),
    )


async def _read_objects(
    transport: Transport | SessionTransport, unit: int, category: int, timeout_s: float
) -> dict[int, str] | None:
    objects: dict[int, str] = {}
    wanted: int | None = 0
    for _ in range(_ROUNDS_MAX):
        if wanted is None:
            break
        request = identification_request(unit, category, wanted)
        batch = RequestBatch([request], bytearray(), timeout_s)
        await transport.transact(batch)
        if batch.is_unanswered and not objects:
            return None
        if request not in batch.data:
            break
        try:
            answer = parse_identification(batch.data[request])
        except ValueError:
            break  # Readings are worth more than an identity.
        objects |= {number: _printable(value) for number, value in answer.objects.items()}
        wanted = answer.next_object
    return objects


def _printable(value: bytes) -> str:
    text = value.rstrip(b"\0 ").decode("latin-1")
    return "".join(character if character.isprintable() else "?" for character in text)


async def inspect_registers(
    transport: SessionTransport, unit: int, tag: ModbusTag, timeout_s: float
) -> list[tuple[str, str]]:
    """The tag's registers as every type in every order, as (label, text)."""
    address = tag.parsed_address
    image = bytearray(2 * tag.count)
    request = read_request(unit, address.table.function, address.first, tag.count)
    batch = RequestBatch([request], image, timeout_s)
    await transport.transact(batch)
    if request in batch.faults:
        fault = batch.faults[request]
        return [("answer", fault.value if isinstance(fault, Fault) else exception_text(fault))]
    if address.table.is_bits:
        return [("bool", str(bool(image[0] & 1)).lower())]
    return readings_of(bytes(image), tag)


def readings_of(data: bytes, tag: ModbusTag) -> list[tuple[str, str]]:
    """Registers as every type in every order, as (label, text)."""
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
    vectors, faults = Decoder(Layout((DATA_TYPES[field.kind],)), [field]).decode(data)
    return "no such value" if faults else str(vectors[0][0])
