"""`tidegate status --watch` in a real terminal: it fits the window, and waits for a gateway that is away."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios

from tests.faults.gateway.site_under_test import LIMIT_S, Site

ROWS, COLUMNS = 12, 60
_FRAME = re.compile(rb"\x1b\[H")
_CONTROL = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def test_a_watched_gateway_may_stop_and_come_back_and_the_screen_never_scrolls(site: Site) -> None:
    for number in range(6):
        site.add_counter(f"mixer-{number}")
    gateway = site.gateway()
    screen, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    watching = subprocess.Popen(
        [sys.executable, "-m", "edge.cli", "status", str(site.directory / "gateway.yaml"), "--watch"],
        stdin=theirs, stdout=theirs, stderr=theirs, env={**os.environ, "TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    drawn = bytearray()

    def wait_for(words: bytes) -> None:
        begin = len(drawn)
        while words not in drawn[begin:]:
            # It is drawn each second.
            assert drawn.count(b"\x1b[H", begin) < LIMIT_S, f"no {words!r} in {bytes(drawn[-2000:])!r}"
            assert select.select([screen], [], [], LIMIT_S)[0], f"no {words!r} on the screen"
            drawn.extend(os.read(screen, 1 << 16))

    try:
        wait_for(b"more devices are not shown")
        gateway.stop()
        wait_for(b"UNKNOWN")
        site.gateway()
        wait_for(b"DEGRADED")
        watching.send_signal(signal.SIGINT)
        ended = watching.wait(LIMIT_S)
    finally:
        watching.kill()
        watching.wait()
        os.close(screen)

    frames = [_CONTROL.sub(b"", frame).decode() for frame in _FRAME.split(bytes(drawn))[1:]]
    assert ended == 0
    assert b"\x1b[?1049h" in drawn  # The alternate screen.
    assert len(frames) > 3
    assert max(frame.rstrip("\r\n ").count("\n") for frame in frames) < ROWS
    assert max(len(line.rstrip()) for frame in frames for line in frame.splitlines()) <= COLUMNS
