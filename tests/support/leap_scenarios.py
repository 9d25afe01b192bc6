"""A leap second through a modelled chronyd, and whether what would be on record is right.

Time is simulated: true UTC, a system clock that chronyd steers, and what chronyd says of it, in each way in which a
leap second may be taken in (`leapsecmode`), missed, or smeared. Readings come each tick and are gathered for two, as a
commit does; they are stamped with the offset and judged by the bound that they would be sealed with.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from edge.clock import ChronySource, ClockStep, Timekeeper, TimeQuality
from edge.clock.chrony import Tracking
from edge.testing.clock import ManualClock
from tests.support.clock_scenarios import Outcome, Sample

_S, _MS = 10**9, 10**6
_DAY_NS = 86_400 * _S
MIDNIGHT_NS = 1_798_761_600 * _S
"""The end of 2026-12-31."""
_TICK_NS = 10 * _MS
_INTERVAL_NS = 16 * _S  # Of chronyd's measurements.
_SLEW = 0.08  # A little less than chronyd's fastest.
_FOUND_NS = 60 * _S
_IN_PROGRESS_NS = 2 * _S  # For which chronyd says that it is not synchronized.
_TICKS_PER_POLL, _TICKS_PER_COMMIT = 100, 2


@dataclass(kw_only=True)
class Model:
    """True time, and a chronyd.

    Attributes:
        leap_s: 1 where a second is inserted, -1 where one is deleted, 0 where none comes.
        mode: `step` (also by the kernel), `slew` or `ignore`, as chronyd's leapsecmode.
        is_announced: whether its servers say that the second comes.
        smear_ns: over how long they smear it; 0 where they do not.
        lost_ns: how long before midnight chronyd loses its servers, until a minute after; None where it does not.
        error_ns: how far chronyd is wrong, which it knows: within its root dispersion.
    """

    random: Random
    leap_s: int
    mode: str = "step"
    is_announced: bool = True
    smear_ns: int = 0
    lost_ns: int | None = None
    begins_ns: int = MIDNIGHT_NS - 40 * _S
    error_ns: int = 0
    clock: ManualClock = field(init=False)

    def __post_init__(self) -> None:
        self._has_leapt = self._has_taken_in = False
        self.true_ns = self._measured_ns = self.begins_ns
        self.clock = ManualClock(utc_ns=self.served_ns() + self.error_ns)
        self._to_slew_ns = self._moved_ns = 0  # What chronyd knows to be left to correct.
        self._took_in_ns = -(10**18)
        self._lag_ns = self.random.randrange(5 * _MS)  # Of the kernel, which looks each tick of its own.
        self._update_utc_ns = 0 if self.is_lost else self.clock.utc_ns()

    @property
    def is_lost(self) -> bool:
        """Whether chronyd has lost its servers."""
        return self.lost_ns is not None and -self.lost_ns < self.true_ns - MIDNIGHT_NS < _FOUND_NS

    def served_ns(self) -> int:
        """The time that its servers serve."""
        if not self.smear_ns:
            return self.true_ns
        shown_ns = self.true_ns + self._has_leapt * self.leap_s * _S
        share = min(max((shown_ns - MIDNIGHT_NS) / self.smear_ns + 0.5, 0.0), 1.0)
        return shown_ns - round(share * self.leap_s * _S)

    def pass_ns(self, elapsed_ns: int) -> None:
        """Let true time pass."""
        served_ns = self.served_ns()
        self.true_ns += elapsed_ns
        if self.leap_s and not self._has_leapt and self.true_ns >= MIDNIGHT_NS - (self.leap_s < 0) * _S:
            self.true_ns -= self.leap_s * _S
            self._has_leapt = True
        slewed_ns = max(-self._limit(elapsed_ns), min(self._limit(elapsed_ns), self._to_slew_ns))
        self._to_slew_ns -= slewed_ns
        follows_ns = self.served_ns() - served_ns - elapsed_ns if self.smear_ns and not self.is_lost else 0
        self.clock.advance_ns(elapsed_ns, steered_ns=slewed_ns + follows_ns)
        shown_ns = self.clock.utc_ns() - self._lag_ns
        is_due = shown_ns >= MIDNIGHT_NS - (self.leap_s < 0) * _S
        if self.leap_s and self.is_announced and is_due and not self._has_taken_in:
            self._take_in()
        if not self.is_lost and self.true_ns - self._measured_ns >= _INTERVAL_NS:
            self._measure()

    def _limit(self, elapsed_ns: int) -> int:
        return round(elapsed_ns * _SLEW)

    def _take_in(self) -> None:
        self._has_taken_in, self._took_in_ns = True, self.clock.boot_ns()
        if self.mode == "step":
            self.clock.step_ns(-self.leap_s * _S)
        elif self.mode == "slew":
            self._to_slew_ns -= self.leap_s * _S

    def _measure(self) -> None:
        before_ns, self._measured_ns = self._to_slew_ns, self.true_ns
        self._to_slew_ns = self.served_ns() + self.error_ns - self.clock.utc_ns()
        self._update_utc_ns, self._moved_ns = self.clock.utc_ns(), self._to_slew_ns - before_ns

    def tracking(self) -> Tracking:
        """What chronyd says."""
        is_in_progress = self.clock.boot_ns() - self._took_in_ns < _IN_PROGRESS_NS
        is_announced = self.is_announced and not self._has_taken_in
        announced = {1: 1, -1: 2}.get(self.leap_s, 0) if is_announced else 0
        return Tracking(
            reference=b"\x0a\0\0\1", stratum=2, leap=announced if self._update_utc_ns and not is_in_progress else 3,
            updated_utc_ns=self._update_utc_ns, correction_ns=self._to_slew_ns, moved_ns=self._moved_ns,
            root_delay_ns=_MS, root_dispersion_ns=2 * abs(self.error_ns) + _MS, interval_ns=_INTERVAL_NS,
        )  # fmt: skip


class _Modelled(ChronySource):
    """Takes the tracking report from a model."""

    def __init__(self, model: Model) -> None:
        super().__init__(model.clock)
        self._model = model

    async def _exchange(self) -> Tracking:
        return self._model.tracking()


@dataclass(frozen=True, slots=True)
class Reading:
    """A reading as it would be on record."""

    boot_ns: int
    utc_ns: int


@dataclass
class Record:
    """What would be on record of a scenario: readings and TIME records in the order of the chain."""

    name: str
    outcome: Outcome
    chain: list[Reading | ClockStep] = field(default_factory=list)
    true_ns: dict[int, int] = field(default_factory=dict)
    """True UTC of each reading, by its boot time."""

    @property
    def steps(self) -> list[ClockStep]:
        """The TIME records of steps."""
        return [each for each in self.chain if isinstance(each, ClockStep) and each.step_ns]

    def disordered(self) -> Iterator[tuple[Reading, Reading]]:
        """Neighbours whose order in UTC contradicts that in boot time, without a TIME record between them."""
        last: Reading | None = None
        for each in self.chain:
            if isinstance(each, ClockStep):
                last = None
            else:
                if last is not None and (each.utc_ns < last.utc_ns or each.boot_ns <= last.boot_ns):
                    yield last, each
                last = each

    def wrong_corrections(self) -> Iterator[tuple[ClockStep, int]]:
        """TIME records whose corrected times are off by more than they say, and by how much."""
        for change in self.chain:
            if not isinstance(change, ClockStep) or change.correction_ns is None or change.bound_ns is None:
                continue
            for each in self.chain:
                if isinstance(each, Reading) and change.from_ns < each.boot_ns <= change.to_ns:
                    off_ns = abs(each.utc_ns + change.correction_ns - self.true_ns[each.boot_ns])
                    if off_ns > change.bound_ns:
                        yield change, off_ns


async def watch_one(
    name: str, model: Model, seconds: float, *, smear_ns: int = 0, tick_ns: int = _TICK_NS, ticks_per_poll: int = 100
) -> Record:
    """Read, commit and poll for so many simulated seconds."""
    record = Record(name, Outcome(name))
    pending: list[tuple[int, int]] = []

    def seal(quality: TimeQuality) -> None:
        for boot_ns, true_ns in pending:
            utc_ns = boot_ns + quality.offset_ns
            record.chain.append(Reading(boot_ns, utc_ns))
            record.true_ns[boot_ns] = true_ns
            error_ns = abs(utc_ns - true_ns)
            record.outcome.samples.append(Sample(boot_ns, error_ns, quality.bound_at(boot_ns), quality.state))
        pending.clear()

    def on_step(step: ClockStep) -> None:
        seal(step.before)
        record.chain.append(step)

    keeper = Timekeeper(
        model.clock, [_Modelled(model)], b"", on_step=on_step, on_event=lambda *_: None, smear_ns=smear_ns
    )
    phase = model.random.randrange(ticks_per_poll)
    await keeper.poll()
    for tick in range(round(seconds * _S / tick_ns)):
        model.pass_ns(tick_ns)
        pending.append((model.clock.boot_ns(), model.true_ns))
        if tick % _TICKS_PER_COMMIT == 0:
            keeper.observe()
            seal(keeper.quality)
        if tick % ticks_per_poll == phase:
            await keeper.poll()
    return record


@dataclass(frozen=True, slots=True)
class Scenario:
    """A model, and how it is watched."""

    model: Callable[[Random], Model]
    seconds: float = 120
    smear_ns: int = 0
    tick_ns: int = _TICK_NS
    ticks_per_poll: int = 100


def _leaps(leap_s: int, mode: str) -> Scenario:
    return Scenario(lambda random: Model(random=random, leap_s=leap_s, mode=mode, error_ns=random.randrange(5 * _MS)))


def _lost(leap_s: int, lost_s: int) -> Scenario:
    begins_ns = MIDNIGHT_NS - 400 * _S

    def model(random: Random) -> Model:
        return Model(random=random, leap_s=leap_s, mode="slew", is_announced=False, lost_ns=lost_s * _S,
                     begins_ns=begins_ns)  # fmt: skip

    return Scenario(model, seconds=600, tick_ns=50 * _MS, ticks_per_poll=20)


def _smeared(leap_s: int) -> Scenario:
    def model(random: Random) -> Model:
        return Model(random=random, leap_s=leap_s, is_announced=False, smear_ns=_DAY_NS,
                     begins_ns=MIDNIGHT_NS - 13 * 3600 * _S)  # fmt: skip

    return Scenario(model, 26 * 3600, _DAY_NS, 8 * _S, 5)


SCENARIOS: Mapping[str, Scenario] = {
    "insert, set": _leaps(1, "step"),
    "delete, set": _leaps(-1, "step"),
    "insert, slewed": _leaps(1, "slew"),
    "delete, slewed": _leaps(-1, "slew"),
    "insert, ignored": _leaps(1, "ignore"),
    "delete, ignored": _leaps(-1, "ignore"),
    "insert, missed": _lost(1, 390),
    "delete, missed": _lost(-1, 390),
    "no leap second, servers lost": _lost(0, 390),
    "insert, first heard after it": _lost(1, 401),
    "insert, smeared": _smeared(1),
    "delete, smeared": _smeared(-1),
}


async def watch(seed: int, names: Iterable[str] = SCENARIOS) -> list[Record]:
    """The scenarios, one after the other."""
    records = []
    for name in names:
        each = SCENARIOS[name]
        records.append(await watch_one(name, each.model(Random(f"{seed} {name}")), each.seconds,
                                       smear_ns=each.smear_ns, tick_ns=each.tick_ns,
                                       ticks_per_poll=each.ticks_per_poll))  # fmt: skip
    return records
