"""Plays a scenario on a rig: the steps that all scenarios share, their evidence, and the verdict."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import orjson
from pydantic import TypeAdapter

from edge.clock import boot_id
from edge.errors import TidegateError
from edge.health import StatusSnapshot
from hil.bench import Bench
from hil.document import ArchiveSeen, ClockSeen, Criterion, Figure, ScenarioResult, StepTaken
from hil.evidence import ADMIT, ARCHIVE, OBSERVED, RIG, TRUST, Evidence, Observed, gather
from hil.rig import Rig
from hil.scenario import Scenario, Step
from hil.set_up import set_up
from hil.trial import STEP_TIMEOUT_S, StepFailed, Trial, archived_records

_FIRST_RECORDS = 20

Progress = Callable[[int, int, str], None]
"""Called before each step with its number, how many there are, and its text."""


def result_file(folder: Path) -> Path:
    """Where the result of a scenario is kept, in its folder: a scenario with a result is not played again."""
    return folder / "result.json"


def played_before(folder: Path) -> ScenarioResult | None:
    """The result that is kept in the folder of a scenario; None where it was not played to its end."""
    file = result_file(folder)
    return TypeAdapter(ScenarioResult).validate_json(file.read_bytes()) if file.exists() else None


def _make(folder: Path, rig: Rig) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / RIG).write_bytes(rig.file.read_bytes())


async def play(
    name: str, scenario: Scenario, rig: Rig, folder: Path, seconds: float, on_step: Progress = lambda *_: None
) -> ScenarioResult:
    """Play a scenario; its evidence is in the folder, and the rig is as it was, on return and on every error."""
    _make(folder, rig)
    started_ns = time.time_ns()
    steps: list[StepTaken] = []
    trial, clock = None, None
    try:
        async with set_up(rig, folder) as bench:
            trial = Trial(bench, seconds, Observed(boot_id=boot_id().hex()))
            async with _sampling(trial):
                clock = await _played(scenario, trial, steps, on_step)
            (folder / "gateway.yaml").write_bytes(orjson.dumps(bench.gateway.configuration, option=orjson.OPT_INDENT_2))
    except TidegateError as error:
        steps.append(StepTaken(text="Set up and take down the rig.", started_ns=started_ns, ended_ns=time.time_ns(),
                               trouble=str(error)))  # fmt: skip
    if trial is None:
        return ScenarioResult(
            name=name, title=scenario.title, purpose=scenario.purpose, requirements=tuple(scenario.requirements),
            started_ns=started_ns, ended_ns=time.time_ns(), steps=tuple(steps), folder=name,
        )  # fmt: skip
    trial.observed.troubles += [step.trouble for step in steps if step.trouble]
    (folder / OBSERVED).write_bytes(trial.observed.to_json())
    evidence = await asyncio.to_thread(gather, folder)
    return result(name, scenario, evidence, steps, started_ns, clock)


async def _played(scenario: Scenario, trial: Trial, steps: list[StepTaken], on_step: Progress) -> ClockSeen | None:
    """Play all steps; after one that fails, only what restores the rig and secures the evidence."""
    first = [Step("Start relay and gateway; wait until every device is read and its values are archived.", _begin)]
    last = [Step("Turn on every switch; wait until all records are delivered and archived.", _restore),
            Step("Let the devices fall silent; then stop the gateway, then the relay.", _finish)]  # fmt: skip
    everything = [*first, *scenario.steps, *last]
    if scenario.prepare is not None:
        await scenario.prepare(trial)
    clock = None
    for number, step in enumerate(everything, 1):
        if step not in last and any(each.trouble for each in steps):
            continue
        on_step(number, len(everything), step.text)
        started_ns, trouble = time.time_ns(), ""
        try:
            await step.act(trial)
        except TidegateError as error:
            trouble = str(error)
        steps.append(StepTaken(text=step.text, started_ns=started_ns, ended_ns=time.time_ns(), trouble=trouble))
        if step in first:
            clock = await _clock(trial.bench)
            await trial.note_devices()
    return clock


async def _begin(trial: Trial) -> None:
    bench = trial.bench
    await bench.relay.start()
    await bench.gateway.start()

    def is_at_work(gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> bool:
        if bench.gateway.has_ended:
            raise StepFailed(f"the gateway ended by itself; see {bench.gateway.log}")
        is_read = gateway is not None and all(
            group.scans > 1 for device in gateway.devices for group in device.scan_groups
        )  # fmt: skip
        return is_read and archived_records(relay) >= _FIRST_RECORDS

    await trial.wait_until("every device was read and values were archived", is_at_work)


async def _restore(trial: Trial) -> None:
    bench = trial.bench
    if troubles := await bench.restore():
        raise StepFailed("; ".join(troubles))
    for part in (bench.relay, bench.gateway):
        if part.has_ended:
            await part.start()
    await trial.wait_until("all records were delivered", lambda gateway, _: gateway is not None and is_drained(gateway))


async def _finish(trial: Trial) -> None:
    """Each answer that a device gave is then on record, or in a gap: no answer is on its way when the gateway stops."""
    bench = trial.bench
    silent = set()
    for device in bench.devices.values():
        if (switch := device.network or device.power) is not None:
            await switch.off()
            silent.add(device.name)
    await trial.wait_until(
        "the gateway saw that the devices are silent",
        lambda gateway, _: (
            gateway is not None and not any(device.state == "up" for device in gateway.devices if device.name in silent)
        ),
    )
    await trial.wait_until("all records were delivered", lambda gateway, _: gateway is not None and is_drained(gateway))
    await bench.gateway.stop()
    trial.observed.stopped_boot_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    try:
        async with asyncio.timeout(STEP_TIMEOUT_S):
            while not await _has_stopped(bench):  # noqa: ASYNC110 - a relay has no event for it
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise StepFailed(f"waited {STEP_TIMEOUT_S:g} s in vain until the archive had the last record") from None
    await bench.relay.stop()


async def _has_stopped(bench: Bench) -> bool:
    """Whether the archive has the gateway's last record."""
    relay = await bench.relay.status()
    return relay is not None and relay.relay is not None and not relay.relay.not_durable and all(
        issuer.state == "stopped" and not issuer.missing for issuer in relay.relay.issuers
    )  # fmt: skip


