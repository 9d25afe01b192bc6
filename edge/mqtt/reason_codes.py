"""MQTT 5 reason codes, and their explanations for an operator (MQTT 5.0, section 2.4)."""

from __future__ import annotations

from enum import IntEnum


class Reason(IntEnum):
    """The codes that decide what a client or the embedded broker does."""

    SUCCESS = 0x00
    NO_MATCHING_SUBSCRIBERS = 0x10
    MALFORMED_PACKET = 0x81
    PROTOCOL_ERROR = 0x82
    UNSUPPORTED_PROTOCOL_VERSION = 0x84
    NOT_AUTHORIZED = 0x87
    KEEP_ALIVE_TIMEOUT = 0x8D
    SERVER_SHUTTING_DOWN = 0x8B
    SESSION_TAKEN_OVER = 0x8E
    TOPIC_FILTER_INVALID = 0x8F
    RECEIVE_MAXIMUM_EXCEEDED = 0x93
    PACKET_TOO_LARGE = 0x95
    QUOTA_EXCEEDED = 0x97
    RETAIN_NOT_SUPPORTED = 0x9A
    USE_ANOTHER_SERVER = 0x9C
    SERVER_MOVED = 0x9D


_TEXTS = {
    0x00: "accepted",
    0x04: "disconnected by the client, with its will",
    0x10: "accepted, but nobody subscribes to the topic; start the relay, or check the topic it subscribes to",
    0x80: "refused without a reason; look into the broker's log",
    0x81: "refused a packet as malformed",
    0x82: "reported a protocol error",
    0x83: "refused for a reason of its own; look into the broker's log",
    0x84: "does not speak MQTT 5",
    0x85: "does not accept the client identifier",
    0x86: "refused the user name or password",
    0x87: "does not authorize this client; check its password and the broker's access list",
    0x88: "is unavailable",
    0x89: "is busy",
    0x8A: "has banned this client",
    0x8B: "is shutting down",
    0x8C: "does not accept the authentication method",
    0x8D: "heard nothing for longer than the keep-alive",
    0x8E: "gave the session to another client; is a second gateway running with this name or certificate?",
    0x8F: "refused the topic filter",
    0x90: "does not accept the topic name; see which names its configuration allows",
    0x91: "says the packet identifier is in use",
    0x93: "was sent more messages at once than it takes",
    0x94: "refused a topic alias",
    0x95: "says the packet is too large; raise the broker's message size limit",
    0x96: "says messages come too fast; raise its limit on their rate",
    0x97: "says a quota is exceeded; look at the broker's storage and queue limits",
    0x98: "was told by its administrator to end the connection",
    0x99: "says the payload has the wrong format; let it take these topics without a check of their content",
    0x9A: "does not keep retained messages",
    0x9B: "does not support this quality of service",
    0x9C: "asks to use another server for now; change the host in the configuration",
    0x9D: "has moved to another server; change the host in the configuration",
    0x9F: "limits the rate of connections",
    0xA0: "limits the time of a connection",
}  # fmt: skip


def explain(reason_code: int, server: str = "", quoted: str = "") -> str:
    """A reason code as a predicate, for a sentence that begins with the broker's name.

    Args:
        server: which other server the broker names.
        quoted: what the broker says itself.
    """
    named = f', which is "{server}"' if server else ""
    said = f': "{quoted}"' if quoted else ""
    return f"{_TEXTS.get(reason_code, 'answered with a code of its own')}{named} (0x{reason_code:02X}){said}"
