"""A session with one device: plans in, readings out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from drivers.ethernetip import structures
from drivers.ethernetip.browse import Browser
from drivers.ethernetip.cip import Question
from drivers.ethernetip.connection import CipSession, RequestBatch
from drivers.ethernetip.controller_queries import BackgroundQueries, controller_identity
from drivers.ethernetip.decode import read_fragments
from drivers.ethernetip.plan import EtherNetIpPlan
from drivers.ethernetip.poll import PollState
from drivers.ethernetip.settings import EtherNetIpDevice, EtherNetIpTag
from drivers.ethernetip.symbols import SymbolTable
from edge.clock import Clock
from edge.driver import BrowseEntry
from edge.errors import ProtocolViolation
from edge.model import Identity, Reading

_ROUNDS_MAX = 40  # Of changed requests within one scan: nested structures, all of them refused.

ResultT = TypeVar("ResultT")


class EtherNetIpSession:
    """See `edge.driver.Session`."""

    def __init__(self, session: CipSession, device: EtherNetIpDevice, clock: Clock, symbol_table: SymbolTable) -> None:
        self._session, self._clock, self._symbol_table = session, clock, symbol_table
        self._name = session.connection.name
        self._background = BackgroundQueries(device, clock, symbol_table, self._name)
        self._polls: dict[EtherNetIpPlan, PollState] = {}
        self._browser = Browser(self, device)

    async def read(self, plan: EtherNetIpPlan) -> Reading:
        """See `edge.driver.Session.read`.

        When no byte changed since the last scan, `vectors` is the very same tuple as in the reading before.
        """
        poll, background = self._poll(plan), self._background
        device_time_ns: int | None = None
        for _ in range(_ROUNDS_MAX):
            batch = await self._run_scan(poll, background.question(plan))
            if background.device_time_ns is not None:
                device_time_ns = background.device_time_ns
            violations = self._take(poll, batch.answers)
            if violations is None:
                continue
            if background.violations:
                violations, background.violations = (*violations, *background.violations), []
            return Reading(
                poll.vectors, batch.asked_at_ns, batch.answered_at_ns, poll.status, violations, None, device_time_ns
            )
        raise ProtocolViolation(f"{self._name}: answers", "some that can be asked for", "refusals without an end")

    async def identity(self) -> Identity:
        """See `edge.driver.Session.identity`."""
        return await self.run(controller_identity())

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
            self._polls.pop(plan, None)

    async def run(self, questions: Generator[Question, bytes, ResultT]) -> ResultT:
        """Ask what a generator yields until it returns its result."""
        body: bytes | None = None
        while True:
            try:
                question = next(questions) if body is None else questions.send(body)
            except StopIteration as done:
                result: ResultT = done.value
                return result
            body = await self._session.ask(question)

    def _poll(self, plan: EtherNetIpPlan) -> PollState:
        poll = self._polls.get(plan)
        if poll is None:
            poll = self._polls[plan] = PollState(plan, self._name, self._session)
        if poll.generation != self._background.generation:
            poll.generation = self._background.generation
            poll.use_reads(structures.choose_reads(plan, self._symbol_table))
        elif poll.is_split:
            poll.retry_unsplit(self._clock.boot_ns())
        return poll

    async def _run_scan(self, poll: PollState, query: Question | None) -> RequestBatch:
        """Send all requests of a scan, and one background query."""
        asked_at_ns = self._clock.boot_ns()
        # Fragments first: the check for program changes must be the last request of a scan.
        fragmented = [await self.run(read_fragments(packet.reads[0])) for packet in poll.fragmented]
        batch = RequestBatch(poll.messages if query is None else (*poll.messages, self._session.routed(query)))
        if batch.messages:
            await self._session.run(batch)
        if query is not None:
            self._background.answered(batch.answers.pop())
        if fragmented or not batch.messages:
            batch.asked_at_ns, batch.answered_at_ns = asked_at_ns, self._clock.boot_ns()
        batch.answers += fragmented
        return batch

    def _take(self, poll: PollState, bodies: list[bytes]) -> tuple[str, ...] | None:
        """New violations of the scan; None when its requests changed and go out again."""
        try:
            violations = poll.take(bodies)
        except ProtocolViolation as error:
            self._session.connection.drop(error)
            raise
        if poll.is_mismatch:
            poll.is_mismatch = False
            self._background.check_soon()
        return violations
