"""Real chronyd processes whose clocks are known exactly; with -x they never touch this machine's clock.

A server's clock is `hil.wall_clock.WallClock`, by its environment.
"""

from __future__ import annotations

import os
import pwd
import selectors
import shutil
import socket
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PROGRAM = shutil.which("chronyd", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
_RUNS = ("Running with root privileges", "Disabled control of system clock")
_NTP_BYTES, _LIMIT_S, _REQUESTS_KEPT = 1024, 60, 64


@dataclass(frozen=True)
class Chronyd:
    """A chronyd that runs.

    Attributes:
        udp: where it answers commands, as `clock.chrony` names it; `unix` is its socket.
        log: what it says.
    """

    process: subprocess.Popen[bytes]
    udp: str
    unix: str
    log: Path

    def kill(self) -> None:
        """End it as a power cut does."""
        self.process.kill()
        self.process.wait()


def free_udp_port() -> int:
    """A port of loopback that a chronyd may have."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serving(port: int, address: str = "127.0.0.1", clients: str = "127.0.0.1") -> tuple[str, ...]:
    """Configuration of a server that needs no server itself."""
    return "local stratum 3", f"allow {clients}", f"port {port}", f"bindaddress {address}"


def asking(*ports: int, poll: int = 0) -> tuple[str, ...]:
    """Configuration of a client that asks servers on loopback each 2^poll seconds."""
    ways = f"iburst minpoll {poll} maxpoll {poll}"
    return *(f"server 127.0.0.1 port {port} {ways}" for port in ports), "port 0"


@contextmanager
def chronyd(
    home: Path, *lines: str, environment: Mapping[str, str] | None = None, enter: Sequence[str] = ()
) -> Iterator[Chronyd]:
    """A chronyd with these lines of configuration.

    Args:
        home: its directory, which no other process uses.
        environment: beyond that of this process.
        enter: the command before it, such as `ip netns exec NAME`.
    """
    assert _PROGRAM, "install the package chrony"
    home.mkdir(parents=True, exist_ok=True)
    home.chmod(0o750)
    port, log, configuration = free_udp_port(), home / "log", home / "chrony.conf"
    own = (f"cmdport {port}", "bindcmdaddress 127.0.0.1", f"bindcmdaddress {home}/chronyd.sock")
    configuration.write_text("\n".join([*lines, *own, f"pidfile {home}/chronyd.pid"]) + "\n")
    user = pwd.getpwuid(os.getuid()).pw_name
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*enter, _PROGRAM, "-d", "-x", "-U", "-u", user, "-f", configuration], stdout=output,
            stderr=subprocess.STDOUT, env={**os.environ, **(environment or {})},
        )  # fmt: skip
    running = Chronyd(process, f"127.0.0.1:{port}", f"{home}/chronyd.sock", log)
    try:
        _wait(lambda: any(word in log.read_text() for word in _RUNS) or process.poll() is not None, log)
        assert process.poll() is None, log.read_text()
        yield running
    finally:
        running.kill()


def _wait(condition: Callable[[], bool], log: Path) -> None:
    limit_s = time.monotonic() + _LIMIT_S
    while not condition():
        assert time.monotonic() < limit_s, log.read_text()
        time.sleep(0.01)


class SlowPath:
    """A way to a server on loopback that delays what goes one way, without order; `port` is its beginning.

    Attributes:
        there_s: how long the next request is delayed.
        back_s: how long the next answer is.
    """

    def __init__(self, server_port: int, there_s: Callable[[], float] = float, back_s: Callable[[], float] = float):
        self.there_s, self.back_s = there_s, back_s
        self._near, self._far = (socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2))
        self._near.bind(("127.0.0.1", 0))
        self._far.connect(("127.0.0.1", server_port))
        self.port = int(self._near.getsockname()[1])
        self._asked: dict[bytes, tuple[str, int]] = {}  # Who asked, by the time in a request, which its answer repeats.
        self._waiting: deque[tuple[float, bool, bytes, tuple[str, int]]] = deque()
        self._wake, self._end = socket.socketpair()
        self._thread = threading.Thread(target=self._carry, name="slow path")

    def __enter__(self) -> SlowPath:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.close()
        self._thread.join()
        for each in (self._near, self._far, self._wake):
            each.close()

    def _carry(self) -> None:
        with selectors.DefaultSelector() as ready:
            for each in (self._near, self._far, self._wake):
                each.setblocking(False)
                ready.register(each, selectors.EVENT_READ)
            while True:
                due_s = min((each[0] for each in self._waiting), default=None)
                left_s = None if due_s is None else max(0.0, due_s - time.monotonic())
                for key, _ in ready.select(left_s):
                    if key.fileobj is self._wake:
                        return
                    self._receive(is_request=key.fileobj is self._near)
                self._send_due()

    def _receive(self, *, is_request: bool) -> None:
        try:
            packet, peer = (self._near if is_request else self._far).recvfrom(_NTP_BYTES)
        except OSError:  # The server is gone.
            return
        if is_request:
            self._asked[packet[40:48]] = asker = peer
            while len(self._asked) > _REQUESTS_KEPT:
                self._asked.pop(next(iter(self._asked)))
        else:
            asker = self._asked.pop(packet[24:32], None)
        if asker is not None:
            delay_s = self.there_s() if is_request else self.back_s()
            self._waiting.append((time.monotonic() + delay_s, is_request, packet, asker))

    def _send_due(self) -> None:
        now_s = time.monotonic()
        due = [each for each in self._waiting if each[0] <= now_s]
        for each in due:
            self._waiting.remove(each)
            _, is_request, packet, peer = each
            try:
                self._far.send(packet) if is_request else self._near.sendto(packet, peer)
            except OSError:  # The server is gone.
                continue
