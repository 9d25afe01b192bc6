"""The witness at work beside the gateway, and what it wrote down.

A device that takes one client is read in turns: before the gateway starts and after it was stopped, so that neither
disturbs the other. What the witness cannot see then is unjudged, unless the signal stands still or is known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from edge.driver import DeviceSettings
from edge.errors import ConfigError
from hil.evidence import Evidence
from hil.rig import Rig, WiredDevice
from hil.trial import StepFailed, Trial
from hil.witness import Reader, Seen, reader_of

WITNESS = "witness"
"""The folder of its logs in the evidence, with a file for each device."""
EVERY_S = 0.05


def watched(rig: Rig, *, in_turns: bool) -> list[tuple[WiredDevice, DeviceSettings]]:
    """The devices that the witness reads: beside the gateway, or in turns with it."""
    return [
        (wired, settings)
        for wired, settings in zip(rig.wired.devices, rig.checked, strict=True)
        if wired.witness is not None and wired.witness.turns is in_turns and watched_tags(wired, settings)
    ]


def watched_tags(wired: WiredDevice, settings: DeviceSettings) -> list[str]:
    """The tags that the witness reads: not those that count answers, which it would take from the gateway."""
    counters = {name for name, signal in wired.signals.items() if signal.wave == "counter"}
    return [tag.name for group in settings.scan_groups for tag in group.tags if tag.name not in counters]


@asynccontextmanager
async def watching(trial: Trial) -> AsyncIterator[None]:
    """The witness reads beside the gateway while the block is open. Raises StepFailed where it cannot."""
    async with _readers(trial, in_turns=False) as readers:
        is_over = asyncio.Event()
        tasks = [asyncio.create_task(_read_on(reader, log, is_over)) for reader, log in readers]
        try:
            yield
        finally:
            is_over.set()
            ends = await asyncio.gather(*tasks, return_exceptions=True)
        if errors := [end for end in ends if end is not None]:
            raise StepFailed(f"the witness stopped: {errors[0]}")


async def take_turn(trial: Trial) -> None:
    """The witness reads the devices that take one client, once; the gateway does not run. Raises StepFailed."""
    async with _readers(trial, in_turns=True) as readers:
        for reader, log in readers:
            _write(log, await reader.read())


def seen_by_witness(evidence: Evidence) -> dict[str, list[Seen]]:
    """Everything that the witness read, by `device/tag`."""
    found: dict[str, list[Seen]] = {}
    for name in evidence.rig.devices:
        log = evidence.folder / WITNESS / f"{name}.jsonl"
        for line in log.read_text("utf-8").splitlines() if log.exists() else ():
            seen = Seen(*json.loads(line))
            found.setdefault(f"{name}/{seen.tag}", []).append(seen)
    return found


@asynccontextmanager
async def _readers(trial: Trial, *, in_turns: bool) -> AsyncIterator[list[tuple[Reader, Path]]]:
    folder = trial.bench.folder / WITNESS
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        readers = []
        for wired, settings in watched(trial.bench.rig, in_turns=in_turns):
            assert wired.witness is not None
            try:
                reader = reader_of(settings, wired.witness.library, watched_tags(wired, settings))
                readers.append((await stack.enter_async_context(reader), folder / f"{wired.name}.jsonl"))
            except ConfigError as error:
                raise StepFailed(str(error)) from None
        yield readers
        trial.observed.witnesses |= {log.stem: reader.library for reader, log in readers}


async def _read_on(reader: Reader, log: Path, is_over: asyncio.Event) -> None:
    # Asked to end, not cancelled: the wait_for of Python 3.11, which the libraries use, can swallow a cancellation.
    while not is_over.is_set():
        _write(log, await reader.read())
        await asyncio.sleep(EVERY_S)


def _write(log: Path, rows: Iterable[Seen]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
