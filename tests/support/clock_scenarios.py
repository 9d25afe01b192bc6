"""What a real chronyd makes of good and bad servers, and whether the bound that is stated covers the true error.

The machine's clock is left alone, and every server's clock is a known one. So the true error of the machine's clock is
known at each instant: how far the true clock is ahead of it. Where a server steps, it was wrong before or it is wrong
after; both are tried as the truth, the new time from chronyd's first measurement of it on, as before nothing shows it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

from edge.clock import ChronySource, SourceReport, SystemClock, Timekeeper, TimeState
from hil.wall_clock import WallClock
from tests.support.chrony import Chronyd, SlowPath, asking, chronyd, free_udp_port, serving

TRUE_S, GAIN_PPB = 3.0, 20_000
RECOGNIZED_WITHIN = 10
"""Update intervals after which the loss of a source must be known."""
_SAMPLE_S, _SAMPLES_PER_POLL, _UPDATE_LIMIT_S = 0.05, 20, 60
_S = 10**9
_BUSY_NS = 120 * _S
_JUST_NS = _S // 5

Ahead = Callable[[int], int]
"""How far a clock is ahead of the machine's, at a boot time."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One instant; `bound_ns` is None where no bound is stated."""

    boot_ns: int
    error_ns: int
    bound_ns: int | None
    state: TimeState


@dataclass
class Outcome:
    """What was stated over a scenario.

    Attributes:
        lost_ns: boot time at which the fault began; None without one.
        interval_ns: how often chronyd measured before it.
    """

    name: str
    samples: list[Sample] = field(default_factory=list)
    lost_ns: int | None = None
    interval_ns: int = _S

    @property
    def bounded(self) -> list[Sample]:
        """Those with a bound."""
        return [each for each in self.samples if each.bound_ns is not None]

    @property
    def uncovered(self) -> list[Sample]:
        """Those whose true error is beyond the bound."""
        return [each for each in self.samples if each.bound_ns is not None and each.error_ns > each.bound_ns]

    @property
    def recognized_after(self) -> float | None:
        """Update intervals from the fault to the state that is not synchronized; None where it never was."""
        if self.lost_ns is None:
            return None
        later = (each for each in self.samples if each.boot_ns > self.lost_ns)
        at_ns = next((each.boot_ns for each in later if each.state is not TimeState.SYNCHRONIZED), None)
        return None if at_ns is None else (at_ns - self.lost_ns) / max(self.interval_ns, _S)

    @property
    def is_unrecognized(self) -> bool:
        """Whether a fault has begun and the state does not show it yet."""
        return self.lost_ns is not None and self.recognized_after is None

    def text(self) -> str:
        """One line."""
        spare_ns = min((each.bound_ns - each.error_ns for each in self.bounded if each.bound_ns is not None), default=0)
        worst_ns = max((each.bound_ns or 0 for each in self.bounded), default=0)
        said = f"{self.name:<22} {len(self.bounded):>6,} bounds, {len(self.uncovered):,} too small"
        said += f", least spare {spare_ns / 1e6:9.3f} ms, largest bound {worst_ns / 1e6:9.1f} ms"
        states = " ".join(dict.fromkeys(each.state.name.lower() for each in self.samples))
        loss = (
            "" if self.lost_ns is None else f"; recognized after {self.recognized_after or float('nan'):.1f} intervals"
        )
        return f"{said}; {states}{loss}"


class _Watched(ChronySource):
    """Remembers which update it saw last."""

    update: int | None = None

    async def ask(self) -> SourceReport:
        report = await super().ask()
        self.update = report.update
        return report

    async def wait_for_update(self) -> SourceReport:
        """The report just after chronyd has measured: it will not measure again at once."""
        seen = self.update
        async with asyncio.timeout(_UPDATE_LIMIT_S):
            while (report := await self.ask()).update == seen or int(report.detail["age_ns"]) > _JUST_NS:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return report


@dataclass
class Plant:
    """A client, its servers, and what is true."""

    client: Chronyd
    truths: list[Ahead]
    fault: Callable[[Plant], None] | None = None
    later_truth: Ahead | None = None
    servers: list[Chronyd] = field(default_factory=list)

    async def watch(self, name: str, seconds: float) -> Outcome:
        """Ask as a gateway does, and compare each stated bound with the truth; the fault comes at half time."""
        clock, outcome = SystemClock(), Outcome(name)
        source = _Watched(clock, self.client.udp)
        keeper = Timekeeper(clock, [source], b"", on_step=lambda _: None, on_event=lambda *_: None)
        fault_ns, end_ns = (clock.boot_ns() + round(seconds * _S * share) for share in (0.5, 1))
        update = None
        while (now_ns := clock.boot_ns()) < end_ns or (outcome.is_unrecognized and now_ns < end_ns + _BUSY_NS):
            if self.fault is not None and outcome.lost_ns is None and now_ns > fault_ns:
                report = await source.wait_for_update()
                update, outcome.interval_ns = report.update, int(report.detail["interval_ns"])
                self.fault(self)
                outcome.lost_ns = clock.boot_ns()
            await keeper.poll()
            if self.later_truth is not None and outcome.lost_ns is not None and source.update not in (None, update):
                self.truths, self.later_truth = [*self.truths, self.later_truth], None
            for _ in range(_SAMPLES_PER_POLL):
                at_ns = clock.boot_ns()
                error_ns = max(abs(truth(at_ns)) for truth in self.truths)
                outcome.samples.append(Sample(at_ns, error_ns, keeper.quality.bound_at(at_ns), keeper.quality.state))
                await asyncio.sleep(_SAMPLE_S)
        return outcome


