from __future__ import annotations

import pytest

from edge.clock import KernelSource, TimeSource, TimeState, boot_id
from edge.clock.kernel import judge

UNSYNC, INSERT, DELETE = 0x40, 0x10, 0x20


@pytest.mark.parametrize(
    ("status", "verdict", "state", "leap"),
    [
        (0, 0, TimeState.SYNCHRONIZED, 0),
        (INSERT, 1, TimeState.SYNCHRONIZED, 1),
        (DELETE, 2, TimeState.SYNCHRONIZED, 2),
        (UNSYNC, 0, TimeState.FREE_RUNNING, 3),
        (0, 5, TimeState.FREE_RUNNING, 3),
    ],
)
def test_the_kernel_says_whether_somebody_disciplines_it(status, verdict, state, leap) -> None:
    report = judge(status, verdict, 37, 16_000_000)

    assert (report.state, report.leap, report.utc_tai_s) == (state, leap, 37)


def test_what_looks_like_a_bound_is_kept_for_events_only() -> None:
    report = judge(0, 0, 0, 500)

    assert report.bound_ns is None
    assert report.detail["maxerror_us"] == 500


async def test_this_kernel_answers() -> None:
    report = await KernelSource().ask()

    assert report.source is TimeSource.KERNEL
    assert report.bound_ns is None


def test_this_boot_has_an_identity() -> None:
    assert len(boot_id()) == 16
    assert boot_id() == boot_id()
