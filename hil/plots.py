"""The plots of a report as SVG: what was measured, beside the truth or the limit, with the disturbance marked."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import chain

from edge.report.html import text
from edge.report.plots import RIGHT, WIDTH, Scale
from edge.report.times import Times
from hil.document import Line, Plot

STYLE = """\
.line { fill: none; stroke: var(--accent); stroke-width: 1.5; } .line.second { stroke: var(--amber); }
.line.third { stroke: var(--ink); stroke-width: 1; }
.line.truth { stroke: var(--ink); stroke-dasharray: 5 4; stroke-width: 1; }
.line.limit { stroke: var(--red); stroke-dasharray: 2 3; }
.dot { fill: var(--accent); } .span { fill: var(--read); opacity: 0.4; }
"""

_LEFT, _HEIGHT, _TOP, _AXIS = 80, 150, 10, 28
_BOTTOM = _HEIGHT - _AXIS
_STEPS = 4
_MEASURED = ("", " second", " third")


def plot_svg(plot: Plot, times: Times) -> str:
    """One plot, with its title and legend; a sentence where there is nothing to draw."""
    known = [value for line in plot.lines for _, value in line.points if value is not None]
    moments = [at_ns for line in plot.lines if line.kind != "limit" for at_ns, _ in line.points]
    if not known or not moments:
        return f"<p class='soft'>{text(plot.title)}: nothing was measured.</p>"
    scale = Scale(min(moments), max(moments), _LEFT)
    low, step, high = _range(min(known), max(known))
    parts = [f'<figure><svg class="plot" viewBox="0 0 {WIDTH} {_HEIGHT}" role="img" aria-label="{text(plot.title)}">']
    for span in plot.spans:
        x = scale.x(span.from_ns)
        width = max(2.0, scale.x(span.to_ns) - x)
        parts.append(f'<rect class="span" x="{x:.1f}" y="{_TOP}" width="{width:.1f}" height="{_BOTTOM - _TOP}">'
                     f"<title>{text(span.text)}</title></rect>")  # fmt: skip

    def y(value: float) -> float:
        return _BOTTOM - (value - low) / (high - low) * (_BOTTOM - _TOP)

    for number in range(round((high - low) / step) + 1):
        value = low + number * step
        parts.append(f'<line class="grid" x1="{_LEFT}" x2="{WIDTH - RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>'
                     f'<text x="{_LEFT - 8}" y="{y(value) + 4:.1f}" text-anchor="end">'
                     f"{_number(value, step)} {text(plot.unit)}</text>")  # fmt: skip
    for line, style in _styled(plot.lines):
        for run in _runs(line):
            if isinstance(run, tuple):
                first, last = map(scale.x, run)
                parts.append(f'<rect class="declared" x="{first:.1f}" y="{_TOP}" height="{_BOTTOM - _TOP}" '
                             f'width="{max(1.0, last - first):.1f}"><title>no value</title></rect>')  # fmt: skip
            else:
                drawn = " ".join(f"{scale.x(at_ns):.1f},{y(value):.1f}" for at_ns, value in run)
                parts.append(f'<polyline class="line{style}" points="{drawn}"/>')
                if len(run) == 1:
                    at_ns, value = run[0]
                    parts.append(f'<circle class="dot" cx="{scale.x(at_ns):.1f}" cy="{y(value):.1f}" r="2"/>')
    legend = "".join(chain(*(_legend(plot))))
    return "".join([*parts, *scale.axis(_BOTTOM, times), "</svg><figcaption>", text(plot.caption),
                    f'<div class="legend">{legend}</div></figcaption></figure>'])  # fmt: skip


def _styled(lines: Sequence[Line]) -> Iterator[tuple[Line, str]]:
    measured = 0
    for line in lines:
        yield line, f" {line.kind}" if line.kind != "measured" else _MEASURED[measured % len(_MEASURED)]
        measured += line.kind == "measured"


def _legend(plot: Plot) -> Iterator[Iterator[str]]:
    yield (
        f'<span><svg viewBox="0 0 24 12"><path class="line{style}" d="M0 6H24"/></svg>{text(line.name)}</span>'
        for line, style in _styled(plot.lines)
    )
    swatch = '<svg viewBox="0 0 24 12"><rect class="{}" width="24" height="12"/></svg>'
    yield (f"<span>{swatch.format('span')}{text(words)}</span>" for words in dict.fromkeys(s.text for s in plot.spans))
    if any(value is None for line in plot.lines for _, value in line.points):
        yield iter((f"<span>{swatch.format('declared')}no value</span>",))


def _runs(line: Line) -> Iterator[list[tuple[int, float]] | tuple[int, int]]:
    """Stretches with a value as their points, and those without one as first and last time."""
    run: list[tuple[int, float]] = []
    hole: int | None = None
    for at_ns, value in line.points:
        if value is None:
            hole = (run[-1][0] if run else at_ns) if hole is None else hole
            if run:
                yield run
                run = []
        else:
            if hole is not None:
                yield hole, at_ns
                hole = None
            run.append((at_ns, value))
    if hole is not None:
        yield hole, line.points[-1][0]
    if run:
        yield run


def _range(low: float, high: float) -> tuple[float, float, float]:
    """Lower edge, step and upper edge of a scale with few round steps; it begins at 0 where that costs little."""
    if 0 < low <= high / 2:
        low = 0.0
    width = (high - low) or abs(high) or 1.0
    power = 10.0 ** math.floor(math.log10(width / _STEPS))
    step = next(each * power for each in (1, 2, 5, 10, 20) if width / (each * power) <= _STEPS)
    first, last = math.floor(low / step) * step, math.ceil(high / step) * step
    return first, step, last if last > first else first + step


def _number(value: float, step: float) -> str:
    return f"{value:,.{max(0, -math.floor(math.log10(step) + 1e-9))}f}"
