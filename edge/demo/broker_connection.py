"""One client's connection to the embedded broker."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, cast

from edge.demo import broker_packets as packets
from edge.demo.broker_packets import Message
from edge.demo.broker_session import Session
from edge.uplink.mqtt.codec import Malformed, PacketType, Property, Splitter
from edge.uplink.mqtt.reason_codes import Reason

if TYPE_CHECKING:
    from edge.demo.broker import Broker

_PACKET_LIMIT_BYTES = 1024 * 1024
_OURS: dict[int, int] = {
    Property.RECEIVE_MAXIMUM: 64,
    Property.MAXIMUM_QOS: 1,
    Property.MAXIMUM_PACKET_SIZE: _PACKET_LIMIT_BYTES,
    Property.TOPIC_ALIAS_MAXIMUM: 16,
    Property.SUBSCRIPTION_IDENTIFIER_AVAILABLE: 0,
}


class Connection(asyncio.Protocol):
    """Reads a client's packets and writes its answers."""

    def __init__(self, broker: Broker) -> None:
        self.client_id = ""
        self.session: Session | None = None
        self.receive_maximum = 65_535
        self.packet_limit_bytes = 2**32
        self._broker = broker
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter(_PACKET_LIMIT_BYTES)
        self._aliases: dict[int, str] = {}
        self._is_paused = False
        self.will: Message | None = None
        self._will_delay_s = 0
        self._keep_alive_s = 0.0
        self._keep_alive: asyncio.TimerHandle | None = None
        self._has_heard = False
        self._received_bytes = self._sent_bytes = 0

    @property
    def is_writable(self) -> bool:
        """Whether the client takes more."""
        return not self._is_paused

    def write(self, data: bytes) -> None:
        """Send bytes, up to where the script cuts."""
        transport, cut = self._transport, self._broker.script.cut_after_sent
        if transport is None or transport.is_closing():
            return
        if cut is not None and self._sent_bytes + len(data) >= cut:
            transport.write(data[: cut - self._sent_bytes])
            transport.close()
            return
        self._sent_bytes += len(data)
        self._broker.sent_bytes = self._sent_bytes
        transport.write(data)

    def close(self, reason_code: int | None = None) -> None:
        """End the connection, with a DISCONNECT or at once."""
        if self._transport is None:
            return
        if reason_code is None:
            self._transport.abort()
        else:
            self.write(packets.encode_disconnect(reason_code))
            self._transport.close()
        self._leave()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._broker.opened(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """See `asyncio.Protocol`."""
        self._transport = None
        if self._keep_alive is not None:
            self._keep_alive.cancel()
        self._leave()
        self._broker.closed(self)

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_paused = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_paused = False
        if self.session is not None:
            self.session.pump()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        script = self._broker.script
        if script.is_mute or self._transport is None or self._transport.is_closing():
            return
        self._has_heard = True
        cut = script.cut_after_received
        if cut is not None and self._received_bytes + len(data) >= cut:
            data = data[: cut - self._received_bytes]
        self._received_bytes += len(data)
        try:
            for first_byte, body in self._splitter.feed(data):
                self._take(first_byte, body)
        except Malformed:
            self.close(Reason.MALFORMED_PACKET)
        if cut is not None and self._received_bytes >= cut:
            self.close()

    def _take(self, first_byte: int, body: bytes) -> None:
        kind, flags = first_byte >> 4, first_byte & 0x0F
        name = PacketType(kind).name if kind else "RESERVED"
        if (self.session is None) != (kind == PacketType.CONNECT):
            raise Malformed(f"{name} out of turn")
        if kind == PacketType.CONNECT:
            self._take_connect(body)
        self._broker.count(self.client_id, name)
        session = self.session
        if session is None or kind == PacketType.CONNECT:
            return
        if kind == PacketType.PUBLISH:
            self._take_publish(flags, body)
        elif kind == PacketType.PUBACK:
            session.acknowledged(packets.decode_puback(body)[0])
        elif kind == PacketType.SUBSCRIBE:
            self._take_subscribe(session, body)
        elif kind == PacketType.UNSUBSCRIBE:
            self._take_unsubscribe(session, body)
        elif kind == PacketType.PINGREQ:
            self.write(packets.PINGRESP)
        elif kind == PacketType.DISCONNECT:
            self._take_disconnect(session, body)
        else:
            raise Malformed(f"{name} is not offered")

    def _take_connect(self, body: bytes) -> None:
        script, connect = self._broker.script, packets.decode_connect(body)
        if connect.version != 5 or script.is_old:
            self.write(b"\x20\x02\x00\x01")  # CONNACK of MQTT 3.1.1: unacceptable protocol version.
            self._end()
            return
        self.client_id = connect.client_id or f"client-{id(self):x}"
        limits = {key: value for key, value in (_OURS | script.properties).items() if value is not None}
        assigned = {} if connect.client_id else {Property.ASSIGNED_CLIENT_IDENTIFIER: self.client_id}
        if script.consent:
            self.write(packets.encode_connack(script.consent, has_session=False, properties={}))
            self._end()
            return
        said = connect.properties.get
        self.receive_maximum = said(Property.RECEIVE_MAXIMUM, 65_535)
        self.packet_limit_bytes = said(Property.MAXIMUM_PACKET_SIZE, 2**32)
        self.will, self._will_delay_s = connect.will, connect.will_delay_s
        connect = replace(connect, client_id=self.client_id)
        has_session = self._broker.enter(self, connect, said(Property.SESSION_EXPIRY, 0))
        self.write(packets.encode_connack(0, has_session=has_session, properties=limits | assigned))
        self._keep_alive_s = limits.get(Property.SERVER_KEEP_ALIVE, connect.keep_alive_s) * 1.5
        if self._keep_alive_s:
            self._watch()
        if self.session is not None:
            self.session.connected(self)

    def _take_publish(self, flags: int, body: bytes) -> None:
        packet_id, message = packets.decode_publish(flags, body, self._aliases)
        code = self._broker.publish(self.client_id, message)
        if message.qos and code is not None:
            self.write(packets.encode_puback(packet_id, code))

    def _take_subscribe(self, session: Session, body: bytes) -> None:
        packet_id, wanted = packets.decode_subscribe(body)
        # The answer goes first: some clients take nothing before it.
        session.is_held = True
        codes = [self._broker.subscribe(session, subscription) for subscription in wanted]
        self.write(packets.encode_answer(PacketType.SUBACK, packet_id, codes))
        session.is_held = False
        session.pump()

    def _take_unsubscribe(self, session: Session, body: bytes) -> None:
        packet_id, filters = packets.decode_unsubscribe(body)
        codes = [0x00 if session.subscriptions.pop(name, None) else 0x11 for name in filters]
        self.write(packets.encode_answer(PacketType.UNSUBACK, packet_id, codes))

    def _take_disconnect(self, session: Session, body: bytes) -> None:
        code, properties = packets.decode_disconnect(body)
        session.expiry_s = properties.get(Property.SESSION_EXPIRY, session.expiry_s)
        if code == 0:
            self.will = None
        self._end()

    def _watch(self) -> None:
        self._has_heard = False
        self._keep_alive = asyncio.get_running_loop().call_later(self._keep_alive_s, self._check_heard)

    def _check_heard(self) -> None:
        if self._has_heard:
            self._watch()
        else:
            self.close(Reason.KEEP_ALIVE_TIMEOUT)

    def _end(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def _leave(self) -> None:
        session, self.session = self.session, None
        if session is not None and session.outlet is self:
            self._broker.leave(session, self.will, self._will_delay_s)
