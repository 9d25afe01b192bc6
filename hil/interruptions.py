"""Interruptions of devices: how they are made, that they were real, and how soon data flowed again by itself.

A disturbance of one device is named `DEVICE: what was done`; one without a name in front is of all devices.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from edge.driver import DeviceSettings
from edge.health.snapshot import DeviceStatus
from hil import criteria
from hil.bench import BenchDevice
from hil.document import Figure, Line, Plot, Point, Span, thinned
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion
from hil.switches import Switch
from hil.trial import Trial

_TRUTH_POINTS = 300
_SETTLING_NS = 10**9  # A device that has just come back may end its sessions of before once more.


async def interrupt(trial: Trial, device: BenchDevice, switch: Switch, what: str) -> None:
    """Turn a device's switch off for the given time, at least until the gateway noticed, and wait for its data."""
    with trial.disturbance(f"{device.name}: {what}"):
        started_s = time.monotonic()
        await switch.off()
        await trial.wait_until(f"the gateway noticed that {device.name} is silent",
                               lambda gateway, _: gateway and not _is_up(gateway.devices, device.name))  # fmt: skip
        await asyncio.sleep(trial.seconds - (time.monotonic() - started_s))
        await switch.on()
    limit_s = 2 * device.settings.retry_limit / 1e9
    await trial.wait_until(f"{device.name} is read again",
                           lambda gateway, _: gateway and _is_up(gateway.devices, device.name), limit_s)  # fmt: skip


async def wait_for_all_devices(trial: Trial) -> None:
    """Wait until the gateway reads every device again, for as long as it may take by itself."""
    limit_s = 2 * max(device.settings.retry_limit for device in trial.bench.devices.values()) / 1e9
    await trial.wait_until(
        "every device is read again",
        lambda gateway, _: gateway and all(device.state == "up" for device in gateway.devices), limit_s,
    )  # fmt: skip


def _is_up(devices: Sequence[DeviceStatus], name: str) -> bool:
    return any(device.name == name and device.state == "up" for device in devices)


def each_interruption_was_real(evidence: Evidence) -> Finding:
    """Check that a device gave nothing for at least half of its interruption, and that a GAP says so."""
    found, holds = [], True
    for device, _, first_ns, last_ns in _interruptions(evidence):
        silent_ns = _longest_silence(evidence, device, first_ns, last_ns)
        is_declared = any(each.device in (None, device) and each.from_ns < last_ns and each.to_ns > first_ns
                          for each in evidence.declared)  # fmt: skip
        holds = holds and is_declared and 2 * silent_ns >= last_ns - first_ns
        found.append(f"{device}: without a value for {silent_ns / 1e9:.2f} s of {(last_ns - first_ns) / 1e9:.2f} s"
                     f"{'' if is_declared else ', and no GAP says so'}")  # fmt: skip
    return Finding(holds and bool(found), "; ".join(found) or "no device was interrupted",
                   plots=[plot for name in dict.fromkeys(each for each, *_ in _interruptions(evidence))
                          if (plot := value_plot(evidence, name)) is not None])  # fmt: skip


def every_device_came_back(evidence: Evidence) -> Finding:
    """Check that a device gave a value again within twice the longest delay between two attempts."""
    found, figures, holds = [], [], True
    for device, _, _, last_ns in _interruptions(evidence):
        limit_s = 2 * _settings(evidence, device).retry_limit / 1e9
        times = _good(evidence, device)
        at = bisect_left(times, last_ns)
        took_s = (times[at] - last_ns) / 1e9 if at < len(times) else None
        holds = holds and took_s is not None and took_s <= limit_s
        found.append(
            f"{device}: {f'after {took_s:.2f} s' if took_s is not None else 'not at all'}, limit {limit_s:g} s"
        )
        if took_s is not None:
            figures.append(Figure(name=f"{device}: first value after", value=round(took_s, 3), unit="s"))
    return Finding(holds and bool(found), "; ".join(found) or "no device was interrupted", figures)


def the_others_were_read_on(evidence: Evidence) -> Finding:
    """Check that no other device was silent for half as long as the interrupted one."""
    found, holds = [], True
    for device, _, first_ns, last_ns in _interruptions(evidence):
        silent_ns = _longest_silence(evidence, device, first_ns, last_ns)
        for other in evidence.rig.devices:
            pause_ns = _longest_silence(evidence, other, first_ns, last_ns)
            if other != device and pause_ns > max(silent_ns / 2, _SETTLING_NS):
                holds = False
                found.append(f"{other} paused for {pause_ns / 1e9:.2f} s while {device} was silent")
    return Finding(holds, "; ".join(found) or "every other device was read all the time")


