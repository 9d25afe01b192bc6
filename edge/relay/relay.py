"""The relay: from the broker to the archive, and from there to the view.

A record is acknowledged to the broker only after it is durable in the archive. What arrives while one batch is being
synced makes the next one, so that the disk sets the pace and one sync serves many records.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal, ParamSpec, Self, TypeVar

from edge.clock import Clock, SystemClock
from edge.errors import BrokerRefused, BrokerUnreachable
from edge.logs import get_logger
from edge.relay.archivist import Archivist
from edge.relay.completeness import Change, Completeness, Missing
from edge.relay.intake import Message, Tally
from edge.relay.receive import RETRY_S_FIRST, Arrival, BrokerAddress, Receiver, pause, subscribed
from edge.relay.show import Show, ViewPlan

log = get_logger(__name__)

_LOOK_EVERY_S = 1.0
_SAVE_EVERY_S = 60.0

P = ParamSpec("P")
T = TypeVar("T")
BrokerState = Literal["up", "down", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayPlan:
    """What a relay needs to know.

    Attributes:
        trust: files and directories of trust anchors.
        heartbeat_ns: the longest silence of a gateway that is well.
        quarantine_bytes: bound of what is kept of refused messages.
    """

    archive: Path
    trust: Sequence[Path]
    broker: BrokerAddress
    view: ViewPlan | None = None
    heartbeat_ns: int = 10 * 10**9
    quarantine_bytes: int = 64 * 2**20


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayReport:
    """One gateway as the relay sees it; `missing_records` are neither here nor declared lost."""

    issuer: str
    tally: Tally
    missing_records: int
    declared_lost: int
    is_silent: bool
    last_record_age_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayReport:
    """A relay at one moment; `acknowledged` messages are durable or refused for good."""

    broker: str
    state: BrokerState
    reason: str
    acknowledged: int
    archived_records: int
    archived_bytes: int
    gateways: tuple[GatewayReport, ...]
    missing: tuple[Missing, ...]
    view_waiting: int = 0
    view_skipped: int = 0


class Relay:
    """Receives, verifies, archives and shows while its block is open and `run` runs."""

    def __init__(self, plan: RelayPlan, clock: Clock | None = None) -> None:
        self._plan = plan
        self._clock = clock or SystemClock()
        self._disk = ThreadPoolExecutor(1, "archive")
        self._completeness = Completeness(plan.heartbeat_ns)
        self._show: Show | None = None
        self._state: BrokerState = "down"
        self._reason = "not connected yet"
        self._looks = 0
        self._acknowledged = 0

    async def __aenter__(self) -> Self:
        """Open the archive, and take in what is there. Raises ConfigError."""
        plan = self._plan
        prefix = plan.view.prefix if plan.view else None
        try:
            self._archivist = await self._in_archive(
                Archivist, plan.archive, plan.trust, quarantine_bytes=plan.quarantine_bytes, view_prefix=prefix
            )
        except BaseException:
            self._disk.shutdown(wait=False)
            raise
        if plan.view is not None and self._archivist.follower is not None:
            self._show = Show(plan.view.broker, self._archivist.follower)
        for issuer in await self._in_archive(self._archivist.expected):
            self._archivist.intake.tallies.setdefault(issuer, Tally())
            self._completeness.heard(issuer, self._clock.boot_ns())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self._in_archive(self._archivist.close)
        finally:
            self._disk.shutdown(wait=False)
            if self._show is not None:
                self._show.close()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._receive(), name="receive")
            tasks.create_task(self._look(), name="look")
            tasks.create_task(self._save(), name="save")
            if self._show is not None:
                tasks.create_task(self._show.run(), name="view")

    def progress(self) -> int:
        """Changes while the relay is able to reach its archive."""
        return self._looks

    def report(self) -> RelayReport:
        """What there is to say now."""
        intake, follower = self._archivist.intake, self._archivist.follower
        return RelayReport(
            broker=f"{self._plan.broker.host}:{self._plan.broker.port}",
            state=self._state,
            reason=self._reason,
            acknowledged=self._acknowledged,
            archived_records=intake.archived_records,
            archived_bytes=intake.archived_bytes,
            gateways=tuple(self._gateway(issuer, tally) for issuer, tally in intake.tallies.items()),
            missing=self._completeness.missing,
            view_waiting=follower.unfinished if follower else 0,
            view_skipped=follower.skipped if follower else 0,
        )

    def _gateway(self, issuer: str, tally: Tally) -> GatewayReport:
        gaps = [gap for gap in self._completeness.missing if gap.issuer == issuer]
        return GatewayReport(
            issuer=issuer,
            tally=tally,
            missing_records=sum(gap.records for gap in gaps if not gap.is_declared),
            declared_lost=sum(gap.records for gap in gaps if gap.is_declared),
            is_silent=issuer in self._completeness.silent,
            last_record_age_ns=self._completeness.age_ns(issuer, self._clock.boot_ns()),
        )

    async def _receive(self) -> None:
        delay_s = RETRY_S_FIRST
        while True:
            try:
                async with subscribed(self._plan.broker) as receiver:
                    self._say("up", "")
                    delay_s = RETRY_S_FIRST
                    while True:
                        await self._keep(receiver, await receiver.batch())
            except BrokerRefused as error:
                self._say("refused", str(error))
            except BrokerUnreachable as error:
                self._say("down", str(error))
            delay_s = await pause(delay_s)

    async def _keep(self, receiver: Receiver, arrivals: list[Arrival]) -> None:
        arrived_ns = self._clock.utc_ns()
        messages = [Message(arrival.topic, arrival.data, arrived_ns) for arrival in arrivals if _is_record(arrival)]
        heard = await self._in_archive(self._archivist.take, messages)
        await self._sync()
        receiver.acknowledge(arrivals)
        self._acknowledged += len(arrivals)
        for one in heard:
            self._completeness.heard(one.issuer, self._clock.boot_ns(), is_stop=one.is_stop)
        if self._show is not None:
            self._show.wake()

    async def _sync(self) -> None:
        """Make what was taken durable, however long the disk refuses: the broker keeps what is not acknowledged."""
        delay_s = RETRY_S_FIRST
        while True:
            try:
                return await self._in_archive(self._archivist.sync)
            except OSError as error:
                log.error("archive cannot be written; nothing is acknowledged until it can", reason=str(error))  # noqa: TRY400
            delay_s = await pause(delay_s)

    async def _look(self) -> None:
        while True:
            missing = await self._in_archive(self._archivist.missing)
            self._looks += 1
            for change in self._completeness.changes(missing, self._clock.boot_ns()):
                _tell(change)
            await asyncio.sleep(_LOOK_EVERY_S)

    async def _save(self) -> None:
        while True:
            await asyncio.sleep(_SAVE_EVERY_S)
            try:
                await self._in_archive(self._archivist.save)
            except OSError as error:
                log.warning("snapshot not written; the next start reads more of the archive", reason=str(error))

    def _say(self, state: BrokerState, reason: str) -> None:
        if (state, reason) == (self._state, self._reason):
            return
        self._state, self._reason = state, reason
        if state == "up":
            log.info("subscribed", broker=self._plan.broker.host)
        else:
            log.warning("broker lost", state=state, reason=reason)

    async def _in_archive(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._disk, lambda: function(*args, **kwargs))


def _is_record(arrival: Arrival) -> bool:
    return not arrival.topic.endswith("/status")


def _tell(change: Change) -> None:
    """Log what changed, once."""
    gap = change.missing
    match change.kind, gap:
        case "opened", Missing(is_declared=True):
            log.warning("records lost, and declared so by the gateway", **gap._asdict())
        case "opened", Missing():
            log.warning("records missing", **gap._asdict())
        case "closed", Missing():
            log.info("records no longer missing", **gap._asdict())
        case "silent", _:
            log.warning("gateway silent: its tail is unknown", issuer=change.issuer)
        case _:
            log.info("gateway heard again", issuer=change.issuer)
