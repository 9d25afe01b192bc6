"""The one-way exit: MQTT 5, publish only; what is stored is sent, and what is acknowledged is delivered."""

from edge.uplink.forward import Forwarder
from edge.uplink.mqtt import BrokerAccess, BrokerLimits, Publisher, connect
from edge.uplink.packets import Will
from edge.uplink.reports import Report, Severity
from edge.uplink.sender import Delivery
from edge.uplink.source import Source
from edge.uplink.state import UplinkSnapshot

__all__ = [
    "BrokerAccess",
    "BrokerLimits",
    "Delivery",
    "Forwarder",
    "Publisher",
    "Report",
    "Severity",
    "Source",
    "UplinkSnapshot",
    "Will",
    "connect",
]
