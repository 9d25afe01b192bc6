"""The plots of a report as SVG: when each device was read, and how far the clock might be off."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from html import escape

from edge.intervals import Interval, IntervalSet
from edge.report.facts import ClockAnswer, DeviceAnswer
from edge.report.times import Times
from edge.terminal import printable, shorten
from edge.units import format_duration

WIDTH, LEFT, RIGHT = 800, 170, 10
_LANE, _BAR, _AXIS, _HEIGHT = 24, 14, 28, 120
_FINE = 4  # Steps of a pixel: stretches that are closer are drawn as one.
_NAME_CHARACTERS = 21
_TICKS = 7
_S = 10**9
_STEPS_NS = [step * _S for step in (
    1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 2 * 86400, 7 * 86400,
    14 * 86400, 30 * 86400, 91 * 86400, 365 * 86400,
)]  # fmt: skip
_SILENT_NS = 30 * _S  # A gateway seals a record every 10 s.

KINDS = {
    "declared": "not read, as the gateway declared", "undeclared": "not read, and nothing on record says why",
    "missing": "records are missing",
}  # fmt: skip

PATTERNS = """\
<svg width="0" height="0" aria-hidden="true" style="position:absolute"><defs>
<pattern id="declared" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">\
<rect width="6" height="6" class="paper"/><rect width="2" height="6" class="amber"/></pattern>
<pattern id="undeclared" width="6" height="6" patternUnits="userSpaceOnUse">\
<rect width="6" height="6" class="paper"/><path d="M0 0L6 6M6 0L0 6" class="cross"/></pattern>
</defs></svg>
"""


class Scale:
    """Times as places in the plot."""

    def __init__(self, from_ns: int, to_ns: int, left: int = LEFT) -> None:
        self.from_ns, self.to_ns, self._left = from_ns, max(to_ns, from_ns + 1), left

    def x(self, at_ns: int) -> float:
        """The place of a time; those outside the range are at its ends."""
        share = (min(max(at_ns, self.from_ns), self.to_ns) - self.from_ns) / (self.to_ns - self.from_ns)
        return self._left + share * (WIDTH - self._left - RIGHT)

    def axis(self, y: float, times: Times) -> Iterator[str]:
        """The lower edge with its ticks."""
        length_ns = self.to_ns - self.from_ns
        step_ns = next((step for step in _STEPS_NS if length_ns / step <= _TICKS), length_ns)
        yield f'<line class="axis" x1="{self._left}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/>'
        for at_ns in range(-(-self.from_ns // step_ns) * step_ns, self.to_ns + 1, step_ns):
            x = self.x(at_ns)
            anchor = "end" if x > WIDTH - 40 else "middle"
            yield f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + 4}"/>'
            yield f'<text x="{x:.1f}" y="{y + 17}" text-anchor="{anchor}">{times.tick(at_ns, step_ns)}</text>'


def coverage_plot(devices: Sequence[DeviceAnswer], from_ns: int, to_ns: int, times: Times) -> str:
    """A lane for each device: grey where it was read, and each kind of stretch where it was not."""
    scale = Scale(from_ns, to_ns)
    height = _LANE * len(devices) + _AXIS
    parts = [_start("coverage", height, "When each device was read")]
    for number, device in enumerate(devices):
        y = number * _LANE + (_LANE - _BAR) // 2
        name = printable(device.device)
        parts += (
            f'<g class="lane"><title>{escape(name)}</title><text x="{LEFT - 8}" y="{y + 11}" text-anchor="end">',
            f"{escape(shorten(name, _NAME_CHARACTERS))}</text>",
            f'<rect class="read" x="{LEFT}" y="{y}" width="{WIDTH - LEFT - RIGHT}" height="{_BAR}"/>',
        )
        for kind, spans in _drawn(device, scale).items():
            for first, last in spans:
                x, width = first / _FINE, max(1.0, (last - first) / _FINE)
                parts.append(f'<rect class="{kind}" x="{x:.2f}" y="{y}" width="{width:.2f}" height="{_BAR}">'
                             f"<title>{escape(name)}: {KINDS[kind]}</title></rect>")  # fmt: skip
        parts.append("</g>")
    return "".join([*parts, *scale.axis(height - _AXIS, times), "</svg>"])


def _start(name: str, height: int, label: str) -> str:
    return f'<svg class="plot {name}" viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'


def _drawn(device: DeviceAnswer, scale: Scale) -> dict[str, IntervalSet]:
    """Stretches of each kind in fractions of a pixel."""
    drawn: defaultdict[str, IntervalSet] = defaultdict(IntervalSet)
    for first, last, kind in device.not_read:
        drawn[kind].add(round(scale.x(first) * _FINE), round(scale.x(last) * _FINE))
    return {kind: drawn[kind] for kind in KINDS if kind in drawn}


def clock_plot(clock: ClockAnswer, from_ns: int, to_ns: int, times: Times) -> str:
    """The bound of the clock's error over the range; hatched where it was not known."""
    scale = Scale(from_ns, to_ns)
    top_ns = nice(clock.worst_bound_ns or 0)
    bottom = _HEIGHT - _AXIS
    parts = [_start("clock", _HEIGHT, "How far the clock might be off")]
    if top_ns:
        for share in (1, 0.5):
            y = bottom - share * (bottom - 10)
            parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y}" y2="{y}"/><text x="{LEFT - 8}" '
                         f'y="{y + 4}" text-anchor="end">{format_duration(round(top_ns * share))}</text>')  # fmt: skip
    width_ns = min((after - before for (before, _), (after, _) in zip(clock.bounds, clock.bounds[1:], strict=False)),
                   default=to_ns - from_ns)  # fmt: skip
    for (first, last), bounds in _runs(clock.bounds, width_ns):
        if bounds is None:
            x = scale.x(first)
            parts.append(f'<rect class="declared" x="{x:.2f}" y="10" width="{max(1.0, scale.x(last) - x):.2f}" '
                         f'height="{bottom - 10}"><title>accuracy not known</title></rect>')  # fmt: skip
        else:
            points = " ".join(f"{scale.x(at_ns):.2f},{bottom - bound / (top_ns or 1) * (bottom - 10):.2f}"
                              for at_ns, bound in bounds)  # fmt: skip
            parts.append(f'<polyline class="bound" points="{points}"/>')
    if not top_ns:
        middle = (LEFT + WIDTH - RIGHT) / 2
        parts.append(f'<rect class="paper" x="{middle - 90}" y="40" width="180" height="24"/><text x="{middle}" y="56" '
                     f'text-anchor="middle">accuracy not known</text>')  # fmt: skip
    return "".join([*parts, *scale.axis(bottom, times), "</svg>"])


