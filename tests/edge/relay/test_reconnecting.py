"""When a relay connects again after it lost a connection."""

from __future__ import annotations

from random import Random

from edge.errors import BrokerUnreachable
from edge.relay.connection import RETRY_LIMIT_NS, Reconnecting
from edge.testing.clock import ManualClock

LOST = BrokerUnreachable("broker b: the connection was lost")


def test_connections_that_do_not_last_come_ever_later_and_the_likely_cause_is_named() -> None:
    clock = ManualClock()
    reconnecting = Reconnecting(clock, Random(1))

    said = []
    for _ in range(7):
        reconnecting.connected()
        clock.advance_ns(10**9)
        said.append(reconnecting.lost(LOST))

    assert [round(2 ** min(number, 5) / 2, 1) <= delay_s for number, (_, delay_s) in enumerate(said)] == [True] * 7
    assert ["a second relay" in reason for reason, _ in said] == [False] + [True] * 6


def test_a_connection_that_lasted_is_made_again_at_once() -> None:
    clock = ManualClock()
    reconnecting = Reconnecting(clock, Random(1))
    for _ in range(5):
        reconnecting.connected()
        reconnecting.lost(LOST)

    reconnecting.connected()
    clock.advance_ns(RETRY_LIMIT_NS)
    reason, delay_s = reconnecting.lost(LOST)

    assert delay_s <= 1
    assert reason == str(LOST)
