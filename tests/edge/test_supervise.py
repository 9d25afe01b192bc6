from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import NoReturn

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.backoff import Backoff
from edge.errors import DeviceRefused, DeviceUnreachable
from edge.gateway.supervise import supervise
from edge.scan import DeviceError
from edge.testing.clock import ManualClock, ManualScheduler

S = 10**9


@given(first_ns=st.integers(1, 9 * S), limit_ns=st.integers(1, 60 * S), seed=st.integers(), failures=st.integers(1, 80))
def test_delays_grow_jittered_to_the_limit_and_stay_there(
    first_ns: int, limit_ns: int, seed: int, failures: int
) -> None:
    backoff = Backoff(Random(seed), first_ns, limit_ns)

    delays = [backoff.next_ns() for _ in range(failures)]

    for number, delay_ns in enumerate(delays):
        longest_ns = min(first_ns * 2**number, max(first_ns, limit_ns))
        assert longest_ns / 2 <= delay_ns <= longest_ns


def test_devices_lost_together_do_not_come_back_together() -> None:
    delays = {Backoff(Random(seed), S, 60 * S).next_ns() for seed in range(20)}

    assert len(delays) == 20


def test_repeated_failure_demotes_to_a_slow_probe_and_an_answer_promotes_again() -> None:
    backoff = Backoff(Random(1), 1 * S, 8 * S)
    demoted = []
    for _ in range(5):
        backoff.next_ns()
        demoted.append(backoff.is_at_limit)

    assert demoted == [False, False, False, True, True]
    backoff.reset()
    assert not backoff.is_at_limit
    assert backoff.next_ns() <= 1 * S


class Absent:
    """A device with which no session comes about."""

    def __init__(self, error: DeviceError) -> None:
        self.error = error
        self.attempts = 0
        self.waiting_since_ns: int | None = None

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[None]:
        self.attempts += 1
        raise self.error
        yield

    async def use(self, session: None) -> NoReturn:
        raise AssertionError

    def handle_loss(self, error: DeviceError) -> bool:
        return False


@pytest.mark.parametrize(
    ("error", "attempts"), [(DeviceRefused("no"), 1), (DeviceUnreachable("away"), 2)], ids=["refused", "unreachable"]
)
async def test_a_device_that_refuses_the_gateway_is_retried_with_the_longest_delay_at_once(
    error: DeviceError, attempts: int
) -> None:
    clock = ManualClock()
    scheduler = ManualScheduler(clock)
    device = Absent(error)
    task = asyncio.create_task(supervise(device, Backoff(Random(1), 20 * S, 60 * S), clock, scheduler))

    await scheduler.advance_ns(29 * S)

    assert device.attempts == attempts
    task.cancel()
