"""More and more devices are read, until scans are skipped."""

from __future__ import annotations

from hil.criteria import the_archive_is_wholly_authentic
from hil.document import Figure, Line, Plot
from hil.evidence import Evidence, Finding
from hil.load import measure, measured_in, probe_syncs, start_again, syncs_in
from hil.scenario import PassCriterion, Scenario, Step
from hil.trial import Trial

TAGS, EVERY_MS, DEVICES_MAX, DEVICES_MAX_SIMULATED = 500, 100.0, 32, 4
"""A load device is 5,000 values a second. On the simulated rig the devices share the machine with the gateway."""
LEAST_PER_S = 5000
_THROTTLED = {0: "the voltage is too low", 1: "the clock is capped", 2: "throttled", 3: "the temperature is too high"}


async def load_step_by_step(trial: Trial) -> None:
    """Double the load until scans are skipped that no other program is to blame for, and measure at each."""
    most, count = DEVICES_MAX_SIMULATED if trial.bench.rig.is_simulated else DEVICES_MAX, 1
    while count <= most:
        found = await measure(trial, count, TAGS, EVERY_MS, trial.seconds)
        if found.throttled:
            words = [text for bit, text in _THROTTLED.items() if found.throttled & (1 << bit | 1 << bit + 16)]
            trial.observed.deviations.append(f"at {found.due_per_s:g} values a second: {', '.join(words)}")
        count *= 2
        if found.keeps_up:
            continue
        if not found.is_crowded_out:
            break
        trial.observed.deviations.append(
            f"at {found.due_per_s:,.0f} values a second {found.skipped} of {found.due} scans were skipped, which says "
            f"nothing of the gateway: of {found.processors * found.seconds:.1f} s that the processors had, other "
            f"programs used {found.others_cpu_s:.1f} s and the gateway {found.cpu_s:.1f} s"
        )
    await start_again(trial)


def capacity_is_known(evidence: Evidence) -> Finding:
    """The largest load without skipped scans, with what it costs."""
    found = measured_in(evidence.folder)
    kept_up = [each for each in found if each.keeps_up]
    figures = []
    for each in found:
        load = f"at {each.due_per_s:,.0f} values/s"
        figures += [
            Figure(name=f"values read {load}", value=round(each.readings_per_s), unit="1/s"),
            Figure(name=f"scans skipped {load}", value=each.skipped),
            Figure(name=f"processor {load}", value=round(100 * each.cpu_s / each.seconds, 1), unit="% of one core"),
            Figure(
                name=f"other programs {load}",
                value=round(100 * each.others_cpu_s / each.seconds, 1),
                unit="% of one core",
            ),
            Figure(name=f"memory {load}", value=round(each.resident_bytes / 1e6, 1), unit="MB"),
            Figure(name=f"records {load}", value=round(each.record_bytes / each.seconds / 1000, 1), unit="kB/s"),
        ]
        if each.written_bytes is not None:
            written = round(each.written_bytes / each.seconds / 1000, 1)
            figures.append(Figure(name=f"written to storage {load}", value=written, unit="kB/s"))
        if each.temperature_c is not None:
            figures.append(Figure(name=f"temperature {load}", value=each.temperature_c, unit="°C"))
    most = max((each.due_per_s for each in kept_up), default=0.0)
    limit = next((each for each in found if not each.keeps_up and not each.is_crowded_out), None)
    is_unknown = bool(found) and most < LEAST_PER_S and limit is None
    if limit is not None:
        end = f"scans were skipped at {limit.due_per_s:,.0f}"
    else:
        end = "it may carry more, but other programs used the processors" if is_unknown else "more was not tried"
    samples = evidence.observed.samples
    plots = [Plot(title=name, unit=unit, lines=(Line(name="measured", points=tuple(samples.get(name, ()))),),
                  caption="One point for each load, which doubles from one to the next.")
             for name, unit in (("readings per second", "1/s"), ("processor, % of one", "%"))]  # fmt: skip
    words = f"{most:,.0f} values a second without skipped scans; {end}" if found else "nothing was measured"
    return Finding(most >= LEAST_PER_S or is_unknown, words, figures, plots)


def scans_are_accounted_for(evidence: Evidence) -> Finding:
    """Check that due = done + failed + skipped in each measurement, and that the devices counted the same requests."""
    found = measured_in(evidence.folder)
    words = [
        f"{each.due} due at {each.due_per_s:,.0f} values/s: {each.done} done, {each.failed} failed, {each.skipped} "
        f"skipped; {each.requests} requests counted, {each.expected_requests} expected (within {each.slack} scans)"
        for each in found
    ]
    return Finding(bool(found) and all(each.is_accounted for each in found), "; ".join(words) or "nothing was measured")


def syncs_are_known(evidence: Evidence) -> Finding:
    """How long the storage takes to make 4 KiB durable."""
    took = syncs_in(evidence.folder)
    if not took:
        return Finding(False, "the storage was not measured")
    parts = {"half": took[len(took) // 2], "99 %": took[len(took) * 99 // 100], "all": took[-1]}
    figures = [Figure(name=f"sync of 4 KiB, {name} within", value=round(1e3 * value, 3), unit="ms")
               for name, value in parts.items()]  # fmt: skip
    words = ", ".join(f"{name} within {1e3 * value:.2f} ms" for name, value in parts.items())
    return Finding(took[-1] < 1.0, f"{len(took)} syncs of 4 KiB: {words}", figures)


SCENARIO = Scenario(
    title="Capacity of the wired gateway",
    purpose="How many values a second this very gateway reads, seals, stores and sends before it skips a scan, and "
    "what that takes of its processor, memory and storage; whether it gets too hot; and how long its storage takes to "
    "make a record durable.",
    requirements=("P8", "R10"),
    steps=(
        Step("Write and sync 4 KiB in the gateway's folder, 200 times.", probe_syncs),
        Step("Read 1, 2, 4 ... devices of 500 values each 100 ms, each for the given time, until more than one scan in "
             "1,000 is skipped, and not for want of a processor.", load_step_by_step),
    ),
    seconds=10.0,
    criteria=(
        PassCriterion(f"It reads at least {LEAST_PER_S:,} values a second, and skips at most 1 scan in 1,000; or a "
                      "deviation says that other programs used the processors.", capacity_is_known),
        PassCriterion("Each scan that was due was done, failed or counted as skipped, but for those under way at the "
                      "ends of a measurement; the devices counted the same.", scans_are_accounted_for),
        PassCriterion("No sync of the storage takes longer than 1 s.", syncs_are_known),
        PassCriterion("The archive is wholly authentic, its chain is closed, and no record is in it twice.",
                      the_archive_is_wholly_authentic),
    ),
)  # fmt: skip
