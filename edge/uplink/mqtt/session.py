"""The protocol of a publish-only MQTT 5 client: bytes in, acknowledgements and bytes out.

    CONNECTING    no CONNACK yet; any other packet is a violation (MQTT 5.0, section 3.1.4)
    OPEN          the broker has accepted the connection and answers
    PING_SENT     as OPEN; PINGREQ was sent after half a keep-alive of silence (section 3.1.2.10)
    CLOSED        final, `error` says why

    CONNECTING -> OPEN         CONNACK with reason code 0 and limits that we can work with
    OPEN -> PING_SENT          `check_keep_alive` after nothing was received since the last check
    PING_SENT -> OPEN          any bytes
    any -> CLOSED              a refusal, DISCONNECT, a packet that the table below does not allow in this state or that
                               is malformed, no answer to PINGREQ, no PUBACK for two keep-alives, a PUBACK for a message
                               sent that much later than one without, `disconnect`, `close`

A message is acknowledged at most once, whatever the broker repeats, and never after CLOSED. The class does no I/O and
knows no event loop.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, ClassVar

from edge.clock import Clock
from edge.errors import BrokerRefused, BrokerUnreachable, ProtocolViolation, TidegateError
from edge.mqtt import codec, reason_codes
from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import MalformedPacket, PacketType, Property, PublishTopic
from edge.mqtt.connect import BrokerLimits, Connack, Will, decode_connack, encode_connect
from edge.mqtt.reason_codes import Reason

_LOGGED_BYTES = 64

OnAnswer = Callable[[int], None]
"""Receives the reason code of a PUBACK; not called when the connection ends first."""
Acknowledgement = tuple[OnAnswer, int]
"""What to call for one PUBACK, and its reason code."""
_Handlers = Mapping[int, Callable[[Any, bytes], Acknowledgement | None]]


class State(Enum):
    """States of a connection; see the head of this file."""

    CONNECTING = "connecting"
    OPEN = "open"
    PING_SENT = "ping sent"
    CLOSED = "closed"


class MqttSession:
    """One connection to a broker, without its transport.

    Attributes:
        error: why the connection has ended; None before that.
        limits: what the broker announced.
        window: how many messages may be unacknowledged at once; 0 unless the connection is open.
        is_writable: whether the transport accepts more; set by the transport.
        received_at_ns: boot time of the last bytes received.
    """

    def __init__(self, access: BrokerAccess, clock: Clock, on_output: Callable[[], object]) -> None:
        """`on_output` is called when there is output after there was none."""
        self._enter(State.CONNECTING)
        self.error: TidegateError | None = None
        self.limits = BrokerLimits(keep_alive_s=access.keep_alive_s)
        self.window = 0
        self.is_writable = True
        self.received_at_ns = self._answered_at_ns = self._checked_at_ns = clock.boot_ns()
        self._access, self._clock, self._on_output = access, clock, on_output
        self._splitter = codec.Splitter(codec.INBOUND_LIMIT_BYTES, codec.INBOUND_FIRST_BYTES)
        self._in_flight: dict[int, tuple[OnAnswer, PublishTopic, int]] = {}  # By packet, in the order sent; with when.
        self._topics: dict[str, PublishTopic] = {}
        self._packet_id = self._highest_packet_id = 0
        self._output: list[bytes] = []

    @property
    def in_flight(self) -> int:
        """How many messages are unacknowledged."""
        return len(self._in_flight)

    @property
    def may_publish(self) -> bool:
        """Whether the window has room and the transport accepts more."""
        return len(self._in_flight) < self.window and self.is_writable

    def packet_bytes(self, topic: str, payload_bytes: int) -> int:
        """An upper bound of the size of a PUBLISH, to compare with `limits.packet_bytes`."""
        return payload_bytes + len(topic.encode()) + 16

    def publish(self, topic: str, payload: bytes, on_answer: OnAnswer, *, is_retained: bool = False) -> None:
        """Send one message with QoS 1; only while `may_publish`."""
        known = self._topics.get(topic) or self._add_topic(topic)
        packet_id = self._packet_id
        while True:
            packet_id = packet_id % 0xFFFF + 1
            if packet_id not in self._in_flight:
                break
        self._packet_id = packet_id
        self._highest_packet_id = max(self._highest_packet_id, packet_id)
        now_ns = self._clock.boot_ns()
        if not self._in_flight:
            self._answered_at_ns = now_ns
        self._in_flight[packet_id] = on_answer, known, now_ns
        retain = is_retained and self.limits.is_retaining
        self._write(known.encode_head(packet_id, len(payload), is_retained=retain))
        self._output.append(payload)

    def send_connect(self, will: Will | None) -> None:
        """Send CONNECT."""
        # Without problem information a refusal is only its code, and no answer can be long.
        properties: dict[int, Any] = {
            Property.SESSION_EXPIRY: 0,
            Property.RECEIVE_MAXIMUM: 1,
            Property.MAXIMUM_PACKET_SIZE: codec.INBOUND_LIMIT_BYTES,
            Property.REQUEST_PROBLEM_INFORMATION: 0,
        }
        self._write(encode_connect(self._access, properties, will=will))

    def disconnect(self) -> None:
        """Send DISCONNECT, so that the broker does not publish our will, and close."""
        self._write(codec.encode_disconnect())
        self.close(BrokerUnreachable(f"{self._access.name}: disconnected"))

    def close(self, error: TidegateError) -> None:
        """The connection has ended; the first reason counts."""
        if self.state is not State.CLOSED:
            self._enter(State.CLOSED)
            self.error, self.window = error, 0

    def take_output(self) -> bytes:
        """What has to be sent, in one piece; empty when there is nothing."""
        output = b"".join(self._output)
        self._output.clear()
        return output

    def receive(self, data: bytes) -> list[Acknowledgement]:
        """Process received bytes; the acknowledgements among them, in order. `state` may be CLOSED afterwards."""
        self.received_at_ns = self._clock.boot_ns()
        if self.state is State.PING_SENT:
            self._enter(State.OPEN)
        answers: list[Acknowledgement] = []
        body = b""
        try:
            for first_byte, body in self._splitter.feed(data):
                handler = self._handlers.get(first_byte)
                if handler is None:
                    self._refuse_packet(first_byte, body)
                elif (answer := handler(self, body)) is not None:
                    answers.append(answer)
                if self.error is not None:
                    break
        except MalformedPacket as error:
            self._refuse("packet", "MQTT 5", str(error), body or data)
        return answers

    def check_keep_alive(self) -> None:
        """Ping a silent broker, or close; to be called twice in each keep-alive (section 3.1.2.10)."""
        # A stopped broker keeps its connection open and accepts bytes for a while: only an answer proves it alive.
        silence_ns = self._clock.boot_ns() - self._answered_at_ns
        if self._in_flight and silence_ns > self._patience_ns:
            self.close(BrokerUnreachable(f"{self._access.name} answers pings but acknowledges nothing"))
        elif self._checked_at_ns != self.received_at_ns:
            self._checked_at_ns = self.received_at_ns
        elif self.state is State.PING_SENT:
            self.close(BrokerUnreachable(f"{self._access.name} stopped answering"))
        else:
            self._enter(State.PING_SENT)
            self._write(codec.PINGREQ)

    def _enter(self, state: State) -> None:
        self.state = state
        self._handlers = self._HANDLERS[state]

    def _connack(self, body: bytes) -> None:
        name = self._access.name
        if len(body) == 2:  # MQTT 3.1.1 knows no properties.
            text = f"{name} does not speak MQTT 5; without it a refusal would look like success"
            self.close(BrokerRefused(text, Reason.UNSUPPORTED_PROTOCOL_VERSION))
            return
        connack = decode_connack(body)
        refusal = _refusal(connack)
        if refusal is not None:
            self.close(BrokerRefused(f"{name} {refusal[0]}", refusal[1]))
            return
        self.limits = BrokerLimits.of(connack, self._access.keep_alive_s)
        self.window = min(self._access.in_flight, self.limits.receive_maximum)
        self._checked_at_ns = self.received_at_ns
        self._enter(State.OPEN)

    @property
    def _patience_ns(self) -> int:
        return 2 * self.limits.keep_alive_s * 10**9

    def _puback(self, body: bytes) -> Acknowledgement | None:
        packet_id, code = codec.decode_puback(body)
        sent = self._in_flight.get(packet_id)
        if sent is None:
            # A broker that acknowledges twice does no harm; only what was never sent cannot be acknowledged.
            if not 0 < packet_id <= self._highest_packet_id:
                self._refuse("PUBACK", "an identifier that was sent", packet_id, body)
            return None
        if code < 0x80 and code not in (Reason.SUCCESS, Reason.NO_MATCHING_SUBSCRIBERS):
            self._refuse("PUBACK", "a reason code", f"0x{code:02X}", body)
            return None
        del self._in_flight[packet_id]
        self._answered_at_ns = self.received_at_ns
        on_answer, topic, sent_at_ns = sent
        if code < 0x80 and topic.alias:
            topic.is_alias_known = True
        # PUBACKs come in the order of the messages (MQTT-4.6.0-2): one that was left out would be waited for forever.
        if self._in_flight and sent_at_ns - next(iter(self._in_flight.values()))[2] > self._patience_ns:
            self.close(BrokerUnreachable(f"{self._access.name} acknowledges messages, but left one out"))
        return on_answer, code

    def _pingresp(self, body: bytes) -> None:
        if body:
            self._refuse_packet(PacketType.PINGRESP << 4, body)

    def _disconnect(self, body: bytes) -> None:
        code, properties = codec.decode_disconnect(body)
        self.close(BrokerRefused(f"{self._access.name} {_explain(code, properties)}", code))

    def _refuse_packet(self, first_byte: int, body: bytes) -> None:
        expected = "CONNACK" if self.state is State.CONNECTING else "PUBACK, PINGRESP or DISCONNECT"
        self._refuse("packet", expected, codec.packet_name(first_byte), bytes((first_byte,)) + body)

    def _refuse(self, what: str, expected: str, got: object, data: bytes) -> None:
        self.close(ProtocolViolation(f"{self._access.name}: {what}", expected, got, data[:_LOGGED_BYTES]))

    def _add_topic(self, topic: str) -> PublishTopic:
        used = len(self._topics)
        known = PublishTopic(topic, used + 1 if used < self.limits.topic_aliases else 0)
        self._topics[topic] = known
        return known

    def _write(self, data: bytes) -> None:
        if not self._output:
            self._on_output()
        self._output.append(data)

    _OPEN: ClassVar[_Handlers] = {
        PacketType.PUBACK << 4: _puback,
        PacketType.PINGRESP << 4: _pingresp,
        PacketType.DISCONNECT << 4: _disconnect,
    }
    # Which packets are allowed in which state, by their first byte.
    _HANDLERS: ClassVar[Mapping[State, _Handlers]] = {
        State.CONNECTING: {PacketType.CONNACK << 4: _connack},
        State.OPEN: _OPEN,
        State.PING_SENT: _OPEN,
        State.CLOSED: {},
    }


def _refusal(connack: Connack) -> tuple[str, int] | None:
    """Why this CONNACK does not open the connection, with its reason code. Raises `MalformedPacket`."""
    code = connack.reason_code
    if code:
        return f"refused the connection: it {_explain(code, connack.properties)}", code
    if connack.has_session:
        raise MalformedPacket("CONNACK has a session although a clean start was asked for")
    if not connack.properties.get(Property.MAXIMUM_QOS, 1):
        return "takes QoS 0 only: without acknowledgements nothing could count as delivered", 0x9B
    return None


def _explain(code: int, properties: Mapping[int, Any]) -> str:
    server, quoted = properties.get(Property.SERVER_REFERENCE, ""), properties.get(Property.REASON_STRING, "")
    return reason_codes.explain(code, server, quoted)
