"""The one-way exit: stored records are published with MQTT 5, and acknowledged ones are delivered."""

from edge.mqtt.access import BrokerAccess
from edge.mqtt.connect import BrokerLimits, Will
from edge.uplink.forwarder import Forwarder
from edge.uplink.mqtt.client import Publisher, connect
from edge.uplink.mqtt.session import MqttSession
from edge.uplink.reports import Report, Severity, UplinkSnapshot, UplinkState
from edge.uplink.sender import Delivery
from edge.uplink.source import RecordSource

__all__ = [
    "BrokerAccess",
    "BrokerLimits",
    "Delivery",
    "Forwarder",
    "MqttSession",
    "Publisher",
    "RecordSource",
    "Report",
    "Severity",
    "UplinkSnapshot",
    "UplinkState",
    "Will",
    "connect",
]
