"""A connection to a device that carries batches of requests in turn; what its frames look like is for subclasses."""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Collection, Sequence
from enum import Enum
from typing import TypeVar, cast

from drivers.modbus.codec import Request
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode, TidegateError, copied, ended
from edge.tls import explain

_VIOLATIONS_MAX = 8  # Of one scan.


class Fault(Enum):
    """Why a request has no data, other than by an exception code of the device."""

    UNANSWERED = "no answer"
    WRONG = "a wrong answer"
    SHORT = "an answer with less than was asked for"
    GARBLED = "an answer with a transmission error"


class RequestBatch:
    """The requests of one scan, and what came of each.

    Attributes:
        image: where the data of the answers goes.
        sent: how many of the requests have been sent, in their order.
        remaining: how many have no outcome yet.
        faults: the fault or exception code of each request that has no data.
        data: the answers that have no fixed length.
        doubts: ambiguous refusals of the request that is next.
    """

    __slots__ = ("answered_at_ns", "asked_at_ns", "data", "done", "doubts", "faults", "image", "remaining",
                 "requests", "sent", "timeout_s", "violations")  # fmt: skip

    def __init__(self, requests: Sequence[Request], image: bytearray, timeout_s: float) -> None:
        self.requests = requests
        self.image = image
        self.timeout_s = timeout_s
        self.sent = 0
        self.doubts = 0
        self.remaining = len(requests)
        self.faults: dict[Request, Fault | int] = {}
        self.data: dict[Request, bytes] = {}
        self.violations: list[str] = []
        self.asked_at_ns = 0
        self.answered_at_ns = 0
        self.done: asyncio.Future[None] | None = None

    @property
    def is_done(self) -> bool:
        """Whether it is complete, failed or cancelled."""
        return self.done is None or self.done.done()

    @property
    def is_unanswered(self) -> bool:
        """Whether the device answered nothing at all."""
        return len(self.faults) == len(self.requests) and all(
            fault is Fault.UNANSWERED for fault in self.faults.values()
        )

    @property
    def is_silent(self) -> bool:
        """Whether the device answered nothing that can be understood, and some of it not at all."""
        faults = self.faults.values()
        is_understood = len(faults) < len(self.requests) or not all(isinstance(fault, Fault) for fault in faults)
        return Fault.UNANSWERED in faults and not is_understood

    @property
    def is_answered_so_far(self) -> bool:
        """Whether the device answered something, and left nothing unanswered yet."""
        return len(self.requests) > self.remaining and Fault.UNANSWERED not in self.faults.values()

    def begin_again(self) -> None:
        """Forget every outcome."""
        self.faults.clear()
        self.sent, self.asked_at_ns, self.remaining = 0, 0, len(self.requests)

    def take_back(self, outstanding: Collection[Request]) -> None:
        """Put requests that were sent, and will not be answered, among those that are to be sent."""
        done = [request for request in self.requests[: self.sent] if request not in outstanding]
        self.requests = [*done, *outstanding, *self.requests[self.sent :]]
        self.sent = len(done)

    def fail_unsent(self) -> None:
        """Give the requests that were not sent yet the fault of being unanswered."""
        for request in self.requests[self.sent :]:
            self.faults[request] = Fault.UNANSWERED
            self.remaining -= 1
        self.sent = len(self.requests)


