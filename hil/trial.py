"""A trial: one run of a scenario on a bench, as its steps see it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field

from edge.errors import TidegateError
from edge.health import StatusSnapshot
from hil.alignment import BootAsked
from hil.bench import Bench
from hil.document import Span
from hil.evidence import Observed

STEP_TIMEOUT_S = 90.0
"""How long a step waits for something to happen; a scenario may wait longer where it says so."""
_POLL_S, _SAMPLE_S = 0.1, 0.5

Sides = Callable[[StatusSnapshot | None, StatusSnapshot | None], object]
"""Called with the status of the gateway and of the relay; None for one that does not answer."""
Sampler = Callable[[StatusSnapshot, StatusSnapshot], float | None]

SAMPLED: Mapping[str, Sampler] = {
    "records waiting": lambda gateway, _: gateway.buffer.undelivered_records if gateway.buffer else None,
    "bytes stored": lambda gateway, _: gateway.buffer.stored_bytes if gateway.buffer else None,
    "bound of the clock, ms": lambda gateway, _: gateway.clock.bound_ns / 1e6
    if gateway.clock and gateway.clock.bound_ns is not None else None,
    "resident memory, MB": lambda gateway, _: gateway.gateway.resident_bytes / 1e6,
    "records archived": lambda _, relay: relay.relay.archived_records if relay.relay else None,
    "lag of the archive, ms": lambda _, relay: relay.relay.issuers[0].lag_ns / 1e6
    if relay.relay and relay.relay.issuers and relay.relay.issuers[0].lag_ns is not None else None,
}  # fmt: skip
"""What is sampled from the status of gateway and relay all the time, by name; a hole where one does not answer."""


class StepFailed(TidegateError):
    """What a step waited for did not happen."""


@dataclass(slots=True)
class Trial:
    """The state of a run, for its steps.

    Attributes:
        seconds: duration of the disturbance.
        observed: what is seen: figures, samples and disturbances, to be added to.
    """

    bench: Bench
    seconds: float
    observed: Observed = field(default_factory=Observed)

    async def sides(self) -> tuple[StatusSnapshot | None, StatusSnapshot | None]:
        """The status of gateway and relay now."""
        asked_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        gateway = await self.bench.gateway.status()
        if gateway is not None and gateway.clock is not None and gateway.clock.boot_id:
            self.observed.note_boot_time(BootAsked(
                gateway.clock.boot_id, gateway.clock.boot_ns, asked_ns, time.clock_gettime_ns(time.CLOCK_BOOTTIME)
            ))  # fmt: skip
        return gateway, await self.bench.relay.status()

    async def wait_until(self, what: str, condition: Sides, within_s: float = STEP_TIMEOUT_S) -> None:
        """Wait until gateway and relay say so.

        Raises:
            StepFailed: they do not, or the gateway or the relay ended; the message says what was waited for.
        """
        try:
            async with asyncio.timeout(within_s):
                while not condition(*await self.sides()):  # noqa: ASYNC110 - a process has no event for it
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise StepFailed(f"waited {within_s:g} s in vain until {what}") from None

    @contextmanager
    def disturbance(self, text: str) -> Iterator[None]:
        """The block is a disturbance: plots mark it."""
        from_ns = time.time_ns()
        try:
            yield
        finally:
            self.observed.disturbances.append(Span(from_ns=from_ns, to_ns=time.time_ns(), text=text))

    def sample(self, name: str, value: float | None, at_ns: int | None = None) -> None:
        """Add to the values over time of that name; None where there was no value to see."""
        self.observed.samples.setdefault(name, []).append((time.time_ns() if at_ns is None else at_ns, value))

    async def sample_on(self) -> None:
        """Sample gateway and relay until cancelled."""
        while True:
            self.observed.note_clock()
            sides = await self.sides()
            for name, of in SAMPLED.items():
                self.sample(name, _sampled(of, *sides))
            await asyncio.sleep(_SAMPLE_S)

    async def note_devices(self) -> None:
        """Keep what the gateway says of each device now: state, identity, and the quality of its tags."""
        gateway = await self.bench.gateway.status()
        for device in gateway.devices if gateway else ():
            self.observed.devices[device.name] = asdict(device)


def _sampled(of: Sampler, gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> float | None:
    with suppress(AttributeError):  # The side that it looks at does not answer.
        return of(gateway, relay)  # type: ignore[arg-type]
    return None


def archived_records(relay: StatusSnapshot | None) -> int:
    """How many records are durable in the archive."""
    return relay.relay.archived_records if relay and relay.relay else 0
