"""Every protocol whose devices can be hostile."""

from __future__ import annotations

from tests.support.hostile.behaviour import Protocol
from tests.support.hostile.ethernetip import ETHERNETIP
from tests.support.hostile.modbus import MODBUS_TCP
from tests.support.hostile.modbus_lines import LINES
from tests.support.hostile.opcua import SERVERS

PROTOCOLS: tuple[Protocol, ...] = (MODBUS_TCP, *LINES, ETHERNETIP, *SERVERS)
