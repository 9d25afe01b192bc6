"""Word to the service manager, and a watchdog that is fed by sealing (sd_notify, systemd 252)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from edge.logs import get_logger

log = get_logger(__name__)

CHECKS_PER_INTERVAL = 4


class Notifier:
    """Sends datagrams to the socket that systemd names; says nothing where there is none."""

    def __init__(self, address: str = "", watchdog_ns: int = 0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self.watchdog_ns = watchdog_ns

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """What systemd told this process; a watchdog meant for another process is not ours."""
        asked_of = environment.get("WATCHDOG_PID", "")
        watchdog_us = int(environment.get("WATCHDOG_USEC", "0")) if asked_of in ("", str(os.getpid())) else 0
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_us * 1000)

    def ready(self, status: str = "") -> None:
        """The first reading can be sealed from now on."""
        self._tell(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """One line for `systemctl status`."""
        self._tell(f"STATUS={text}")

    def pet(self) -> None:
        """Still at work."""
        self._tell("WATCHDOG=1")

    def stopping(self) -> None:
        """On the way out, on purpose."""
        self._tell("STOPPING=1")

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, words: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(words.encode(), self._address)
        except OSError as error:
            # The service manager is late or gone; it decides what that means, and we read on.
            log.warning("service manager not told", words=words, reason=str(error))


class Watchdog:
    """Tells systemd that we work, but only while sealing goes on: a loop that turns and seals nothing is stuck."""

    def __init__(self, notifier: Notifier, progress: Callable[[], int]) -> None:
        """`progress` changes whenever a record was sealed; the heartbeat sees to it that it does."""
        self._notifier = notifier
        self._progress = progress
        self._seen: int | None = None

    async def run(self) -> None:
        """Pet the watchdog until cancelled; returns at once where systemd asked for none."""
        if not self._notifier.watchdog_ns:
            return
        pause_s = self._notifier.watchdog_ns / CHECKS_PER_INTERVAL / 1e9
        while True:
            self.check()
            await asyncio.sleep(pause_s)

    def check(self) -> None:
        """Pet the watchdog if anything was sealed since the last look."""
        progress = self._progress()
        if progress != self._seen:
            self._seen = progress
            self._notifier.pet()
