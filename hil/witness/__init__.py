"""The independent witness: reads the tags of a device with a library that is not ours.

A gateway that decodes wrongly agrees with itself, so it takes another reader to find that. The witness takes from our
settings what an engineer wrote (addresses, types, orders of bytes), as text, and asks and decodes without `drivers`.

| driver of the gateway | library of the witness |
| --- | --- |
| modbus | pymodbus; structures that it does not know are decoded in `hil/witness/modbus.py` |
| ethernetip | pycomm3 |
| opcua | asyncua, which is under our own driver too, or node-opcua, which shares nothing with it |

async with reader_of(device) as reader:
    for seen in await reader.read():
        ...
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from contextlib import AbstractAsyncContextManager
from importlib import import_module
from importlib.metadata import version
from typing import Any, NamedTuple, Protocol

from edge.driver import DeviceSettings
from edge.errors import ConfigError

Value = bool | int | float | str

GOOD, BAD, BAD_NO_COMMUNICATION, BAD_NO_DATA = 0, 0x80000000, 0x80310000, 0x809B0000
"""Status codes of OPC UA (OPC 10000-4, 7.39), in which every reader answers."""

LIBRARIES = {
    "modbus": ("pymodbus",),
    "ethernetip": ("pycomm3",),
    "opcua": ("asyncua", "node-opcua"),
}
"""By the gateway's driver the libraries that can be the witness, the default first."""

_HOMES = {
    "pymodbus": ("hil.witness.modbus", "ModbusReader"),
    "pycomm3": ("hil.witness.logix", "LogixReader"),
    "asyncua": ("hil.witness.opcua", "AsyncuaReader"),
    "node-opcua": ("hil.witness.node_opcua", "NodeReader"),
}


class Seen(NamedTuple):
    """One tag of one reading of the witness.

    Attributes:
        tag: its name in the gateway's configuration.
        value: as the device has it, without scale and offset; None where there is none.
        type: what the value is: as the device declares it or, where the protocol has no types, as the tag does.
        status: status code of OPC UA; of a protocol without status codes GOOD, BAD or BAD_NO_COMMUNICATION.
        asked_ns: boot time just before the request, in nanoseconds.
        answered_ns: boot time just after the answer.
        source_ns: UTC by the device's clock, where it sends one.
    """

    tag: str
    value: Value | None
    type: str
    status: int
    asked_ns: int
    answered_ns: int
    source_ns: int | None = None


class Reader(Protocol):
    """Reads the tags of one device.

    Attributes:
        library: name and version of the library that reads.
    """

    library: str

    async def read(self) -> list[Seen]:
        """Each tag once, one after the other; a device that does not answer gives BAD rows, not an error."""
        ...


def reader_of(
    device: DeviceSettings, library: str = "", tags: Collection[str] = ()
) -> AbstractAsyncContextManager[Reader]:
    """A reader, connected while its block is open.

    Args:
        device: as the gateway's driver checked it.
        library: one of `LIBRARIES`; by default the first for the driver.
        tags: names of the tags to read; by default all.

    Raises ConfigError, then or at entry, for a device or a tag that the library cannot read.
    """
    known = LIBRARIES.get(device.driver, ())
    if not known:
        raise ConfigError(f"{device.name}: the witness has no library for the driver {device.driver}")
    library = library or known[0]
    if library not in known:
        raise ConfigError(f"{device.name}: {library} does not read a {device.driver} device; {' or '.join(known)} does")
    module, name = _HOMES[library]
    try:
        made = getattr(import_module(module), name)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{error.name} is not installed; the distribution tidegate-hil brings it") from None
    wanted = [tag for group in device.scan_groups for tag in group.tags if not tags or tag.name in tags]
    reader: AbstractAsyncContextManager[Reader] = made(device, wanted)
    return reader


def boot_ns() -> int:
    """Nanoseconds since the machine started, as gateway and archive have them."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


def named(library: str) -> str:
    """Name and version of an installed library, for `Reader.library`."""
    return f"{library} {version(library)}"


def cannot_read(device: Any, what: str, tags: Sequence[str] = ()) -> ConfigError:
    """The error for something that a library cannot read, and for which tags."""
    where = f" ({', '.join(tags)})" if tags else ""
    return ConfigError(f"{device.name}: the witness cannot read {what}{where}; leave that out, or take another device")
