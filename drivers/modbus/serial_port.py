"""Serial ports of Linux, opened exclusively, and read without blocking the loop."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import struct
import termios
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext, suppress

from drivers.modbus.settings import ModbusSerial
from drivers.modbus.transport import TransportT
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode
from edge.tls import Certificate

_READ_BYTES = 4096
_TIOCSRS485 = 0x542F  # linux/serial.h, struct serial_rs485.
_RS485_ENABLED, _RS485_RTS_ON_SEND = 1, 2
_INPUT, _OUTPUT, _CONTROL, _LOCAL, _SPEED_IN, _SPEED_OUT, _CHARACTERS = range(7)  # Of termios.tcgetattr.

_CONTROL_CHECKED = termios.CSIZE | termios.CSTOPB | termios.PARENB | termios.PARODD
_PSEUDO_TERMINALS = range(136, 144)  # Major device numbers; characters have no parity there.


class SerialTransport(asyncio.Transport):
    """An open serial port. Bytes that the port's buffer cannot take are kept until it can."""

    def __init__(self, loop: asyncio.AbstractEventLoop, port: int, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self._loop, self._port, self._protocol = loop, port, protocol
        self._unsent = bytearray()
        loop.add_reader(port, self._readable)
        protocol.connection_made(self)

    def send(self, data: bytes | bytearray | memoryview) -> None:
        """See `asyncio.WriteTransport.write`."""
        if self._port < 0:
            return
        is_waiting = bool(self._unsent)
        self._unsent += data
        if not is_waiting:
            self._writable()

    write = send

    def abort(self) -> None:
        """See `asyncio.WriteTransport.abort`."""
        self._end(None)

    def _readable(self) -> None:
        try:
            data = os.read(self._port, _READ_BYTES)
        except BlockingIOError:
            return
        except OSError as error:
            self._end(error)
            return
        if data:
            self._protocol.data_received(data)
        else:
            self._end(OSError(errno.EIO, os.strerror(errno.EIO)))

    def _writable(self) -> None:
        try:
            sent = os.write(self._port, self._unsent)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self._end(error)
            return
        del self._unsent[:sent]
        if self._unsent:
            self._loop.add_writer(self._port, self._writable)
        else:
            self._loop.remove_writer(self._port)

    def _end(self, error: OSError | None) -> None:
        if self._port < 0:
            return
        port, self._port = self._port, -1
        self._loop.remove_reader(port)
        self._loop.remove_writer(port)
        _close(port)
        self._loop.call_soon(self._protocol.connection_lost, error)


class SerialConnector:
    """See `drivers.modbus.connect.Connector`."""

    def __init__(self, settings: ModbusSerial, data_bits: int) -> None:
        self.name = settings.port
        self.certificates: tuple[Certificate, ...] = ()
        self._settings, self._data_bits = settings, data_bits

    def in_use(self) -> AbstractAsyncContextManager[None]:
        """See `Connector.in_use`."""
        return nullcontext()

    async def open(self, make: Callable[[], TransportT], timeout_s: float) -> TransportT:
        """See `Connector.open`."""
        loop = asyncio.get_running_loop()
        opening = loop.run_in_executor(None, open_port, self._settings, self._data_bits)
        try:
            async with asyncio.timeout(timeout_s):
                port = await asyncio.shield(opening)
        except (asyncio.CancelledError, TimeoutError) as error:
            opening.add_done_callback(_close_unwanted)
            if isinstance(error, TimeoutError):
                why = f"{self.name} did not open within {timeout_s:g} s"
                raise DeviceUnreachable(why, code=ErrorCode.DEVICE_SERIAL_PORT) from error
            raise
        transport = make()
        assert isinstance(transport, asyncio.Protocol)
        SerialTransport(loop, port, transport)
        return transport


def open_port(settings: ModbusSerial, data_bits: int) -> int:
    """The file descriptor of a port, locked and with its line settings.

    Raises:
        DeviceUnreachable: there is no such port now, as when its adapter is not plugged in.
        DeviceRefused: the port is in use, or this user may not open it, or it cannot have these settings.
    """
    try:
        port = os.open(settings.port, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise _explain(settings.port, error) from error
    try:
        _lock(port, settings.port)
    except BaseException:
        os.close(port)  # Not flushed: those are the bytes of its user.
        raise
    try:
        _tune(port, settings, data_bits)
    except BaseException:
        _close(port)
        raise
    return port


def _lock(port: int, name: str) -> None:
    if not os.isatty(port):
        raise _refused(f"{name} is not a serial port; see /dev/serial/by-id for those there are")
    try:
        fcntl.flock(port, fcntl.LOCK_EX | fcntl.LOCK_NB)  # Against programs that lock too, and ourselves.
        if not _is_pseudo_terminal(port):  # It would stay exclusive after a crash.
            fcntl.ioctl(port, termios.TIOCEXCL)  # Against programs that do not lock.
    except OSError as error:
        raise _explain(name, error) from error


def _tune(port: int, settings: ModbusSerial, data_bits: int) -> None:
    """Set raw bytes at the line's speed; without its characters of wrong parity a frame fails its checksum."""
    speed = getattr(termios, f"B{settings.baud}")
    control = termios.CREAD | termios.CLOCAL | (termios.CS7 if data_bits == 7 else termios.CS8)
    if settings.stops == 2:
        control |= termios.CSTOPB
    if settings.parity != "none":
        control |= termios.PARENB | (termios.PARODD if settings.parity == "odd" else 0)
    attributes = termios.tcgetattr(port)
    attributes[_INPUT] = termios.IGNBRK | termios.IGNPAR | (termios.INPCK if settings.parity != "none" else 0)
    attributes[_OUTPUT] = attributes[_LOCAL] = 0
    attributes[_CONTROL] = control
    attributes[_SPEED_IN] = attributes[_SPEED_OUT] = speed
    attributes[_CHARACTERS][termios.VMIN], attributes[_CHARACTERS][termios.VTIME] = 1, 0
    with suppress(termios.error):  # Not reliable about settings that were not taken: those are read back below.
        termios.tcsetattr(port, termios.TCSANOW, attributes)
    taken = termios.tcgetattr(port)
    is_as_wanted = taken[_CONTROL] & _CONTROL_CHECKED == control & _CONTROL_CHECKED and taken[_SPEED_OUT] == speed
    if not is_as_wanted and not _is_pseudo_terminal(port):
        raise _refused(f"{settings.port} does not take {settings} with {data_bits} data bits; its adapter cannot")
    termios.tcflush(port, termios.TCIOFLUSH)
    if settings.rs485:
        try:
            fcntl.ioctl(port, _TIOCSRS485, struct.pack("8I", _RS485_ENABLED | _RS485_RTS_ON_SEND, *(0,) * 7))
        except OSError as error:
            raise _refused(
                f"{settings.port} cannot switch its direction (RS-485): {error.strerror}; leave out rs485 where the "
                "adapter does it by itself"
            ) from error


def _refused(why: str) -> DeviceRefused:
    return DeviceRefused(why, code=ErrorCode.DEVICE_SERIAL_PORT)


def _is_pseudo_terminal(port: int) -> bool:
    return os.major(os.fstat(port).st_rdev) in _PSEUDO_TERMINALS


def _explain(name: str, error: OSError) -> DeviceUnreachable | DeviceRefused:
    if error.errno in (errno.ENOENT, errno.ENODEV, errno.ENXIO):
        why = f"there is no serial port {name}; is its adapter plugged in? see /dev/serial/by-id"
        return DeviceUnreachable(why, code=ErrorCode.DEVICE_SERIAL_PORT)
    if error.errno == errno.EACCES:
        return _refused(f"{name} may not be opened by this user; add it to the group dialout, and start again")
    if error.errno == errno.EPERM:
        return _refused(
            f"{name} is of a kind that this service may not open; name it with DeviceAllow=, and start again"
        )
    if error.errno in (errno.EBUSY, errno.EWOULDBLOCK):
        return _refused(f"{name} is in use by another program, such as a running gateway; a line has one master")
    return _refused(f"{name} cannot be opened: {error.strerror}")


def _close(port: int) -> None:
    with suppress(termios.error):  # Gone, or never a port.
        termios.tcflush(port, termios.TCIOFLUSH)  # Closing would wait until the line has taken what is unsent.
    os.close(port)


def _close_unwanted(opening: asyncio.Future[int]) -> None:
    if not opening.cancelled() and opening.exception() is None:
        _close(opening.result())
