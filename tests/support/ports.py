"""Ports of loopback for servers that cannot choose one themselves."""

from __future__ import annotations

import socket
from contextlib import suppress
from random import randrange


def free_port() -> int:
    """A port below those that the kernel gives away, which another test may get before the server has it."""
    while True:
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", randrange(20_000, 32_000)))
            port: int = probe.getsockname()[1]
            return port
