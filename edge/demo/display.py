"""Output of the demo: a live picture on a terminal, lines anywhere else."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, Group
from rich.live import Live
from rich.rule import Rule

from edge.health import StatusSnapshot
from edge.health.render import render
from edge.units import format_value

LINE_INTERVAL_S = 5.0
_MESSAGES_SHOWN = 6


class Display:
    """Shows the status of gateway and relay, and messages about the disturbances."""

    def __init__(self, console: Console, live: Live | None) -> None:
        self._console, self._live = console, live
        self._messages: list[str] = []
        self._line_at_s = 0.0

    def say(self, text: str) -> None:
        """Show a message."""
        self._messages = [*self._messages, text][-_MESSAGES_SHOWN:]
        if self._live is None:
            self._console.print(f"-- {text}")

    def show(self, gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> None:
        """Show the status of both sides."""
        if self._live is not None:
            views = [render(side) for side in (gateway, relay) if side is not None]
            self._live.update(Group(*views, Rule(style="dim"), *self._messages), refresh=True)
        elif gateway is not None and time.monotonic() - self._line_at_s >= LINE_INTERVAL_S:
            self._line_at_s = time.monotonic()
            self._console.print(_line(gateway, relay), soft_wrap=True)

    def close(self) -> None:
        """Stop updating; the last picture stays."""
        if self._live is not None:
            self._live.stop()


@contextmanager
def display_here() -> Iterator[Display]:
    """A display on standard output."""
    console = Console(highlight=False, markup=False)
    live = Live(console=console, auto_refresh=False, vertical_overflow="visible") if console.is_terminal else None
    if live is not None:
        live.start()
    display = Display(console, live)
    try:
        yield display
    finally:
        display.close()


def _line(gateway: StatusSnapshot, relay: StatusSnapshot | None) -> str:
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


def _values(gateway: StatusSnapshot) -> str:
    tags = [tag for device in gateway.devices for group in device.scan_groups for tag in group.values]
    return ", ".join(f"{tag.tag} {format_value(tag.value)} {tag.unit}".rstrip() for tag in tags)
