"""OPC UA servers that lie about themselves, before anything is read."""

from __future__ import annotations

from typing import Any

from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.liar import Lie
from tests.support.hostile.opcua_common import BAD, BROKEN, GONE, GOOD, MOST, REFUSED, behaviour, honest
from tests.support.hostile.opcua_parameters import endpoint
from tests.support.hostile.opcua_request import Question, at
from tests.support.hostile.opcua_server import OTHER_URI, URI
from tests.support.hostile.opcua_wire import data_value, u32


def _server(value: bytes) -> Lie[Question]:
    """Has this value for its namespaces."""
    return at("ReadServer", lambda q: q.read([value, *q.values[1:]]))


def _limits(value: bytes) -> Lie[Question]:
    return at("ReadServer", lambda q: q.read([q.values[0], *[value] * (len(q.values) - 1)]))


def _created(**wrong: Any) -> Lie[Question]:
    return at("CreateSession", lambda q: q.frame(q.body(q.conversation.session(**wrong))))


def _endpoints(*offered: bytes, number: int | None = None) -> Lie[Question]:
    return at("GetEndpoints", lambda q: q.frame(q.body(wire.array(offered, number))))


_b = behaviour
SESSIONS = (
    _b("namespaces-move", "other namespaces in each session", at("", honest), GOOD,
       uris=((OTHER_URI, URI), (URI, OTHER_URI), ("urn:new", OTHER_URI, URI)), is_worst=True),
    _b("namespaces-gone", "has not the namespace any more", _server(data_value(wire.texts(["x", OTHER_URI]))), BAD),
    _b("namespaces-a-number", "a number for namespaces", _server(data_value(wire.uint32(3))), BROKEN),
    _b("namespaces-bad", "no namespaces", _server(data_value(None, status=0x80310000)), BROKEN),
    _b("namespaces-2g", "2^31-1 namespaces", _server(data_value(wire.texts([], MOST))), BROKEN, is_heavy=True),
    _b("namespaces-nothings", "2^31-1 nothings for namespaces", _server(data_value(b"\x80" + u32(MOST))), BROKEN,
       is_heavy=True),
    _b("namespaces-padded", "namespaces in a matrix of a million", _server(
        data_value(b"\xcc" + wire.array([wire.text("x")]) + wire.array([u32(1_000_000), u32(1)]))), BROKEN,
        is_heavy=True),
    _b("namespaces-many", "20,000 namespaces", _server(data_value(wire.texts(["x"] * 20_000))), BAD | BROKEN | REFUSED,
       is_heavy=True),
    _b("namespaces-tiny", "130,000 values of one byte each", at("ReadServer", lambda q: q.read([b"\0"] * 130_000)),
       BROKEN,
       is_heavy=True),
    _b("namespaces-deep", "variants within variants for namespaces",
       _server(data_value(b"\x98\1\0\0\0" * 9000 + b"\0")),
       BROKEN),
    _b("limits-1", "one node in a request", _limits(data_value(wire.uint32(1))), GOOD),
    _b("limits-negative", "limits below 0", _limits(data_value(b"\6" + u32(-5))), GOOD),
    _b("limits-text", "limits that are texts", _limits(data_value(b"\x0c" + wire.text("no"))), GOOD),
    _b("channel-lifetime-0", "keys that last no time",
       at("OpenSecureChannel", lambda q: q.frame(q.body(q.parameters[:20] + u32(0) + q.parameters[24:]))), GOOD),
    _b("channel-lies", "a channel whose nonce is longer than the message",
       at("OpenSecureChannel", lambda q: q.frame(q.body(q.parameters[:24] + u32(MOST)))), BROKEN),
    _b("timeout-nan", "a session that lasts not a number", _created(timeout_ms=float("nan")), GOOD),
    _b("timeout-infinite", "a session without end", _created(timeout_ms=float("inf")), GOOD),
    _b("timeout-negative", "a session that is over", _created(timeout_ms=-1.0), GOOD),
    _b("session-token-long", "a session whose token is 5 kB", _created(token=b"\3\1\0" + wire.text("t" * 5000)), GOOD),
    _b("endpoints-none", "offers nothing", _endpoints(), REFUSED),
    _b("endpoints-other", "offers only what was not asked for", _endpoints(endpoint(mode=2)), REFUSED),
    _b("endpoints-thousands", "5000 endpoints", _endpoints(*[endpoint()] * 5000), REFUSED | GOOD, is_heavy=True),
    _b("endpoints-2g", "2^31-1 endpoints", _endpoints(number=MOST), BROKEN, is_heavy=True),
    _b("endpoints-novel", "endpoints with texts of 100 kB", _endpoints(endpoint(uri="x" * 100_000)), GOOD | REFUSED,
       is_heavy=True),
    _b("endpoints-mode-99", "an unknown security mode", _endpoints(endpoint(mode=99), endpoint()),
       GOOD | BROKEN | REFUSED),
    _b("endpoints-deep", "diagnostics within diagnostics around endpoints",
       at("GetEndpoints", lambda q: q.frame(q.body(diagnostics=b"\x40" * 20_000 + b"\0"))), BROKEN),
    _b("endpoints-nothings", "2^31-1 nothings in the header of the endpoints", at("GetEndpoints", lambda q: q.frame(
        q.body(more=wire.structure(597, b"\x80" + u32(MOST))))), BROKEN | GOOD, is_heavy=True, is_worst=True),
    _b("fault-with-a-novel", "refuses with 250,000 strings", at("GetEndpoints", lambda q: q.frame(
        q.body(b"", service=397, result=0x80020000, strings=u32(250_000) + bytes(1_000_000)))),
        REFUSED | BROKEN | GONE,
       is_heavy=True),
)  # fmt: skip
