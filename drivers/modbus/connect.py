"""How a connection to a device is opened: by us to a host, also with TLS, or by the device that dials in."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import Protocol, cast

from drivers.modbus.settings import ModbusTls
from drivers.modbus.transport import Transport, TransportT
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, ErrorCode, unreachable
from edge.references import tls_files
from edge.tls import Certificate, chain_of, explain, in_use, load_context, with_peer

_STRANGERS_SHOWN = 5
_STRANGERS_MAX = 256
_BACKLOG = 16


class Connector(Protocol):
    """Opens connections to one endpoint. Also `drivers.modbus.serial_port.SerialConnector`.

    Attributes:
        certificates: those that the last connection, or attempt, depended on.
    """

    name: str
    certificates: tuple[Certificate, ...]

    def in_use(self) -> AbstractAsyncContextManager[None]:
        """Held for as long as connections may be opened."""
        ...

    async def open(self, make: Callable[[], TransportT], timeout_s: float) -> TransportT:
        """A new connection, with the transport from `make`.

        Raises:
            DeviceUnreachable: there is no answer.
            DeviceRefused: the device, or this machine, does not let us connect.
        """
        ...


class TcpConnector:
    """Connects to a host and port. See `Connector`."""

    def __init__(self, host: str, port: int, tls: ModbusTls | None = None) -> None:
        self.name = f"{host}:{port}"
        self.certificates: tuple[Certificate, ...] = ()
        self._host, self._port, self._tls = host, port, tls

    def in_use(self) -> AbstractAsyncContextManager[None]:
        """See `Connector.in_use`."""
        return nullcontext()

    async def open(self, make: Callable[[], TransportT], timeout_s: float) -> TransportT:
        """See `Connector.open`."""
        context = await asyncio.to_thread(self._load_context, self._tls) if self._tls is not None else None
        connect = asyncio.get_running_loop().create_connection
        try:
            async with asyncio.timeout(timeout_s):
                stream, transport = await connect(make, self._host, self._port, ssl=context)
        except TimeoutError as error:
            why = (
                f"{self.name} did not accept a connection within {timeout_s:g} s; is the address right, is it switched "
                "on, and does it serve another client?"
            )
            raise DeviceUnreachable(why, code=ErrorCode.DEVICE_UNREACHABLE) from error
        except ssl.SSLError as error:
            raise DeviceRefused(f"{self.name}: {explain(error)}", code=ErrorCode.DEVICE_NOT_TRUSTED) from error
        except (ConnectionResetError, ConnectionAbortedError) as error:
            if context is None:
                raise unreachable(self.name, error) from error
            raise DeviceRefused(
                f"{self.name} closed the connection during the TLS handshake: it may not speak TLS on this port, or "
                "refuse our certificate",
                code=ErrorCode.DEVICE_NOT_TRUSTED,
            ) from error
        except OSError as error:
            raise unreachable(self.name, error) from error
        if context is not None:
            chain = chain_of(stream.get_extra_info("ssl_object"))
            self.certificates = with_peer(self.certificates, chain, "the device's")
        return transport

    def _load_context(self, tls: ModbusTls) -> ssl.SSLContext:
        try:
            files = tls_files(tls.ca, tls.certificate, tls.key, tls.crl, minimum="1.2")
            context = load_context(files)
        except ConfigError as error:
            # The files are read again for each connection, so renewing them is enough.
            raise DeviceRefused(str(error), code=ErrorCode.DEVICE_NOT_TRUSTED) from error
        self.certificates = tuple(in_use(files))
        return context


class DialInConnector:
    """Waits for a device that dials in from one of its peers' addresses. See `Connector`.

    The newest connection is used: a modem that lost its network does not close the old one before it comes back.
    """

    def __init__(self, listener: Listener, peers: Collection[str], linger_s: float) -> None:
        self.name = f"{' or '.join(sorted(peers))} (dials in at {listener.name})"
        self.certificates: tuple[Certificate, ...] = ()
        self._listener, self._linger_s = listener, linger_s
        self._arrived = asyncio.Event()
        self._caller: _Caller | None = None
        self._transport: Transport | None = None
        self._strangers_before = 0
        listener.admit(peers, self)

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """See `Connector.in_use`."""
        self._strangers_before = self._listener.strangers.total()
        try:
            await self._listener.open()
            yield
        finally:
            self._listener.leave(self._linger_s)

    async def open(self, make: Callable[[], TransportT], timeout_s: float) -> TransportT:
        """See `Connector.open`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError as error:
            why = f"{self.name} did not connect within {timeout_s:g} s"
            if self._listener.strangers.total() > self._strangers_before:
                raise DeviceRefused(f"{why}; {self._listener.strangers_text}") from error
            raise DeviceUnreachable(why, code=ErrorCode.DEVICE_UNREACHABLE) from error
        self._arrived.clear()
        assert self._caller is not None
        stream, self._caller = self._caller.stream, None
        transport = make()
        stream.set_protocol(transport)
        transport.connection_made(stream)
        self._transport = transport
        return transport

    def arrive(self, caller: _Caller) -> None:
        """Take a new connection from a peer, and end the one before."""
        if self._transport is not None:
            self._transport.drop(DeviceUnreachable(f"{self.name} has connected anew"))
            self._transport = None
        if self._caller is not None:
            self._caller.stream.abort()
        self._caller = caller
        self._arrived.set()

    def leave(self, caller: _Caller) -> None:
        """Forget a connection that the peer closed before it was used."""
        if caller is self._caller:
            self._caller = None
            self._arrived.clear()

    def dismiss(self) -> None:
        """Close the connection that waits, as it will not be used."""
        if self._caller is not None:
            self._caller.stream.abort()

    def report_stranger(self, sentence: str) -> None:
        """Report a connection from an unknown address with the next scan."""
        if self._transport is not None and not self._transport.is_lost:
            self._transport.report_violation(sentence)


