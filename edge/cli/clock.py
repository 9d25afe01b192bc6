"""`tidegate clock`: what disciplines the clock, how far it may be off, since when, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from edge.cli.output import ExistingPath, print_json
from edge.errors import ConfigError
from edge.health import ClockStatus, DeviceStatus

if TYPE_CHECKING:
    from rich.text import Text

_LABEL = len("reason   ")
_DEVICES_SHOWN = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceClock:
    """How far the clock of a device is ahead of the gateway's (negative: behind), and in words."""

    name: str
    off_ns: int
    unsure_ns: int
    limit_ns: int | None
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAnswer:
    """What `tidegate clock` found.

    Attributes:
        name: of the gateway or relay.
        asked: gateway where the running one answered; sources where they were asked directly, and `silence` says why.
        require: what the configuration requires of the clock.
        remedy: what to do; empty where nothing has to be done.
        devices: those that say their own time, the furthest off first; only where the gateway answered.
    """

    name: str
    asked: Literal["gateway", "sources"]
    silence: str
    require: str
    clock: ClockStatus
    remedy: str
    devices: tuple[DeviceClock, ...] = ()


ANSWER = ClockAnswer


@click.command(
    epilog="""\b
Examples:
  tidegate clock configs/line-4.yaml
  sudo tidegate clock
  tidegate clock configs/line-4.yaml --json | jq .clock.bound_ns

Exit code 0: the clock is as good as the configuration requires. 1: it is not."""
)
@click.argument("config", required=False, type=ExistingPath(path_type=Path, readable=False))
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def command(config: Path | None, *, as_json: bool) -> None:
    """Show what keeps the clock of this machine, how far it may be off, since when, and what to do.

    CONFIG is the configuration of a gateway or relay; by default the one in /etc/tidegate. The running gateway is
    asked; where none answers, the sources of the configuration are.
    """
    answer = ask(config)
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    if answer.clock.unmet:
        raise SystemExit(1)


def ask(config: Path | None) -> ClockAnswer:
    """The clock as the running gateway knows it, or as its sources describe it; raises ConfigError."""
    from edge.cli.doctor import patient_of
    from edge.clock import Require, SystemClock
    from edge.config.clock_sources import clock_sources, smear_ns
    from edge.config.settings import GatewaySettings
    from edge.health.clock import ask_clock

    patient = patient_of(config)
    settings, status = patient.settings, patient.status
    if settings is None:
        raise ConfigError(patient.checked.problems)
    require = Require(settings.clock.require) if isinstance(settings, GatewaySettings) else Require.ANY
    clock, silence = status.clock if status else None, patient.silence
    if status is not None and clock is None:
        silence = f"the {patient.checked.kind} stamps no readings"
    asked: Literal["gateway", "sources"] = "gateway"
    if clock is None:
        asked, own = "sources", SystemClock()
        clock = asyncio.run(ask_clock(clock_sources(settings, own), own, require, smear_ns(settings)))
    return ClockAnswer(name=patient.checked.name, asked=asked, silence=silence if asked == "sources" else "",
                       require=require.value, clock=clock, remedy=clock.remedy,
                       devices=device_clocks(status.devices) if status and asked == "gateway" else ())  # fmt: skip


def device_clocks(devices: Sequence[DeviceStatus]) -> tuple[DeviceClock, ...]:
    """The clocks of the devices that say their time, the furthest off first."""
    found = [
        DeviceClock(name=each.name, off_ns=each.clock_off_ns, unsure_ns=each.clock_unsure_ns or 0,
                    limit_ns=each.clock_limit_ns, words=each.clock_words)
        for each in devices if each.clock_off_ns is not None
    ]  # fmt: skip
    return tuple(sorted(found, key=lambda each: -abs(each.off_ns)))


def _print(answer: ClockAnswer) -> None:
    from rich.text import Text

    from edge.cli.status import make_console

    screen = make_console()
    screen.print(Text("\n").join(lines(answer, screen.width)), soft_wrap=True)


def lines(answer: ClockAnswer, width: int) -> list[Text]:
    """The screen: the state with its bound, the facts below it, and what to do."""
    from rich.text import Text

    from edge.terminal import AMBER, BOLD, DIM, printable, wrap

    clock = answer.clock
    is_good = not clock.unmet and not answer.remedy
    head = wrap(f"{printable(answer.name)}   {clock.words}", width, 2)
    made = [Text(line, style=BOLD if is_good else f"{BOLD} {AMBER}", no_wrap=True) for line in head]
    for label, text in _facts(answer):
        for number, line in enumerate(wrap(f"{label:<{_LABEL - 1}} {printable(text)}", width, _LABEL)):
            made.append(Text(line, no_wrap=True))
            if number == 0:
                made[-1].stylize(DIM, 0, len(label))
    if answer.remedy:
        for number, line in enumerate(wrap(printable(answer.remedy), max(width - 3, 10))):
            made.append(Text((" > " if number == 0 else "   ") + line, no_wrap=True))
    return made


def _facts(answer: ClockAnswer) -> Iterator[tuple[str, str]]:
    from edge.health.render import steps_text
    from edge.terminal import age
    from edge.units import counted, format_utc

    clock = answer.clock
    yield "time", format_utc(clock.utc_ns, decimals=3)
    kind = "clockClass" if clock.source.lower() == "ptp4l" else "stratum"
    parts = [clock.source.lower() if clock.source.lower() != "none" else "nothing that answers"]
    parts += [f"follows {clock.reference}"] if clock.reference else []
    parts += [f"{kind} {clock.stratum}"] if clock.stratum else []
    parts += [f"measured {age(clock.measured_age_ns)} ago"] if clock.measured_age_ns is not None else []
    yield "source", ", ".join(parts)
    if clock.reason:
        yield "reason", clock.reason
    if clock.state_age_ns is not None:
        yield "since", f"{format_utc(clock.utc_ns - clock.state_age_ns)}, for {age(clock.state_age_ns)}"
    if clock.leap:
        yield "leap", f"a leap second is announced: {clock.leap}"
    if clock.is_smeared:
        yield "leap", "one may be smeared now: half a second of the bound is for that"
    if answer.asked == "gateway":
        yield "steps", steps_text(clock)
    good = "" if not clock.unmet else ": not met, every value is UNCERTAIN"
    yield "require", f"{answer.require}{good}"
    shown, more = answer.devices[:_DEVICES_SHOWN], answer.devices[_DEVICES_SHOWN:]
    for number, each in enumerate(shown):
        yield "" if number else "devices", f"{each.name} {each.words}"
    if more:
        yield "", f"and {counted(len(more), 'device')} less than that"
    yield "asked", "the running gateway" if answer.asked == "gateway" else f"its sources directly: {answer.silence}"
