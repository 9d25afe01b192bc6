"""Each reason code of each packet, and each byte at which an answer may end: only a PUBACK 0x00 is a delivery.

The broker is written down here byte by byte; sender and session are the real ones, without sockets.
"""

from __future__ import annotations

from random import Random

import pytest

from edge.backoff import Backoff
from edge.errors import BrokerRefused, BrokerUnreachable, ProtocolViolation
from edge.mqtt.codec import packet
from edge.testing.clock import ManualClock
from edge.uplink import BrokerAccess
from edge.uplink.mqtt.session import MqttSession, State
from edge.uplink.reports import Reports
from edge.uplink.sender import Delivery, Sender
from tests.support.source import MemorySource, unsigned_record

CONNACK = packet(0x20, b"\x00\x00", b"\x00")
CODES = range(256)
KEEP_ALIVE_S = 30
_S = 10**9


class Uplink:
    """A sender with some records on one connection after the other."""

    def __init__(self, records: int = 3, *, in_flight: int = 64, is_in_order: bool = True) -> None:
        self.clock = ManualClock()
        self.source = MemorySource(unsigned_record(seq) for seq in range(records))
        self.access = BrokerAccess(host="b", port=1, client_id="x", keep_alive_s=KEEP_ALIVE_S, in_flight=in_flight)
        random = Random(1)
        self.sender = Sender(
            self.source, Delivery(gateway="g", is_in_order=is_in_order), clock=self.clock, random=random,
            backoff=Backoff(random), reports=Reports("b", lambda kind, severity, data: None),
        )  # fmt: skip
        self.connect()

    def connect(self) -> None:
        self.session = MqttSession(self.access, self.clock, on_output=lambda: None)
        self.session.send_connect(None)

    def receive(self, data: bytes) -> None:
        for on_answer, code in self.session.receive(data):
            on_answer(code)

    def accept(self) -> None:
        """The broker takes the connection, and the records go."""
        self.receive(CONNACK)
        _run(self.sender.open(self.session))
        _run(self.sender.send(self.session))

    def delivered(self) -> set[int]:
        """What the source was told is delivered, once the connection is over."""
        self.session.close(BrokerUnreachable("cut"))
        self.sender.close(self.session)
        return self.source.acknowledged


def _run(coroutine: object) -> None:
    """Run what never really waits: the source is in memory."""
    with pytest.raises(StopIteration):
        coroutine.send(None)  # type: ignore[attr-defined]


def puback(packet_id: int, code: int = 0) -> bytes:
    return packet(0x40, packet_id.to_bytes(2, "big"), bytes((code, 0)))


@pytest.mark.requirement("REQ-SEND-02")
def test_of_all_codes_of_a_puback_only_success_delivers() -> None:
    outcomes = {}
    for code in CODES:
        uplink = Uplink()
        uplink.accept()
        uplink.receive(puback(1, code))
        outcomes[code] = type(uplink.session.error), uplink.sender.reason_codes[code], uplink.delivered()

    known = {code for code in CODES if code in (0x00, 0x10) or code >= 0x80}
    assert [code for code in CODES if outcomes[code][2]] == [0x00]
    assert {code for code in CODES if outcomes[code][:2] == (type(None), 1)} == known
    assert {code for code in CODES if outcomes[code][:2] == (ProtocolViolation, 0)} == set(CODES) - known


def test_what_was_refused_with_any_code_is_delivered_once_the_broker_takes_it() -> None:
    for code in (0x10, *range(0x80, 0x100)):
        uplink = Uplink()
        uplink.accept()
        for packet_id in (1, 2, 3):
            uplink.receive(puback(packet_id, code))
        assert uplink.delivered() == set()
        for _ in uplink.source.records:
            uplink.clock.advance_ns(61 * _S)
            uplink.connect()
            uplink.accept()
            for packet_id in (1, 2, 3):
                uplink.receive(puback(packet_id))
            _run(uplink.sender.send(uplink.session))
            for packet_id in (2, 3, 4):
                uplink.receive(puback(packet_id))
            uplink.delivered()
        assert uplink.delivered() == {0, 1, 2}, hex(code)