def _true_clock(
    directory: Path, gain_ppb: int = GAIN_PPB, off_s: float = 0, since_ns: int | None = None
) -> WallClock:  # fmt: skip
    clock = WallClock(directory)
    clock.shift(TRUE_S + off_s, gain_ppb, since_ns)
    return clock


def _server(stack: ExitStack, home: Path, clock: WallClock) -> tuple[int, Chronyd]:
    port = free_udp_port()
    return port, stack.enter_context(chronyd(home, *serving(port), environment=clock.environment))


def _kill_all(plant: Plant) -> None:
    for server in plant.servers:
        server.kill()


def _plant(stack: ExitStack, home: Path, offs_s: tuple[float, ...] = (0,), gain_ppb: int = GAIN_PPB) -> Plant:
    true = _true_clock(home / "true", gain_ppb)
    clocks = [_true_clock(home / f"clock{n}", gain_ppb, off_s) if off_s else true for n, off_s in enumerate(offs_s)]
    found = [_server(stack, home / f"server{n}", clock) for n, clock in enumerate(clocks)]
    client = stack.enter_context(chronyd(home / "client", *asking(*(port for port, _ in found))))
    return Plant(client, [true.ahead_ns], servers=[server for _, server in found])


def _good(stack: ExitStack, home: Path, seed: int) -> Plant:
    return _plant(stack, home)


def _lost(stack: ExitStack, home: Path, seed: int) -> Plant:
    plant = _plant(stack, home, gain_ppb=40_000)
    plant.fault = _kill_all
    return plant


def _all_lost(stack: ExitStack, home: Path, seed: int) -> Plant:
    plant = _plant(stack, home, (0, 0, 0), -40_000)
    plant.fault = _kill_all
    return plant


def _falseticker(stack: ExitStack, home: Path, seed: int) -> Plant:
    return _plant(stack, home, (0, 0.5, 0))


def _stepping(stack: ExitStack, home: Path, step_s: float) -> Plant:
    since_ns = SystemClock().boot_ns()  # All gain from one instant, however long it takes to make them.
    true, server_clock = (_true_clock(home / each, since_ns=since_ns) for each in ("true", "clock"))
    after = _true_clock(home / "after", off_s=step_s, since_ns=since_ns)
    port, server = _server(stack, home / "server", server_clock)

    def step(_: Plant) -> None:
        server_clock.shift(TRUE_S + step_s, GAIN_PPB, since_ns)

    client = stack.enter_context(chronyd(home / "client", *asking(port)))
    return Plant(client, [true.ahead_ns], fault=step, later_truth=after.ahead_ns, servers=[server])


def _pathways(
    stack: ExitStack, home: Path, there_s: Callable[[], float] = float, back_s: Callable[[], float] = float
) -> Plant:
    true = _true_clock(home / "true")
    port, server = _server(stack, home / "server", true)
    path = stack.enter_context(SlowPath(port, there_s, back_s))
    client = stack.enter_context(chronyd(home / "client", *asking(path.port)))
    return Plant(client, [true.ahead_ns], servers=[server])


def _jitter(stack: ExitStack, home: Path, seed: int) -> Plant:
    random = Random(seed)
    return _pathways(stack, home, lambda: random.expovariate(200), lambda: random.expovariate(200))


def _slow_there(stack: ExitStack, home: Path, seed: int) -> Plant:
    return _pathways(stack, home, there_s=lambda: 0.04)


def _slow_back(stack: ExitStack, home: Path, seed: int) -> Plant:
    return _pathways(stack, home, back_s=lambda: 0.04)


def _uneven(stack: ExitStack, home: Path, seed: int) -> Plant:
    random = Random(seed)
    return _pathways(stack, home, there_s=lambda: random.uniform(0, 0.04))


SCENARIOS: dict[str, Callable[[ExitStack, Path, int], Plant]] = {
    "good": _good,
    "jitter": _jitter,
    "slow there": _slow_there,
    "slow back": _slow_back,
    "uneven one way": _uneven,
    "server lost": _lost,
    "all of three lost": _all_lost,
    "one of three false": _falseticker,
    "server steps +0.4 s": lambda stack, home, _: _stepping(stack, home, 0.4),
    "server steps -0.4 s": lambda stack, home, _: _stepping(stack, home, -0.4),
    "server steps -20 ms": lambda stack, home, _: _stepping(stack, home, -0.02),
}
LOSSES = ("server lost", "all of three lost")


@contextmanager
def _running(names: tuple[str, ...], folder: Path, seed: int) -> Iterator[dict[str, Plant]]:
    with ExitStack() as stack:
        yield {
            name: SCENARIOS[name](stack, folder / str(number), seed) for number, name in enumerate(names)
        }  # fmt: skip


async def watch(folder: Path, seconds: float, seed: int, names: tuple[str, ...] = tuple(SCENARIOS)) -> list[Outcome]:
    """All scenarios at once, each for so long."""
    with _running(names, folder, seed) as plants:
        return await asyncio.gather(*(plant.watch(name, seconds) for name, plant in plants.items()))
