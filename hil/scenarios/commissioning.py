"""The first look at a rig: every device and tag, the identities and the clock, without touching anything."""

from __future__ import annotations

import asyncio

from hil import criteria
from hil.devices import REFUSED
from hil.document import Figure, Line, Plot, thinned
from hil.evidence import Evidence, Finding
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial


async def read_on(trial: Trial) -> None:
    """Let the gateway read for the given time, with a clock that has a bound where the rig has a reference."""
    if trial.bench.rig.wired.clock.source != "none":
        await trial.wait_until(
            "the gateway stated a bound for its clock",
            lambda gateway, _: gateway and gateway.clock and gateway.clock.bound_ns is not None,
        )
    await asyncio.sleep(trial.seconds)
    await trial.note_devices()


def every_device_answers(evidence: Evidence) -> Finding:
    """Check that the gateway is connected to each device of the rig, at the first attempt."""
    seen = evidence.observed.devices
    found = {name: seen[name]["state"] if name in seen else "not asked" for name in evidence.rig.devices}
    is_steady = all(seen[name]["connects"] == 1 for name in seen)
    words = "; ".join(f"{name} is {state}" for name, state in found.items())
    return Finding(
        all(state == "up" for state in found.values()) and is_steady,
        words if is_steady else f"{words}; one had to be connected again",
    )


def every_tag_reads_good(evidence: Evidence) -> Finding:
    """Check that each tag has a value in the archive, and never another quality than GOOD."""
    names = [
        f"{device.name}/{tag.name}"
        for device in evidence.rig.checked for group in device.scan_groups for tag in group.tags
    ]  # fmt: skip
    bad = {name: sum(each.status != 0 for each in evidence.archived.get(name, ())) for name in names}
    absent = [name for name in names if not evidence.archived.get(name)]
    wrong = [f"{name}: {count} not GOOD" for name, count in bad.items() if count]
    wrong += [f"{name}: no value" for name in absent]
    words = "; ".join(wrong) or f"{len(names)} tags, {sum(map(len, evidence.archived.values()))} values, all GOOD"
    return Finding(not wrong, words, [Figure(name="tags read", value=len(names) - len(absent))])


def identities_are_as_in_the_rig_file(evidence: Evidence) -> Finding:
    """Check what each device says of itself against the rig file; a device of which the file says nothing is named."""
    wrong, unknown = [], []
    for device in evidence.rig.wired.devices:
        said = (evidence.observed.devices.get(device.name) or {}).get("identity") or {}
        if not device.identity:
            unknown.append(device.name)
        wrong += [f"{device.name}: {key} is {said.get(key, '')!r}, and should be {wanted!r}"
                  for key, wanted in device.identity.items() if said.get(key, "") != wanted]  # fmt: skip
    words = "; ".join(wrong) or "all as in the rig file"
    return Finding(not wrong, f"{words}; the file says nothing of {', '.join(unknown)}" if unknown else words)


def clock_is_within_its_bound(evidence: Evidence) -> Finding:
    """Check that the bound which the gateway states is at most that of the rig file."""
    clock = evidence.rig.wired.clock
    points = evidence.observed.samples.get("bound of the clock, ms", [])
    stated = [value for _, value in points if value is not None]
    if clock.source == "none":
        return Finding(True, "this rig has no reference of time, and the gateway's clock is not judged")
    limit_ms = clock.bound / 1e6
    words = f"at most {max(stated):.3f} ms, limit {limit_ms:g} ms" if stated else "the gateway stated no bound"
    limit = Line(name="limit", kind="limit", points=tuple((at, limit_ms) for at, _ in (points[:1] + points[-1:])))
    plot = Plot(title="Stated bound of the clock's error", unit="ms", caption="It stays below the limit.",
                lines=(Line(name="stated", points=thinned(points)), limit))  # fmt: skip
    figures = [Figure(name="largest stated bound of the clock", value=max(stated, default=0.0), unit="ms")]
    return Finding(bool(stated) and max(stated) <= limit_ms, words, figures, [plot])


def nothing_was_written(evidence: Evidence) -> Finding:
    """Check that no simulated device has refused a request; the gateway of a rig of hardware has only its own code."""
    if not evidence.rig.is_simulated:
        return Finding(True, "no device of this rig keeps a log; the gateway has no request that writes")
    refused = {name: served[-1].value for name, served in evidence.served.items() if name.endswith(REFUSED)}
    words = "; ".join(f"{name.partition('/')[0]} refused {count}" for name, count in refused.items())
    return Finding(not refused, words or "no device refused a request")


SCENARIO = Scenario(
    title="Commissioning check",
    purpose="Before anything is tried on a rig or in a plant: every device answers as the one that it should be, every "
    "tag reads GOOD, the clock is good enough, and nothing but reading was asked for.",
    requirements=("21 CFR 11.10(h)", "T1", "ALCOA+ attributable"),
    steps=(Step("Let the gateway read every device for the given time.", read_on),),
    criteria=(
        PassCriterion("The gateway is connected to every device, at the first attempt.", every_device_answers),
        PassCriterion("Every tag is read, and all its values are GOOD.", every_tag_reads_good),
        PassCriterion("Each device says of itself what the rig file says.", identities_are_as_in_the_rig_file),
        PassCriterion("The stated bound of the clock's error is at most that of the rig file.",
                      clock_is_within_its_bound),
        PassCriterion("No device was asked for anything but to be read.", nothing_was_written),
        PassCriterion("The archive is wholly authentic, its chain is closed, and no record is in it twice.",
                      criteria.the_archive_is_wholly_authentic),
    ),
)  # fmt: skip
