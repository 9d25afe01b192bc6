"""What the uplink has to say to the audit trail: each change once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from edge.errors import BrokerRefused, ConfigError, ProtocolViolation, TidegateError
from edge.uplink import reasons
from edge.uplink.mqtt import Publisher
from edge.uplink.reasons import Reason

Severity = Literal["info", "warning", "error"]
Report = Callable[[str, Severity, Mapping[str, str | int]], None]
"""An event: kind, severity, data."""


class Reports:
    """Turns what happens into events.

    Attributes:
        reason: why there is no connection, as a sentence; empty while there is one.
        is_refused: whether the broker itself said no.
    """

    def __init__(self, broker: str, report: Report) -> None:
        self.reason = f"{broker}: not tried yet"
        self.is_refused = False
        self._broker, self._report = broker, report
        self._said = ""

    def up(self, publisher: Publisher) -> None:
        """The broker consented."""
        self.reason = self._said = ""
        self.is_refused = False
        limits = publisher.limits
        taken: dict[str, str | int] = {"in_flight": publisher.window, "packet_bytes": limits.packet_bytes}
        self._report("uplink.up", "info", {"broker": self._broker} | taken)

    def down(self, error: TidegateError, *, was_up: bool) -> None:
        """There is no connection."""
        self.reason = str(error)
        self.is_refused = isinstance(error, BrokerRefused) and not was_up
        if self.reason == self._said:
            return
        self._said = self.reason
        data: dict[str, str | int] = {"broker": self._broker, "reason": self.reason}
        if isinstance(error, ProtocolViolation):
            self._report("uplink.inbound", "error", data | {"bytes": error.data.hex()})
        elif isinstance(error, BrokerRefused):
            data["reason_code"] = error.reason_code
            self._report("uplink.refused" if self.is_refused else "uplink.down", "error", data)
        else:
            self._report("uplink.down", "error" if isinstance(error, ConfigError) else "warning", data)

    def topic(self, topic: str, code: int, **more: int) -> None:
        """What the broker answers for a topic is another code than before."""
        text = f"{self._broker} {reasons.explain(code)}"
        data: dict[str, str | int] = {"topic": topic, "reason_code": code, "reason": text, **more}
        if code == Reason.NO_MATCHING_SUBSCRIBERS:
            self._report("uplink.no_subscriber", "warning", data)
        elif code:
            self._report("uplink.refused", "error", data)
        else:
            self._report("uplink.accepted", "info", data)

    def garbage(self, number: int, why: str) -> None:
        """A stored record is none; it stays where it is."""
        self._report("buffer.corrupt", "error", {"number": number, "reason": why})
