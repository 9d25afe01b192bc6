"""A session with one unit: plans to readings, and its identity."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivers.modbus.address import Table
from drivers.modbus.codec import (
    BUSY,
    GATEWAY_FAILURES,
    exception_text,
    identification_request,
    parse_identification,
)
from drivers.modbus.inspect import inspect
from drivers.modbus.plan import ModbusPlan
from drivers.modbus.pool import PooledConnection, SessionTransport
from drivers.modbus.request_set import Learned, Outcome, RequestPart, RequestSet, small_part, status_of
from drivers.modbus.settings import ModbusDevice, ModbusLimits, ModbusTag
from drivers.modbus.transport import Fault, RequestBatch, Transport
from edge.clock import Clock
from edge.errors import DeviceUnreachable, ErrorCode, ProtocolViolation
from edge.model import Identity, Reading, StatusCode, StatusRun, Vector, status_runs

_SEARCH_NS = 2 * 10**9  # In one scan: what is answered should not wait for long for what is not.
_PAUSE_S_MAX = 0.25
_SENTENCES_MAX = 8
_WORTH_ASKING_AGAIN = (*BUSY, Fault.GARBLED)
_BASIC, _REGULAR = 1, 2
_ROUNDS_MAX = 8
_VENDOR, _PRODUCT_CODE, _REVISION, _VENDOR_URL, _PRODUCT_NAME, _MODEL_NAME, _APPLICATION_NAME = range(7)
_MORE = {
    _PRODUCT_CODE: "product code",
    _VENDOR_URL: "vendor url",
    _MODEL_NAME: "model",
    _APPLICATION_NAME: "application",
}


class PlanState:
    """What is kept of one plan between scans: which requests are answered, and the last two images.

    Attributes:
        codes: the status of each tag in the last scan, where not everything was answered.
    """

    def __init__(self, plan: ModbusPlan, learned: Learned) -> None:
        self.requests = RequestSet(plan, learned)
        self.codes: NDArray[np.uint32] | None = None
        self._plan = plan
        self._images = bytearray(self.requests.image_bytes), bytearray(self.requests.image_bytes)
        self._vectors: tuple[Vector, ...] | None = None
        self._faults: tuple[tuple[int, int], ...] = ()

    @property
    def image(self) -> bytearray:
        """Where the data of the next scan goes; that of the last scan is kept in the other image."""
        return self._images[0]

    @property
    def last_image(self) -> bytes:
        """The data of the last scan."""
        return bytes(self._images[1])

    def decode(self) -> tuple[tuple[Vector, ...], tuple[tuple[int, int], ...]]:
        """The vectors of the image and the tags without a value; the same tuples as before when no register changed."""
        image, last = self._images
        if self._vectors is None or image != last:
            self._vectors, self._faults = self._plan.decoder.decode(image)
        self._images = last, image
        return self._vectors, self._faults


@dataclass(slots=True)
class _Search:
    """The outcomes of one scan in which not everything was answered.

    Attributes:
        refused: what was refused before it, and the status of its tags.
        may_ask: whether answers to many requests can be told apart.
        tried: the parts that have an outcome.
    """

    requests: RequestSet
    image: bytearray
    violations: list[str]
    refused: dict[RequestPart, StatusCode]
    may_ask: bool = True
    tried: dict[RequestPart, Outcome | None] = field(default_factory=dict)
    news: list[tuple[RequestPart, Outcome]] = field(default_factory=list)

    def note(self, part: RequestPart, outcome: Outcome | None, now_ns: int) -> None:
        """Note what came of a part."""
        self.tried[part] = outcome
        if outcome is None:
            self.requests.note_answered(self.image, part)
        elif outcome is Fault.UNANSWERED and not self.may_ask:
            self.requests.postpone(part)  # That says too little to search for less.
        elif self.requests.note_fault(part, outcome, now_ns) or (outcome in (*BUSY, *GATEWAY_FAILURES)):
            self.news.append((part, outcome))

    def codes(self, tags: int) -> NDArray[np.uint32]:
        """The status of each tag: what was not answered in this scan is BAD, whatever is known of it."""
        codes = np.full(tags, StatusCode.BAD_WAITING_FOR_INITIAL_DATA, np.uint32)
        refused = self.refused | self.requests.refused()
        failed = {
            part: status_of(outcome)
            for part, outcome in self.tried.items()
            if outcome is not None and self.requests.is_asked(part)
        }  # Otherwise its halves are.
        answered = {part: StatusCode.GOOD for part, outcome in self.tried.items() if outcome is None}
        for part, code in (failed | refused | answered).items():
            codes[[span.tag for span in part.spans]] = code
        return codes

    def sentences(self, limits: ModbusLimits) -> list[str]:
        """What is new: neighbours with the same outcome together."""
        runs: list[list[RequestPart]] = []
        self.news.sort(key=lambda each: (each[0].block.offset, each[0].first))
        for part, outcome in self.news:
            before = runs[-1][-1] if runs else None
            is_next = before is not None and before.block is part.block and part.first <= before.last + 1
            if is_next and self.tried[runs[-1][-1]] == outcome:
                runs[-1].append(part)
            else:
                runs.append([part])
        found = [
            f"{run[0].block.table.label} {run[0].first}"
            + (f"-{run[-1].last}" if run[-1].last > run[0].first else "")
            + f": {_text(self.tried[run[0]], limits, run[0].block.table)}"
            for run in runs
        ]
        if len(found) > _SENTENCES_MAX:
            found[_SENTENCES_MAX:] = [f"and {len(found) - _SENTENCES_MAX} more like these"]
        if self.requests.next_question(self.tried) is not None:
            found.append("not settled yet: what was not answered together is asked for in smaller parts")
        return [*self.violations, *found, *self.requests.learned.sentences()]


def state_of(plan: ModbusPlan, states: dict[ModbusPlan, PlanState]) -> PlanState:
    """What is kept of a plan, among that of the other plans of its unit."""
    if plan not in states:
        known = next(iter(states.values()), None)
        states[plan] = PlanState(plan, Learned() if known is None else known.requests.learned)
    return states[plan]


class ModbusSession:
    """See `edge.driver.Session`."""

    def __init__(
        self, connection: PooledConnection, transport: SessionTransport, device: ModbusDevice, clock: Clock,
        states: dict[ModbusPlan, PlanState],
    ) -> None:  # fmt: skip
        self._connection, self._device, self._clock, self._states = connection, device, clock, states
        self._timeout_s = device.limits.timeout / 1e9
        self._pause_s = min(_PAUSE_S_MAX, min(group.every for group in device.scan_groups) / 4e9)
        self._transport = transport

    async def read(self, plan: ModbusPlan) -> Reading:
        """See `edge.driver.Session.read`.

        When no register changed since the last scan, `vectors` is the same tuple as in the reading before.
        """
        state = self._states.get(plan) or state_of(plan, self._states)
        requests = state.requests
        parts = requests.due(self._clock.boot_ns())
        if not parts:
            return self._read_nothing(plan, state)
        image = state.image
        if not requests.is_plain:
            image[:] = bytes(len(image))  # No data of an earlier scan where a part is not answered.
        batch = RequestBatch([part.request for part in parts], image, self._timeout_s)
        try:
            await self._transport.transact(batch)
        except DeviceUnreachable as error:
            if not batch.asked_at_ns:  # The connection was lost before.
                raise
            await self._survive(error, requests, parts)
            batch.answered_at_ns = self._clock.boot_ns()
            batch.faults = dict.fromkeys(batch.requests, Fault.UNANSWERED)
            parts = ()  # Which of them it was, shows when they are asked for one by one.
        asked_at_ns, answered_at_ns = batch.asked_at_ns, batch.answered_at_ns
        violations: Sequence[str] = batch.violations
        codes: NDArray[np.uint32] | None = None
        if batch.faults or not requests.is_plain:
            may_search = self._transport.tells_apart(self._device.unit)
            if parts and may_search and batch.is_silent and not any(map(requests.is_answered, parts)):
                await self.probe()
            elif parts:
                self._raise_if_unreachable(batch)
            search = _Search(requests, image, batch.violations, requests.refused(), may_search)
            answered_at_ns = await self._search(search, parts, batch)
            codes = search.codes(len(plan.layout))
            violations = search.sentences(plan.limits)
            requests.finish()
        self._connection.mark_answered(self._device.unit)
        state.codes = codes
        vectors, wrong = state.decode()
        status = _status(plan, codes, wrong) if codes is not None or wrong else ()
        return Reading(vectors, asked_at_ns, answered_at_ns, status, tuple(violations))

    def forget(self, plan: ModbusPlan) -> None:
        """See `edge.driver.Forgets.forget`."""
        self._states.pop(plan, None)

    async def probe(self) -> None:
        """Send one small request to a unit that was silent: it may answer that. Raises as `read`."""
        sets = [state.requests for state in self._states.values()]
        learned = sets[0].learned if sets else Learned()
        small, learned.small = learned.small or small_part(sets, learned), None
        if small is not None:
            batch = RequestBatch([small.request], bytearray(small.request.end), self._timeout_s)
            await self._transport.transact(batch)
            self._raise_if_unreachable(batch)
            self._connection.mark_answered(self._device.unit)
            learned.small = small

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

    def inspect(self, plan: ModbusPlan, tags: Sequence[ModbusTag]) -> list[list[tuple[str, str]]]:
        """See `edge.driver.Inspectable.inspect`: the registers as every type in every byte order."""
        state = state_of(plan, self._states)
        return [
            inspect(plan, number, tag, self._device, state.last_image)
            if state.codes is None or state.codes[number] == StatusCode.GOOD
            else []
            for number, tag in enumerate(tags)
        ]

    async def _survive(self, error: DeviceUnreachable, requests: RequestSet, parts: Sequence[RequestPart]) -> None:
        """Connect again where the device may have closed the connection because of what it was asked, and answers a
        small request. Raises as `read`."""
        if any(map(requests.is_answered, parts)):
            raise error
        await self._transport.forgive(f"{error} when it was asked for {', '.join(map(str, parts))}")
        await self.probe()

    def _read_nothing(self, plan: ModbusPlan, state: PlanState) -> Reading:
        now_ns = self._clock.boot_ns()
        vectors, _ = state.decode()
        search = _Search(state.requests, state.image, [], state.requests.refused())
        state.codes = search.codes(len(plan.layout))
        return Reading(vectors, now_ns, now_ns, _status(plan, state.codes, ()))

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
                self._transport.drop(DeviceUnreachable(why, code=ErrorCode.DEVICE_SILENT))
            raise DeviceUnreachable(why, code=ErrorCode.DEVICE_SILENT)
        codes = set(batch.faults.values())
        if len(batch.faults) == len(batch.requests) and codes <= set(GATEWAY_FAILURES):
            self._connection.mark_answered(self._device.unit)
            texts = ", ".join(exception_text(int(code)) for code in GATEWAY_FAILURES if code in codes)
            why = f"the gateway cannot reach unit {self._device.unit}: {texts}"
            raise DeviceUnreachable(why, code=ErrorCode.DEVICE_BEHIND_GATEWAY)

    async def _search(self, search: _Search, parts: Sequence[RequestPart], batch: RequestBatch) -> int:
        """Ask again, in smaller parts, for what was not answered, for as long as a scan may take with it; returns when
        the last answer came."""
        requests = search.requests
        if requests.is_plain:
            for part in parts:
                if part.request in batch.faults:
                    search.image[part.request.offset : part.request.end] = bytes(part.request.end - part.request.offset)
        outcomes, answered_at_ns = await self._ask_again(search, parts, batch)
        is_silent = False
        for part, outcome in outcomes.items():
            is_sent = outcome is not Fault.UNANSWERED or not is_silent or not requests.is_open(part)
            is_silent |= outcome is Fault.UNANSWERED
            if is_sent:  # The requests behind one that was not answered may not have been sent.
                search.note(part, outcome, answered_at_ns)
        until_ns = self._clock.boot_ns() + _SEARCH_NS
        while self._clock.boot_ns() < until_ns:
            if Fault.UNANSWERED in search.tried.values() and not search.may_ask:
                break
            question = requests.next_question(search.tried)
            if question is None:
                break
            batch = RequestBatch([question.request], search.image, self._timeout_s)
            batch.violations = search.violations
            try:
                await self._transport.transact(batch)
            except DeviceUnreachable as error:
                await self._survive(error, requests, ())
                search.note(question, Fault.UNANSWERED, answered_at_ns)
                continue
            outcomes, answered_at_ns = await self._ask_again(search, [question], batch)
            search.note(question, outcomes[question], answered_at_ns)
        return answered_at_ns

    async def _ask_again(
        self, search: _Search, parts: Sequence[RequestPart], batch: RequestBatch
    ) -> tuple[dict[RequestPart, Outcome | None], int]:
        """What became of each part, and when: a busy unit, or one whose answer was garbled, is asked again."""
        outcomes = {part: batch.faults.get(part.request) for part in parts}
        for _ in range(self._device.limits.retries):
            again = [part for part, outcome in outcomes.items() if outcome in _WORTH_ASKING_AGAIN]
            if not again:
                break
            await asyncio.sleep(self._pause_s)
            batch = RequestBatch([part.request for part in again], search.image, self._timeout_s)
            batch.violations = search.violations
            await self._transport.transact(batch)
            outcomes |= {part: batch.faults.get(part.request) for part in again}
        return outcomes, batch.answered_at_ns


def _text(outcome: Outcome | None, limits: ModbusLimits, table: Table) -> str:
    text = outcome.value if isinstance(outcome, Fault) else exception_text(outcome or 0, table)
    if outcome in _WORTH_ASKING_AGAIN or outcome in GATEWAY_FAILURES:
        return text
    return (
        f"{text}; asked again after a second, then more and more rarely, up to every {limits.retry_refused / 1e9:g} s"
    )


def _status(
    plan: ModbusPlan, codes: NDArray[np.uint32] | None, wrong: Iterable[tuple[int, int]]
) -> tuple[StatusRun, ...]:
    if codes is None:
        codes = np.zeros(len(plan.layout), np.uint32)
    for tag, status in wrong:
        codes[tag] = codes[tag] or status
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
