"""Devices at a host and port, with and without TLS."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, nullcontext

from drivers.modbus.access import ModbusTls
from drivers.modbus.conversation import ConversationT
from drivers.modbus.tls import explain, load_context
from edge.errors import DeviceRefused, DeviceUnreachable, unreachable
from edge.tls import Certificate


class Host:
    """See `drivers.modbus.link.Way`."""

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
            self._look_at(transport.get_extra_info("ssl_object"))
        return conversation

    def _prepare(self, tls: ModbusTls) -> ssl.SSLContext:
        from drivers.modbus.certificates import of_pem

        context = load_context(tls)
        self.certificates = of_pem("ours", tls.certificate.path.read_bytes()) if tls.certificate is not None else ()
        return context

    def _look_at(self, tls: ssl.SSLObject) -> None:
        from drivers.modbus.certificates import of_der

        self.certificates += of_der("the device's", tls.getpeercert(binary_form=True) or b"")
