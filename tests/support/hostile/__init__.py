"""Devices that misbehave, each in one way, and behave again on command: for tests of drivers.

- `behaviour` is the contract: a `Behaviour` is an id, a text, a peer and what reading it may come to; a `Protocol` is a
  table of them with the driver that reads them.
- `truth` has values that change with time, so that a value from before its request is recognised.
- `trial` reads a behaviour, session after session, and checks every value.
- `liar` is a TCP server that misbehaves as a behaviour says.
- `modbus`, `modbus_lines`, `ethernetip`, ... are the tables.
"""
