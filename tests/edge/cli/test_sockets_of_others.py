"""At the path of a gateway's socket is something else: each command says so, and tells it nothing."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.health import GatewayStatus, StatusSnapshot
from edge.page.source import Source, load_what_reads_status
from tests.faults.gateway.test_gateway_and_permissions import AS_ANYBODY
from tests.support.terminal import Terminal
from tests.support.waiting import until

WHY = "change request 1207: secret enough"
CONFIG = {
    "gateway": {"name": "line-4", "path": "acme", "state": "state"},
    "clock": {"require": "any"},
    "devices": [
        {"name": "plc", "driver": "simulator",
         "scan_groups": [{"every": "1 s", "tags": [{"name": "n", "signal": "counter", "type": "uint32"}]}]}
    ],
}  # fmt: skip
SOCKETS = ("status", "live", "control")
AT_STATUS: Sequence[tuple[str, ...]] = (
    ("status", "CONFIG"), ("status", "--socket", "STATE/status.sock"), ("status", "CONFIG", "--tags"),
    ("status", "CONFIG", "--problems"), ("status", "CONFIG", "--json"), ("status", "CONFIG", "--check"),
    ("inventory", "CONFIG"),
)  # fmt: skip
AT_LIVE: Sequence[tuple[str, ...]] = (("read", "CONFIG", "plc"),)
AT_CONTROL: Sequence[tuple[str, ...]] = (
    ("browse", "CONFIG", "plc"), ("test", "CONFIG", "plc"), ("apply", "CONFIG", "--why", WHY), ("diff", "CONFIG"),
    ("apply", "CONFIG", "--previous", "1", "--why", WHY),
    ("import", "CONFIG", "--device", "plc", "--from-device"),
)  # fmt: skip
ALL = (*AT_STATUS, *AT_LIVE, *AT_CONTROL)
LISTENING = """
import os, pathlib, socket, sys, threading
os.setgroups([])
os.setgid(4242)
os.setuid(4242)
document, state = sys.stdin.buffer.read(), pathlib.Path(sys.argv[1])

def serve(listening):
    while True:
        heard, accepted = b"", listening.accept()[0]
        try:
            accepted.sendall(document)
            accepted.shutdown(socket.SHUT_WR)
            while part := accepted.recv(1 << 16):
                heard += part
        except OSError:
            pass
        print("heard", heard, flush=True)
        accepted.close()

for name in sys.argv[2:]:
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(state / f"{name}.sock"))
    (state / f"{name}.sock").chmod(0o666)
    listening.listen()
    threading.Thread(target=serve, args=(listening,)).start()
print("listening", flush=True)
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that other accounts can reach, with a configuration and a state directory in which they may write."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        place.chmod(0o755)
        (place / "gateway.yaml").write_text(json.dumps(CONFIG))
        (place / "state").mkdir()
        (place / "state").chmod(0o1777)
        yield place


@contextmanager
def another_account(place: Path) -> Iterator[Callable[[], list[str]]]:
    """Its process listens at all three sockets and answers as a gateway would; gives all that it has heard."""
    state = place / "state"
    document = StatusSnapshot(
        gateway=GatewayStatus(name="line-4", **{f"{name}_socket": f"{state}/{name}.sock" for name in SOCKETS[1:]})
    ).to_json()
    with (
        (place / "heard").open("wb") as heard,
        subprocess.Popen([sys.executable, "-I", "-c", LISTENING, str(state), *SOCKETS], stdin=subprocess.PIPE,
                         stdout=heard) as listening,
    ):  # fmt: skip
        assert listening.stdin is not None
        listening.stdin.write(document)
        listening.stdin.close()
        try:
            while "listening" not in (place / "heard").read_text():
                assert listening.poll() is None
            yield lambda: (place / "heard").read_text().splitlines()[1:]
        finally:
            listening.kill()


@contextmanager
def this_account(place: Path, answer: bytes) -> Iterator[None]:
    """A program of this account answers this at all three sockets, whoever asks and whatever."""
    stopping = threading.Event()

    def serve(listening: socket.socket) -> None:
        while not stopping.is_set():
            accepted, _ = listening.accept()
            with accepted, suppress(OSError):
                accepted.sendall(answer)
                accepted.shutdown(socket.SHUT_WR)
                while accepted.recv(1 << 16):
                    pass

    listening = [socket.socket(socket.AF_UNIX) for _ in SOCKETS]
    for each, name in zip(listening, SOCKETS, strict=True):
        each.bind(str(place / f"state/{name}.sock"))
        each.listen()
    threads = [threading.Thread(target=serve, args=(each,)) for each in listening]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stopping.set()
        for each, name in zip(listening, SOCKETS, strict=True):
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(place / f"state/{name}.sock"))
            each.close()
        for thread in threads:
            thread.join()


def run(place: Path, command: Sequence[str]) -> Result:
    words = [word.replace("CONFIG", f"{place}/gateway.yaml").replace("STATE", f"{place}/state") for word in command]
    return CliRunner().invoke(cli, words)


needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


