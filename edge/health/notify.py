"""Notifications to the service manager, and a watchdog that depends on sealing (sd_notify, systemd 252)."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Mapping

from edge.logs import get_logger

log = get_logger(__name__)

CHECKS_PER_INTERVAL = 4
STATUS_EVERY_S = 5.0


class Notifier:
    """Sends datagrams to the socket that systemd names; does nothing where there is none."""

    def __init__(self, address: str = "", watchdog_ns: int = 0) -> None:
        self._address = f"\0{address[1:]}" if address.startswith("@") else address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) if address else None
        if self._socket is not None:
            self._socket.setblocking(False)
        self.watchdog_ns = watchdog_ns

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> Notifier:
        """From the variables that systemd sets; a watchdog meant for another process is ignored."""
        watched = environment.get("WATCHDOG_PID", "")
        watchdog_us = int(environment.get("WATCHDOG_USEC", "0")) if watched in ("", str(os.getpid())) else 0
        return cls(environment.get("NOTIFY_SOCKET", ""), watchdog_us * 1000)

    @property
    def is_connected(self) -> bool:
        """Whether there is a service manager."""
        return self._socket is not None

    def ready(self, status: str = "") -> None:
        """The gateway has started, and readings can be sealed."""
        self._send(f"READY=1\nSTATUS={status}")

    def status(self, text: str) -> None:
        """What `systemctl status` shows."""
        self._send(f"STATUS={text}")

    def pet(self) -> None:
        """The process works: restart the watchdog's time."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """The process ends on purpose."""
        self._send("STOPPING=1")

    def close(self) -> None:
        """Close the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto(message.encode(), self._address)
        except OSError as error:
            # The service manager is late or gone: it decides what that means, and reading continues.
            log.warning("service manager not told", words=message, reason=str(error))


class StatusLine:
    """Keeps the service manager's status line current, where there is a service manager."""

    def __init__(self, notifier: Notifier, headline: Callable[[], str]) -> None:
        self._notifier, self._headline = notifier, headline
        self._shown = ""

    async def run(self) -> None:
        """Compare every few seconds, until cancelled."""
        while self._notifier.is_connected:
            await asyncio.sleep(STATUS_EVERY_S)
            self.update()

    def update(self) -> None:
        """Send the line if it has changed."""
        line = self._headline()
        if line != self._shown:
            self._shown = line
            self._notifier.status(line)


class Watchdog:
    """Notifies systemd only while records are sealed: an event loop that turns without sealing is stuck."""

    def __init__(self, notifier: Notifier, progress: Callable[[], int]) -> None:
        """`progress` returns a number that changes with each sealed record; the heartbeat seals at least one."""
        self._notifier = notifier
        self._progress = progress
        self._seen: int | None = None

    async def run(self) -> None:
        """Check in time for systemd, until cancelled; returns at once where systemd has set no watchdog."""
        if not self._notifier.watchdog_ns:
            return
        pause_s = self._notifier.watchdog_ns / CHECKS_PER_INTERVAL / 1e9
        while True:
            self.check()
            await asyncio.sleep(pause_s)

    def check(self) -> None:
        """Notify systemd if a record was sealed since the last check."""
        progress = self._progress()
        if progress != self._seen:
            self._seen = progress
            self._notifier.pet()
