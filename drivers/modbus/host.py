"""Devices at a host and port, with and without TLS."""

from __future__ import annotations

import asyncio
import os
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from drivers.modbus.access import ModbusTls
from drivers.modbus.conversation import ConversationT
from drivers.modbus.tls import explain, load_context
from edge.errors import DeviceRefused, DeviceUnreachable


class Host:
    """See `drivers.modbus.link.Way`."""

    def __init__(self, host: str, port: int, tls: ModbusTls | None = None) -> None:
        self.name = f"{host}:{port}"
        self._host, self._port, self._tls = host, port, tls

    def used(self) -> AbstractAsyncContextManager[None]:
        """See `Way.used`."""
        return nullcontext()

    async def open(self, make: Callable[[], ConversationT], timeout_s: float) -> ConversationT:
        """See `Way.open`."""
        context = await asyncio.to_thread(load_context, self._tls) if self._tls is not None else None
        connect = asyncio.get_running_loop().create_connection
        try:
            async with asyncio.timeout(timeout_s):
                _, conversation = await connect(make, self._host, self._port, ssl=context)
        except TimeoutError as error:
            raise DeviceUnreachable(f"{self.name} did not accept a connection within {timeout_s:g} s") from error
        except ssl.SSLError as error:
            raise DeviceRefused(f"{self.name}: {explain(error)}") from error
        except (ConnectionResetError, ConnectionAbortedError) as error:
            if context is None:
                raise DeviceUnreachable(f"{self.name} cannot be reached: {_reason(error)}") from error
            raise DeviceRefused(
                f"{self.name} closed the connection during the TLS handshake: it may not speak TLS on this port, or "
                "refuse our certificate"
            ) from error
        except OSError as error:
            raise DeviceUnreachable(f"{self.name} cannot be reached: {_reason(error)}") from error
        return conversation


def _reason(error: OSError) -> str:
    # asyncio calls every refusal "Connect call failed"; the kernel's number says which. Names that are not found have
    # numbers below 0, and words of their own.
    return os.strerror(error.errno) if error.errno is not None and error.errno > 0 else error.strerror or str(error)
