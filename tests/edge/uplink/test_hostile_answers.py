"""Random bytes in the place of a broker's answers: no crash, and nothing counts as delivered that was not."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import SystemClock
from edge.mqtt.codec import packet
from edge.uplink import BrokerAccess, Publisher

_CONNACK = packet(0x20, b"\x00\x00", b"\x00")
_CODES = st.sampled_from([0x00, 0x10, 0x80, 0x87, 0x97])
_answers = st.lists(st.tuples(st.integers(1, 8), _CODES), max_size=8)


class _Wire(asyncio.Transport):
    """A transport that goes nowhere."""

    def write(self, data: object) -> None:
        pass

    def abort(self) -> None:
        pass

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        pass


async def _receive(pieces: list[bytes]) -> tuple[Publisher, dict[int, int]]:
    access = BrokerAccess(host="127.0.0.1", port=1, client_id="x")
    publisher = Publisher(access, SystemClock(), lambda: None)
    publisher.connection_made(_Wire())
    publisher.data_received(_CONNACK)
    answers: dict[int, int] = {}
    for number in range(1, 9):
        publisher.session.publish("t", b"", lambda code, number=number: answers.setdefault(number, code))
    for piece in pieces:
        publisher.data_received(piece)
    publisher.connection_lost(None)
    return publisher, answers


@given(_answers, st.binary(max_size=60), st.integers(1, 20))
@settings(max_examples=300)
def test_random_bytes_after_answers_add_no_delivery(
    answers: list[tuple[int, int]], noise: bytes, piece_bytes: int
) -> None:
    good = {}
    stream = b""
    for packet_id, code in answers:
        if packet_id not in good:
            good[packet_id] = code
            stream += packet(0x40, packet_id.to_bytes(2, "big"), bytes((code,)) if code else b"")
    # What looks like an acknowledgement is one: keep those out of the noise.
    noise = noise.replace(b"\x40", b"\x41")

    stream += noise
    pieces = [stream[at : at + piece_bytes] for at in range(0, len(stream), piece_bytes)]
    _, found = asyncio.run(_receive(pieces))

    assert found.items() <= good.items()
    assert noise or found == good


@given(st.lists(st.binary(max_size=40), max_size=8))
@settings(max_examples=300)
def test_random_bytes_as_first_answer_never_open_the_connection(pieces: list[bytes]) -> None:
    async def run() -> bool:
        publisher = Publisher(BrokerAccess(host="h", port=1, client_id="x"), SystemClock(), lambda: None)
        publisher.connection_made(_Wire())
        for piece in pieces:
            publisher.data_received(piece)
        publisher.connection_lost(None)
        return publisher.is_open

    assert not asyncio.run(run())
