"""Logs for the person on call: JSON for machines, sentences for a terminal, and never a secret.

Configured once, by the command. Every package logs with `get_logger(__name__)`.
"""

from __future__ import annotations

import logging
import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any, Literal, TextIO

# structlog imports rich for tracebacks that are never drawn: 60 ms and 4 MB that a gateway does without.
if "structlog" not in sys.modules and "rich" not in sys.modules:
    sys.modules["rich"] = None  # type: ignore[assignment]
    import structlog

    del sys.modules["rich"]

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

get_logger = structlog.get_logger

Say = Callable[[str, Mapping[str, Any]], str]
"""Makes the sentence of a line of its event and its data."""
Send = Callable[[str, str, Mapping[str, Any]], None]
"""Takes a line of the log: its level, its event and its data."""
Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "json", "console"]

counts: Counter[str] = Counter()
"""How many lines of each level were logged, for the metrics."""

HIDDEN = "[hidden]"
_SECRET_NAME = re.compile(r"pass(word|phrase)|secret|token|credential|private|pin$", re.IGNORECASE)
_SECRET_TEXT = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*", re.DOTALL)
_URL_PASSWORD = re.compile(r"(://[^/\s:@]*:)[^/\s@]+@")
_OF_EACH_LINE = {"event", "level", "time", "exc_info"}
_LEVELS = {"warning": "WARN", "critical": "ERROR"}
_COLOURS = {"warning": "\x1b[33m", "error": "\x1b[31m", "critical": "\x1b[31m"}
_PRIORITY = {"debug": 7, "info": 6, "warning": 4, "error": 3, "critical": 2}


def plain_sentence(event: str, data: Mapping[str, Any]) -> str:
    """An event with its reason and its other data."""
    reason = f": {data['reason']}" if data.get("reason") else ""
    more = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in data.items() if name != "reason")
    return f"{event}{reason}" + (f" ({more})" if more else "")


def configure(
    level: Level = "info", form: Format = "auto", stream: TextIO | None = None, say: Say = plain_sentence,
    send: Send | None = None,
) -> None:  # fmt: skip
    """Set up logging, once; `auto` is sentences on a terminal, made by `say`, and JSON elsewhere.

    `send` gets every line that is logged, whatever its level.
    """
    stream = stream or sys.stderr
    threshold = logging.getLevelNamesMapping()[level.upper()]
    form = form if form != "auto" else "console" if stream.isatty() else "json"
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="time"),
        hide_secrets,
    ]
    render: list[Processor] = _console(stream, say) if form == "console" else _json(_is_journal(stream, os.environ))
    own: list[Processor] = [_sending(send), _at_least(threshold)] if send else []
    structlog.configure(
        processors=[*shared, *own, _count, *render],
        wrapper_class=structlog.make_filtering_bound_logger(logging.NOTSET if send else threshold),
        logger_factory=lambda *_: _Printer(stream),
        cache_logger_on_first_use=True,
    )
    _format_library_logs(stream, max(threshold, logging.WARNING), [*shared, _count], render)


class _Printer(structlog.PrintLogger):
    """Prints lines; one that a full disk or a closed pipe refuses is lost, and ends nothing."""

    def msg(self, message: str) -> None:
        """Print a line."""
        with suppress(OSError):
            super().msg(message)

    log = debug = info = warn = warning = error = critical = exception = msg


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


def _sending(send: Send) -> Processor:
    def take(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
        data = {name: value for name, value in event.items() if name not in _OF_EACH_LINE}
        send(event["level"], str(event["event"]), data)
        return event

    return take


def _at_least(threshold: int) -> Processor:
    names = logging.getLevelNamesMapping()

    def take(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:  # noqa: ARG001
        if names[event["level"].upper()] < threshold:
            raise structlog.DropEvent
        return event

    return take


def _console(stream: TextIO, say: Say) -> list[Processor]:
    is_coloured = stream.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"
    return [structlog.processors.format_exc_info, _Console(say, is_coloured=is_coloured)]


class _Console:
    """Lines such as "12:03:04 WARN  plc does not answer", in local time; the first of a day names date and zone."""

    def __init__(self, say: Say, *, is_coloured: bool) -> None:
        self._say, self._is_coloured = say, is_coloured
        self._day = ""

    def __call__(self, logger: WrappedLogger, method: str, event: EventDict) -> str:  # noqa: ARG002
        now = datetime.fromisoformat(event.pop("time")).astimezone()
        exception, name = event.pop("exception", ""), event.pop("level")
        logger_name, words = event.pop("logger", ""), str(event.pop("event"))
        text = f"{logger_name}: {plain_sentence(words, event)}" if logger_name else self._say(words, event)
        line = f"{now:%H:%M:%S} {self._level(name)} {_printable(text)}"
        return "\n".join(filter(None, (self._new_day(now), line, exception)))

    def _level(self, name: str) -> str:
        word = f"{_LEVELS.get(name, name.upper()):<5}"
        colour = _COLOURS.get(name, "") if self._is_coloured else ""
        return f"{colour}{word}\x1b[0m" if colour else word

    def _new_day(self, now: datetime) -> str:
        offset = f"{now:%z}"
        zone = "times in UTC" if not now.utcoffset() else f"local time {now:%Z} (UTC{offset[:3]}:{offset[3:]})"
        day = f"{now:%Y-%m-%d}, {zone}"
        is_new, self._day = day != self._day, day
        return day if is_new else ""


def _printable(text: str) -> str:
    """In one line, without what would move the cursor."""
    return "".join(character if character.isprintable() else "?" for character in text)


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