def _runs(
    bounds: Sequence[tuple[int, int | None]], width_ns: int
) -> Iterator[tuple[Interval, list[tuple[int, int]] | None]]:
    """Stretches that are drawn as one: with their bounds, or None where no bound was known."""
    run: list[tuple[int, int | None]] = []
    for at_ns, bound in bounds:
        is_next = (
            run and at_ns - run[-1][0] <= max(2 * width_ns, _SILENT_NS) and (bound is None) == (run[-1][1] is None)
        )
        if run and not is_next:
            yield _run(run, width_ns)
            run = []
        run.append((at_ns, bound))
    if run:
        yield _run(run, width_ns)


def _run(run: Sequence[tuple[int, int | None]], width_ns: int) -> tuple[Interval, list[tuple[int, int]] | None]:
    span = run[0][0], run[-1][0] + width_ns
    known = [(at_ns, bound) for at_ns, bound in run if bound is not None]
    return span, [*known, (span[1], known[-1][1])] if known else None


def nice(bound_ns: int) -> int:
    """The top of a scale: 1, 2 or 5 times a power of ten; 0 where no bound is known."""
    power = 10 ** (len(str(bound_ns)) - 1)
    return next(power * each for each in (1, 2, 5, 10) if power * each >= bound_ns) if bound_ns else 0
