"""The demo's screen: the pipeline with its figures, the values with their trends, and what is done to the plant."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

from rich.text import Text

from edge.demo.account import Account, Sides
from edge.health import DeviceStatus, StatusSnapshot, TagStatus
from edge.health.trend import Characters, Hole, Trends, draw
from edge.model import StatusCode, name_of
from edge.terminal import AMBER, BOLD, DIM, RED, shorten, wrap
from edge.units import format_value

_ACCOUNT_LINES = 6
_STAGE_WIDTHS = (14, 22, 15, 17)
"""As wide as figures of some days, so that the stages stay where they are."""
_WIDE = 76
"""From this width on the pipeline is drawn from left to right, below it from top to bottom."""
_TREND_LEAST, _TREND_MOST = 8, 100
_REASONS: dict[int, str] = {StatusCode.BAD_ADDRESS: "no such address"}


@dataclass(slots=True, kw_only=True)
class Scene:
    """All that the screen shows; `historian` is what asks it, empty where there is none."""

    broker: str
    historian: str = ""
    is_ending: bool = False
    elapsed_s: float = 0.0
    is_broker_running: bool = True
    sides: Sides = (None, None)
    trends: Trends = field(default_factory=Trends)
    account: Account = field(default_factory=Account)

    def figures(self) -> str:
        """The figures of all parts as one line."""
        return "; ".join(f"{name} {', '.join(map(str, figures))}" for name, figures in _stages(self))


def clock(elapsed_s: float) -> str:
    """Minutes and seconds since the start."""
    return f"{int(elapsed_s) // 60:02}:{int(elapsed_s) % 60:02}"


def draw_screen(scene: Scene, width: int, height: int, characters: Characters) -> list[Text]:
    """At most `height` lines of at most `width` columns; where there is little room it shows less."""
    lines = [_title(scene, width), Text(), *_pipeline(scene, width, characters), Text()]
    rows = _rows(scene.sides[0])
    room = max(0, height - len(lines) - 1)
    # As many lines for the account however few it has: what is below or above must not move.
    account_lines = max(min(_ACCOUNT_LINES, room // 2), room - len(rows))
    shown = _choose(rows, room - account_lines)
    lines += [*_values(scene, shown, width, characters), *[Text()] * (room - account_lines - len(shown)), Text()]
    account = account_of(scene, width)
    lines += account[max(0, len(account) - account_lines) :]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="crop")
    return lines[:height]


def account_of(scene: Scene, width: int) -> list[Text]:
    """What was done and what came of it, a line each where the width is enough."""
    lines = []
    for entry in scene.account.entries:
        is_going_on = entry.is_fault and entry is scene.account.entries[-1]
        words = wrap(f"{clock(entry.at_s)}  {entry.text}", width, indent=7)
        lines += [Text(line, style=AMBER if is_going_on else "") for line in words]
    return lines


def _title(scene: Scene, width: int) -> Text:
    title = Text().append("tidegate demo", style=BOLD).append(f"  {clock(scene.elapsed_s)}")
    words = "ending; Ctrl-C again ends it at once" if scene.is_ending else "Ctrl-C ends it"
    hint = Text(f"simulated plant, this machine only   {words}", style=DIM)
    if title.cell_len + hint.cell_len + 2 > width:
        hint = Text(words, style=DIM)
    return title.append(" " * max(2, width - title.cell_len - hint.cell_len)).append_text(hint)


def _stages(scene: Scene) -> list[tuple[str, list[Text]]]:
    """Name and figures of each part that a reading goes through."""
    gateway, relay = scene.sides
    return [
        ("PLCs", _plcs(gateway.devices if gateway else ())),
        ("gateway", _gateway(gateway)),
        ("broker", _broker(scene)),
        ("relay", _relay(relay)),
    ]


def _plcs(devices: Sequence[DeviceStatus]) -> list[Text]:
    if not devices:
        return [Text("starting", style=AMBER)]
    up = sum(device.state == "up" for device in devices)
    tags = sum(group.tags for device in devices for group in device.scan_groups)
    bad = sum(tag.quality == "BAD" for device in devices for group in device.scan_groups for tag in group.values)
    return [
        Text(f"{up} of {len(devices)} up", style="" if up == len(devices) else RED),
        Text(f"{tags:,} tags"),
        Text(f"{bad:,} BAD", style=RED if bad else ""),
    ]


def _gateway(gateway: StatusSnapshot | None) -> list[Text]:
    if gateway is None or gateway.chain is None or gateway.buffer is None:
        return [Text("starting", style=AMBER)]
    waiting = gateway.buffer.undelivered_records or 0
    is_held = gateway.uplink is not None and gateway.uplink.state != "up"
    return [
        Text(f"{gateway.chain.readings:,} readings sealed"),
        Text(f"in {gateway.chain.records:,} records"),
        Text(f"{waiting:,} waiting on disk", style=AMBER if is_held and waiting else ""),
    ]


def _broker(scene: Scene) -> list[Text]:
    gateway = scene.sides[0]
    delivered = 0
    if gateway is not None and gateway.chain is not None and gateway.buffer is not None:
        delivered = gateway.chain.records - (gateway.buffer.undelivered_records or 0)
    state = Text("running") if scene.is_broker_running else Text("STOPPED", style=RED)
    return [state, Text(f"{max(0, delivered):,} delivered"), Text(scene.broker, style=DIM)]


def _relay(relay: StatusSnapshot | None) -> list[Text]:
    if relay is None or relay.relay is None:
        return [Text("starting", style=AMBER)]
    verified = sum(issuer.authentic for issuer in relay.relay.issuers)
    missing = sum(issuer.missing for issuer in relay.relay.issuers)
    return [
        Text(f"{verified:,} verified"),
        Text(f"{relay.relay.archived_records:,} archived"),
        Text(f"{missing:,} missing", style=AMBER if missing else ""),
        *(
            Text(f"{sink.name} {sink.records:,}", style="" if sink.state == "up" else AMBER)
            for sink in relay.relay.sinks
        ),
    ]


def _pipeline(scene: Scene, width: int, characters: Characters) -> list[Text]:
    stages = _stages(scene)
    if width < _WIDE:
        return [_on_one_line(name, figures, width) for name, figures in stages]
    sizes = [max(least, *(figure.cell_len for figure in figures))
             for least, (_, figures) in zip(_STAGE_WIDTHS, stages, strict=True)]  # fmt: skip
    space = max(4, min(12, (width - sum(sizes)) // (len(stages) - 1)))
    arrows = [characters.arrow, *[characters.arrow if scene.is_broker_running else characters.cut] * 2, ""]
    lines = []
    for number, cells in enumerate(zip_longest(*([Text(name, style=BOLD), *figures] for name, figures in stages))):
        line = Text()
        for cell, size, arrow in zip(cells, sizes, arrows, strict=True):
            cell = cell or Text()
            line.append_text(cell).append(" " * (size - cell.cell_len))
            line.append((f" {arrow} " if number == 0 else "").center(space), style=DIM)
        line.rstrip()
        lines.append(line)
    return lines + [Text()] * (4 + bool(scene.historian) - len(lines))


def _on_one_line(name: str, figures: Sequence[Text], width: int) -> Text:
    line = Text().append(f"{name:9}", style=BOLD).append_text(figures[0])
    for figure in figures[1:]:  # Figures that would be cut are left out.
        if line.cell_len + figure.cell_len + 2 <= width:
            line.append(", ").append_text(figure)
    return line


Row = tuple[DeviceStatus, TagStatus]


def _rows(gateway: StatusSnapshot | None) -> list[Row]:
    devices = gateway.devices if gateway is not None else ()
    return [(device, tag) for device in devices for group in device.scan_groups for tag in group.values]


def _choose(rows: list[Row], count: int) -> list[Row]:
    """As many rows as there is room for: what has a trend or is BAD first, then the first tags of each device."""
    places: Counter[tuple[str, bool]] = Counter()
    ranks = []
    for number, (device, tag) in enumerate(rows):
        has_no_trend = isinstance(tag.value, bool | str)
        places[device.name, has_no_trend] += 1
        ranks.append((has_no_trend, places[device.name, has_no_trend], number))
    return [rows[number] for number in sorted(number for _, _, number in sorted(ranks)[:count])]


def _values(scene: Scene, rows: Sequence[Row], width: int, characters: Characters) -> list[Text]:
    device_width = max((len(device.name) for device, _ in rows), default=0)
    tag_width = max((len(tag.tag) for _, tag in rows), default=0)
    unit_width = max((len(tag.unit) for _, tag in rows), default=0)
    value_width = 10
    fixed = value_width + unit_width + 5
    device_width = min(device_width, max(0, width - fixed - _TREND_LEAST - 2 - min(tag_width, 16)) // 2 * 2)
    if device_width < 8:  # Shorter than that, names of devices are no longer told apart.
        device_width = 0
    tag_width = min(tag_width, max(6, width - fixed - (device_width + 2 if device_width else 0) - _TREND_LEAST))
    trend_width = min(_TREND_MOST, width - fixed - (device_width + 2 if device_width else 0) - tag_width)
    lines, names = [], list[str]()
    for device, tag in rows:
        line = Text()
        if device_width:
            is_first, is_second = names.count(device.name) == 0, names.count(device.name) == 1
            name = device.name if is_first else "  down" if is_second and device.state != "up" else ""
            line.append(shorten(name, device_width).ljust(device_width + 2), style="" if is_first else RED)
            names.append(device.name)
        line.append(shorten(tag.tag, tag_width).ljust(tag_width + 2))
        value, style = ("BAD", RED) if tag.quality == "BAD" else (_short(tag), "")
        line.append(shorten(value, value_width).rjust(value_width), style=style)
        line.append(f" {tag.unit:{unit_width}}  ", style=DIM)
        cells = scene.trends.last(device.name, tag.tag, max(0, trend_width))
        if tag.quality == "BAD" and not any(isinstance(cell, float) or cell is Hole.GAP for cell in cells):
            line.append(shorten(_REASONS.get(tag.status) or name_of(tag.status), trend_width))
        elif not isinstance(tag.value, str):
            _append_trend(line, draw(cells, characters))
        lines.append(line)
    return lines


def _append_trend(line: Text, trend: str) -> None:
    for character in trend:
        line.append(character, style=RED if character == "x" else DIM)


def _short(tag: TagStatus) -> str:
    value = tag.value
    if not isinstance(value, float) or not 0.001 <= abs(value) < 1e6:
        return format_value(value)
    decimals = 1 if abs(value) >= 100 else 2 if abs(value) >= 10 else 3
    return f"{value:,.{decimals}f}"
