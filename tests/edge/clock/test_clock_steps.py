"""Real clocks that are set while a timekeeper runs: in a process of its own, so that no other clock moves."""

from __future__ import annotations

import asyncio
import os
import select
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from edge.clock import Timekeeper
from edge.clock.timerfd import BootTimer, StepAlarm
from edge.testing.clock import ManualClock

LIBRARIES = sorted(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"))

PROGRAM = textwrap.dedent(
    """
    import asyncio, sys
    from edge.clock import SystemClock, Timekeeper

    def say(*words): print(*words, flush=True)

    async def main():
        clock = SystemClock()
        keeper = Timekeeper(clock, [], b"", on_step=lambda step: say("step", step.step_ns), on_event=lambda *_: None)
        say("ready", keeper.utc_of(clock.boot_ns()))
        while True:
            await asyncio.sleep(0.01)
            keeper.observe()

    if sys.argv[1] == "uvloop":
        import uvloop
        uvloop.run(main())
    else:
        asyncio.run(main())
    """
)


@asynccontextmanager
async def _process(at: Path, loop: str) -> AsyncIterator[asyncio.subprocess.Process]:
    assert LIBRARIES, "install the package libfaketime"
    environment = {
        **os.environ,
        "LD_PRELOAD": str(LIBRARIES[0]),
        "FAKETIME_TIMESTAMP_FILE": str(at),
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "FAKETIME_NO_CACHE": "1",
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, loop, stdout=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield process
    finally:
        process.terminate()
        await process.communicate()


@pytest.mark.parametrize("step_s", [-3600, -60, 5])
async def test_a_set_clock_is_noticed_by_a_running_process(step_s: int, tmp_path: Path) -> None:
    at = tmp_path / "offset"
    at.write_text("+0s")
    loop = "uvloop" if "uvloop" in type(asyncio.get_running_loop()).__module__ else "asyncio"
    async with _process(at, loop) as process:
        assert process.stdout is not None
        assert (await process.stdout.readline()).startswith(b"ready")
        changed = tmp_path / "changed"
        changed.write_text(f"{step_s:+d}s")
        changed.replace(at)

        word, step_ns = (await process.stdout.readline()).split()

    assert word == b"step"
    assert abs(int(step_ns) - step_s * 10**9) < 10**8


def test_the_alarm_is_quiet_while_the_clock_is_not_set() -> None:
    alarm = StepAlarm()
    alarm.rearm()

    readable, _, _ = select.select([alarm.fd], [], [], 0)

    alarm.close()
    assert readable == []


def test_a_boot_timer_wakes_once_and_is_quiet_when_armed_anew() -> None:
    timer = BootTimer()
    timer.arm(1)
    woken, _, _ = select.select([timer.fd], [], [], 5)
    timer.arm(2**62)
    quiet, _, _ = select.select([timer.fd], [], [], 0)

    timer.disarm()
    timer.close()
    assert (woken, quiet) == ([timer.fd], [])


async def test_a_step_wakes_the_timekeeper_before_its_next_poll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel's alarm is replaced by a pipe: setting this machine's clock is not ours to do."""
    wake, write = os.pipe2(os.O_NONBLOCK)

    class Alarm:
        fd = wake

        def rearm(self) -> None:
            os.read(wake, 1)

        def close(self) -> None:
            os.close(wake)

    monkeypatch.setattr("edge.clock.timekeeper.StepAlarm", Alarm)
    clock = ManualClock()
    stepped = asyncio.get_running_loop().create_future()
    keeper = Timekeeper(clock, [], b"", on_step=stepped.set_result, on_event=lambda *_: None, poll_ns=3_600 * 10**9)
    running = asyncio.create_task(keeper.run())
    await asyncio.sleep(0)
    clock.step_ns(10**9)

    os.write(write, b"!")
    step = await stepped

    assert step.step_ns == 10**9
    os.close(write)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
