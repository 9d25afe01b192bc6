"""Security events to the system's log, each with an id that stays the same, to be collected from all machines.

They are lines of the log, sent once more to /dev/log with the facility authpriv. A log that is not there or takes
nothing changes nothing: no call waits, and nothing is raised.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

_AUTHPRIV = 10
_SEVERITIES = {"critical": 2, "error": 3, "warning": 4}
_NOTICE = 5
_VALUE_CHARACTERS = 300
_MESSAGE_BYTES = 2000  # What every syslog takes.


class Line(NamedTuple):
    """A line of the log: its name and, where that is not enough, a datum that it has and a word in it."""

    name: str
    datum: str = ""
    word: str = ""

    def is_it(self, name: str, data: Mapping[str, Any]) -> bool:
        """Whether it is this line."""
        return name == self.name and (not self.datum or self.word in str(data.get(self.datum) or None))


class SecurityEvent(NamedTuple):
    """What is one, and the lines of the log that are it."""

    id: str
    meaning: str
    lines: tuple[Line, ...]


_LOSSES = (
    "uplink.refused", "uplink.down", "broker lost", "view lost", "sink lost", "device.refused", "device.down",
)  # fmt: skip

SECURITY_EVENTS = (
    SecurityEvent(
        "TG-S01", "A certificate was refused, ours or that of the other side.",
        tuple(Line(name, "reason", word) for name in _LOSSES for word in ("certificate", "revocation list")),
    ),
    SecurityEvent(
        "TG-S02", "The broker does not take the records or values of a topic.",
        (Line("uplink.refused", "topic", "/"), Line("view refused")),
    ),
    SecurityEvent(
        "TG-S03", "A broker, device, database or Kafka refused the connection, such as for its password.",
        (Line("uplink.refused"), Line("device.refused"), Line("broker lost", "state", "refused"),
         Line("sink lost", "reason", "it does not let us in"), Line("sink lost", "code", "TG-R10")),
    ),
    SecurityEvent("TG-S04", "The broker sent what the one-way link never carries.", (Line("uplink.inbound"),)),
    SecurityEvent(
        "TG-S05", "A record failed verification.",
        (Line("record altered"), Line("record fork"), Line("record garbage"), Line("record refused")),
    ),
    SecurityEvent("TG-S06", "A record is signed with a key that is not trusted.", (Line("record untrusted"),)),
    SecurityEvent(
        "TG-S07", "Whom the relay trusts has changed, or could not be read.",
        (Line("trust files read again"), Line("trust files not used; those read before stay in force"),
         Line("gateway no longer trusted: no trust file vouches for its identity")),
    ),
    SecurityEvent("TG-S08", "The configuration is not the one that was on record.", (Line("configuration changed"),)),
    SecurityEvent("TG-S09", "An identity key was made, or replaced.", (Line("key.new"), Line("key.rotated"))),
    SecurityEvent("TG-S10", "What is on disk is not what was written.", (Line("chain.new"), Line("buffer.corrupt"))),
    SecurityEvent("TG-S11", "The wall clock was set, or is behind the records.",
                  (Line("time.step"), Line("time.behind"))),
    SecurityEvent("TG-S12", "Another device answers, or its firmware is another.", (Line("device.identity"),)),
    SecurityEvent("TG-S13", "A certificate has ended.", (Line("cert.expired"),)),
    SecurityEvent("TG-S14", "Delivered records are sent again, as an account asked.", (Line("resend"),)),
    SecurityEvent("TG-S15", "The gateway was started or stopped.", (Line("start"), Line("stop"))),
    SecurityEvent("TG-S16", "A change of the configuration was not approved.", (Line("approval.refused"),)),
    SecurityEvent("TG-S17", "Who may approve changes has changed.", (Line("approvers.changed"),)),
    SecurityEvent("TG-S18", "Values of an archive were exported.", (Line("export"),)),
)  # fmt: skip
"""The first that fits is the one."""


def security_event(name: str, data: Mapping[str, Any]) -> SecurityEvent | None:
    """Which security event a line of the log is."""
    return next((each for each in SECURITY_EVENTS if any(line.is_it(name, data) for line in each.lines)), None)


class Syslog:
    """Sends those lines of the log that are security events."""

    def __init__(self, path: Path, gateway: str, say: Callable[[str, Mapping[str, Any]], str]) -> None:
        """`gateway` is the name of the gateway or relay, and `say` makes a sentence of a line and its data."""
        self._path, self._gateway, self._say = str(path), gateway, say
        self._socket: socket.socket | None = None

    def take(self, level: str, line: str, data: Mapping[str, Any]) -> None:
        """Send a line of the log if it is a security event."""
        event = security_event(line, data)
        if event is None:
            return
        names = {"gateway": self._gateway, "event": line, **data}
        parameters = " ".join(f'{name}="{_escaped(value)}"' for name, value in names.items() if value not in ("", None))
        now = time.strftime("%b %e %H:%M:%S")
        head = f"<{_AUTHPRIV * 8 + _SEVERITIES.get(level, _NOTICE)}>{now} tidegate[{os.getpid()}]: "
        text = f"{event.id} [tidegate {parameters}] {_one_line(self._say(line, data))}"
        self._send((head + text).encode()[:_MESSAGE_BYTES])

    def close(self) -> None:
        """Close the socket; the next event opens another."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: bytes) -> None:
        # The first attempt fails where the log was started again since the last event.
        for _ in range(2):
            with suppress(OSError):
                if self._socket is None:
                    self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
                    self._socket.connect(self._path)
                self._socket.send(message)
                return
            self.close()


def _escaped(value: object) -> str:
    """As a parameter of structured data (RFC 5424, 6.3.3)."""
    text = _one_line(value)[:_VALUE_CHARACTERS]
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("]", "\\]")


def _one_line(value: object) -> str:
    return "".join(character if character.isprintable() else "?" for character in str(value))
