"""A gateway, a relay and a mosquitto, as real processes, for the commands of who operates them."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from threading import Event

import pytest

from edge.health import StatusSnapshot, read_status
from edge.health.problems import StatusAnswer
from tests.support.mosquitto import running_mosquitto

WITHIN_S = 60
_TIDEGATE = (sys.executable, "-c", "from edge.cli import main; main()")
_GATEWAY = """\
gateway: {name: line-4, path: acme/basel, state: state}
clock: {require: any, chrony: off}
uplink: {mqtt: {host: 127.0.0.1, port: PORT, tls: off, username: line-4, password: "file:password"}}
devices:
  - name: mixer
    driver: simulator
    scan_groups: [{every: 100 ms, tags: [{name: count, signal: counter, period: 100 ms, type: uint32}]}]
"""
_RELAY = """\
relay:
  name: basel
  archive: archive
  trust: [state/identity.pub.pem]
  mqtt: {host: 127.0.0.1, port: PORT, tls: off, username: relay, password: "file:password"}
"""


class Operated:
    """The processes, their folder, and the commands typed there."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder, self._stack = folder, stack
        self.gateway_file, self.relay_file = folder / "gateway.yaml", folder / "relay.yaml"

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """A process that runs until the test is over, its log in a file of its name."""
        with (self.folder / f"{command[0]}.log").open("ab") as log:
            process = subprocess.Popen([*_TIDEGATE, *command], cwd=self.folder, stdout=subprocess.DEVNULL, stderr=log,
                                       umask=0o077)  # fmt: skip
        self._stack.callback(end, process)
        return process

    def tidegate(self, *arguments: object, **more: str) -> subprocess.CompletedProcess[str]:
        """What a command says; `more` is added to its environment."""
        command = ["env", *(f"{name}={text}" for name, text in more.items()), *_TIDEGATE, *map(str, arguments)]
        return subprocess.run(command, cwd=self.folder, capture_output=True, text=True, check=False)

    def wait(self, socket: str, condition: Callable[[StatusAnswer], bool]) -> StatusAnswer:
        """Wait until the status says so."""
        pause = Event()
        while True:
            with suppress(OSError):
                answer = StatusAnswer.of(self.status(socket))
                if condition(answer):
                    return answer
            pause.wait(0.05)

    def status(self, socket: str) -> StatusSnapshot:
        """The status at a socket of the folder."""
        return read_status(self.folder / socket)


def end(process: subprocess.Popen[bytes]) -> None:
    """End a process as its service manager does."""
    process.send_signal(signal.SIGTERM)
    process.wait(WITHIN_S)


@pytest.fixture
def operated(tmp_path: Path) -> Iterator[Operated]:
    """The folder and the broker; nothing else runs yet."""
    with ExitStack() as stack:
        (tmp_path / "broker").mkdir()
        port = stack.enter_context(running_mosquitto(tmp_path / "broker", "topic readwrite #\nuser line-4\n"
                                                     "topic readwrite #\nuser relay\ntopic readwrite #\n"))  # fmt: skip
        made = Operated(tmp_path, stack)
        for file, text in ((made.gateway_file, _GATEWAY), (made.relay_file, _RELAY)):
            file.write_text(text.replace("PORT", str(port)))
        (tmp_path / "password").write_text("pa55-of-the-line")
        (tmp_path / "password").chmod(0o600)
        yield made


@pytest.fixture
def running(operated: Operated) -> Operated:
    """A gateway and its relay at work, with which nothing is wrong."""
    operated.start("run", "gateway.yaml")
    operated.wait("state/status.sock", lambda _: True)
    operated.start("relay", "relay.yaml")
    operated.wait("state/status.sock", lambda answer: answer.verdict == "OK")
    operated.wait("archive/status.sock", lambda answer: answer.verdict == "OK")
    operated.wait("state/status.sock", lambda answer: answer.verdict == "OK")  # Before, nobody had subscribed.
    return operated
