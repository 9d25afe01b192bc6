"""What an engineer can say about the way to a device: a serial line, TLS, a port where it dials in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Literal

from edge.references import Certificate, Secret
from edge.settings import Check, Interval, MinLen, Pattern, Settings


@dataclass(frozen=True, kw_only=True)
class ModbusSerial(Settings):
    """A serial line, RS-485 or RS-232. All its units name the same settings."""

    port: Annotated[str, MinLen(1), Pattern("^/")]
    """Its device file; those in /dev/serial/by-id stay the same when adapters are plugged in anew."""
    baud: Literal[1200, 2400, 4800, 9600, 19200, 38400, 57600, 115200, 230400, 460800, 921600] = 19200
    """Bits per second."""
    parity: Literal["even", "odd", "none"] = "even"
    """The parity bit; even is the standard's default."""
    stop_bits: Literal[1, 2] | None = None
    """Stop bits; by default as the standard says: one, and two without a parity bit."""
    rs485: bool = False
    """Have the kernel switch the direction of an RS-485 driver by RTS; most adapters do it by themselves."""
    echo: bool = False
    """The adapter sends back what we send, as with two-wire lines whose receiver stays on."""

    @property
    def stops(self) -> int:
        """Stop bits, also where they are not said."""
        return self.stop_bits or (2 if self.parity == "none" else 1)

    def __str__(self) -> str:
        return f"{self.baud} baud, parity {self.parity}, {self.stops} stop bit" + ("s" if self.stops > 1 else "")


@dataclass(frozen=True, kw_only=True)
class ModbusTls(Settings):
    """Modbus/TCP Security: TLS 1.2 or newer, the device's certificate and host name always verified."""

    ca: Certificate
    """PEM file of the authorities that the device's certificate may come from."""
    certificate: Certificate | None = None
    """PEM file with our certificate, which most devices ask for."""
    key: Secret | None = None
    """Its private key."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together, or not at all")


@dataclass(frozen=True, kw_only=True)
class ModbusListen(Settings):
    """Where we wait for a device that connects to us, as many do behind a cellular modem."""

    address: Annotated[str, Check(ip_address)]
    """Our address that it connects to; 0.0.0.0 for every network that this machine is on."""
    port: Annotated[int, Interval(ge=1, le=65535)]
    """Our TCP port; several devices may dial in there, told apart by their addresses."""
    peers: Annotated[Sequence[str], MinLen(1), Check(_check_addresses)]
    """Addresses that the device may come from; a connection from any other is closed at once, and reported."""


def _check_addresses(texts: Sequence[str]) -> None:
    for text in texts:
        ip_address(text)