def is_drained(gateway: StatusSnapshot) -> bool:
    """Whether the broker has every record but those on their way now."""
    buffer, uplink = gateway.buffer, gateway.uplink
    if buffer is None or uplink is None or uplink.state != "up":
        return False
    return not uplink.to_resend and (buffer.undelivered_records or 0) <= uplink.in_flight + 1


async def _clock(bench: Bench) -> ClockSeen | None:
    gateway = await bench.gateway.status()
    if gateway is None or gateway.clock is None:
        return None
    clock = gateway.clock
    return ClockSeen(at_ns=clock.utc_ns, source=clock.source, state=clock.state, bound_ns=clock.bound_ns)


@asynccontextmanager
async def _sampling(trial: Trial) -> AsyncIterator[None]:
    task = asyncio.create_task(trial.sample_on())
    try:
        yield
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


def result(
    name: str, scenario: Scenario, evidence: Evidence, steps: list[StepTaken], started_ns: int, clock: ClockSeen | None
) -> ScenarioResult:
    """Judge the evidence."""
    findings = [(criterion, criterion.judge(evidence)) for criterion in scenario.criteria]
    observed, head = evidence.observed, evidence.head
    figures = [Figure(name=name, value=value) for name, value in observed.figures.items()]
    archive = ArchiveSeen(
        folder=f"{name}/{ARCHIVE}", trust=f"{name}/{TRUST}",
        admit=ADMIT if evidence.is_admitted and not evidence.is_fine else "", identity=evidence.identity,
        records=sum(sum(epoch["verdicts"].values()) for epoch in evidence.verdict["epochs"]),
        last_seq=head.seq if head else -1, head_sha256=head.hash.hex() if head else "",
    )  # fmt: skip
    starts = [event for event in evidence.events if event.kind == "start"]
    return ScenarioResult(
        name=name, title=scenario.title, purpose=scenario.purpose, requirements=tuple(scenario.requirements),
        started_ns=started_ns, ended_ns=time.time_ns(), steps=tuple(steps),
        criteria=tuple(Criterion(text=criterion.text, holds=found.holds, found=found.found)
                       for criterion, found in findings),
        figures=(*figures, *(figure for _, found in findings for figure in found.figures)),
        plots=tuple(plot for _, found in findings for plot in found.plots),
        deviations=tuple(observed.deviations), clock=clock, archives=(archive,), folder=name,
        configuration_sha256=str(starts[0].data.get("configuration", "")) if starts else "",
        times=evidence.alignment.words,
        gateway_version=str(starts[0].data.get("version", "")) if starts else "",
        witnesses=tuple(sorted(set(observed.witnesses.values()))),
    )  # fmt: skip
