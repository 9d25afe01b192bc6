"""The way to a broker: its address, our identity there, and a connection with TLS as its files are at that moment."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from edge.errors import BrokerUnreachable, ErrorCode
from edge.tls import TlsFiles, chain_of, explain, load_context


@dataclass(frozen=True, slots=True, kw_only=True)
class BrokerAccess:
    """Address of the broker, and our identity there.

    Attributes:
        on_chain: called with the broker's certificate and the authorities above it, in DER, at each connection.
    """

    host: str
    port: int
    client_id: str
    tls: TlsFiles | None = None
    username: str | None = None
    password: bytes | None = field(default=None, repr=False)
    keep_alive_s: int = 30
    in_flight: int = 64
    connect_timeout_s: float = 10.0
    on_chain: Callable[[Sequence[bytes]], None] | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        """The broker in messages."""
        return f"broker {self.host}:{self.port}"


async def open_connection(
    access: BrokerAccess, protocol: asyncio.Protocol, introduce: Callable[[], Awaitable[None]]
) -> None:
    """Open a connection; `introduce` sends CONNECT on it and waits until the broker has accepted us.

    Raises:
        BrokerUnreachable: no answer, or a certificate that we do not trust.
        ConfigError: a TLS file cannot be used.
    """
    context = await asyncio.to_thread(load_context, access.tls) if access.tls else None
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(access.connect_timeout_s):
            transport, _ = await loop.create_connection(lambda: protocol, access.host, access.port, ssl=context)
            if context is not None and access.on_chain is not None:
                access.on_chain(chain_of(transport.get_extra_info("ssl_object")))
            await introduce()
    except TimeoutError as error:
        why = f"{access.name} did not answer in {access.connect_timeout_s:g} s"
        raise BrokerUnreachable(why, code=ErrorCode.BROKER_UNREACHABLE) from error
    except ssl.SSLError as error:
        why = f"{access.name}: {explain(error, access.tls)}"
        raise BrokerUnreachable(why, code=ErrorCode.BROKER_NOT_TRUSTED) from error
    except OSError as error:
        why = f"{access.name} cannot be reached: {_os_error(error)}"
        raise BrokerUnreachable(why, code=ErrorCode.BROKER_UNREACHABLE) from error


def lost_connection(access: BrokerAccess, error: Exception | None, *, is_accepted: bool) -> BrokerUnreachable:
    """The error for a connection that ended without a DISCONNECT; the broker is "it"."""
    code = ErrorCode.BROKER_LOST
    if isinstance(error, ssl.SSLError):
        why, code = explain(error, access.tls), ErrorCode.BROKER_NOT_TRUSTED
    elif not is_accepted:
        why = "it closed the connection without an answer; it may not speak MQTT 5, or not accept our certificate"
    elif error is None:
        why = "it closed the connection"
    else:
        why = f"connection lost: {_os_error(error)}"
    return BrokerUnreachable(f"{access.name}: {why}", code=code)


def _os_error(error: Exception) -> str:
    if isinstance(error, OSError):
        # asyncio calls every failure "Connect call failed"; the kernel's number tells them apart. Name resolution has
        # negative numbers and texts of its own.
        number = error.errno or 0
        return os.strerror(number) if number > 0 else error.strerror or str(error) or type(error).__name__
    return str(error) or type(error).__name__
