"""Where the demonstration is seen: a picture on a terminal, a line now and then anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule

from edge.health import Snapshot
from edge.health.render import render
from edge.units import format_value

SAY_EVERY_S = 5.0
_SAID_SHOWN = 6


class Display:
    """Shows both sides of the broker, and what happens between them."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console, self._live = console, live
        self._said: list[str] = []
        self._line_at_s = 0.0

    def say(self, text: str) -> None:
        """Something that happened."""
        self._said = [*self._said, text][-_SAID_SHOWN:]
        if self._live is None:
            self._console.print(f"-- {text}")

    def show(self, gateway: Snapshot | None, relay: Snapshot | None) -> None:
        """The state of both sides now."""
        if self._live is not None:
            views = [render(side) for side in (gateway, relay) if side is not None]
            self._live.update(Group(*views, Rule(style="dim"), *self._said), refresh=True)
        elif gateway is not None and time.monotonic() - self._line_at_s >= SAY_EVERY_S:
            self._line_at_s = time.monotonic()
            self._console.print(_line(gateway, relay), soft_wrap=True)

    def close(self) -> None:
        """Leave the last picture standing."""
        if self._live is not None:
            self._live.stop()


@contextmanager
def display_here() -> Iterator[Display]:
    """A display on the standard output."""
    console = Console(highlight=False, markup=False)
    live = Live(console=console, auto_refresh=False, vertical_overflow="visible") if console.is_terminal else None
    if live is not None:
        live.start()
    display = Display(console, live)
    try:
        yield display
    finally:
        display.close()


def _line(gateway: Snapshot, relay: Snapshot | None) -> str:
    parts = []
    if chain := gateway.chain:
        parts.append(f"{chain.readings:,} readings in {chain.records} records")
    if buffer := gateway.buffer:
        parts.append(f"{buffer.undelivered_records} waiting")
    if uplink := gateway.uplink:
        again = f", {uplink.resent} of them sent again" if uplink.resent else ""
        parts.append(f"uplink {uplink.state}, {uplink.acknowledged} acknowledged{again}")
    if clock := gateway.clock:
        parts.append(f"clock {clock.state.lower()}")
    parts += [f"{device.name} {device.state}" for device in gateway.devices if device.state != "up"]
    if relay is not None and relay.relay is not None:
        parts.append(f"{relay.relay.archived_records} archived")
    return "; ".join(parts) + "\n   " + _values(gateway)


def _values(gateway: Snapshot) -> str:
    tags = [tag for device in gateway.devices for group in device.groups for tag in group.tags_now]
    return ", ".join(f"{tag.tag} {format_value(tag.value)} {tag.unit}".rstrip() for tag in tags)
