"""A Logix controller in memory: it speaks EtherNet/IP, has tags, types and programs, and refuses every write.

```python
plc = Controller("Line4")
motor = plc.structure("Motor", {"Running": BOOL, "Speed": REAL})
plc.tag("Temperature", REAL, 37.0)
plc.tag("Motors", motor[10])
plc["Motors[3].Speed"] = 12.5
async with LogixServer(plc) as server:
    ...  # It listens on 127.0.0.1, at server.port; `in_thread(plc)` is for blocking clients.
assert plc.writes_asked == 0
```

Sources:
- the encapsulation and the common packet format: CIP Vol 2 chapter 2; requests, paths, connections, general status:
  CIP Vol 1 chapters 2 and 3 and appendices B and C, as far as publicly described;
- reading tags, several services in one packet, symbols, templates, external access, the change log of class 0xAC,
  tag type values, and the answer where the reply does not fit: Rockwell 1756-PM020, "Logix 5000
  Controllers Data Access";
- attributes 3, 5 and 6 of a symbol, the program name (class 0x64), and what a Micro800 lacks: as public clients
  understand them; pycomm3 is the cross-check.

Known differences from a real controller:
- a request that would change something is always refused;
- a request without a connection and without a route reaches the controller, where a separate communication module
  would answer for itself;
- instance numbers of symbols and templates, addresses and handles of structures are invented, not computed as
  Studio 5000 does: members in another order always give the same handle, where in a controller they sometimes do;
  hidden members of structures cannot be read by name;
- a partial answer holds whole elements of an atomic type, but cuts a structure wherever it is full;
- a request larger than its connection is refused with status 0x15; a request on a connection that is not open is
  passed over in silence; a packet with several services holds no other such packet;
- no class 1 connections (inputs and outputs), no CIP Security, no multicast, no electronic key is compared;
- a download takes no time and ends no connection.
"""

from __future__ import annotations

from drivers.ethernetip.simulator.controller import (
    GENERIC,
    LOGIX,
    MICRO800,
    Controller,
    Identity,
    Personality,
    micro800,
)
from drivers.ethernetip.simulator.server import LogixServer, in_thread
from drivers.ethernetip.simulator.types import (
    BOOL,
    BYTE,
    CONTROL,
    COUNTER,
    DINT,
    DWORD,
    INT,
    LINT,
    LREAL,
    LWORD,
    REAL,
    SHORT_STRING,
    SINT,
    STRING,
    TIMER,
    UDINT,
    UINT,
    ULINT,
    USINT,
    WORD,
    Structure,
)

__all__ = [
    "BOOL", "BYTE", "CONTROL", "COUNTER", "DINT", "DWORD", "GENERIC", "INT", "LINT", "LOGIX", "LREAL", "LWORD",
    "MICRO800", "REAL", "SHORT_STRING", "SINT", "STRING", "TIMER", "UDINT", "UINT", "ULINT", "USINT", "WORD",
    "Controller", "Identity", "LogixServer", "Personality", "Structure", "in_thread", "micro800",
]  # fmt: skip
