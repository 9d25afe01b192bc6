"""What the uplink reports: events for the audit trail, each change once, and a snapshot for status and metrics."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from edge.errors import BrokerRefused, ConfigError, ErrorCode, ProtocolViolation, TidegateError
from edge.mqtt import reason_codes
from edge.mqtt.reason_codes import Reason
from edge.uplink.mqtt.session import MqttSession

Severity = Literal["info", "warning", "error"]
UplinkState = Literal["up", "no_subscriber", "refused", "down"]
"""Whether records get through: to a broker that takes them all, or for lack of which they wait."""
Report = Callable[[str, Severity, Mapping[str, str | int]], None]
"""An event: kind, severity, data."""


class Reports:
    """Turns changes of the connection and of topics into events.

    Attributes:
        reason: why there is no connection, as a sentence; empty while there is one.
        code: what `tidegate explain` calls that.
        is_refused: whether the broker refused the connection.
        is_for_long: whether trying again soon cannot help.
    """

    def __init__(self, broker: str, report: Report) -> None:
        self.reason, self.code = f"{broker}: not tried yet", str(ErrorCode.BROKER_UNREACHABLE)
        self.is_refused = self.is_for_long = False
        self._broker, self._report = broker, report
        self._reported = ""

    def up(self, session: MqttSession) -> None:
        """The broker has accepted the connection."""
        self.reason = self.code = self._reported = ""
        self.is_refused = self.is_for_long = False
        limits: dict[str, str | int] = {"in_flight": session.window, "packet_bytes": session.limits.packet_bytes}
        self._report("uplink.up", "info", {"broker": self._broker} | limits)

    def down(self, error: TidegateError, *, was_up: bool) -> None:
        """There is no connection."""
        self.reason, self.code = str(error), str(_code_of(error))
        self.is_refused = isinstance(error, BrokerRefused) and not was_up
        self.is_for_long = isinstance(error, BrokerRefused) and error.is_for_long
        if self.reason == self._reported:
            return
        self._reported = self.reason
        data: dict[str, str | int] = {"broker": self._broker, "reason": self.reason, "code": self.code}
        if isinstance(error, ProtocolViolation):
            self._report("uplink.inbound", "error", data | {"bytes": error.data.hex()})
        elif isinstance(error, BrokerRefused):
            data["reason_code"] = error.reason_code
            self._report("uplink.refused" if self.is_refused else "uplink.down", "error", data)
        else:
            self._report("uplink.down", "error" if isinstance(error, ConfigError) else "warning", data)

    def topic(self, topic: str, code: int, **more: int) -> None:
        """The broker answers for a topic with another code than before."""
        data: dict[str, str | int] = {"topic": topic, "reason_code": code, "reason": self._explain(code), **more}
        if code == Reason.NO_MATCHING_SUBSCRIBERS:
            self._report("uplink.no_subscriber", "warning", data)
        elif code:
            self._report("uplink.refused", "error", data)
        else:
            self._report("uplink.accepted", "info", data)

    def code_of_refusals(self, codes: Mapping[str, int]) -> str:
        """What `tidegate explain` calls it that topics are refused, or have no subscriber; empty where none is."""
        if not codes:
            return ""
        is_refused = any(code >= 0x80 for code in codes.values())
        return str(ErrorCode.BROKER_TOPIC_REFUSED if is_refused else ErrorCode.BROKER_NO_SUBSCRIBER)

    def refusals(self, codes: Mapping[str, int]) -> str:
        """Why topics are refused, what would help, and which they are: a sentence for each reason code."""
        topics = {code: ", ".join(sorted(each for each in codes if codes[each] == code)) for code in codes.values()}
        return "; ".join(f"{self._explain(code)}: {topics[code]}" for code in sorted(topics))

    def _explain(self, code: int) -> str:
        return f"{self._broker} {reason_codes.explain(code)}"

    def garbage(self, number: int, why: str) -> None:
        """Stored bytes are not a record; they stay in the buffer."""
        self._report("buffer.corrupt", "error", {"number": number, "reason": why})


def _code_of(error: TidegateError) -> ErrorCode:
    if isinstance(error, ProtocolViolation):  # A device's otherwise.
        return ErrorCode.BROKER_PROTOCOL
    return ErrorCode.BROKER_NOT_TRUSTED if isinstance(error, ConfigError) else error.code or ErrorCode.BROKER_LOST


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSnapshot:
    """The state of the forwarder; counts are since the process started.

    Attributes:
        state: `up` only while the broker takes all records; `refused` says the connection or topics are.
        reason: why it is not `up`, as a sentence; empty while it is.
        code: what `tidegate explain` calls that.
        acknowledged_at_ns: boot time of the last accepted record.
        waiting: durable records that are neither delivered nor in flight, those set aside included.
        set_aside: of these, records that wait for their topic to be accepted again.
        unsendable: of these, records over the broker's size limit, or that are damaged.
        to_resend: delivered records that will be sent once more.
        reason_codes: answers by PUBACK reason code.
        refused_topics: topics whose records the broker does not take, with the reason code.
    """

    broker: str
    state: UplinkState
    reason: str
    code: str
    connects: int
    acknowledged_at_ns: int | None
    published: int
    published_bytes: int
    delivered: int
    delivered_bytes: int
    resent: int
    in_flight: int
    window: int
    waiting: int
    set_aside: int
    unsendable: int
    to_resend: int
    round_trip_ns: int
    reason_codes: Mapping[int, int]
    refused_topics: Mapping[str, int]
