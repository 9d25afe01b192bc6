"""What the uplink says of itself, for status and metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkSnapshot:
    """One moment of the forwarder; counts are since the process started.

    Attributes:
        reason: why it is not up, as a sentence; empty when it is.
        connected_at_ns: boot time of the broker's consent; None while there is no connection.
        acknowledged_at_ns: boot time of the last accepted record.
        waiting: durable records that are neither delivered nor in flight, those set aside included.
        set_aside: of these, records that wait for their topic to be accepted again.
        unsendable: of these, records over the broker's size limit, or that are damaged.
        lag: records behind the newest durable one in the live lane.
        to_resend: delivered records that will be sent once more.
        rate_bytes_per_s: what the link moved while it had work.
        reason_codes: answers by PUBACK reason code.
        refused_topics: topics in back-off, with the reason code.
    """

    broker: str
    state: Literal["up", "down", "refused"]
    reason: str
    connects: int
    connected_at_ns: int | None
    acknowledged_at_ns: int | None
    published: int
    published_bytes: int
    delivered: int
    delivered_bytes: int
    resent: int
    in_flight: int
    in_flight_bytes: int
    window: int
    waiting: int
    set_aside: int
    unsendable: int
    lag: int
    to_resend: int
    rate_bytes_per_s: float
    round_trip_ns: int
    reason_codes: Mapping[int, int]
    refused_topics: Mapping[str, int]
