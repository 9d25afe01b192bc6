from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DeviceRefused, DeviceUnreachable
from edge.gateway.supervise import Retry

S = 10**9


@given(first_ns=st.integers(1, 9 * S), limit_ns=st.integers(1, 60 * S), seed=st.integers(), failures=st.integers(1, 80))
def test_delays_grow_jittered_to_the_limit_and_stay_there(
    first_ns: int, limit_ns: int, seed: int, failures: int
) -> None:
    retry = Retry(first_ns, limit_ns, Random(seed))

    delays = [retry.delay_ns(DeviceUnreachable("away")) for _ in range(failures)]

    for number, delay_ns in enumerate(delays):
        longest_ns = min(first_ns * 2**number, max(first_ns, limit_ns))
        assert longest_ns / 2 <= delay_ns <= longest_ns


def test_devices_lost_together_do_not_come_back_together() -> None:
    delays = {Retry(S, 60 * S, Random(seed)).delay_ns(DeviceUnreachable("cut")) for seed in range(20)}

    assert len(delays) == 20


def test_repeated_failure_demotes_to_a_slow_probe_and_an_answer_promotes_again() -> None:
    retry = Retry(1 * S, 8 * S, Random(1))
    demoted = []
    for _ in range(5):
        retry.delay_ns(DeviceUnreachable("away"))
        demoted.append(retry.is_demoted)

    assert demoted == [False, False, False, True, True]
    retry.has_answered()
    assert not retry.is_demoted
    assert retry.delay_ns(DeviceUnreachable("away")) <= 1 * S


def test_who_refuses_us_is_retried_at_the_slowest_pace_at_once() -> None:
    assert Retry(1 * S, 60 * S, Random(1)).delay_ns(DeviceRefused("no")) >= 30 * S
