"""The intake: from the broker to a topic of Kafka, byte for byte, with the name of the gateway as key.

It keeps nothing: the broker has its acknowledgement only once Kafka has the record on every copy that the topic asks
for, or once it is refused for good. While Kafka takes nothing, nothing more is read, and the broker holds what comes.
Two intakes of different names both take everything; a record that is in the topic twice costs bytes only.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import SystemRandom
from types import TracebackType
from typing import NoReturn, ParamSpec, Self, TypeVar

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import ConfigError
from edge.health import CertificateMonitor, HeldCertificate, IssuerStatus, RelayStatus, SinkStatus
from edge.kafka.client import KafkaAccess, KafkaUnreachable
from edge.kafka.producer import Outgoing, Sender
from edge.logs import get_logger
from edge.mqtt.access import BrokerAccess
from edge.relay.intake import LOG_AGAIN_AFTER_NS, Quarantine, mismatch
from edge.relay.receive import gateway_of
from edge.relay.relay import log_expiry
from edge.relay.source import FromBroker
from edge.relay.waiting import ReceivedMessage
from edge.seal import Garbage, parse
from edge.seal.record import ISSUER_PREFIX
from edge.tasks import task_group
from edge.tls import TlsFiles, in_use, with_peer

log = get_logger(__name__)

_CHECK_INTERVAL_S = 1.0
_RETRY_LIMIT_NS = 5 * 10**9  # Intakes are few.
_NAMES_LIMIT = 10_000  # A flood of invented names must not use memory.
_UNKNOWN = "unknown"

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class IntakePlan:
    """The settings of an intake, checked and ready for use.

    Attributes:
        gateways: the only ones that are received from; all where empty.
        quarantine: a directory for refused messages; None where they are dropped.
        metrics: the files with which metrics are served, for their expiry.
    """

    broker: BrokerAccess
    kafka: KafkaAccess
    topic: str
    partitions: int
    gateways: Sequence[str] = ()
    quarantine: Path | None = None
    quarantine_bytes: int = 64 * 2**20
    metrics: TlsFiles | None = None


class KafkaIntake:
    """Passes records on while its block is open and `run` runs."""

    def __init__(self, plan: IntakePlan, clock: Clock) -> None:
        self._chain: tuple[bytes, ...] = ()
        self._certificates = CertificateMonitor(log_expiry)
        self._plan = replace(plan, broker=replace(plan.broker, on_chain=self._note_chain))
        self._clock = clock
        self._source = FromBroker(self._plan.broker, clock, plan.gateways)
        self._sender = Sender(plan.kafka, plan.topic, plan.partitions)
        self._thread = ThreadPoolExecutor(1, "kafka")
        self._quarantine = Quarantine(plan.quarantine / "quarantine.cbor", plan.quarantine_bytes) if plan.quarantine \
            else None  # fmt: skip
        self._checks = 0
        self._sent, self._refused = Counter[str](), Counter[str]()
        self._arrived_ns: dict[str, int] = {}
        self._log_again_ns: dict[str, int] = {}
        self._kafka = SinkStatus(name="kafka", address=", ".join(plan.kafka.servers), reason="not connected yet")
        self._waits_since_ns: int | None = None

    async def __aenter__(self) -> Self:
        """Make the directory for refused messages. Raises ConfigError."""
        if (directory := self._plan.quarantine) is not None:
            try:
                await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(f"relay.quarantine: {directory} cannot be made: {error.strerror}") from error
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._sender.close()
        try:
            if self._quarantine is not None:
                await self._in_thread(self._quarantine.close)
        finally:
            self._thread.shutdown(wait=False)

    async def run(self) -> None:
        """Work until cancelled."""
        async with task_group() as tasks:
            tasks.create_task(self._source.run(self), name="receive")
            tasks.create_task(self._look(), name="kafka")
            tasks.create_task(self._certificates.run(self._held, self._clock.utc_ns), name="certificates")

    def progress(self) -> int:
        """A number that changes while the intake works, for the watchdog."""
        return self._checks

    @property
    def certificates(self) -> tuple[HeldCertificate, ...]:
        """Those that its connections depend on."""
        return self._certificates.held

    def status(self) -> RelayStatus:
        """How it is: Kafka is its only sink."""
        source = self._source.status
        waiting, now_ns = self._source.not_durable, self._clock.boot_ns()
        lag_ns = 0 if self._waits_since_ns is None else now_ns - self._waits_since_ns
        return RelayStatus(
            broker=source.address, state=source.state, reason=source.reason, code=source.code, not_durable=waiting,
            issuers=tuple(self._issuer(name, now_ns) for name in sorted(self._sent | self._refused)),
            sinks=(replace(self._kafka, records=self._sent.total(), refused=self._refused.total(), lag_ns=lag_ns),),
        )  # fmt: skip

    def _issuer(self, gateway: str, now_ns: int) -> IssuerStatus:
        arrived_ns = self._arrived_ns.get(gateway)
        return IssuerStatus(
            issuer=ISSUER_PREFIX + gateway, state="up", records=self._sent[gateway], rejected=self._refused[gateway],
            last_record_age_ns=None if arrived_ns is None else now_ns - arrived_ns,
        )  # fmt: skip

    async def keep(self, messages: Sequence[ReceivedMessage]) -> None:
        """See `edge.relay.source.Keeper`."""
        backoff = Backoff(SystemRandom(), limit_ns=_RETRY_LIMIT_NS)
        self._waits_since_ns = self._clock.boot_ns()
        left = await self._in_thread(self._sorted, messages)
        while left:
            before = left
            left, error = await self._in_thread(self._sender.send, left)
            self._note_sent(before, left)
            self._note_kafka(error)
            if left:
                await asyncio.sleep(backoff.next_ns() / 1e9)
        self._waits_since_ns = None

    def _sorted(self, messages: Sequence[ReceivedMessage]) -> list[Outgoing]:
        """What is passed on; the rest is refused."""
        outgoing = []
        for message in messages:
            try:
                reason = mismatch(parse(message.data).issuer, message.topic)
            except Garbage as error:
                reason = str(error)
            if reason:
                self._refuse(message, reason)
            else:
                key = gateway_of(message.topic).encode()
                outgoing.append(Outgoing(key, message.data, message.arrived_ns // 10**6))
        return outgoing

    def _refuse(self, message: ReceivedMessage, reason: str) -> None:
        gateway = self._counted(gateway_of(message.topic))
        self._refused[gateway] += 1
        if self._quarantine is not None:
            self._quarantine.put(message.data, verdict="REFUSED", reason=reason, topic=message.topic,
                                 arrived_ns=message.arrived_ns)  # fmt: skip
        if message.arrived_ns >= self._log_again_ns.get(gateway, 0):
            self._log_again_ns[gateway] = message.arrived_ns + LOG_AGAIN_AFTER_NS
            log.error("record refused", reason=reason, topic=message.topic, count=self._refused[gateway])

    def _note_sent(self, before: Sequence[Outgoing], left: Sequence[Outgoing]) -> None:
        now_ns = self._clock.boot_ns()
        for key, count in (Counter(each.key for each in before) - Counter(each.key for each in left)).items():
            gateway = self._counted(key.decode())
            self._sent[gateway] += count
            self._arrived_ns[gateway] = now_ns

    def _counted(self, gateway: str) -> str:
        is_known = gateway in self._sent or gateway in self._refused
        return gateway if is_known or len(self._sent) + len(self._refused) < _NAMES_LIMIT else _UNKNOWN

    def _note_kafka(self, error: KafkaUnreachable | None) -> None:
        reason, code = (str(error), str(error.code)) if error else ("", "")
        if reason == self._kafka.reason:  # Once, not on every attempt.
            return
        self._kafka = replace(self._kafka, state="down" if reason else "up", reason=reason, code=code)
        if reason:
            log.warning("sink lost", sink=self._kafka.name, reason=reason, code=code)
        else:
            log.info("sink connected", sink=self._kafka.name, address=self._kafka.address)
        self._certificates.check_soon()

    async def _look(self) -> NoReturn:
        """Say how it stands with Kafka before there is something to send, too."""
        while True:
            self._checks += 1
            if not self._source.not_durable:
                self._note_kafka(await self._in_thread(self._sender.look))
            await asyncio.sleep(_CHECK_INTERVAL_S)

    def _note_chain(self, chain: Sequence[bytes]) -> None:
        self._chain = tuple(chain)
        self._certificates.check_soon()

    async def _held(self) -> list[HeldCertificate]:
        plan, found = self._plan, list[HeldCertificate]()
        for part, files, chain in (("", plan.broker.tls, self._chain), ("kafka", plan.kafka.tls, ()),
                                   ("", plan.metrics, ())):  # fmt: skip
            if files is not None:
                ours = await asyncio.to_thread(in_use, files)
                found += [HeldCertificate(part, each) for each in with_peer(ours, chain, "the broker's")]
        return list({each.certificate: each for each in reversed(found)}.values())[::-1]

    async def _in_thread(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: function(*args, **kwargs))
