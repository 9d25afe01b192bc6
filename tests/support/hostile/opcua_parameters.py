"""Parameters of responses, right by default."""

from __future__ import annotations

from tests.support.hostile import opcua_wire as wire
from tests.support.hostile.opcua_request import SUBSCRIPTION
from tests.support.hostile.opcua_wire import NULL_ARRAY, u32

OWN_URI = "urn:hostile:server"
_SESSION = 42
_BINARY = "http://opcfoundation.org/UA-Profile/Transport/uatcp-uasc-uabinary"


def endpoint(
    *, url: str = "opc.tcp://127.0.0.1:4840", policy: str = wire.NO_SECURITY, mode: int = 1,
    certificate: bytes | None = None, uri: str = OWN_URI,
) -> bytes:  # fmt: skip
    """An EndpointDescription (OPC 10000-4, 7.14) for anonymous users."""
    server = wire.text(uri) + wire.text("urn:hostile") + b"\2" + wire.text("hostile") + u32(0)
    server += wire.text(None) * 2 + NULL_ARRAY
    tokens = wire.array([wire.text("anonymous") + u32(0) + wire.text(None) * 3])
    return b"".join((
        wire.text(url), server, wire.text(certificate), u32(mode), wire.text(policy), tokens, wire.text(_BINARY), b"\0",
    ))  # fmt: skip


def session(
    *, timeout_ms: float = 60_000.0, nonce: bytes = bytes(32), certificate: bytes | None = None,
    endpoints: bytes = NULL_ARRAY, algorithm: str | None = None, signature: bytes | None = None,
    token: bytes = wire.node_id(_SESSION, 1),
) -> bytes:  # fmt: skip
    """Parameters of a CreateSessionResponse (OPC 10000-4, 5.7.2)."""
    return b"".join((
        wire.node_id(_SESSION, 1), token, wire.double(timeout_ms)[1:], wire.text(nonce), wire.text(certificate),
        endpoints, NULL_ARRAY, wire.text(algorithm), wire.text(signature), u32(0),
    ))  # fmt: skip


def revised(publishing_ms: float, lifetime: int, keep_alive: int) -> bytes:
    """Parameters of a CreateSubscriptionResponse."""
    return u32(SUBSCRIPTION) + wire.double(publishing_ms)[1:] + u32(lifetime, keep_alive)


def monitored(number: int, queue: int, *, status: int = 0, sampling_ms: float = 0.0) -> bytes:
    """A MonitoredItemCreateResult."""
    return u32(status, number) + wire.double(sampling_ms)[1:] + u32(queue) + b"\0\0\0"
