"""A session with one device: plans in, readings out."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Sequence
from typing import TypeVar

from drivers.ethernetip import structures
from drivers.ethernetip.browse import Browser
from drivers.ethernetip.cip import Question
from drivers.ethernetip.connection import CipSession, RequestBatch
from drivers.ethernetip.controller_queries import BackgroundQueries, controller_identity
from drivers.ethernetip.decode import read_fragments
from drivers.ethernetip.plan import EtherNetIpPlan, Packet, Suspects
from drivers.ethernetip.poll import PollState
from drivers.ethernetip.settings import EtherNetIpDevice, EtherNetIpTag
from drivers.ethernetip.symbols import SymbolTable
from edge.clock import Clock
from edge.driver import BrowseEntry
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import Identity, Reading

_ROUNDS_MAX = 40  # Of changed requests within one scan: nested structures, all of them refused.
_LOSSES_MAX = 20  # Of sessions within one scan.
_LOSSES_WITHOUT_ANSWERS_MAX = 3
_TIMEOUTS_MAX = 3  # Within one scan: the first values do not wait any longer.

ResultT = TypeVar("ResultT")


class EtherNetIpSession:
    """See `edge.driver.Session`."""

    def __init__(
        self, session: CipSession, device: EtherNetIpDevice, clock: Clock, symbol_table: SymbolTable, suspects: Suspects
    ) -> None:
        self._session, self._device, self._clock = session, device, clock
        self._symbol_table, self._suspects = symbol_table, suspects
        self._name = session.connection.name
        self._background = BackgroundQueries(device, clock, symbol_table, self._name, suspects)
        self._polls: dict[EtherNetIpPlan, PollState] = {}
        self._browser = Browser(self, device, clock)
        self._is_alive = False  # Reads were answered since the connection was opened.
        self._asked: Packet | None = None  # The packet that is not answered yet.
        self._puts_off_from_ns = 0
        self._reopened_at_ns, self._is_reopened = 0, asyncio.Event()

    async def read(self, plan: EtherNetIpPlan) -> Reading:
        """See `edge.driver.Session.read`.

        When no byte changed since the last scan, `vectors` is the very same tuple as in the reading before. A
        connection that ends at a certain question is opened again to find out at which.
        """
        losses = 0
        if self._session.connection.is_lost:
            await self._reopen()  # The device closed it with nothing under way.
        poll, background = self._poll(plan), self._background
        for _ in range(_ROUNDS_MAX):
            try:
                batch = await self._run_scan(poll)
            except (DeviceUnreachable, ProtocolViolation) as error:
                losses += 1
                if not self._reads_on(poll, error, losses):
                    raise
                await self._reopen()
                continue
            violations = poll.take(batch.answers)
            if violations is None:
                continue
            self._is_alive = True
            if poll.is_mismatch:
                poll.is_mismatch = False
                background.check_soon()
            queried_ns = self._clock.boot_ns()
            if (query := background.question(plan)) is not None:
                await self._run_query(query)
            if self._session.notes or background.violations:
                violations = (*violations, *self._session.notes, *background.violations)
                self._session.notes, background.violations = [], []
            return Reading(
                poll.vectors, batch.asked_at_ns, batch.answered_at_ns, poll.status, violations, None,
                background.device_time_ns, (queried_ns, self._clock.boot_ns()),  # The clock is read after the values.
            )  # fmt: skip
        raise ProtocolViolation(f"{self._name}: answers", "some that can be asked for", "refusals without an end")

    async def identity(self) -> Identity | None:
        """See `edge.driver.Session.identity`."""
        if self._session.connection.is_lost:
            await self._reopen()
        try:
            return await self.run(controller_identity())
        except (DeviceUnreachable, ProtocolViolation):
            # It is only nice to know: where it cost the connection, the next scan opens another.
            return None if self._session.connection.is_lost else Identity()

    async def reconnected(self, since_ns: int) -> int:
        """See `edge.driver.Reconnecting.reconnected`."""
        while self._reopened_at_ns <= since_ns:
            self._is_reopened.clear()
            await self._is_reopened.wait()
        return self._reopened_at_ns

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """See `edge.driver.Browsable.browse`."""
        return await self._browser.browse(path)

    async def explain(self, tags: Sequence[EtherNetIpTag]) -> Sequence[str]:
        """See `edge.driver.Explains.explain`."""
        return await self._browser.explain(tags)

    async def read_once(self, plan: EtherNetIpPlan) -> Reading:
        """Read a plan that is not read again."""
        try:
            return await self.read(plan)
        finally:
            self.forget(plan)

    def forget(self, plan: EtherNetIpPlan) -> None:
        """See `edge.driver.Forgets.forget`."""
        self._polls.pop(plan, None)

    async def run(
        self, questions: Generator[Question, bytes, ResultT], before: Callable[[], Awaitable[None]] | None = None
    ) -> ResultT:
        """Ask what a generator yields until it returns its result; `before` is awaited before each question."""
        body: bytes | None = None
        while True:
            try:
                question = next(questions) if body is None else questions.send(body)
            except StopIteration as done:
                result: ResultT = done.value
                return result
            if before is not None:
                await before()
            body = await self._session.ask(question)

    def _poll(self, plan: EtherNetIpPlan) -> PollState:
        poll = self._polls.get(plan)
        if poll is None:
            poll = self._polls[plan] = PollState(plan, self._name, self._session, self._suspects)
        if poll.generation != self._background.generation:
            poll.generation = self._background.generation
            poll.use_reads(structures.choose_reads(plan, self._symbol_table))
        elif poll.is_split:
            poll.ask_together_again(self._clock.boot_ns())
        return poll

    async def _reopen(self) -> None:
        self._is_alive = False
        await self._session.reopen()
        self._reopened_at_ns = self._clock.boot_ns()
        self._is_reopened.set()
        for poll in self._polls.values():
            poll.rebuild()

    def _reads_on(self, poll: PollState, error: Exception, losses: int) -> bool:
        """Whether to read on in another connection after the loss of this one."""
        packet = self._asked
        if packet is None or not self._session.connection.is_lost or losses >= _LOSSES_MAX:
            return False
        if losses >= _LOSSES_WITHOUT_ANSWERS_MAX and not self._is_alive:
            return False
        if losses == 1:
            self._puts_off_from_ns = self._clock.boot_ns() + (_TIMEOUTS_MAX - 1) * self._device.limits.timeout
        puts_off = losses > 1 and self._clock.boot_ns() >= self._puts_off_from_ns
        return poll.suspect(packet, str(error), is_alive=self._is_alive, puts_off=puts_off)

    async def _run_scan(self, poll: PollState) -> RequestBatch:
        """Send all requests of a scan."""
        batch, fragmented, late = RequestBatch(poll.messages), list[bytes](), list[Packet]()
        if poll.fragmented:  # First: the check for program changes must be the last request of a scan.
            asked_at_ns = self._clock.boot_ns()
            late = [packet for packet in poll.fragmented if poll.is_suspect(packet)]
            fragmented = await self._read_fragments([packet for packet in poll.fragmented if packet not in late])
        if batch.messages:
            try:
                await self._session.run(batch)
            except (DeviceUnreachable, ProtocolViolation):
                self._is_alive |= bool(batch.answers)
                poll.clear(poll.short[: len(batch.answers)])
                self._asked = poll.short[len(batch.answers)] if len(batch.answers) < len(poll.short) else None
                raise
        if poll.fragmented:
            batch.answers += [*fragmented, *await self._read_fragments(late)]
            batch.asked_at_ns, batch.answered_at_ns = asked_at_ns, self._clock.boot_ns()
        elif not batch.messages:
            batch.asked_at_ns = batch.answered_at_ns = self._clock.boot_ns()
        return batch

    async def _read_fragments(self, packets: Sequence[Packet]) -> list[bytes]:
        answers = []
        for self._asked in packets:
            answers.append(await self.run(read_fragments(self._asked.reads[0])))
            self._is_alive = True
        return answers

    async def _run_query(self, question: Question) -> None:
        """Send one background query, whose loss costs the scan nothing."""
        try:
            self._background.answered(await self._session.ask(question))
        except (DeviceUnreachable, ProtocolViolation) as error:
            if not self._session.connection.is_lost:
                raise
            self._background.lost(question, error)