def every_value_is_accounted_for(evidence: Evidence) -> Finding:
    """As that of `hil.criteria`, but for a request that was on its way when the cable was pulled.

    TCP sends it again when the cable is in, after at most the time that it waited before. The device then answers a
    connection that the gateway has closed: the request is declared unanswered, and is answered after the GAP's end.
    """
    found = criteria.every_value_is_accounted_for(evidence)
    late, lost = [], []
    for account in criteria.accounts(evidence):
        served_at_ns = {each.value: each.boot_ns for each in evidence.served[account.name]}
        open_spans = [(last_ns, 2 * last_ns - first_ns + _SETTLING_NS) for device, _, first_ns, last_ns
                      in _interruptions(evidence) if device == account.name.partition("/")[0]]  # fmt: skip
        for value in account.unaccounted:
            at_ns = served_at_ns[value]
            span = next((each for each in open_spans if each[0] <= at_ns <= each[1]), None)
            if span is None:
                lost.append(value)
            else:
                open_spans.remove(span)  # One request at a time is under way: a second value is lost.
                late.append(f"{account.name}: {value} answered a closed connection after the cable was in")
    holds = found.holds or (bool(late) and not lost)
    return Finding(holds, "; ".join([found.found, *late]), found.figures)


def value_plot(evidence: Evidence, device: str) -> Plot | None:
    """What is archived of a device's first known signal, beside the truth where the phase is known."""
    signals = {tag: signal for tag, signal in evidence.rig.devices[device].signals.items() if signal.wave != "counter"}
    tag = next((tag for tag in signals if evidence.archived.get(f"{device}/{tag}")), None)
    if tag is None:
        return None
    archived = evidence.archived[f"{device}/{tag}"]
    utc = evidence.clock.utc_of
    points: list[Point] = [(utc(each.to_ns), each.value) for each in archived]
    declared = {each.from_ns for each in evidence.declared if each.device in (None, device)}
    gaps = sorted(from_ns for from_ns in declared if archived[0].to_ns < from_ns < archived[-1].to_ns)
    points += [(utc(from_ns), None) for from_ns in gaps]
    # A value that does not change is not reported again: it holds until the request for the next one, or a gap.
    points += [(utc(after.from_ns), before.value) for before, after in pairwise(archived)
               if bisect_left(gaps, before.to_ns) == bisect_left(gaps, after.from_ns)]  # fmt: skip
    lines = [Line(name="archived", points=thinned(sorted(points, key=lambda point: point[0])))]
    if evidence.rig.is_simulated:
        first_ns, last_ns = archived[0].from_ns, archived[-1].to_ns
        steps = [first_ns + (last_ns - first_ns) * i // _TRUTH_POINTS for i in range(_TRUTH_POINTS + 1)]
        lines.append(
            Line(name="true value", kind="truth", points=tuple((utc(at), signals[tag].at(at)) for at in steps))
        )
    unit = next((tag_.unit or "" for group in _settings(evidence, device).scan_groups for tag_ in group.tags
                 if tag_.name == tag), "")  # fmt: skip
    return Plot(title=f"{device}/{tag}", unit=unit, lines=tuple(lines),
                spans=tuple(span for name, span, *_ in _interruptions(evidence) if name == device),
                caption="Where nothing could be read no value is invented; elsewhere values follow the truth.",
                )  # fmt: skip


def _interruptions(evidence: Evidence) -> Iterator[tuple[str, Span, int, int]]:
    """(device, disturbance, its first and last moment in boot time)."""
    for span in evidence.observed.disturbances:
        name, colon, _ = span.text.partition(": ")
        for device in [name] if colon else list(evidence.rig.devices):
            yield device, span, evidence.clock.of(span.from_ns), evidence.clock.of(span.to_ns)


def _settings(evidence: Evidence, device: str) -> DeviceSettings:
    return next(each for each in evidence.rig.checked if each.name == device)


def _good(evidence: Evidence, device: str) -> list[int]:
    """When the gateway had a value of a device, in boot time."""
    return sorted(each.to_ns for name, values in evidence.archived.items() if name.startswith(f"{device}/")
                  for each in values if each.value is not None)  # fmt: skip


def _longest_silence(evidence: Evidence, device: str, first_ns: int, last_ns: int) -> int:
    times = _good(evidence, device)
    inside = times[bisect_right(times, first_ns) : bisect_left(times, last_ns)]
    edges = [first_ns, *inside, last_ns]
    return max(after - before for before, after in pairwise(edges))


CAME_BACK = (
    PassCriterion("Each device was silent for at least half of its interruption, and a GAP is on record.",
                  each_interruption_was_real),
    PassCriterion("Data flows again by itself, within twice the longest delay between two attempts on a device.",
                  every_device_came_back),
)  # fmt: skip
"""What is asked of every interruption of a device."""

NOTHING_LOST = (
    PassCriterion("Every counter value that a device served is archived, or a GAP or LOSS declares it; but for one "
                  "request of each interruption, which is declared unanswered, and may be answered late.",
                  every_value_is_accounted_for),
    *criteria.NOTHING_LOST[1:],
)  # fmt: skip
"""As `hil.criteria.NOTHING_LOST`, where requests are on their way when the connection is cut."""
