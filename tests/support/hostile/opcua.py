"""Hostile OPC UA servers: polled, subscribed, and behind certificates."""

from __future__ import annotations

from drivers.opcua import OpcuaKind
from tests.support.hostile.behaviour import Protocol
from tests.support.hostile.opcua_common import READS, TAGS
from tests.support.hostile.opcua_messages import CONNECTIONS, MESSAGES
from tests.support.hostile.opcua_secured import SECURED
from tests.support.hostile.opcua_server import MOMENTS
from tests.support.hostile.opcua_sessions import SESSIONS
from tests.support.hostile.opcua_subscribed import SUBSCRIBED
from tests.support.hostile.opcua_subscription_reader import SubscribedKind
from tests.support.hostile.opcua_values import ANSWERS, VALUES

_LIMITS = {"timeout": "500 ms", "connect_timeout": "5 s"}

OPCUA = Protocol(
    name="opcua",
    label="OPC UA",
    kind=OpcuaKind,
    settings={"limits": _LIMITS | {"nodes_per_read": MOMENTS // READS}},
    tags=TAGS,
    behaviours=(*CONNECTIONS, *MESSAGES, *ANSWERS, *VALUES, *SESSIONS),
)
OPCUA_SUBSCRIBED = Protocol(
    name="opcua",
    label="OPC UA subscriptions",
    kind=SubscribedKind,
    settings={"limits": _LIMITS},
    tags=TAGS,
    behaviours=SUBSCRIBED,
)
OPCUA_SECURED = Protocol(
    name="opcua",
    label="OPC UA with security",
    kind=OpcuaKind,
    settings={"limits": _LIMITS},
    tags=TAGS,
    behaviours=SECURED,
)
SERVERS = (OPCUA, OPCUA_SUBSCRIBED, OPCUA_SECURED)
