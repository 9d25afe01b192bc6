"""Devices at a host and port, with and without TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext
from typing import cast

from drivers.modbus.access import ModbusTls
from drivers.modbus.transport import Conversation, ConversationT
from edge.errors import ConfigError, DeviceRefused, DeviceUnreachable, unreachable
from edge.tls import Certificate, TlsFiles, expiries, explain, load_context, own_certificates


class Host:
    """See `drivers.modbus.pool.Way`."""

    def __init__(self, host: str, port: int, tls: ModbusTls | None = None) -> None:
        self.name = f"{host}:{port}"
        self.certificates: tuple[Certificate, ...] = ()
        self._host, self._port, self._tls = host, port, tls

    def used(self) -> AbstractAsyncContextManager[None]:
        """See `Way.used`."""
        return nullcontext()

    async def open(self, make: Callable[[], ConversationT], timeout_s: float) -> ConversationT:
        """See `Way.open`."""
        context = await asyncio.to_thread(self._prepare, self._tls) if self._tls is not None else None
        connect = asyncio.get_running_loop().create_connection
        try:
            async with asyncio.timeout(timeout_s):
                transport, conversation = await connect(make, self._host, self._port, ssl=context)
        except TimeoutError as error:
            raise DeviceUnreachable(f"{self.name} did not accept a connection within {timeout_s:g} s") from error
        except ssl.SSLError as error:
            raise DeviceRefused(f"{self.name}: {explain(error)}") from error
        except (ConnectionResetError, ConnectionAbortedError) as error:
            if context is None:
                raise unreachable(self.name, error) from error
            raise DeviceRefused(
                f"{self.name} closed the connection during the TLS handshake: it may not speak TLS on this port, or "
                "refuse our certificate"
            ) from error
        except OSError as error:
            raise unreachable(self.name, error) from error
        if context is not None:
            self._add_certificate_of(transport.get_extra_info("ssl_object"))
        return conversation

    def _prepare(self, tls: ModbusTls) -> ssl.SSLContext:
        try:
            files = TlsFiles(
                ca=tls.ca.path,
                certificate=tls.certificate.path if tls.certificate is not None else None,
                key=tls.key.path if tls.key is not None else None,
                minimum="1.2",
            )
            context = load_context(files)
        except ConfigError as error:
            # The files are read again for each connection: renewing them ends the refusal.
            raise DeviceRefused(str(error)) from error
        self.certificates = tuple(own_certificates(files)[:1])
        return context

    def _add_certificate_of(self, tls: ssl.SSLObject) -> None:
        try:
            found = expiries([tls.getpeercert(binary_form=True) or b""])
        except ValueError:
            return
        self.certificates += tuple(
            Certificate(whose="the device's", name=name, expires_at_ns=expires_at_ns) for name, expires_at_ns in found
        )


_STRANGERS_SHOWN = 5
_STRANGERS_MAX = 256
_BACKLOG = 16


class DialIn:
    """A device that dials in, from any of its peers' addresses; see `drivers.modbus.pool.Way`.

    Its newest connection counts: a modem that lost its network does not say goodbye before it comes back.
    """

    def __init__(self, listener: Listener, peers: Collection[str], linger_s: float) -> None:
        self.name = f"{' or '.join(sorted(peers))} (dials in at {listener.name})"
        self.certificates: tuple[Certificate, ...] = ()
        self._listener, self._linger_s = listener, linger_s
        self._arrived = asyncio.Event()
        self._visitor: _Visitor | None = None
        self._conversation: Conversation | None = None
        self._strangers_known = 0
        listener.admit(peers, self)

    @asynccontextmanager
    async def used(self) -> AsyncIterator[None]:
        """See `Way.used`."""
        self._strangers_known = self._listener.strangers.total()
        try:
            await self._listener.open()
            yield
        finally:
            self._listener.leave(self._linger_s)

    async def open(self, make: Callable[[], ConversationT], timeout_s: float) -> ConversationT:
        """See `Way.open`."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrived.wait()
        except TimeoutError as error:
            why = f"{self.name} did not connect within {timeout_s:g} s"
            if self._listener.strangers.total() > self._strangers_known:
                raise DeviceRefused(f"{why}; {self._listener.strangers_text}") from error
            raise DeviceUnreachable(why) from error
        self._arrived.clear()
        assert self._visitor is not None
        visitor, self._visitor = self._visitor, None
        conversation = make()
        visitor.transport.set_protocol(conversation)
        conversation.connection_made(visitor.transport)
        self._conversation = conversation
        return conversation

    def arrive(self, visitor: _Visitor) -> None:
        """A peer has connected; what it had before is over."""
        if self._conversation is not None:
            self._conversation.drop(DeviceUnreachable(f"{self.name} has connected anew"))
            self._conversation = None
        if self._visitor is not None:
            self._visitor.transport.abort()
        self._visitor = visitor
        self._arrived.set()

    def leave(self, visitor: _Visitor) -> None:
        """A peer went before anybody talked to it."""
        if visitor is self._visitor:
            self._visitor = None
            self._arrived.clear()

    def dismiss(self) -> None:
        """Nobody will talk to whoever waits."""
        if self._visitor is not None:
            self._visitor.transport.abort()

    def tell(self, sentence: str) -> None:
        """Have a stranger told with the next scan."""
        if self._conversation is not None and not self._conversation.is_lost:
            self._conversation.note(sentence)