class Transport(asyncio.BaseProtocol):
    """Carries batches until the connection is lost. Subclasses: `TcpTransport`, and `SerialLine` for frames without
    transaction ids.

    Attributes:
        has_answered: whether the device ever answered.
        may_renew: whether the loss of the connection means no more than that a new one is needed.
        late: what the last late answer for each unit says of the timeout.
    """

    def __init__(self, name: str, clock: Clock) -> None:
        self.has_answered = self.may_renew = False
        self.late: dict[int, str] = {}
        self._name, self._clock = name, clock
        self._loop = asyncio.get_running_loop()
        self._queue: deque[RequestBatch] = deque()
        self._batch: RequestBatch | None = None
        self._violations: list[str] = []
        self._why_lost: TidegateError | None = None
        self._closed = self._loop.create_future()

    @property
    def is_lost(self) -> bool:
        """Whether the connection can carry nothing more."""
        return self._why_lost is not None

    async def transact(self, batch: RequestBatch) -> None:
        """Send the requests of a batch and wait for their outcomes; earlier batches come first.

        Raises:
            DeviceUnreachable: the connection is gone.
            DeviceRefused: the device ended it because of who we are.
            ProtocolViolation: the device sent what cannot be a Modbus answer.
        """
        if self._violations:
            batch.violations += self._violations
            self._violations.clear()
        if self._why_lost is not None:
            raise self._lost()
        batch.done = self._loop.create_future()
        self._accept(batch)
        try:
            await batch.done
        except asyncio.CancelledError:
            self._abandon(batch)
            raise

    async def close(self) -> None:
        """Close the connection, and wait until it is closed."""
        self.drop(DeviceUnreachable(f"{self._name}: the connection was closed by us"))
        await asyncio.shield(self._closed)

    def drop(self, why: TidegateError) -> None:
        """Abort the connection; all batches fail with this reason."""
        if self._why_lost is None:
            self._why_lost = why
            self._transport.abort()
            self._fail_all()

    def report_violation(self, violation: str) -> None:
        """Add a sentence to the batch that is under way, or to the next one."""
        self._add_violation(self._batch, violation)

    def _add_violation(self, batch: RequestBatch | None, violation: str) -> None:
        violations = batch.violations if batch is not None else self._violations
        if len(violations) < _VIOLATIONS_MAX:
            violations.append(violation)

    # What the event loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.BaseProtocol`."""
        self._transport = cast("asyncio.WriteTransport", transport)  # uvloop's class is not derived from it.
        self._write = self._transport.write

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._why_lost is None:
            batches = (self._batch, *self._queue)
            self.may_renew = self.has_answered or any(batch.is_answered_so_far for batch in batches if batch)
            self._why_lost = self._explain(exc)
            self._fail_all()
        if not self._closed.done():
            self._closed.set_result(None)

    def _explain(self, exc: Exception | None) -> TidegateError:
        if isinstance(exc, ssl.SSLError):
            return DeviceRefused(f"{self._name}: {explain(exc)}", code=ErrorCode.DEVICE_NOT_TRUSTED)
        if not self.has_answered and self._transport.get_extra_info("sslcontext") is not None:
            # With TLS 1.3 our side of the handshake is over before the device has looked at our certificate.
            return DeviceRefused(
                f"{self._name} closed the connection after the TLS handshake, without an answer: it may refuse our "
                "certificate, or have no room for one more client",
                code=ErrorCode.DEVICE_NOT_TRUSTED,
            )
        return ended(self._name, exc, has_answered=self.has_answered)

    # What subclasses do.

    def tells_apart(self, unit: int) -> bool:  # noqa: ARG002
        """Whether no late answer of a unit can be taken for that to another request, as many as there may be."""
        return True

    def _accept(self, batch: RequestBatch) -> None:
        """Begin a batch, or queue it."""
        raise NotImplementedError

    def _abandon(self, batch: RequestBatch) -> None:
        """Send no more of a batch that was cancelled."""
        raise NotImplementedError

    def _stop(self) -> None:
        """Cancel timers, and forget outstanding requests."""
        raise NotImplementedError

    # The end.

    def _lost(self) -> TidegateError:
        why = self._why_lost
        return DeviceUnreachable(f"{self._name} is not connected") if why is None else copied(why)

    def _fail_all(self) -> None:
        self._stop()
        waiting = [self._batch, *self._queue]
        self._batch = None
        self._queue.clear()
        for batch in waiting:
            if batch is not None and batch.done is not None and not batch.done.done():
                batch.done.set_exception(self._lost())


TransportT = TypeVar("TransportT", bound=Transport)
