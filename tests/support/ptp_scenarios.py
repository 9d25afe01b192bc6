"""A modelled clock that follows a modelled grandmaster, and whether the bound that is stated covers its true error.

ptp4l's management socket is scripted; behind it are true time, a clock with an oscillator that wanders, a servo with
the gains of ptp4l, a path with two delays, and a grandmaster that errs within what it says of itself. Time is
simulated. `watch(folder, seconds, seed)` gives an `Outcome` for each of `SCENARIOS`, as `clock_scenarios.py` beside it
does for chronyd.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from statistics import median

from edge.clock import PtpSource, Timekeeper, TimeQuality
from edge.clock.phc import PhcReading
from edge.testing.clock import ManualClock
from tests.support.clock_scenarios import Outcome, Sample
from tests.support.ptp_scripted import LISTENING, OTHER, SLAVE, UTC_OFFSET_VALID, Says, scripted

_S, _MS = 10**9, 10**6
_TICK_NS = 100 * _MS
_TICKS_A_POLL = 10
_TAI_UTC_NS = 37 * _S
_KP, _KI = 0.7, 0.3  # ptp4l's, with hardware stamps.
_STEP_NS = 20_000_000
_FASTEST_PPB = 1e8  # linuxptp lengthens the ticks of the system clock by up to a tenth.
_LOST_AFTER_TICKS = 30  # announceReceiptTimeout.


@dataclass
class Model:
    """True time, and everything that is wrong with what keeps it.

    Attributes:
        there_ns: gives the delay of a Sync on its way; `back_ns` that of a Delay_Req.
        grandmaster_ns: how far the grandmaster is ahead of UTC.
        is_heard: whether its packets arrive.
        is_heard_ticks: for how many ticks more they do; None: for ever.
        follows: whether the system clock follows the hardware clock; without one it is the clock that is steered.
    """

    random: Random
    says: Says = field(default_factory=lambda: Says(sync_log=-3))
    clock: ManualClock = field(default_factory=ManualClock)
    there_ns: Callable[[], float] = lambda: 2_000
    back_ns: Callable[[], float] = lambda: 2_000
    grandmaster_ns: float = 0
    grandmaster_drift_ppb: float = 0
    is_heard: bool = True
    is_heard_ticks: int | None = None
    follows: bool = True
    oscillator_ppb: float = 0
    phc_ns: int = 0
    has_phc: bool = False

    def __post_init__(self) -> None:
        self.true_ns = self.clock.utc_ns()
        self.phc_ns = self.true_ns + _TAI_UTC_NS
        self.oscillator_ppb = self.random.uniform(-30_000, 30_000)
        self._phc_ppb = self.random.uniform(-30_000, 30_000)
        self._servo = [0.0, 0.0]  # Frequency, and its integral, of the clock that ptp4l steers.
        self._system_servo = [0.0, 0.0]
        self._delays: deque[float] = deque(maxlen=10)
        self._unheard = 0

    def read_phc(self, _: str) -> PhcReading:
        """The hardware clock, read in 2 us."""
        return PhcReading(self.phc_ns, self.clock.utc_ns() + self.random.randrange(-1_000, 1_000), 2_000)

    @property
    def error_ns(self) -> int:
        """How far the system clock is off UTC."""
        return abs(self.clock.utc_ns() - self.true_ns)

    def tick(self) -> None:
        """Pass a tenth of a second of true time, at the end of which a Sync comes."""
        self.true_ns += _TICK_NS
        self.grandmaster_ns += self.grandmaster_drift_ppb * _TICK_NS / 1e9
        self.oscillator_ppb = max(-40_000.0, min(40_000.0, self.oscillator_ppb + self.random.gauss(0, 50)))
        steered = self._system_servo if self.has_phc else self._servo
        elapsed_ns = round(_TICK_NS * (1 + self.oscillator_ppb / 1e9))
        self.clock.advance_ns(elapsed_ns, steered_ns=-round(_TICK_NS * steered[0] / 1e9))
        self.phc_ns += round(_TICK_NS * (1 + (self._phc_ppb - self._servo[0]) / 1e9))
        if self.is_heard_ticks is not None:
            self.is_heard, self.is_heard_ticks = self.is_heard_ticks > 0, self.is_heard_ticks - 1
        if self.is_heard:
            self._unheard = 0
            self._sync()
        else:
            self._unheard += 1
            if self._unheard > _LOST_AFTER_TICKS:
                self.says.states = [LISTENING]
        if self.has_phc and self.follows:
            ahead_ns = self.clock.utc_ns() - (self.phc_ns - _TAI_UTC_NS)
            self.clock.step_ns(_steer(self._system_servo, ahead_ns))

    def _sync(self) -> None:
        self._delays.append((self.there_ns() + self.back_ns()) / 2)
        delay_ns = median(self._delays)
        local_ns = self.phc_ns if self.has_phc else self.clock.utc_ns()
        error_ns = local_ns - self.true_ns - (_TAI_UTC_NS if self.has_phc else 0)
        offset_ns = round(error_ns - self.grandmaster_ns + self.there_ns() - delay_ns)
        self.says.states, self.says.offset_ns, self.says.path_delay_ns = [SLAVE], offset_ns, delay_ns
        self.says.ingress_ns = local_ns
        step_ns = _steer(self._servo, offset_ns)
        if self.has_phc:
            self.phc_ns += step_ns
        else:
            self.clock.step_ns(step_ns)

    async def watch(self, path: Path, name: str, seconds: int, fault: Callable[[Model], None] | None) -> Outcome:
        """Poll each second, and compare ten times a second; the fault comes at half time."""
        outcome, self.says.interface = Outcome(name), "eth0" if self.has_phc else ""
        source = PtpSource(self.clock, str(path), phc=self.read_phc)
        keeper = Timekeeper(self.clock, [source], b"", on_step=lambda _: None, on_event=lambda *_: None)
        phase = self.random.randrange(_TICKS_A_POLL)
        async with scripted(path, self.says):
            for tick in range(seconds * _TICKS_A_POLL):
                if fault is not None and tick == seconds * _TICKS_A_POLL // 2:
                    fault(self)
                    outcome.lost_ns = self.clock.boot_ns()
                    keeper.observe()
                    outcome.samples.append(self._sample(keeper.quality))
                self.tick()
                keeper.observe()
                if tick % _TICKS_A_POLL == phase:
                    await keeper.poll()
                outcome.samples.append(self._sample(keeper.quality))
        return outcome

    def _sample(self, quality: TimeQuality) -> Sample:
        now_ns = self.clock.boot_ns()
        return Sample(now_ns, self.error_ns, quality.bound_at(now_ns), quality.state)


def _steer(servo: list[float], offset_ns: float) -> int:
    """Change the frequency after an offset, in ppb; how far the clock is to be stepped."""
    if abs(offset_ns) > _STEP_NS:
        return -round(offset_ns)
    ppb = offset_ns / (_TICK_NS / 1e9)
    servo[1] += _KI * ppb
    servo[0] = max(-_FASTEST_PPB, min(_FASTEST_PPB, _KP * ppb + servo[1]))
    return 0


def _uniform(random: Random, least_ns: float, most_ns: float) -> Callable[[], float]:
    return lambda: random.uniform(least_ns, most_ns)


def _good(model: Model) -> None:
    model.grandmaster_ns = model.random.uniform(-100, 100)


def _jitter(model: Model) -> None:
    model.there_ns = model.back_ns = _uniform(model.random, 1_000, 60_000)


def _asymmetric(model: Model) -> None:
    model.there_ns, model.back_ns = lambda: 300_000.0, lambda: 1_000.0


def _hardware(model: Model) -> None:
    model.has_phc = True


def _lose(model: Model) -> None:
    model.is_heard = False


def _lose_syncs_only(model: Model) -> None:
    model.is_heard = False
    model._unheard = -(10**9)  # Announce messages go on: the port stays a slave.


def _stop_phc2sys(model: Model) -> None:
    model.follows = False


def _hold_over(model: Model) -> None:
    model.says.clock_class, model.says.accuracy = 52, 0xFE
    model.grandmaster_drift_ppb = 30_000


def _run_free(model: Model) -> None:
    model.says.clock_class, model.says.accuracy = 248, 0xFE
    model.grandmaster_drift_ppb = 400_000


def _replace(model: Model) -> None:
    model.says.grandmaster, model.says.accuracy = OTHER, 0x2B  # Within 10 ms.
    model.grandmaster_ns = 9 * _MS


def _replace_and_lose(model: Model) -> None:
    _replace(model)
    model.is_heard_ticks = model.random.randrange(1, 2 * _TICKS_A_POLL)  # The servo may be left in a slew.


def _forget_utc(model: Model) -> None:
    model.says.flags &= ~UTC_OFFSET_VALID
    model.grandmaster_ns = _TAI_UTC_NS


def _vague(model: Model) -> None:
    model.says.accuracy = 0x2E  # Within 250 ms.


def _jump(model: Model) -> None:
    model.grandmaster_ns = 240 * _MS


def _set_clock(model: Model) -> None:
    model.clock.step_ns(3 * _S)


SCENARIOS: dict[str, tuple[Callable[[Model], None], Callable[[Model], None] | None]] = {
    "good": (_good, None),
    "jitter": (_jitter, None),
    "asymmetric path": (_asymmetric, None),
    "hardware stamps": (_hardware, None),
    "grandmaster lost": (_good, _lose),
    "grandmaster lost, hardware stamps": (_hardware, _lose),
    "Syncs lost": (_good, _lose_syncs_only),
    "phc2sys stops": (_hardware, _stop_phc2sys),
    "grandmaster in holdover": (_good, _hold_over),
    "grandmaster runs free": (_good, _run_free),
    "grandmaster replaced": (_good, _replace),
    "grandmaster replaced, and lost": (_good, _replace_and_lose),
    "grandmaster replaced, and lost, hardware stamps": (_hardware, _replace_and_lose),
    "grandmaster forgets UTC": (_good, _forget_utc),
    "grandmaster jumps": (_vague, _jump),
    "clock is set": (_good, _set_clock),
}
LOSSES = ("grandmaster lost", "grandmaster lost, hardware stamps", "Syncs lost")
UNBOUNDED = ("grandmaster runs free", "grandmaster forgets UTC")
"""After the fault there is no bound."""


async def watch(folder: Path, seconds: int, seed: int, names: tuple[str, ...] = tuple(SCENARIOS)) -> list[Outcome]:
    """The scenarios, each for so many simulated seconds."""
    outcomes = []
    for name in names:
        prepare, fault = SCENARIOS[name]
        model = Model(Random(f"{seed} {name}"))
        prepare(model)
        outcomes.append(await model.watch(folder / "ptp4l", name, seconds, fault))
    return outcomes
