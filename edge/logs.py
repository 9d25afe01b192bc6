"""Logs for the person on call: JSON for machines, colour for a terminal, and never a secret.

Configured once, by the command. Every package logs with `get_logger(__name__)`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any, Literal, TextIO

# structlog imports rich for tracebacks that are never drawn: 60 ms and 4 MB that a gateway does without.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

get_logger = structlog.get_logger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

counts: Counter[str] = Counter()
"""How many lines of each level were logged, for the metrics."""

HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"pass(word|phrase)|secret|token|credential|private|pin$", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def configure(level: Level = "info", form: Format = "auto", stream: TextIO | None = None) -> None:
    """Set up logging, once; `auto` is colour on a terminal and JSON elsewhere."""
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    form = form if form != "auto" else "console" if stream.isatty() else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        _count,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        hide_secrets,
    ]
    render: list[Processor] = _console(stream) if form == "console" else _json(_is_journal(stream, os.environ))
    structlog.configure(
        processors=[*shared, *render],
        wrapper_class=structlog.make_filtering_bound_logger(threshold),
        logger_factory=structlog.PrintLoggerFactory(stream),
        cache_logger_on_first_use=True,
    )
    _format_library_logs(stream, max(threshold, logging.WARNING), [*shared], render)


def hide_secrets(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    """Replace values that look like secrets, by their name or their text."""
    for name, value in event.items():
        if _SECRET_NAME.search(name):
            event[name] = HIDDEN
        elif isinstance(value, str) and ("PRIVATE KEY" in value or "://" in value):
            event[name] = _URL_PASSWORD.sub(rf"\1{HIDDEN}@", _SECRET_TEXT.sub(HIDDEN, value))
    return event


def _count(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
    counts[event["level"]] += 1
    return event


def _console(stream: TextIO) -> list[Processor]:
    return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), exception_formatter=structlog.dev.plain_traceback)]


def _json(has_priority: bool) -> list[Processor]:
    import orjson

    def dump(event: Any, **_: Any) -> str:
        return orjson.dumps(event, default=str, option=orjson.OPT_NON_STR_KEYS).decode()

    def with_priority(logger: WrappedLogger, method: str, event: EventDict) -> str:  # noqa: ARG001
        return f"<{_PRIORITY.get(event['level'], 5)}>{dump(event)}"

    last: Processor = with_priority if has_priority else structlog.processors.JSONRenderer(serializer=dump)
    return [structlog.processors.format_exc_info, last]


def _is_journal(stream: TextIO, environment: Mapping[str, str]) -> bool:
    """Whether the stream goes to the journal, which reads a priority before each line (sd-daemon)."""
    try:
        held = os.fstat(stream.fileno())
    except (OSError, ValueError):
        return False
    return environment.get("JOURNAL_STREAM") == f"{held.st_dev}:{held.st_ino}"


def _format_library_logs(stream: TextIO, threshold: int, shared: list[Processor], render: list[Processor]) -> None:
    """Give libraries, which log through the standard module, the same format; warnings and worse only."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[structlog.stdlib.add_logger_name, *shared],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(threshold)
    logging.captureWarnings(True)
