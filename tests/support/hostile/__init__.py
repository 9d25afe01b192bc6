"""Devices that misbehave, each in one way, and behave again on command: for tests, and for whoever writes a driver.

- `behaviour` is the contract: a `Behaviour` is an id, a text, a peer and what reading it may come to; a `Protocol` is a
  table of them with the driver that reads them.
- `truth` are values that move: none that was taken before it was asked for passes.
- `trial` reads a behaviour session after session and judges every value.
- `liar` is a TCP server that does to its clients what a behaviour says.
- `modbus`, `modbus_lines`, `ethernetip`, ... are the tables.
"""
