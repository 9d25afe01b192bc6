"""Delays, the backlog's share of the link, and its pace."""

from __future__ import annotations

from random import Random

import pytest

from edge.backoff import Backoff
from edge.uplink.send_queue import Pace, RateEstimator

_MS = 10**6
_S = 10**9


def test_delays_double_up_to_their_limit_and_are_shortened_by_at_most_half() -> None:
    backoff = Backoff(Random(1))

    delays = [backoff.next_ns() / _S for _ in range(9)]

    wholes = [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert all(whole / 2 <= delay <= whole for delay, whole in zip(delays, wholes, strict=True))


def test_a_success_begins_with_the_first_delay_again() -> None:
    backoff = Backoff(Random(1))
    for _ in range(5):
        backoff.next_ns()

    backoff.reset()

    assert backoff.next_ns() <= _S


def _run(rate: RateEstimator, *, bytes_per_s: int, round_trip_ns: int, share: float, seconds: int) -> float:
    """A link that carries one thing after the other; the longest time something waited in it, in seconds."""
    size, now, free_at, longest = 4_000, _S, 0, 0.0
    on_the_way: list[tuple[int, int]] = []  # (arrives, sent)
    while now < (seconds + 1) * _S:
        while not on_the_way or len(on_the_way) * size < rate.backlog_bytes(share):
            rate.sent(now)
            free_at = max(free_at, now) + size * _S // bytes_per_s
            on_the_way.append((free_at + round_trip_ns, now))
        arrives, sent = on_the_way.pop(0)
        now = max(now, arrives)
        longest = max(longest, (now - sent) / _S)
        rate.acknowledged(now, sent, size, is_idle=not on_the_way)
    return longest


@pytest.mark.parametrize("bytes_per_s", [8_000, 125_000, 12_500_000])
@pytest.mark.parametrize("round_trip_ns", [1 * _MS, 50 * _MS, 600 * _MS])
def test_the_backlog_fills_the_link_and_never_queues_for_long(bytes_per_s: int, round_trip_ns: int) -> None:
    """A fresh record has to wait for what is on its way, so that must be little, on slow and on long links."""
    rate = RateEstimator()

    waited_s = _run(rate, bytes_per_s=bytes_per_s, round_trip_ns=round_trip_ns, share=0.5, seconds=60)

    assert rate.bytes_per_s == pytest.approx(bytes_per_s, rel=0.2)
    assert waited_s <= round_trip_ns / _S + max(1.0, 0.5 + 2 * 4_000 / bytes_per_s)


@pytest.mark.parametrize(("size", "counted"), [(200, 4096), (4096, 4096), (60_000, 60_000)])
def test_the_backlog_keeps_its_pace_and_makes_up_for_no_pause(size: int, counted: int) -> None:
    """A relay takes short records no faster than longer ones, and after an idle hour no faster than before."""
    pace, rate, now = Pace(4_000_000), 4_000_000, 10**12
    for pause_s in (0, 3600):
        now += pause_s * _S
        began, sent = now, 0
        while now < began + 10 * _S:
            while now >= pace.due_ns:
                pace.sent(now, size)
                sent += 1
            now += 7 * _MS  # A timer is late.
        assert 10 * rate // counted <= sent <= (10 + 0.06) * rate // counted + 1
