"""The witness at work beside the gateway, and what it wrote down.

A device that takes one client is read in turns: before the gateway starts and after it was stopped, so that neither
disturbs the other. What the witness cannot see then is unjudged, unless the signal stands still or is known.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from edge.driver import DeviceSettings
from edge.errors import ConfigError
from hil.evidence import Evidence
from hil.rig import Rig, WiredDevice
from hil.trial import StepFailed, Trial
from hil.witness import Reader, Seen, reader_of

WITNESS = "witness"
"""The folder of its logs in the evidence, with a file for each device."""
EVERY_S, _HANGS_S = 0.05, 30.0
T = TypeVar("T")


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
        tasks = [asyncio.create_task(_read_on(*each, is_over)) for each in readers]
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
        for reader, log, limit_s in readers:
            _write(log, await _within(limit_s, reader.read(), log.stem))


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
async def _readers(trial: Trial, *, in_turns: bool) -> AsyncIterator[list[tuple[Reader, Path, float]]]:
    """Each reader with its log, and the time in which all its tags are read, or it hangs."""
    folder = trial.bench.folder / WITNESS
    folder.mkdir(exist_ok=True)
    async with AsyncExitStack() as stack:
        readers = []
        for wired, settings in watched(trial.bench.rig, in_turns=in_turns):
            assert wired.witness is not None
            tags, device = watched_tags(wired, settings), cast("Any", settings)
            limit_s = _HANGS_S + 2 * len(tags) * device.limits.timeout / 1e9
            try:
                reader = reader_of(settings, wired.witness.library, tags)
                opened = await _within(limit_s, reader.__aenter__(), wired.name)
                stack.push_async_exit(partial(_end, reader, limit_s, wired.name))
                readers.append((opened, folder / f"{wired.name}.jsonl", limit_s))
            except ConfigError as error:
                raise StepFailed(str(error)) from None
        yield readers
        trial.observed.witnesses |= {log.stem: reader.library for reader, log, _ in readers}


async def _end(reader: AbstractAsyncContextManager[Reader], limit_s: float, name: str, *error: Any) -> None:
    await _within(limit_s, reader.__aexit__(*error), name)


async def _within(limit_s: float, act: Awaitable[T], name: str) -> T:
    """What a library gives. Raises StepFailed where it hangs; it may swallow its cancellation, and is left alone."""
    task = asyncio.ensure_future(act)
    try:
        await asyncio.wait({task}, timeout=limit_s)
    finally:
        if not task.done():
            task.cancel()
    if not task.done():
        raise StepFailed(f"the witness of {name} hangs: its library gave no answer within {limit_s:g} s")
    return task.result()


async def _read_on(reader: Reader, log: Path, limit_s: float, is_over: asyncio.Event) -> None:
    # Asked to end, not cancelled: the wait_for of Python 3.11, which the libraries use, can swallow a cancellation.
    while not is_over.is_set():
        _write(log, await _within(limit_s, reader.read(), log.stem))
        await asyncio.sleep(EVERY_S)


def _write(log: Path, rows: Iterable[Seen]) -> None:
    with log.open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
