"""The line of long work: on a terminal, as wide as that at most, and gone at the end; nothing of it in a pipe."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.chains import grow, start
from tests.support.terminal import Terminal

RECORDS = 1200


@pytest.fixture
def archive(tmp_path: Path) -> tuple[str, ...]:
    """An archive, and what trusts it."""
    plant = grow(start(), RECORDS, checkpoint_every=400)
    folder = tmp_path / "archive/line-4"
    folder.mkdir(parents=True)
    (folder / "2023-11-14.rec").write_bytes(b"".join(record.data for record in plant.records))
    key = tmp_path / "line-4.pub.pem"
    key.write_bytes(plant.identity.public_pem(plant.chain.issuer))
    return str(tmp_path / "archive"), "--trust", str(key)


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("verify", "verify: 1,000 records: line-4/2023-11-14.rec"),
        ("inventory", "inventory: 1,000 records: line-4/2023-11-14.rec"),
        ("report", r"report: \d\d %: line-4/2023-11-14.rec"),
        ("export", r"export: \d\d %: line-4/2023-11-14.rec"),
    ],
)
def test_reading_an_archive_says_how_far_it_is(archive: tuple[str, ...], command: str, shown: str) -> None:
    if command == "export":
        archive = (*archive, "--force", "-o", f"{archive[0]}.csv")
    with Terminal(command, *archive, columns=100) as terminal:
        terminal.wait()
    piped = subprocess.run(
        [sys.executable, "-m", "edge.cli", command, *archive], capture_output=True, text=True, check=False
    )

    written = re.sub(r", \d+ s:", ":", terminal.written.decode())  # How long it takes is shown after two seconds.
    lines = written.split("\r\x1b[K")
    assert any(re.fullmatch(shown, line) for line in lines), lines
    assert not re.match(f"{command}: ", lines[-1])
    assert "\x1b" not in piped.stdout + piped.stderr
    assert f"{command}: " not in piped.stdout + piped.stderr


def test_the_line_is_never_wider_than_the_terminal(archive: tuple[str, ...]) -> None:
    with Terminal("verify", *archive, columns=24) as terminal:
        terminal.wait()

    lines = terminal.written.decode().split("\r\x1b[K")
    assert any(line.startswith("verify: 1,0") and "…" in line for line in lines)
    assert max(map(len, lines[1:-1])) <= 23