@needs_root
def test_a_process_of_another_account_is_told_nothing_and_believed_nothing(place: Path) -> None:
    (place / "state/configurations").mkdir()
    with another_account(place) as heard:
        ran = {command: run(place, command) for command in ALL}
        with Terminal("watch", f"{place}/gateway.yaml") as terminal:
            assert terminal.wait() == 1
            watched = terminal.written.decode()
        doctor = run(place, ("doctor", "CONFIG"))

    for command, result in ran.items():
        assert result.exit_code == (2 if "--check" in command else 1), (command, result.output)
        assert "a process of the account 4242" in result.output, (command, result.output)
        assert "line-4   " not in result.output
    assert "a process of the account 4242" in " ".join(watched.split())
    assert "a process of the account 4242" in " ".join(doctor.output.split())
    assert {line.partition("heard ")[2] for line in heard()} == {"b''"}
    assert len(heard()) >= len(ALL)


@needs_root
async def test_the_page_tells_a_process_of_another_account_nothing(place: Path) -> None:
    await asyncio.to_thread(load_what_reads_status)
    with another_account(place) as heard:
        source = Source("gateway/line-4", place / "state/status.sock", None)
        asking = asyncio.ensure_future(source.run())
        await until(lambda: source.away)
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)

        assert source.away is not None
        assert "a process of the account 4242" in source.away[1]
        assert source.answer is None
        assert {line.partition("heard ")[2] for line in heard()} == {"b''"}


@needs_root
@pytest.mark.parametrize(
    ("owner", "group", "mode", "is_asked"),
    [(0, 0, 0o755, False), (4242, 0, 0o750, True), (0, 4242, 0o2775, True), (0, 4242, 0o755, False),
     (0, 0, 0o1777, False)],
)  # fmt: skip
def test_asked_is_who_may_make_sockets_there(place: Path, owner: int, group: int, mode: int, *, is_asked: bool) -> None:
    """The owner of the directory, and by the owner's leave its group; that everybody may vouches for nobody."""
    with another_account(place):
        os.chown(place / "state", owner, group)
        (place / "state").chmod(mode)
        result = run(place, ("status", "CONFIG"))

    assert ("line-4   " in result.output) is is_asked, result.output
    assert ("a process of the account 4242" in result.output) is not is_asked


@pytest.mark.parametrize(
    "answer", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"[]", b'{"x": 1}', b'{"gateway"', b'{"error": 1}']
)
def test_another_program_of_this_account_is_not_taken_for_a_gateway(place: Path, answer: bytes) -> None:
    with this_account(place, answer):
        ran = {command: run(place, command) for command in (*AT_STATUS, *AT_LIVE, *AT_CONTROL)}

    for command, result in ran.items():
        assert result.exit_code == (3 if "--check" in command else 1), (command, result.output, result.exception)
        assert isinstance(result.exception, SystemExit), command
    for command in AT_STATUS[:-1]:
        assert "what answers there is not a Tidegate status socket" in ran[command].output, command
    for command in (*AT_LIVE, *AT_CONTROL):
        said = ran[command].output
        is_cut_off = answer in (b"", b'{"gateway"')
        sentence = "gave no answer at" if is_cut_off else "is not a Tidegate gateway"
        assert sentence in said, (command, said)


def test_a_socket_that_was_left_behind_is_no_gateway(place: Path) -> None:
    for name in SOCKETS:
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(place / f"state/{name}.sock"))
    expected: dict[Sequence[Sequence[str]], tuple[set[int], str]] = {
        AT_STATUS[:5]: ({1}, "no answer (Connection refused); is the gateway or relay running?"),
        AT_STATUS[5:6]: ({2}, "no answer (Connection refused); is the gateway or relay running?"),
        AT_STATUS[6:]: ({1}, "no gateway answers; start it"),
        AT_CONTROL[2:5]: ({1}, "line-4 has not run yet: no configuration is on record"),
    }
    for commands, (codes, sentence) in expected.items():
        for command in commands:
            result = run(place, command)
            assert result.exit_code in codes, (command, result.output)
            assert sentence in result.output, (command, result.output)

    answer: dict[str, Any] = json.loads(run(place, ("read", "CONFIG", "plc", "--json")).stdout)
    assert answer["answered_by"] == "device"


@needs_root
@pytest.mark.parametrize("command", [*AT_LIVE, *AT_CONTROL[:4]])
def test_who_may_not_enter_the_state_directory_is_not_told_that_a_gateway_runs(
    place: Path, command: Sequence[str]
) -> None:
    os.chown(place / "state", 4242, 4242)
    (place / "state").chmod(0o700)
    words = [word.replace("CONFIG", f"{place}/gateway.yaml") for word in command]
    ran = subprocess.run([*AS_ANYBODY, sys.executable, "-m", "edge.cli", *words], check=False, capture_output=True,
                         text=True)  # fmt: skip

    name = "live" if command[0] == "read" else "control"
    assert ran.returncode == 1
    assert f"this account may not ask at {place}/state/{name}.sock, nor see whether a gateway runs there" in ran.stderr
    assert "gateway runs," not in ran.stderr