class Listener:
    """One listening socket, while anybody needs it.

    Attributes:
        strangers: how often an address connected that is nobody's peer.
    """

    def __init__(self, address: str, port: int) -> None:
        self.name = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.strangers: Counter[str] = Counter()
        self._address, self._port = address, port
        self._peers: dict[str, DialIn] = {}
        self._users = 0
        self._server: asyncio.Server | None = None
        self._lock = asyncio.Lock()
        self._closing: asyncio.TimerHandle | None = None

    @property
    def strangers_text(self) -> str:
        """Who connected without being anybody's peer."""
        shown = ", ".join(f"{peer} ({times} times)" for peer, times in self.strangers.most_common(_STRANGERS_SHOWN))
        return f"connections from {shown} were closed: not among the peers of {self.name}"

    def admit(self, peers: Collection[str], device: DialIn) -> None:
        """Let a device in from these addresses."""
        for peer in peers:
            self._peers.setdefault(peer, device)

    async def open(self) -> None:
        """Listen, if nobody has begun to.

        Raises:
            DeviceRefused: the port is not ours to listen on.
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
                    lambda: _Visitor(self), self._address, self._port, backlog=_BACKLOG, start_serving=False
                )
                await self._server.start_serving()
            except OSError as error:
                reason = os.strerror(error.errno) if error.errno else str(error)
                raise DeviceRefused(f"nobody can dial in at {self.name}: {reason}") from error

    def leave(self, linger_s: float) -> None:
        """Undo an `open`; the socket closes after a while, as a device may call between two attempts."""
        self._users -= 1
        if not self._users:
            self._closing = asyncio.get_running_loop().call_later(linger_s, self._close)

    def receive(self, visitor: _Visitor) -> DialIn | None:
        """Whose connection this is; a stranger's is closed at once."""
        name = visitor.transport.get_extra_info("peername")
        peer = name[0] if name else "an address that is gone"
        device = self._peers.get(peer)
        if device is None:
            visitor.transport.abort()
            if peer in self.strangers or len(self.strangers) < _STRANGERS_MAX:
                self.strangers[peer] += 1
            for known in set(self._peers.values()):
                known.tell(f"{peer} connected to {self.name}, is nobody's peer there, and was sent away")
        return device

    def _close(self) -> None:
        self._closing = None
        if self._server is not None:
            self._server.close()
            self._server = None
        for device in set(self._peers.values()):
            device.dismiss()


class _Visitor(asyncio.Protocol):
    """A connection that waits to be talked to; what it says before it is asked is a modem's greeting."""

    transport: asyncio.Transport

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._device: DialIn | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)  # uvloop's is none by inheritance.
        self._device = self._listener.receive(self)
        if self._device is not None:
            self._device.arrive(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        if self._device is not None:
            self._device.leave(self)
