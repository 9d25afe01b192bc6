"""Every protocol whose devices can be hostile."""

from __future__ import annotations

from edge.testing.hostile.behaviour import Protocol
from edge.testing.hostile.ethernetip import ETHERNETIP
from edge.testing.hostile.modbus import MODBUS_TCP
from edge.testing.hostile.modbus_lines import LINES
from edge.testing.hostile.opcua import SERVERS

PROTOCOLS: tuple[Protocol, ...] = (MODBUS_TCP, *LINES, ETHERNETIP, *SERVERS)
