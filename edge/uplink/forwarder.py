"""Keeps a connection to the broker and sends the stored records through it.

A record is delivered when the broker's PUBACK says so, and not before. After a connection has ended, records without
an acknowledgement are sent again, and so are those acknowledged shortly before: the broker may have accepted records
that its disk never saw.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from random import Random

import orjson

from edge.backoff import Backoff
from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable, ConfigError, ProtocolViolation
from edge.intervals import IntervalSet
from edge.mqtt.access import BrokerAccess
from edge.mqtt.connect import Will
from edge.mqtt.reason_codes import Reason
from edge.units import format_utc
from edge.uplink.mqtt import client
from edge.uplink.mqtt.client import Publisher
from edge.uplink.mqtt.session import MqttSession
from edge.uplink.reports import Report, Reports, UplinkSnapshot, UplinkState
from edge.uplink.sender import Delivery, Sender, Topics
from edge.uplink.source import RecordSource

_NS = 10**9
_DISCONNECT_S = 2.0
_STATUS = -1  # The status message among the probes of topics, where records have their number.


class Forwarder:
    """Sends a source's records to a broker, for as long as it runs."""

    def __init__(
        self,
        source: RecordSource,
        access: BrokerAccess,
        delivery: Delivery,
        *,
        clock: Clock,
        random: Random,
        report: Report,
    ) -> None:
        self._source, self._access, self._clock = source, access, clock
        self._topics = Topics(delivery.gateway)
        self._backoff = Backoff(random)
        self._reports = Reports(access.name, report)
        self._sender = Sender(
            source, delivery, clock=clock, random=random, backoff=self._backoff, reports=self._reports
        )
        self._changed = asyncio.Event()
        self._publisher: Publisher | None = None
        self._connects = 0
        self._is_will_retained = True
        self._is_status_owed = False
        self._is_renewed = False

    async def run(self) -> None:
        """Connect, send, and reconnect until cancelled; then disconnect gracefully."""
        while True:
            publisher = await self._connect()
            if publisher is not None:
                try:
                    await self._serve(publisher)
                finally:
                    await self._leave(publisher)
            await self._rest(self._backoff.next_ns(at_limit=self._reports.is_for_long))

    def wake(self) -> None:
        """Records may have become durable: send them. To be called in the event loop."""
        self._changed.set()

    def reconnect(self, access: BrokerAccess) -> None:
        """Leave the broker, and connect to it anew in this way. To be called in the event loop."""
        self._access, self._is_renewed = access, True
        self.wake()

    def resend(self, numbers: IntervalSet) -> None:
        """Send delivered records again, when nothing else waits."""
        self._sender.request(numbers)
        self.wake()

    def is_resending(self, numbers: IntervalSet) -> bool:
        """Whether some of these records are still to be sent or acknowledged."""
        return self._sender.is_resending(numbers)

    def snapshot(self) -> UplinkSnapshot:
        """The state of the uplink now."""
        sender, publisher = self._sender, self._publisher
        end = self._source.durable_end()
        counts, refused = sender.counts, sender.refused_topics()
        return UplinkSnapshot(
            broker=f"{self._access.host}:{self._access.port}",
            state=self._state(refused),
            reason=self._reports.refusals(refused) if publisher else self._reports.reason,
            code=self._reports.code_of_refusals(refused) if publisher else self._reports.code,
            connects=self._connects,
            acknowledged_at_ns=sender.acknowledged_at_ns,
            published=counts.published,
            published_bytes=counts.published_bytes,
            delivered=counts.delivered,
            delivered_bytes=counts.delivered_bytes,
            resent=counts.resent,
            in_flight=len(sender.in_flight),
            window=publisher.session.window if publisher else 0,
            waiting=sender.queue.count(end) + sender.topics.held,
            set_aside=sender.topics.held,
            unsendable=len(sender.queue.unsendable),
            to_resend=sender.queue.resend_count + sender.topics.held_resends,
            round_trip_ns=sender.rate.round_trip_ns,
            reason_codes=dict(sender.reason_codes),
            refused_topics=refused,
        )

    def oldest_waiting(self) -> int | None:
        """The lowest number that is not delivered; None where all are."""
        return self._sender.oldest_waiting()

    def discard_before(self, number: int) -> None:
        """Records below this number are no longer stored."""
        self._sender.discard_before(number)

    def _state(self, refused: Mapping[str, int]) -> UplinkState:
        if self._publisher is None:
            return "refused" if self._reports.is_refused else "down"
        if any(code >= 0x80 for code in refused.values()):
            return "refused"
        return "no_subscriber" if refused else "up"

    async def _connect(self) -> Publisher | None:
        self._is_renewed = False
        will = Will(self._topics.status, self._status(is_online=False), self._is_will_retained)
        try:
            publisher = await client.connect(self._access, clock=self._clock, on_change=self._on_change, will=will)
        except (BrokerRefused, BrokerUnreachable, ProtocolViolation, ConfigError) as error:
            if isinstance(error, BrokerRefused) and error.reason_code == Reason.RETAIN_NOT_SUPPORTED:
                self._is_will_retained = False
            self._reports.down(error, was_up=False)
            return None
        self._publisher = publisher
        self._connects += 1
        self._reports.up(publisher.session)
        return publisher

    async def _serve(self, publisher: Publisher) -> None:
        await self._sender.open(publisher.session)
        self._is_status_owed = True
        while publisher.is_open and not self._is_renewed:
            self._changed.clear()
            self._publish_status(publisher.session, is_online=True)
            await self._sender.send(publisher.session)
            wakeup_ns = self._sender.next_wakeup_ns()
            if publisher.is_open:
                await self._wait(None if wakeup_ns is None else wakeup_ns - self._clock.boot_ns())

    async def _leave(self, publisher: Publisher) -> None:
        try:
            if publisher.is_open:
                await self._disconnect(publisher)
            else:
                self._reports.down(publisher.ended.result(), was_up=True)
        finally:
            publisher.abort()
            self._publisher = None
            self._sender.close(publisher.session)

    async def _disconnect(self, publisher: Publisher) -> None:
        session = publisher.session
        self._is_status_owed = True
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCONNECT_S):
                while publisher.is_open:
                    self._changed.clear()
                    self._publish_status(session, is_online=False)
                    if not session.in_flight:
                        break
                    await self._changed.wait()
        if not self._is_status_owed:  # Else the broker publishes our will, which says the same.
            await publisher.disconnect_gracefully()

    async def _rest(self, delay_ns: int) -> None:
        until_ns = self._clock.boot_ns() + delay_ns
        while (left_ns := until_ns - self._clock.boot_ns()) > 0 and not self._is_renewed:
            self._changed.clear()
            await self._wait(left_ns)

    async def _wait(self, limit_ns: int | None) -> None:
        """Wait until `_changed` is set, or for a time."""
        if limit_ns is None:
            await self._changed.wait()
            return
        # A loop's timer may fire a millisecond early.
        timer = asyncio.get_running_loop().call_later(max(limit_ns, 0) / _NS + 0.001, self._changed.set)
        try:
            await self._changed.wait()
        finally:
            timer.cancel()

    def _on_change(self) -> None:
        """The publisher has received answers, may write again, or has ended."""
        self._sender.commit()
        self._changed.set()

    def _status(self, *, is_online: bool) -> bytes:
        newest = self._sender.newest
        return orjson.dumps({
            "online": is_online,
            "t": format_utc(self._clock.utc_ns(), decimals=3),
            "epoch": newest.epoch.hex() if newest else None,
            "seq": newest.seq if newest else None,
        })  # fmt: skip

    def _publish_status(self, session: MqttSession, *, is_online: bool) -> None:
        """Publish the status as soon as it may be: a refused one again after its topic's delay."""
        topic, topics = self._topics.status, self._sender.topics
        if self._is_status_owed and session.may_publish and topics.try_acquire(topic, _STATUS, self._clock.boot_ns()):
            self._is_status_owed = False
            session.publish(topic, self._status(is_online=is_online), self._status_answered, is_retained=True)

    def _status_answered(self, code: int) -> None:
        topic, topics = self._topics.status, self._sender.topics
        if code < 0x80:
            self._backoff.reset()
            if topics.accepted(topic) is not None:
                self._reports.topic(topic, Reason.SUCCESS)
        else:
            self._is_status_owed = True
            if topics.refused(topic, _STATUS, code, self._clock.boot_ns()):
                self._reports.topic(topic, code)
