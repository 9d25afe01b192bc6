"""Where a relay's messages come from: a broker, whose acknowledgement waits until they are durable."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from secrets import SystemRandom
from typing import Literal, NoReturn, Protocol

from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable, ErrorCode
from edge.logs import get_logger
from edge.mqtt.access import BrokerAccess
from edge.relay.connection import Reconnecting
from edge.relay.receive import Arrival, Receiver, subscribe
from edge.relay.sinks.feed import InArchive
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage

log = get_logger(__name__)

SourceState = Literal["up", "down", "refused"]


OpenStore = Callable[[type[RelayStore]], RelayStore]
"""Opens an archive of a kind. Raises ConfigError."""


class Keeper(Protocol):
    """Makes messages durable."""

    async def keep(self, messages: Sequence[ReceivedMessage]) -> None:
        """Return once each message is durable, or refused for good."""


@dataclass(slots=True)
class SourceStatus:
    """How it stands with a source.

    Attributes:
        address: what it is called in logs and status.
        acknowledged: messages that are durable or refused for good.
    """

    address: str
    state: SourceState = "down"
    reason: str = "not connected yet"
    code: str = ""
    acknowledged: int = 0

    def connected(self) -> None:
        """It gives messages."""
        if self.state != "up":
            log.info("subscribed", broker=self.address)
        self.state, self.reason, self.code = "up", "", ""

    def lost(self, reason: str, code: ErrorCode | None, delay_s: float, *, is_refused: bool) -> None:
        """It gives none for this reason, and is tried again after a delay."""
        state: SourceState = "refused" if is_refused else "down"
        if (state, reason) != (self.state, self.reason):  # Once, not on every attempt.
            log.warning("broker lost", state=state, reason=reason, code=str(code or ""), retry_s=round(delay_s, 1))
        self.state, self.reason, self.code = state, reason, str(code or "")


class Source(Protocol):
    """Gives messages to a keeper, and lets go of them once they are kept."""

    status: SourceStatus

    @property
    def not_durable(self) -> int:
        """Number of messages received and not durable yet."""

    @property
    def behind(self) -> int | None:
        """Number of messages that are there and were not received yet, where that is known."""

    async def open(self, in_archive: InArchive, open_store: OpenStore) -> RelayStore:
        """Open the archive that its messages are kept in. Raises ConfigError."""

    async def run(self, keeper: Keeper) -> NoReturn:
        """Work until cancelled."""

    def close(self) -> None:
        """End what would outlive it."""


class FromBroker:
    """The MQTT broker: see `edge.relay.receive`."""

    behind = None

    def __init__(self, broker: BrokerAccess, clock: Clock, gateways: Collection[str] = ()) -> None:
        self._broker, self._clock, self._gateways = broker, clock, gateways
        self.status = SourceStatus(f"{broker.host}:{broker.port}")
        self._receiver: Receiver | None = None
        self._keeping = 0

    @property
    def not_durable(self) -> int:
        """See `Source.not_durable`."""
        return self._keeping + (self._receiver.waiting if self._receiver else 0)

    async def open(self, in_archive: InArchive, open_store: OpenStore) -> RelayStore:
        """See `Source.open`."""
        return await in_archive(open_store, RelayStore)

    def close(self) -> None:
        """See `Source.close`: nothing does."""

    async def run(self, keeper: Keeper) -> NoReturn:
        """See `Source.run`."""
        reconnecting = Reconnecting(self._clock, SystemRandom())
        while True:
            try:
                async with subscribe(self._broker, self._gateways) as self._receiver:
                    reconnecting.connected()
                    while True:
                        arrivals = await self._receiver.receive()
                        self.status.connected()
                        await self._keep(self._receiver, arrivals, keeper)
            except (BrokerRefused, BrokerUnreachable) as error:
                reason, delay_s = reconnecting.lost(error)
                self.status.lost(reason, error.code, delay_s, is_refused=isinstance(error, BrokerRefused))
                self._receiver = None
            await asyncio.sleep(delay_s)

    async def _keep(self, receiver: Receiver, arrivals: list[Arrival], keeper: Keeper) -> None:
        arrived_ns = self._clock.utc_ns()
        self._keeping = len(arrivals)
        await keeper.keep([ReceivedMessage(each.topic, each.data, arrived_ns) for each in arrivals if _is_record(each)])
        receiver.acknowledge(arrivals)
        self.status.acknowledged += len(arrivals)
        self._keeping = 0


def _is_record(arrival: Arrival) -> bool:
    return not arrival.topic.endswith("/status")
