"""The demo on a terminal of its own: what it draws, and that its archive is whole however it is ended."""

from __future__ import annotations

import fcntl
import os
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.cli.verify import stored
from edge.seal import RecordType, parse

WITHIN_S = 60
ENTERED, LEFT, HIDDEN, SHOWN = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25l", b"\x1b[?25h"
CTRL_C = b"\x03"


class Terminal:
    """The demo as the only program of a terminal with 80 columns and 24 rows."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.output = b""
        self._master, slave = os.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "edge.cli", "demo", "--directory", str(directory), *options],
            stdin=slave, stdout=slave, stderr=slave, start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
            env={**os.environ, "TERM": "xterm-256color", "PYTHONIOENCODING": "utf-8", "COLUMNS": "200"},
        )  # fmt: skip
        os.close(slave)

    def type(self, keys: bytes) -> None:
        """The terminal sends a signal for Ctrl-C to all its processes."""
        os.write(self._master, keys)

    def wait_for(self, text: str) -> None:
        """Read until this was drawn."""
        assert self._read_until(lambda: text.encode() in self.output), f"{text!r} is not in {self.output!r}"

    def wait(self) -> int:
        """Read until the demo has ended; its exit code."""
        self._read_until(lambda: False)
        return self.process.wait(WITHIN_S)

    def close(self) -> None:
        """Close the window."""
        if self._master >= 0:
            os.close(self._master)
        self._master = -1

    def _read_until(self, condition: Callable[[], bool]) -> bool:
        deadline = time.monotonic() + WITHIN_S
        while not condition():
            if not select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))[0]:
                return False
            try:
                self.output += os.read(self._master, 65536)
            except OSError:  # EIO: the last process has closed the terminal.
                return condition()
        return True


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[Callable[..., Terminal]]:
    begun: list[Terminal] = []

    def begin(*options: str) -> Terminal:
        begun.append(Terminal(tmp_path / "demo", *options))
        return begun[-1]

    yield begin
    for terminal in begun:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()


def processes_of(directory: Path) -> dict[int, str]:
    """Processes that work in a directory, by their command lines."""
    found = {}
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if str(directory) in words:
            found[int(path.parent.name)] = words
    return found


def check_screen_was_left(terminal: Terminal) -> None:
    assert terminal.output.count(ENTERED) == terminal.output.count(LEFT) == 1
    assert terminal.output.rindex(HIDDEN) < terminal.output.rindex(SHOWN)


def check_archive_is_whole(directory: Path, code: int) -> None:
    """All that was sealed is archived, and the exit code says that the verifier calls it wholly authentic."""
    sealed = [record.data for record in stored((directory / "gateway" / "buffer",), None)]
    archived = {record.data for record in stored((directory / "archive",), None)}

    assert code == 0
    assert archived == set(sealed)
    assert sealed[-1] is not None
    assert parse(sealed[-1]).type is RecordType.STOP


@pytest.mark.parametrize(
    ("broker", "moment"),
    [("mosquitto", "are started"), ("embedded", "its 3 tags are BAD"), ("mosquitto", "keeps records on disk")],
)  # fmt: skip
def test_ctrl_c_at_any_moment_leaves_a_whole_archive(demos: Callable[..., Terminal], broker: str, moment: str) -> None:
    """Ctrl-C reaches all processes of the terminal: only the demo may be one of them."""
    terminal = demos("--broker", broker, "--seconds", "16")

    terminal.wait_for(moment)
    terminal.type(CTRL_C)
    code = terminal.wait()

    check_screen_was_left(terminal)
    check_archive_is_whole(terminal.directory, code)
    assert processes_of(terminal.directory) == {}


def test_ctrl_c_before_anything_runs(demos: Callable[..., Terminal]) -> None:
    terminal = demos("--seconds", "16")

    terminal.wait_for("starting")
    terminal.type(CTRL_C)
    code = terminal.wait()

    assert code == 0
    check_screen_was_left(terminal)
    if b"Ended before anything was started." not in terminal.output:
        check_archive_is_whole(terminal.directory, code)
    assert processes_of(terminal.directory) == {}


def test_the_screen_is_drawn_in_place_and_the_last_page_stays(demos: Callable[..., Terminal]) -> None:
    """The last page comes after the screen; a Ctrl-C then is too late for anything."""
    terminal = demos("--seconds", "5")

    terminal.wait_for(LEFT.decode())
    terminal.type(CTRL_C)
    code = terminal.wait()

    screen, _, rest = terminal.output.rpartition(LEFT)
    page = re.sub(r"\x1b\[[0-9;]*m", "", rest.decode())
    commands = re.findall(r"tidegate (\w+ .*?)\r?\n", page.partition("Next")[2])
    answers = [subprocess.run([sys.executable, "-m", "edge.cli", *words.split()], capture_output=True, check=False)
               for words in commands]  # fmt: skip
    rows = re.split(r"\x1b\[\d*;?\d*H", re.sub(r"\x1b\[[0-9;?]*[mhl]", "", screen.decode()))
    assert "\n" not in "".join(rows)  # Nothing that could scroll,
    assert max(map(len, rows)) == 80  # or wrap.
    assert b"broker stopped" in screen
    assert "carry a valid signature, none missing" in page
    assert [answer.returncode for answer in answers] == [1 if "NOT COMPLETE" in page else 0, 0, 0], answers
    check_archive_is_whole(terminal.directory, code)


def test_a_second_ctrl_c_ends_it_at_once(demos: Callable[..., Terminal]) -> None:
    """Even where the gateway hangs."""
    terminal = demos("--seconds", "16")
    terminal.wait_for("verified")
    for number, words in processes_of(terminal.directory).items():
        if "edge.cli run" in words and os.getsid(number) == number:
            os.kill(number, signal.SIGSTOP)

    terminal.type(CTRL_C)
    terminal.wait_for("Ctrl-C again ends it at once")
    terminal.type(CTRL_C)
    code = terminal.wait()

    assert code == 130
    check_screen_was_left(terminal)
    assert processes_of(terminal.directory) == {}


def test_closing_the_window_leaves_a_whole_archive(demos: Callable[..., Terminal]) -> None:
    terminal = demos("--broker", "embedded", "--seconds", "16")

    terminal.wait_for("keeps records on disk")
    terminal.close()
    code = terminal.process.wait(WITHIN_S)

    check_archive_is_whole(terminal.directory, code)
    assert processes_of(terminal.directory) == {}


def test_no_process_outlives_a_demo_that_is_killed(demos: Callable[..., Terminal]) -> None:
    terminal = demos("--broker", "mosquitto", "--seconds", "16")
    terminal.wait_for("verified")
    assert len(processes_of(terminal.directory)) >= 4  # And what checks the configuration, for a moment.

    terminal.process.kill()
    terminal.process.wait()

    deadline = time.monotonic() + WITHIN_S
    while (left := processes_of(terminal.directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == {}


def test_without_a_terminal_it_prints_a_few_sentences_and_ends_with_its_reader(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "edge.cli", "demo", "--directory", str(tmp_path), "--broker", "embedded"]
    with subprocess.Popen([*command, "--seconds", "5"], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as demo:
        assert demo.stdout is not None
        assert demo.stderr is not None
        lines = [demo.stdout.readline() for _ in range(2)]
        demo.stdout.close()
        errors = demo.stderr.read()
        code = demo.wait(WITHIN_S)

    assert lines[0].startswith(b"00:00  3 PLCs, the embedded broker, a gateway and a relay are started")
    assert lines[1].startswith(b"00:01  chromatography-1 stops answering")
    assert errors == b""
    check_archive_is_whole(tmp_path, code)
