"""OPC UA servers that misuse subscriptions."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from tests.support.hostile import liar
from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.liar import Lie, Writer
from tests.support.hostile.opcua_common import BAD, BROKEN, GONE, GOOD, MOST, PARTLY, behaviour, honest
from tests.support.hostile.opcua_parameters import monitored, revised
from tests.support.hostile.opcua_request import Question, act, at
from tests.support.hostile.opcua_server import MOMENTS
from tests.support.hostile.opcua_wire import NULL_ARRAY, data_value, u32


async def _silence_after_first(asked: list[Question], writer: Writer) -> None:
    if len(asked) == 1:
        writer.write(asked[-1].answer)


async def _keep_alives_after_first(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].answer if len(asked) == 1 else asked[-1].notify([], number=2))


async def _gap(asked: list[Question], writer: Writer) -> None:
    """Every third message is not sent; its sequence number is used, and its request waits for ever."""
    if len(asked) % 3:
        writer.write(asked[-1].answer)


def _gaps(republish: Callable[[Question], bytes]) -> Lie[Question]:
    """Leaves out messages, and answers a Republish with this."""

    async def lie(asked: list[Question], writer: Writer) -> None:
        question = asked[-1]
        if question.stage == "Publish" and question.number % 4 == 2:
            writer.write(question.notify(number=question.number + 1))
        else:
            writer.write(republish(question) if question.stage == "Republish" else question.answer)

    return lie


def _publish(make: Callable[[Question], bytes]) -> Lie[Question]:
    return at("Publish", make)


def _republished(asked: Question, number: int | None = None, contents: bytes | None = None) -> bytes:
    """A RepublishResponse."""
    changes = wire.structure(811, wire.array([]) + NULL_ARRAY)
    message = u32(asked.number if number is None else number) + bytes(8)
    return asked.frame(
        asked.body(message + (wire.array([changes]) if contents is None else contents), result=0, service=835)
    )


def _status_change(code: int) -> bytes:
    return wire.array([wire.structure(820, u32(code) + b"\0")])


async def _deleted_after_first(asked: list[Question], writer: Writer) -> None:
    writer.write(asked[-1].answer if len(asked) == 1 else asked[-1].fault(_BAD_NO_SUBSCRIPTION))


async def _flood(asked: list[Question], writer: Writer) -> None:
    while not writer.transport.is_closing():
        writer.write(asked[-1].answer)
        await writer.drain()
        await asyncio.sleep(0)


def _at_once(make: Callable[[Question], bytes]) -> Lie[Question]:
    """Answers every PublishRequest with this at once."""

    def told(question: Question) -> bytes:
        question.conversation.hurry()
        return make(question)

    return _publish(told)


def _ending(answers: Mapping[str, Callable[[Question], bytes]]) -> Lie[Question]:
    """Resets after a while, and answers these services so."""

    async def lie(asked: list[Question], writer: Writer) -> None:
        question = asked[-1]
        if question.stage == "Publish" and question.number > 1:
            liar.reset(writer)
        else:
            writer.write(answers.get(question.stage, honest)(question))

    return lie


def _continued(asked: Question) -> bytes:
    """Activates every session, also one that it does not have."""
    return asked.frame(asked.body(result=0))


def _transferred(asked: Question, available: bytes, count: int | None = None) -> bytes:
    return asked.frame(asked.body(wire.array([u32(0) + available], count) + NULL_ARRAY))


def _items(change: Callable[[bytes], bytes]) -> Lie[Question]:
    return _publish(lambda q: q.notify([change(item) for item in q.values]))


def _revised(publishing_ms: float, lifetime: int = 100, keep_alive: int = 3) -> Lie[Question]:
    return at("CreateSubscription", lambda q: q.frame(q.body(revised(publishing_ms, lifetime, keep_alive))))


def _created_items(
    status: int = 0, sampling_ms: float = 0.0, count: int | None = None, number: int = MOMENTS
) -> Lie[Question]:
    items = [monitored(item + 1, 10, status=status, sampling_ms=sampling_ms) for item in range(number)]
    return at("CreateMonitoredItems", lambda q: q.frame(q.body(wire.array(items, count) + NULL_ARRAY)))


_BAD_NO_SUBSCRIPTION, _BAD_TIMEOUT, _BAD_TOO_MANY_PUBLISH = 0x80790000, 0x800A0000, 0x80780000
_TRANSFER = "TransferSubscriptions"
_NAN, _INF = float("nan"), float("inf")
_b = behaviour
SUBSCRIBED = (
    _b("silent", "publishes nothing", act("Publish", liar.say_nothing), GONE, is_worst=True),
    _b("silent-later", "publishes once", act("Publish", _silence_after_first), GOOD, GOOD | GONE),
    _b("silent-CreateSubscription", "says nothing to CreateSubscription", act("CreateSubscription", liar.say_nothing),
       GONE),
    _b("keep-alives", "only says that it lives", _publish(lambda q: q.notify([], number=1)), BAD | GONE),
    _b("keep-alives-later", "tells once, and then only that it lives", act("Publish", _keep_alives_after_first), GOOD,
       BAD),
    _b("unknown-subscription", "tells of a subscription that is not there",
       _publish(lambda q: q.notify(subscription=99)),
       GONE, is_worst=True),
    _b("unknown-handles", "tells of items that are not there", _items(lambda item: u32(999) + item[4:]), BAD),
    _b("swapped-handles", "tells of other items beside",
       _publish(lambda q: q.notify([*q.values, *[u32(0xFFFFFFFF) + item[4:] for item in q.values]])), GOOD),
    _b("items-2g", "announces 2^31-1 items", _publish(lambda q: q.notify(count=MOST)), BROKEN),
    _b("items-minus-2", "announces -2 items", _publish(lambda q: q.notify(count=-2)), BROKEN),
    _b("items-too-many", "announces one item more", _publish(lambda q: q.notify(count=MOMENTS + 1)), BROKEN),
    _b("items-too-few", "announces one item less", _publish(lambda q: q.notify(count=MOMENTS - 1)), PARTLY | BROKEN),
    _b("contents-2g", "announces 2^31-1 notifications", _publish(lambda q: q.notify(contents=u32(MOST))), BROKEN),
    _b("contents-unknown", "sends what was not asked for", _publish(lambda q: q.notify(
        contents=wire.array([wire.structure(916, bytes(40))] * 200))), BAD | GOOD),
    _b("contents-short", "a notification longer than the message", _publish(lambda q: q.notify(
        contents=wire.array([wire.structure(811, b"", MOST)]))), BROKEN),
    _b("available-2g", "2^31-1 messages to be had again", _publish(lambda q: q.notify(available=u32(MOST))), BROKEN),
    _b("more-for-ever", "there is always more", _publish(lambda q: q.notify(more=True)), GOOD),
    _b("gaps-forgotten", "leaves out messages, and has them no more", _gaps(lambda q: q.fault(0x807B0000)), GOOD | BAD),
    _b("gaps-wrong-number", "leaves out messages, and has others instead", _gaps(lambda q: _republished(q,
       q.number + 7)),
       GOOD | BAD),
    _b("gaps-empty", "leaves out messages, and has nothing in them", _gaps(lambda q: _republished(q,
       contents=NULL_ARRAY)),
       GOOD | BAD),
    _b("gaps-silent", "leaves out messages, and says nothing to them", _gaps(lambda _: b""), GOOD | BAD | GONE),
    _b("gaps-broken", "leaves out messages, and sends bytes instead", _gaps(lambda q: _republished(q,
       contents=u32(MOST))),
       GOOD | BAD | BROKEN),
    _b("jumps-far", "jumps by 2^30 in the sequence", _publish(lambda q: q.notify(number=q.number << 28)), GOOD | BAD),
    _b("same-number", "gives every message the same number", _publish(lambda q: q.notify(number=1)), GOOD, GOOD | GONE),
    _b("number-0", "gives every message the number 0", _publish(lambda q: q.notify(number=0)), GOOD | GONE | BAD),
    _b("deleted", "forgets the subscription", act("Publish", _deleted_after_first), GOOD, GOOD | BAD | GONE),
    _b("deleted-for-ever", "forgets every subscription", _publish(lambda q: q.fault(_BAD_NO_SUBSCRIPTION)), GONE | BAD),
    _b("ended-for-ever", "ends every subscription", _publish(lambda q: q.notify(contents=_status_change(_BAD_TIMEOUT))),
       GONE | BAD, is_worst=True),
    _b("ended-with-good", "ends every subscription with Good", _publish(lambda q: q.notify(contents=_status_change(0))),
       GONE | BAD | GOOD),
    _b("too-many-requests", "takes no requests to publish", _publish(lambda q: q.fault(_BAD_TOO_MANY_PUBLISH)), GONE),
    _b("refuses-to-publish", "publishes nothing", _publish(lambda q: q.fault(0x80020000)), GONE),
    _b("timeouts", "lets every request to publish time out", _publish(lambda q: q.fault(_BAD_TIMEOUT)), GONE),
    _b("two-answers", "publishes twice", _publish(lambda q: q.frame() + q.frame()), GOOD | BROKEN, BROKEN | GOOD),
    _b("flood", "publishes without end", act("Publish", _flood), GOOD | BROKEN, is_heavy=True, is_worst=True),
    _b("large", "the same values 5,000 times over", _publish(lambda q: q.notify(q.values * 5_000)), GOOD | BROKEN,
       is_heavy=True),
    _b("large-empty", "100,000 items without a value", _publish(lambda q: q.notify([bytes(5)] * 100_000)), BAD | BROKEN,
       is_heavy=True),
    _b("large-odd", "values that have to be looked at, 5,000 times over",
       _publish(lambda q: q.notify([item[:4] + data_value(b"\x0c" + wire.text("x")) for item in q.values] * 5_000)),
       BAD | BROKEN, is_heavy=True),
    _b("strays-at-once", "tells of a subscription that is not there as fast as it can",
       _at_once(lambda q: q.notify(subscription=99)), GONE, is_heavy=True, is_worst=True),
    _b("keep-alives-at-once", "says that it lives as fast as it can", _at_once(lambda q: q.notify([], number=1)),
       BAD | GONE,
       is_heavy=True, is_worst=True),
    _b("more-at-once", "there is always more, as fast as it can", _at_once(lambda q: q.notify(more=True)), GOOD,
       is_heavy=True),
    _b("ended-at-once", "ends every subscription as fast as it can",
       _at_once(lambda q: q.notify(contents=_status_change(_BAD_TIMEOUT))), BAD | GONE, is_worst=True),
    _b("continues-nothing", "goes on with a session whose subscription it does not have",
       _ending({"ActivateSession": _continued}), GOOD | GONE | BAD),
    _b("transfers-nothing", "goes on with a subscription that it does not have",
       _ending({_TRANSFER: lambda q: _transferred(q, NULL_ARRAY)}), GOOD | GONE | BAD),
    _b("transfers-2g", "has 2^31-1 messages for who goes on",
       _ending({_TRANSFER: lambda q: _transferred(q, u32(MOST))}),
       GOOD, GONE | BROKEN, GOOD | GONE | BROKEN),
    _b("transfers-many", "has 50,000 messages for who goes on, and then has not", _ending(
        {_TRANSFER: lambda q: _transferred(q, wire.array([u32(number) for number in range(3, 50_000)]))}),
        GOOD | GONE | BAD | BROKEN,
       is_heavy=True),
    _b("transfers-two", "goes on with two subscriptions",
       _ending({_TRANSFER: lambda q: _transferred(q, NULL_ARRAY, 2)}),
       GOOD, GONE | BROKEN, GOOD | GONE | BROKEN),
    _b("publishing-nan", "publishes every NaN ms", _revised(_NAN), BROKEN),
    _b("publishing-infinite", "publishes after infinity", _revised(_INF), BROKEN),
    _b("publishing-huge", "publishes every 1e300 ms", _revised(1e300), BROKEN),
    _b("publishing-negative", "publishes every -1 ms", _revised(-1.0), BROKEN),
    _b("publishing-0", "publishes every 0 ms", _revised(0.0), GOOD | BAD),
    _b("keep-alive-4g", "says that it lives after 2^32-1 intervals", _revised(30.0, 2**32 - 1, 2**32 - 1), GOOD),
    _b("keep-alive-0", "says that it lives after no interval", _revised(30.0, 0, 0), GOOD | GONE),
    _b("made-too-few", "makes fewer items", _created_items(number=MOMENTS - 1), BROKEN),
    _b("made-2g", "makes 2^31-1 items", _created_items(count=MOST), BROKEN),
    _b("made-none", "makes no item", _created_items(0x80340000), PARTLY | BAD | GOOD),
    _b("made-nan", "samples every NaN ms", _created_items(sampling_ms=_NAN), GOOD),
)  # fmt: skip
