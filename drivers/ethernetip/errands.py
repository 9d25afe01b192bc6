"""What is asked beside the scans, one question with each: new program? which structures? what time is it?"""

from __future__ import annotations

from drivers.ethernetip import survey, wholes
from drivers.ethernetip.codec import Question
from drivers.ethernetip.plan import EtherNetIpPlan
from drivers.ethernetip.settings import EtherNetIpDevice
from drivers.ethernetip.survey import Errand
from drivers.ethernetip.symbols import Directory
from edge.clock import Clock
from edge.errors import ProtocolViolation

_CLOCK_EVERY_NS = 60 * 10**9


class Errands:
    """Errands of one session, one under way at a time.

    Attributes:
        generation: another number whenever something new is known of the controller.
        device_time_ns: UTC by the device's clock, if the last answer was that.
        told: what went wrong, as sentences, since it was last taken.
    """

    def __init__(self, device: EtherNetIpDevice, clock: Clock, directory: Directory, name: str) -> None:
        self.generation = 0
        self.device_time_ns: int | None = None
        self.told: list[str] = []
        self._device, self._clock, self._directory, self._name = device, clock, directory, name
        self._knows_time = device.clock_limit is not None
        self._check_at_ns = self._learn_at_ns = self._time_at_ns = 0
        self._laid_out: bytes | None = None
        self._errand: Errand | None = None
        self._question: Question | None = None

    def question(self, plan: EtherNetIpPlan) -> Question | None:
        """What is to be asked beside a scan of this plan that begins now, if anything."""
        self.device_time_ns = None
        if self._errand is None:
            self._errand = self._due(plan, self._clock.boot_ns())
            self.answered(None)
        return self._question

    def answered(self, body: bytes | None) -> None:
        """Go on with the answer to the question, or begin."""
        errand, self._question = self._errand, None
        if errand is None:
            return
        try:
            self._question = next(errand) if body is None else errand.send(body)
        except StopIteration:
            self._errand = None

    def hurry(self) -> None:
        """Something is not as it was: look for a new program with the next scan."""
        self._check_at_ns = 0

    def _due(self, plan: EtherNetIpPlan, now_ns: int) -> Errand | None:
        if self._knows_time and now_ns >= self._time_at_ns:
            self._time_at_ns = now_ns + _CLOCK_EVERY_NS
            return self._tell_time()
        if not plan.structured:
            return None
        if now_ns >= self._check_at_ns or (now_ns >= self._learn_at_ns and wholes.wanted(plan, self._directory)):
            self._check_at_ns = now_ns + self._device.limits.check_changes
            return self._look_up(plan, now_ns)
        return None

    def _tell_time(self) -> Errand:
        self.device_time_ns = yield from survey.device_time()
        self._knows_time = self.device_time_ns is not None

    def _look_up(self, plan: EtherNetIpPlan, now_ns: int) -> Errand:
        """Forget what is known after a download, and learn what is needed once the program stands still."""
        directory = self._directory
        counters = yield from survey.counters()
        if counters is None or directory.counters not in (None, counters):
            self._learn_at_ns = now_ns + self._device.limits.check_changes
        if counters != directory.counters:
            directory.forget()
            directory.counters = counters
        if counters != self._laid_out:
            self._laid_out = counters
            self.generation += 1
        names = wholes.wanted(plan, directory)
        # Without the numbers, nothing would tell that a layout is that of another program.
        if counters is None or now_ns < self._learn_at_ns or not names:
            return
        try:
            yield from survey.directory_of(directory, names)
        except (survey.Refused, ProtocolViolation) as error:
            self.told.append(f"{self._name}: structures are read member by member: {error}")
            directory.looked_for |= names
        self.generation += 1
