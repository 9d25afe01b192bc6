from __future__ import annotations

import errno
import fcntl
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.modbus.serial_port import open_port
from drivers.modbus.settings import ModbusSerial
from edge.config.validate import settings_from
from edge.errors import DeviceRefused

_TIOCGEXCL = 0x80045440
PATIENCE_S = 5.0  # Over when the bytes are there.


@pytest.fixture
def line() -> Iterator[tuple[int, int]]:
    """The device's end of a pseudo-terminal, and the gateway's, which stays open as that of a line does."""
    device, terminal = os.openpty()
    yield device, terminal
    os.close(terminal)
    os.close(device)


@pytest.fixture
def terminal(line: tuple[int, int]) -> int:
    return line[1]


def test_a_gateway_that_was_killed_leaves_a_pseudo_terminal_to_the_next(terminal: int) -> None:
    """A pseudo-terminal stays exclusive after TIOCEXCL, except for root."""
    settings = settings_from(ModbusSerial, {"port": os.ttyname(terminal)})

    os.close(open_port(settings, 8))

    [is_exclusive] = struct.unpack("i", fcntl.ioctl(terminal, _TIOCGEXCL, bytes(4)))
    assert not is_exclusive


def test_an_attempt_on_a_port_in_use_takes_no_byte_from_its_user(line: tuple[int, int]) -> None:
    """It would cost a running gateway the request or the answer that is on the line."""
    device, terminal = line
    settings = settings_from(ModbusSerial, {"port": os.ttyname(terminal)})
    port = open_port(settings, 8)
    try:
        os.write(device, b"answer")
        os.write(port, b"request")
        with pytest.raises(DeviceRefused, match="in use"):
            open_port(settings, 8)
        arrived = [os.read(end, 100) if select.select([end], [], [], PATIENCE_S)[0] else b"" for end in (device, port)]
    finally:
        os.close(port)

    assert arrived == [b"request", b"answer"]


@pytest.mark.parametrize(
    ("number", "advice"), [(errno.EACCES, "group dialout"), (errno.EPERM, "DeviceAllow="), (errno.EBUSY, "one master")]
)
def test_the_error_about_a_port_says_how_to_get_access(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, number: int, advice: str
) -> None:
    def refuse(*_: object) -> int:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "open", refuse)

    with pytest.raises(DeviceRefused, match=advice):
        open_port(settings_from(ModbusSerial, {"port": str(tmp_path / "ttyUSB0")}), 8)
