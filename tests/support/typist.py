"""Types a page: saves its files, runs its commands in a clean directory, and compares what is seen with its samples."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).parents[2]
LIMIT_S = 40

_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FILE = re.compile(r"`([\w./-]+\.(?:csv|yaml|conf|nft|acl|sources))`")
_NOT_RUN = re.compile(r"<!-- not run: ([^>]+) -->")
_STAYS = re.compile(r"^(?:tidegate (?:run|relay|simulate|page)|mosquitto|mosquitto_sub(?! .*-[CW])) ")
_GROWS = re.compile(r"^tidegate status ")
"""A person looks again where a gateway has just been started."""
_PRESSED = re.compile(r"Ctrl-C\s+in\s+the\s+terminal\s+of\s+the\s+(\w+)")
_TERMINALS = {
    "simulator": "tidegate simulate", "gateway": "tidegate run", "relay": "tidegate relay", "broker": "mosquitto -c",
}  # fmt: skip
_SHAPES = (
    (re.compile(r"\b[0-9a-f]{4}(?::[0-9a-f]{4})+\b"), "FINGERPRINT"),
    (re.compile(r"(?<![\w.])(?=\d*[a-f])(?=[a-f]*\d)[0-9a-f]{8,}\b"), "HASH"),
    (re.compile(r"\d\d\d\d-\d\d-\d\d(?:T|, | )\d\d:\d\d:\d\d(?:\.\d+)?(?:Z| UTC)?"), "TIME"),
    (re.compile(r"\d\d:\d\d:\d\d(?:\.\d+)?"), "TIME"),
    (re.compile(r"-?\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?"), "0"),
    (re.compile(r"\b0 (?:ns|us|ms|s|min|h|d)\b"), "0 s"),
    (re.compile(r"\b0 (?:B|kB|MB|GB)\b"), "0 B"),
    (re.compile(r"\b(?:true|false)\b"), "true"),
    (re.compile(r"\s+"), " "),
)


def shape(line: str) -> str:
    """A line without its figures, times and fingerprints."""
    for pattern, word in _SHAPES:
        line = pattern.sub(word, line)
    return line.strip()


def shows(sample: str, seen: str) -> str:
    """The first line of a sample that is not seen in its order; empty where all are. A line "..." stands for any."""
    lines = iter([shape(line) for line in seen.splitlines()])
    wanted = [line for line in sample.splitlines() if line.strip() not in ("", "...")]
    return next((line for line in wanted if shape(line) not in lines), "")


@dataclass
class Typist:
    """A person with a page before him. `instead` are words that he has to write in another way, such as ports."""

    folder: Path
    instead: Mapping[str, str] = field(default_factory=dict)
    running: dict[str, tuple[subprocess.Popen[bytes], Path]] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    limit_s: float = LIMIT_S
    _seen: str | tuple[subprocess.Popen[bytes], Path] = ""

    def type_page(self, page: str) -> None:
        """All of a page, in order."""
        text = (ROOT / page).read_text(encoding="utf-8")
        for word, other in self.instead.items():
            text = text.replace(word, other)
        at = 0
        for match in _BLOCK.finditer(text):
            prose, at = text[at : match.start()], match.end()
            self.heed(prose)
            self._take(match[1], match[2], prose.strip().rpartition("\n\n")[2])

    def heed(self, prose: str) -> None:
        """Do what the prose before a block asks for."""
        for pressed in _PRESSED.findall(prose):
            self.stop(_TERMINALS[pressed])

    def save(self, name: str, text: str) -> None:
        """Save a file, as with an editor."""
        (self.folder / name).write_text(text)

    def shell(self, command: str) -> list[str]:
        """The command that runs this one in a new terminal."""
        return ["bash", "-euo", "pipefail", "-c", command]

    def _take(self, language: str, text: str, before: str) -> None:
        if _NOT_RUN.search(before):
            return
        if language in ("yaml", "csv", "conf", "nft") and (names := _FILE.findall(before)):
            self.save(names[-1], text)
        elif language == "sh" and _STAYS.match(text):
            self.start(text)
        elif language == "sh":
            self._seen = self.run(text)
        elif language == "text":
            self._compare(text)

    def type_samples(self, page: str) -> int:
        """The commands of the samples of a page that shows them with a "$"; how many samples were run."""
        count = 0
        for sample in samples(page):
            if sample.language != "console" or sample.reason:
                continue
            for command, shown in sample.commands():
                for word, other in self.instead.items():
                    command = command.replace(word, other)
                ran = subprocess.run(
                    ["bash", "-c", command], cwd=self.folder, env=_environment(), check=False, timeout=LIMIT_S,
                    stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
                )  # fmt: skip
                absent = shows(shown, ran.stdout)
                assert not absent, f"{page}:{sample.line} shows: {absent}\nafter: {command}\nseen was:\n{ran.stdout}"
                assert "Traceback" not in ran.stdout
            count += 1
        return count

    def run(self, command: str) -> str:
        """What a block of commands writes, once it ends well; it says of itself where it does not: `# exit code 1`."""
        self.commands += [line for line in command.splitlines() if line and line[0] not in "#{} "]
        said = re.search(r"# exit code (\d+)", command)
        ran = subprocess.run(
            self.shell(command), cwd=self.folder, env=_environment(), check=False, stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=self.limit_s,
        )  # fmt: skip
        code = (
            ran.returncode if ran.returncode >= 0 else 128 - ran.returncode
        )  # As bash names the signal that ended it.
        assert code == (int(said[1]) if said else 0), f"exit code {code}: {command}\n{ran.stdout}"
        return ran.stdout

    def start(self, command: str) -> None:
        """Start a command that stays, and wait for its first output."""
        self.commands += command.splitlines()
        name = " ".join(command.split()[:2])
        self.stop(name)
        output = self.folder / f".output-{len(self.commands)}"
        with output.open("wb") as file:
            process = subprocess.Popen(["bash", "-c", f"exec {command}"], cwd=self.folder, env=_environment(),
                                       stdout=file, stderr=subprocess.STDOUT)  # fmt: skip
        self.running[name] = self._seen = process, output
        if not name.startswith("mosquitto_sub"):
            self._compare("", needs_output=True)

    def stop(self, name: str) -> None:
        """Ctrl-C in the terminal of a command that stays, by its first two words."""
        if name in self.running:
            process, output = self.running.pop(name)
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 0, output.read_text()

    def _compare(self, sample: str, *, needs_output: bool = False) -> None:
        if isinstance(self._seen, str):
            command, until = self.commands[-1], time.monotonic() + LIMIT_S
            while (absent := shows(sample, self._seen)) and time.monotonic() < until and _GROWS.match(command):
                time.sleep(0.2)
                self._seen = self.run(command)
            assert not absent, f"the page shows: {absent}\nafter: {self.commands[-1]}\nseen was:\n{self._seen}"
            return
        process, output = self._seen
        until = time.monotonic() + LIMIT_S
        while (absent := shows(sample, seen := output.read_text())) or (needs_output and not seen):
            assert process.poll() is None, seen
            assert time.monotonic() < until, f"the page shows: {absent}\nseen was:\n{seen}"
            time.sleep(0.1)


@contextmanager
def typist(folder: Path, instead: Mapping[str, str] | None = None) -> Iterator[Typist]:
    """A typist whose commands are ended with the block."""
    person = Typist(folder, instead or {})
    try:
        yield person
    finally:
        for process, _ in person.running.values():
            process.kill()
            process.wait()


def _environment() -> dict[str, str]:
    places = [str(Path(sys.executable).parent), os.environ["PATH"], "/usr/sbin"]
    return {**os.environ, "PATH": os.pathsep.join(places), "COLUMNS": "100", "NO_COLOR": "1"}


@dataclass(frozen=True)
class Sample:
    """What a page shows of a terminal; `reason` is why no test runs it, from `<!-- not run: ... -->` above it."""

    line: int
    language: str
    text: str
    reason: str
    follows_commands: bool

    def commands(self) -> list[tuple[str, str]]:
        """Each command behind a "$", and what is shown below it."""
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        return [(command, shown) for command, _, shown in (part.partition("\n") for part in parts)]


def samples(page: str) -> Iterator[Sample]:
    """The samples of a page, in order."""
    text, before = (ROOT / page).read_text(encoding="utf-8"), ""
    for match in _BLOCK.finditer(text):
        if match[1] in ("console", "text"):
            marked = re.search(r"<!-- not run: ([^>]+) -->\n+\Z", text[: match.start()])
            line = text[: match.start()].count("\n") + 1
            yield Sample(line, match[1], match[2], marked[1] if marked else "", before == "sh")
        before = match[1]
