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
import tempfile
import termios
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge.cli.verify import stored
from edge.demo.postgresql import programs
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

    def begin(*options: str, directory: Path = tmp_path / "demo") -> Terminal:
        begun.append(Terminal(directory, *options))
        return begun[-1]

    yield begin
    for terminal in begun:
        terminal.process.kill()
        terminal.process.wait()
        terminal.close()


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """One that the account of PostgreSQL may enter, and short, as a socket's path must be."""
    with tempfile.TemporaryDirectory(prefix="tg-demo-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name) / "demo"


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


def check_historian_has_all(terminal: Terminal) -> int:
    """The last page says that PostgreSQL has as many values as an export of the archive; how many."""
    found = re.search(r"Historian\W.*?([\d,]+) values in PostgreSQL, as many as are archived", terminal.output.decode())
    assert found, terminal.output
    exported = terminal.directory.with_name("values.csv")
    trust = terminal.directory / "gateway/identity.pub.pem"
    subprocess.run(
        [sys.executable, "-m", "edge.cli", "export", terminal.directory / "archive", "--trust", trust, "-o", exported,
         "--force"],
        check=False, capture_output=True,
    )  # fmt: skip
    assert int(found[1].replace(",", "")) == len(exported.read_text().splitlines()) - 1
    return len(exported.read_text().splitlines()) - 1


def ask_historian(terminal: Terminal, sql: str) -> str:
    """What the line of the screen that says how to ask it gives."""
    found = re.search(r"SQL: (psql -h \S+ -U analyst tidegate)", terminal.output.decode())
    assert found, terminal.output
    answer = subprocess.run([*found[1].split(), "-XtAc", sql], check=False, capture_output=True, text=True)
    assert answer.returncode == 0, answer.stderr
    return answer.stdout.strip()


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


def test_all_that_is_archived_is_in_postgresql(demos: Callable[..., Terminal], open_directory: Path) -> None:
    """Rows are there while it runs, by the line that it shows; who still asks does not keep it from ending."""
    terminal = demos("--historian", "--seconds", "16", directory=open_directory)

    terminal.wait_for("keeps records on disk")
    shown = int(ask_historian(terminal, "SELECT count(*) FROM reading WHERE quality = 'good'"))
    ports = ask_historian(terminal, "SHOW listen_addresses")
    socket = str(open_directory / "historian")
    asking = subprocess.Popen(["psql", "-h", socket, "-U", "analyst", "tidegate"], stdin=subprocess.PIPE)
    terminal.type(CTRL_C)
    code = terminal.wait()
    asking.communicate()

    check_screen_was_left(terminal)
    check_archive_is_whole(open_directory, code)
    assert 0 < shown < check_historian_has_all(terminal)
    assert ports == ""
    control = subprocess.run([programs() / "pg_controldata", open_directory / "historian/data"], check=True,
                             capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})  # fmt: skip
    assert re.search(r"Database cluster state: +shut down\n", control.stdout)
    assert re.search(r"historian \d+", terminal.output.decode())  # In the picture of the parts.
    assert processes_of(open_directory) == {}


def test_postgresql_ends_with_a_demo_that_is_killed_and_goes_on_with_the_next(
    demos: Callable[..., Terminal], open_directory: Path
) -> None:
    terminal = demos("--historian", "--seconds", "30", directory=open_directory)
    terminal.wait_for("its 3 tags are BAD")
    before = int(ask_historian(terminal, "SELECT count(*) FROM reading"))
    server = int((open_directory / "historian/data/postmaster.pid").read_text().split()[0])
    children = [int(each) for each in Path(f"/proc/{server}/task/{server}/children").read_text().split()]
    assert before
    assert children

    terminal.process.kill()
    terminal.process.wait()

    deadline = time.monotonic() + WITHIN_S
    while (left := processes_of(open_directory)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert left == {}
    assert not any(Path(f"/proc/{each}").exists() for each in children)
    again = demos("--historian", "--seconds", "5", directory=open_directory)
    again.wait()
    assert check_historian_has_all(again) > before


def test_a_second_ctrl_c_ends_postgresql_at_once(demos: Callable[..., Terminal], open_directory: Path) -> None:
    terminal = demos("--historian", "--seconds", "16", directory=open_directory)
    terminal.wait_for("SQL: psql")

    terminal.type(CTRL_C)
    terminal.wait_for("Ctrl-C again ends it at once")
    terminal.type(CTRL_C)
    code = terminal.wait()

    assert code == 130
    check_screen_was_left(terminal)
    assert processes_of(open_directory) == {}


@pytest.mark.parametrize(
    ("without", "remedy"),
    [
        ("postgresql._DEBIAN = Path('/nowhere'); os.environ['PATH'] = '/nowhere'", "sudo apt-get install postgresql"),
        ("sys.modules['asyncpg'] = None", "pip install 'tidegate[historian]'"),
        ("postgresql._SQL = (Path('/nowhere'),)", "start the demo in a clone"),
        # Only the server of root is another account.
        *([("os.chmod('.', 0o700)", "may not enter /tmp/tg-demo-")] if os.geteuid() == 0 else []),
        ("os.mkdir('x' * 80); os.chdir('x' * 80)", "more than 93 bytes; choose another --directory"),
        ("os.mkdir('a,b'); os.chdir('a,b')", "the path has a comma"),
    ],
)
def test_what_the_historian_lacks_is_said_before_anything_is_started(
    open_directory: Path, without: str, remedy: str
) -> None:
    imports = "import os, sys; from pathlib import Path; from edge.cli import main; from edge.demo import postgresql"
    result = subprocess.run(
        [sys.executable, "-c", f"{imports}; {without}; main()", "demo", "--historian", "--directory", "demo"],
        cwd=open_directory.parent, check=False, capture_output=True, text=True, timeout=WITHIN_S,
    )  # fmt: skip

    assert result.returncode == 78, result
    assert remedy in result.stderr
    assert len(result.stderr.splitlines()) <= 2
    assert [*open_directory.parent.glob("**/historian*")] == []


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
