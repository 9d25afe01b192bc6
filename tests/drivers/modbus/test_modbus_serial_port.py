from __future__ import annotations

import errno
import fcntl
import os
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from drivers.modbus.serial_port import open_port
from drivers.modbus.settings import ModbusSerial
from edge.config.validate import settings_from
from edge.errors import DeviceRefused

_TIOCGEXCL = 0x80045440


@pytest.fixture
def terminal() -> Iterator[int]:
    """Our end of a pseudo-terminal, whose other end stays open as that of a line does."""
    master, slave = os.openpty()
    yield slave
    os.close(slave)
    os.close(master)


def test_a_gateway_that_was_killed_leaves_a_pseudo_terminal_to_the_next(terminal: int) -> None:
    """A pseudo-terminal stays exclusive after TIOCEXCL, except for root."""
    settings = settings_from(ModbusSerial, {"port": os.ttyname(terminal)})

    os.close(open_port(settings, 8))

    [is_exclusive] = struct.unpack("i", fcntl.ioctl(terminal, _TIOCGEXCL, bytes(4)))
    assert not is_exclusive


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
