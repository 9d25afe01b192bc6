"""The conversation with a device as bytes and events, without a network."""

from __future__ import annotations

import struct

import pytest

from drivers.ethernetip import cip
from drivers.ethernetip.cip import ForwardOpen
from drivers.ethernetip.encapsulation import EncapsulationClient, Event, Request, State, connected_frame
from edge.errors import DeviceRefused, ProtocolViolation

FORWARD_OPEN = ForwardOpen(target_id=7, serial=1, vendor=2, originator=3, route=b"", size=504, interval_us=10**6)
QUESTION = cip.get_all(cip.IDENTITY, 1)
GRANTED = struct.pack("<BBBBIIHHI", 0xD4, 0, 0, 0, 99, 7, 1, 2, 3)


def events_of(client: EncapsulationClient, received: bytes) -> list[Event]:
    client.free_space()[: len(received)] = received
    events = [client.next_event(len(received))]
    while events[-1] is not None:
        events.append(client.next_event())
    return [event for event in events if event is not None]


def unconnected_answer(asked: bytes, data: bytes) -> bytes:
    head = asked[:2] + struct.pack("<H", 16 + len(data)) + asked[4:24]
    return head + struct.pack("<IHHHHHH", 0, 0, 2, 0, 0, 0xB2, len(data)) + data


def registered() -> EncapsulationClient:
    client = EncapsulationClient("plc", first_context=100)
    client.request(Request.REGISTER)
    assert events_of(client, struct.pack("<HHII8sIHH", 0x65, 4, 5, 0, bytes(8), 0, 1, 0)) == [b"\x01\0\0\0"]
    return client


def connected() -> EncapsulationClient:
    client = registered()
    asked = client.request(Request.FORWARD_OPEN, FORWARD_OPEN.open_request())
    (body,) = events_of(client, unconnected_answer(asked, GRANTED))
    assert isinstance(body, bytes)
    client.open_connection(FORWARD_OPEN, body)
    return client


def test_each_state_permits_its_own_requests() -> None:
    """A question cannot leave before there is a session, nor anything after the end."""
    client = EncapsulationClient("plc", first_context=100)
    with pytest.raises(KeyError):
        client.request(Request.QUESTION, QUESTION)
    assert registered().state is State.REGISTERED
    client = connected()
    with pytest.raises(KeyError):
        client.request(Request.REGISTER)
    assert client.request(Request.QUESTION, QUESTION) == connected_frame(5, 99, 1, QUESTION.data)
    assert (client.close()[:2], client.state) == (b"\x66\0", State.CLOSED)
    with pytest.raises(KeyError):
        client.request(Request.QUESTION, QUESTION)


def test_a_refused_forward_open_leaves_the_session_unconnected() -> None:
    client = registered()
    asked = client.request(Request.FORWARD_OPEN, FORWARD_OPEN.open_request())
    (body,) = events_of(client, unconnected_answer(asked, b"\xd4\0\x01\x01\x13\x01"))
    assert isinstance(body, bytes)

    reply = client.open_connection(FORWARD_OPEN, body)

    assert (reply.status, reply.extended, client.state) == (1, 0x0113, State.REGISTERED)


def test_a_closed_connection_leaves_the_session() -> None:
    client = connected()
    asked = client.request(Request.FORWARD_CLOSE, FORWARD_OPEN.close_request())

    events = events_of(client, unconnected_answer(asked, b"\xce\0\0\0"))

    assert (events, client.state) == ([b"\xce\0\0\0"], State.REGISTERED)


def test_a_copy_of_an_answer_is_not_the_answer_to_the_next_request() -> None:
    """Also while the next request waits for the pause between requests: its sequence count is not in use yet."""
    client = connected()
    client.request(Request.QUESTION, QUESTION)
    answer = connected_frame(5, 7, 1, b"\x81\0\0\0first")

    assert events_of(client, answer + answer) == [b"\x81\0\0\0first"]
    client.request(Request.QUESTION, QUESTION)
    assert events_of(client, answer + connected_frame(5, 7, 2, b"\x81\0\0\0next")) == [b"\x81\0\0\0next"]
    assert client.late_frames == 2


def test_answers_in_pieces_and_after_a_cancelled_request() -> None:
    client = connected()
    client.request(Request.QUESTION, QUESTION)
    client.give_up()
    client.request(Request.QUESTION, QUESTION)
    received = connected_frame(5, 7, 1, b"\x81\0\0\0old") + connected_frame(5, 7, 2, b"\x81\0\0\0new")

    events = [event for at in range(len(received)) for event in events_of(client, received[at : at + 1])]

    assert events == [b"\x81\0\0\0new"]


def test_a_frame_that_answers_nothing_ends_the_conversation() -> None:
    client = connected()

    (event,) = events_of(client, connected_frame(5, 7, 1, b"\x81\0\0\0"))
    assert isinstance(event, ProtocolViolation)

    client = EncapsulationClient("plc", first_context=100)
    client.request(Request.REGISTER)
    (event,) = events_of(client, struct.pack("<HHII8sI", 0x65, 0, 0, 2, bytes(8), 0))
    assert isinstance(event, DeviceRefused)


@pytest.mark.parametrize(
    ("at", "wrong", "words"),
    [
        (4, b"\x09", "session of an answer to command 0x70: expected 0x05, got 0x09"),
        (30, b"\x03", "number of items of an answer to command 0x70: expected 0x02, got 0x03"),
        (36, b"\x08", "connection id of an answer to command 0x70: expected 0x07, got 0x08"),
        (40, b"\xb2", "type of the data item of an answer to command 0x70: expected 0xB1, got 0xB2"),
        (42, b"\x09", "length of the data item of an answer to command 0x70: expected 0x06, got 0x09"),
        (44, b"\x02", "sequence count of an answer to command 0x70: expected 0x01, got 0x02"),
    ],
)
def test_a_wrong_field_of_a_connected_answer_is_named_with_both_values(at: int, wrong: bytes, words: str) -> None:
    """Whoever writes or repairs such a device wants to know which field it is."""
    client = connected()
    client.request(Request.QUESTION, QUESTION)
    answer = bytearray(connected_frame(5, 7, 1, b"\x81\0\0\0"))
    answer[at : at + 1] = wrong

    (event,) = events_of(client, bytes(answer))

    assert isinstance(event, ProtocolViolation)
    assert words in str(event)


@pytest.mark.parametrize(
    ("at", "wrong", "words"),
    [
        (12, b"\0", "sender context of an answer to command 0x6F: expected 65 00 00 00 00 00 00 00, got 00 00 00 00"),
        (2, b"\x05", "length of an answer to command 0x6F: expected more than 16, got 5"),
        (36, b"\xb1", "type of the data item of an answer to command 0x6F: expected 0xB2, got 0xB1"),
    ],
)
def test_a_wrong_field_of_an_unconnected_answer_is_named_with_both_values(at: int, wrong: bytes, words: str) -> None:
    client = registered()
    answer = bytearray(unconnected_answer(client.request(Request.QUESTION, QUESTION), b"\x81\0\0\0"))
    answer[at : at + 1] = wrong

    (event, *_) = events_of(client, bytes(answer))

    assert isinstance(event, ProtocolViolation)
    assert words in str(event)