class Listener:
    """A listening socket, shared by the devices that dial in at its address and port; open while one of them is used.

    Attributes:
        strangers: how often each address connected that is no peer of a device.
    """

    def __init__(self, address: str, port: int) -> None:
        self.name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.strangers: Counter[str] = Counter()
        self._address, self._port = address, port
        self._peers: dict[str, DialInConnector] = {}
        self._users = 0
        self._server: asyncio.Server | None = None
        self._lock = asyncio.Lock()
        self._closing: asyncio.TimerHandle | None = None

    @property
    def strangers_text(self) -> str:
        """The unknown addresses that connected most often, as a sentence."""
        shown = ", ".join(f"{peer} ({times} times)" for peer, times in self.strangers.most_common(_STRANGERS_SHOWN))
        return f"connections from {shown} were closed: not among the peers of {self.name}"

    def admit(self, peers: Collection[str], device: DialInConnector) -> None:
        """Accept connections from these addresses as the device's."""
        for peer in peers:
            self._peers.setdefault(peer, device)

    async def open(self) -> None:
        """Listen, if the socket is not open yet.

        Raises:
            DeviceRefused: this machine does not let us listen there.
        """
        self._users += 1
        if self._closing is not None:
            self._closing.cancel()
            self._closing = None
        async with self._lock:
            if self._server is not None:
                return
            try:
                self._server = await asyncio.get_running_loop().create_server(
                    lambda: _Caller(self), self._address, self._port, backlog=_BACKLOG, start_serving=False
                )
                await self._server.start_serving()
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise DeviceRefused(f"nobody can dial in at {self.name}: {reason}") from error

    def leave(self, linger_s: float) -> None:
        """Undo an `open`. The socket stays open for a while: a device may call between two attempts."""
        self._users -= 1
        if not self._users:
            self._closing = asyncio.get_running_loop().call_later(linger_s, self._close)

    def receive(self, caller: _Caller) -> DialInConnector | None:
        """The device that a connection belongs to; that of an unknown address is closed at once."""
        name = caller.stream.get_extra_info("peername")
        peer = name[0] if name else "an address that is gone"
        device = self._peers.get(peer)
        if device is None:
            caller.stream.abort()
            if peer in self.strangers or len(self.strangers) < _STRANGERS_MAX:
                self.strangers[peer] += 1
            for known in set(self._peers.values()):
                known.report_stranger(f"{peer} connected to {self.name}, is nobody's peer there, and was sent away")
        return device

    def _close(self) -> None:
        self._closing = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for device in set(self._peers.values()):
            device.dismiss()


class _Caller(asyncio.Protocol):
    """A connection that is not used yet. What it sends before the first request is a modem's greeting: dropped."""

    stream: asyncio.Transport

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._device: DialInConnector | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.stream = cast("asyncio.Transport", transport)  # uvloop's class is not derived from it.
        self._device = self._listener.receive(self)
        if self._device is not None:
            self._device.arrive(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._device is not None:
            self._device.leave(self)