def test_of_all_codes_of_a_connack_only_success_opens_and_none_delivers() -> None:
    outcomes = {}
    for code in CODES:
        uplink = Uplink()
        uplink.receive(packet(0x20, bytes((0, code)), b"\x00"))
        outcomes[code] = uplink.session.state, type(uplink.session.error), uplink.delivered()

    assert [code for code in CODES if outcomes[code][0] is State.OPEN] == [0x00]
    assert {outcomes[code][1] for code in CODES if code >= 0x80} == {BrokerRefused}
    assert all(not delivered for _, _, delivered in outcomes.values())


def test_a_goodbye_with_any_code_ends_the_connection_and_delivers_nothing() -> None:
    for code in CODES:
        uplink = Uplink()
        uplink.accept()
        uplink.receive(packet(0xE0, bytes((code,)), b"\x00"))

        assert uplink.session.state is State.CLOSED, hex(code)
        assert uplink.delivered() == set(), hex(code)
        uplink.connect()
        uplink.accept()
        # Of what is too large the likeliest is not tried again: the first.
        for packet_id in (1, 2, 3):
            uplink.receive(puback(packet_id))
        assert len(uplink.delivered()) == (2 if code == 0x95 else 3), hex(code)


@pytest.mark.parametrize("piece_bytes", [1, 2, 3, 1000])
def test_answers_that_end_at_any_byte_deliver_what_was_whole(piece_bytes: int) -> None:
    """CONNACK, then three PUBACKs of every form that the standard allows (section 3.4.2.1)."""
    pubacks = [packet(0x40, b"\x00\x01"), packet(0x40, b"\x00\x02", b"\x00"), puback(3)]
    whole_at = [len(CONNACK) + sum(map(len, pubacks[: n + 1])) for n in range(3)]
    stream = CONNACK + b"".join(pubacks)
    for end in range(len(stream) + 1):
        uplink = Uplink()
        for at in range(0, end, piece_bytes):
            uplink.receive(stream[at : min(at + piece_bytes, end)])
            if uplink.session.state is State.OPEN and not uplink.sender.in_flight and not uplink.source.acknowledged:
                _run(uplink.sender.open(uplink.session))
                _run(uplink.sender.send(uplink.session))
        if piece_bytes < len(CONNACK):
            assert len(uplink.delivered()) == sum(end >= each for each in whole_at), end
        else:  # An acknowledgement of what was never sent.
            assert uplink.delivered() == set()


def test_a_puback_that_is_left_out_ends_the_connection_and_its_record_goes_again() -> None:
    """Some device between swallowed it, or the broker did: later ones come, so that silence alone would not tell."""
    uplink = Uplink(200, in_flight=2)
    uplink.accept()
    for packet_id in range(2, 200):
        if uplink.session.state is State.CLOSED:
            break
        uplink.clock.advance_ns(_S)
        uplink.receive(puback(packet_id))
        _run(uplink.sender.send(uplink.session))

    assert "left one out" in str(uplink.session.error)
    assert 2 * KEEP_ALIVE_S <= packet_id <= 2 * KEEP_ALIVE_S + 4
    assert 0 not in uplink.delivered()
    uplink.connect()
    uplink.accept()
    uplink.receive(puback(1))
    assert 0 in uplink.delivered()


def test_a_slow_broker_that_acknowledges_in_order_is_not_taken_for_one_that_leaves_out() -> None:
    uplink = Uplink(50)
    uplink.accept()
    for packet_id in range(1, 51):
        uplink.clock.advance_ns(KEEP_ALIVE_S * _S)
        uplink.receive(puback(packet_id))
        uplink.session.check_keep_alive()

    assert uplink.session.error is None
    assert uplink.delivered() == set(range(50))
