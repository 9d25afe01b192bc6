from __future__ import annotations

import io
import json
import logging
import os
import pty
import re
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from structlog.typing import EventDict

from edge import logs


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """The log is the process's own; the next test finds it untouched."""
    root = logging.getLogger()
    handlers, level, show = root.handlers[:], root.level, warnings.showwarning
    yield
    structlog.reset_defaults()
    root.handlers, root.level, warnings.showwarning = handlers, level, show
    logging.captureWarnings(False)


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_machine_reads_json() -> None:
    stream = io.StringIO()
    logs.configure("info", "auto", stream)

    structlog.get_logger().warning("device lost", device="pump-2", retry_s=1.5)

    (line,) = lines(stream)
    assert line.pop("time")
    assert line == {"event": "device lost", "level": "warning", "device": "pump-2", "retry_s": 1.5}


def test_a_person_reads_sentences_and_the_first_line_names_day_and_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "Europe/Zurich")
    time.tzset()
    stream = io.StringIO()
    logs.configure("info", "console", stream, lambda event, data: f"{data['device']} {event}")

    structlog.get_logger().warning("is lost", device="pump-2")
    structlog.get_logger().info("is back", device="pump-2")
    monkeypatch.undo()
    time.tzset()

    day, lost, back = stream.getvalue().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, local time CES?T \(UTC\+0[12]:00\)", day)
    assert re.fullmatch(r"\d\d:\d\d:\d\d WARN  pump-2 is lost", lost)
    assert re.fullmatch(r"\d\d:\d\d:\d\d INFO  pump-2 is back", back)


def test_a_line_without_a_sentence_of_its_own_still_has_all_its_data() -> None:
    data = {"reason": "no room", "retry_s": 2}

    assert logs.plain_sentence("snapshot not written", data) == "snapshot not written: no room (retry s 2)"


def test_a_text_from_outside_does_not_move_the_cursor() -> None:
    stream = io.StringIO()
    logs.configure("info", "console", stream)

    structlog.get_logger().info("refused", reason="\x1b[2J\r\nfine")

    assert stream.getvalue().splitlines()[1].endswith("INFO  refused: ?[2J??fine")


@pytest.mark.parametrize(
    ("environment", "is_coloured"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)]
)
def test_trouble_has_a_colour_on_a_terminal_only(environment: dict[str, str], is_coloured: bool) -> None:
    program = "from edge import logs; import structlog; logs.configure(); structlog.get_logger().error('disk full')"
    ours, theirs = pty.openpty()
    kept = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | {"TERM": "xterm"}
    subprocess.run([sys.executable, "-c", program], check=True, stderr=theirs, env=kept | environment)
    said = os.read(ours, 1 << 16).decode()
    os.close(ours)
    os.close(theirs)

    assert ("\x1b[31mERROR" in said) == is_coloured
    assert "ERROR" in said
    assert "disk full" in said


def test_what_is_below_the_level_is_not_written() -> None:
    stream = io.StringIO()
    logs.configure("warning", "json", stream)

    structlog.get_logger().info("nothing to see")

    assert stream.getvalue() == ""


@pytest.mark.parametrize("form", ["json", "console"])
@pytest.mark.parametrize(
    "event",
    [
        {"password": "swordfish"},
        {"mqtt_passphrase": "swordfish"},
        {"client_secret": "swordfish"},
        {"key": "-----BEGIN EC PRIVATE KEY-----\nswordfish\n-----END EC PRIVATE KEY-----"},
        {"reason": "cannot open mqtts://line-4:swordfish@broker:8883"},
    ],
)
def test_a_secret_is_not_written(form: logs.Format, event: EventDict) -> None:
    stream = io.StringIO()
    logs.configure("debug", form, stream)

    structlog.get_logger().error("refused", **event)

    assert "swordfish" not in stream.getvalue()
    assert logs.HIDDEN in stream.getvalue()


def test_a_library_that_logs_looks_like_us_and_only_warns() -> None:
    stream = io.StringIO()
    logs.configure("debug", "json", stream)

    logging.getLogger("asyncio").info("chatter")
    logging.getLogger("asyncio").error("Task exception was never retrieved")

    (line,) = lines(stream)
    assert line["event"] == "Task exception was never retrieved"
    assert line["level"] == "error"
    assert line["logger"] == "asyncio"


def test_lines_are_counted_by_level() -> None:
    logs.configure("info", "json", io.StringIO())
    before = logs.counts["warning"]

    structlog.get_logger().warning("device lost")

    assert logs.counts["warning"] == before + 1


def test_a_traceback_is_in_its_line() -> None:
    stream = io.StringIO()
    logs.configure("info", "json", stream)

    try:
        raise ValueError("at byte 7")
    except ValueError:
        structlog.get_logger().exception("crashed")

    assert "ValueError: at byte 7" in str(lines(stream)[0]["exception"])


def test_the_journal_gets_the_priority(tmp_path: Path) -> None:
    """What systemd puts into JOURNAL_STREAM is the device and inode of our error stream."""
    said = tmp_path / "journal"
    program = "from edge import logs; import structlog; logs.configure(); structlog.get_logger().error('disk full')"
    with said.open("wb") as journal:
        held = os.fstat(journal.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{held.st_dev}:{held.st_ino}"}
        subprocess.run([sys.executable, "-c", program], check=True, stderr=journal, env=environment)

    priority, line = said.read_text().split(">", 1)
    assert priority == "<3"
    assert json.loads(line)["event"] == "disk full"


def test_a_line_that_a_full_disk_refuses_ends_nothing() -> None:
    with Path("/dev/full").open("w", buffering=1) as full:
        logs.configure("info", "json", full)
        logs.get_logger().warning("the disk is full")

        assert logs.counts["warning"]
        with pytest.raises(OSError, match="No space left"):
            full.flush()
        os.dup2(os.open(os.devnull, os.O_WRONLY), full.fileno())
