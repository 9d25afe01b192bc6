"""A conversation with one device: plans in, readings out."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import TypeVar

from drivers.ethernetip import structures
from drivers.ethernetip.browse import Browser
from drivers.ethernetip.cip import Question
from drivers.ethernetip.connection import Exchange, Link
from drivers.ethernetip.controller_queries import Errands, controller_identity
from drivers.ethernetip.decode import whole_of
from drivers.ethernetip.plan import EtherNetIpPlan
from drivers.ethernetip.poll import Scan
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.symbols import Directory
from edge.clock import Clock
from edge.driver import BrowseEntry
from edge.errors import ProtocolViolation
from edge.model import Identity, Reading

_ROUNDS_MAX = 40  # Of asking again in other words, within one scan: structures in structures, all refused.

ResultT = TypeVar("ResultT")


class EtherNetIpSession:
    """See `edge.driver.Session`."""

    def __init__(self, link: Link, device: EtherNetIpDevice, clock: Clock, directory: Directory) -> None:
        self._link, self._device, self._clock, self._directory = link, device, clock, directory
        self._name = link.connection.name
        self._errands = Errands(device, clock, directory, self._name)
        self._scans: dict[EtherNetIpPlan, Scan] = {}
        self._browser = Browser(self, device)

    async def read(self, plan: EtherNetIpPlan) -> Reading:
        """See `edge.driver.Session.read`.

        When no byte changed since the last scan, `vectors` is the very same tuple as in the reading before.
        """
        scan, errands = self._scan(plan), self._errands
        device_time_ns: int | None = None
        for _ in range(_ROUNDS_MAX):
            exchange = await self._carry(scan, errands.question(plan))
            if errands.device_time_ns is not None:
                device_time_ns = errands.device_time_ns
            told = self._take(scan, exchange.answers)
            if told is None:
                continue
            if errands.told:
                told, errands.told = (*told, *errands.told), []
            vectors, status = scan.reading()
            return Reading(vectors, exchange.asked_at_ns, exchange.answered_at_ns, status, told, None, device_time_ns)
        raise ProtocolViolation(f"{self._name}: answers", "some that can be asked for", "refusals without an end")

    async def identity(self) -> Identity:
        """See `edge.driver.Session.identity`."""
        return await self.run(controller_identity())

    async def browse(self, path: str) -> Sequence[BrowseEntry]:
        """See `edge.driver.Browsable.browse`."""
        return await self._browser.below(path)

    async def read_once(self, plan: EtherNetIpPlan) -> Reading:
        """Read a plan that is not read again."""
        try:
            return await self.read(plan)
        finally:
            self._scans.pop(plan, None)

    async def run(self, questions: Generator[Question, bytes, ResultT]) -> ResultT:
        """Ask what a generator yields until it has its result."""
        body: bytes | None = None
        while True:
            try:
                question = next(questions) if body is None else questions.send(body)
            except StopIteration as done:
                result: ResultT = done.value
                return result
            body = await self._link.ask(question)

    def _scan(self, plan: EtherNetIpPlan) -> Scan:
        scan = self._scans.get(plan)
        if scan is None:
            scan = self._scans[plan] = Scan(plan, self._name, self._link)
        if scan.generation != self._errands.generation:
            scan.generation = self._errands.generation
            scan.lay_out(structures.lay_out(plan, self._directory))
        elif scan.is_apart:
            scan.ask_together_again(self._clock.boot_ns())
        return scan

    async def _carry(self, scan: Scan, beside: Question | None) -> Exchange:
        """Everything of a scan, and one more question beside it."""
        asked_at_ns = self._clock.boot_ns()
        # Whether whole structures count is asked last.
        long = [await self.run(whole_of(packet.reads[0])) for packet in scan.long]
        exchange = Exchange(scan.messages if beside is None else (*scan.messages, self._link.wrapped(beside)))
        if exchange.messages:
            await self._link.carry(exchange)
        if beside is not None:
            self._errands.answered(exchange.answers.pop())
        if long or not exchange.messages:
            exchange.asked_at_ns, exchange.answered_at_ns = asked_at_ns, self._clock.boot_ns()
        exchange.answers += long
        return exchange

    def _take(self, scan: Scan, bodies: list[bytes]) -> tuple[str, ...] | None:
        """What the scan says; None when it has to be asked in other words."""
        try:
            told = scan.take(bodies)
        except ProtocolViolation as error:
            self._link.connection.drop(error)
            raise
        if scan.is_mismatch:
            scan.is_mismatch = False
            self._errands.hurry()
        return told
