"""The state of the clock, from a timekeeper that runs, or from the sources themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

from edge.clock import Clock, ClockSource, Require, Timekeeper, TimeQuality, TimeSource, TimeState
from edge.health.snapshot import ClockStatus

_LEAPS: dict[int, Literal["insert", "delete"]] = {1: "insert", 2: "delete"}


def clock_status(keeper: Timekeeper, now_ns: int, require: Require, steps: int = 0) -> ClockStatus:
    """The clock as a timekeeper knows it, at a boot time."""
    quality, detail = keeper.quality, keeper.detail
    is_trusted = quality.state is TimeState.SYNCHRONIZED
    return ClockStatus(
        utc_ns=now_ns + quality.offset_ns,
        boot_ns=now_ns,
        boot_id=quality.boot_id.hex(),
        source=quality.source.name.lower(),
        state=quality.state.name,
        bound_ns=quality.bound_at(now_ns),
        steps=steps,
        unmet="" if keeper.is_met(require) else require.value,
        state_age_ns=max(0, now_ns - keeper.since_ns),
        reference=reference_text(quality),
        stratum=quality.stratum,
        measured_age_ns=_known(detail.get("age_ns")),
        leap=_LEAPS.get(quality.leap, ""),
        is_smeared=keeper.is_smeared and quality.bound_ns is not None,
        reason="" if is_trusted else str(detail.get("reason", "")),
    )


async def ask_clock(sources: Sequence[ClockSource], clock: Clock, require: Require, smear_ns: int = 0) -> ClockStatus:
    """The clock as its sources describe it when they are asked once, without a running gateway."""
    keeper = Timekeeper(clock, sources, b"", on_step=_ignore, on_event=_ignore, smear_ns=smear_ns)
    await keeper.poll()
    status = clock_status(keeper, clock.boot_ns(), require)
    return replace(status, state_age_ns=None)


def _ignore(*_: object) -> None:
    """Nothing is put on record."""


def reference_text(quality: TimeQuality) -> str:
    """The server or grandmaster: an IPv4 address, the name of a reference clock such as GPS, or an identity."""
    reference = quality.reference
    if quality.source is TimeSource.PTP4L:
        text = reference.hex()
        return f"{text[:6]}.{text[6:10]}.{text[10:]}" if text else ""  # As ptp4l writes it.
    if not any(reference):
        return ""
    name = reference.rstrip(b"\0")
    if name.isalnum() and name.isascii():
        return name.decode("ascii")
    return ".".join(map(str, reference))


def _known(value: int | str | None) -> int | None:
    return value if isinstance(value, int) else None
