"""The endpoint for Prometheus: metrics are read from a snapshot at each request, so that scans pay nothing for them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from edge import http
from edge.health.snapshot import StatusSnapshot
from edge.tls import TlsFiles

# Prometheus needs one. More would be memory and file descriptors in the hands of whoever reaches the port.
_CONNECTIONS_LIMIT = 16
_SERVICE = http.Service(
    name="metrics", setting="status.metrics", tls_setting="status.tls", connections=_CONNECTIONS_LIMIT
)


def serve_metrics(
    address: str, snapshot: Callable[[], StatusSnapshot], tls: TlsFiles | None = None
) -> AbstractAsyncContextManager[tuple[str, int]]:
    """Answer `GET /metrics` while the block is open; see `edge.http.serve`.

    Args:
        address: `host:port` with a numeric host, such as `127.0.0.1:9464`; port 0 takes a free one.
        snapshot: called in the event loop, once for each answer.
        tls: our certificate, and the authority of those that may ask. The files are read again for each connection.

    Raises:
        ConfigError: the address or a file cannot be used, or other machines can reach the address and `tls` is None.
    """

    async def answer(request: http.Request) -> http.Response:
        if request.path != "/metrics":
            return http.Response("404 Not Found", body=b"metrics are at /metrics\n")
        # The text of a thousand devices takes a while to format, and the event loop has scans to start.
        body = await asyncio.to_thread(_text, snapshot())
        return http.Response(content_type="text/plain; version=0.0.4; charset=utf-8", body=body)

    return http.serve(address, answer, _SERVICE, tls)


def _text(snapshot: StatusSnapshot) -> bytes:
    # Imported with the first request: a gateway without metrics does not pay for the library.
    from edge.health.families import text_of

    return text_of(snapshot)
