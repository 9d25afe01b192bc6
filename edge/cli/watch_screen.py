"""The screen of `tidegate watch`.

Only lines that changed are written, and none further than it reaches, as many watch over a slow line. Columns of
numbers never become narrower, so that a value does not move its neighbours.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections import Counter, deque
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

from rich.cells import cell_len
from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.events import MouseScrollDown, MouseScrollUp, Resize
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget
from textual.widgets import Input, Static

from edge.errors import TidegateError
from edge.health import StatusSnapshot, TagStatus
from edge.health.render import outdated, reason_of
from edge.health.trend import ASCII, BLOCKS, Cell, Hole, cell_of, draw
from edge.terminal import BOLD, DIM, Column, age, fit_table, printable, quantity, state
from edge.units import counted, format_value

PERIOD_S = 1.0
_SHARE = 9  # It rests so many times as long as an update took: for very many tags a gateway is asked less often.
_TREND = 20
_WORST = ("BAD", "UNCERTAIN", "GOOD")

_COLUMNS = (
    Column(title="device", least=8, rank=2),
    Column(title="tag", least=12),
    Column(title="value", is_number=True),
    Column(title="unit"),
    Column(title="quality"),
    Column(title="age", is_number=True, rank=1),
    Column(title="trend", rank=3),
    Column(title="reason", least=12, rank=4),
)
_SORTED_BY = (4, 5, 0, 1, 2, 3)  # Columns, in the order in which s chooses them: at first the worst are on top.


class Row(NamedTuple):
    """One tag as it was read last."""

    device: str
    tag: TagStatus
    age_ns: int | None

    @property
    def value(self) -> str:
        """The value as it is shown, with its text."""
        return f"{self.tag.text} ({format_value(self.tag.value)})" if self.tag.text else format_value(self.tag.value)

    @property
    def reason(self) -> str:
        """Why it is not good."""
        return "" if self.tag.quality == "GOOD" else reason_of(self.tag.status)

    def matches(self, words: list[str]) -> bool:
        """Whether it holds each of the words, in small letters."""
        text = f"{self.device} {self.tag.tag} {self.tag.unit} {self.tag.quality} {self.reason}".lower()
        return all(word in text for word in words)

    def key(self, column: int) -> Any:
        """What it is sorted by; numbers come before texts."""
        value = self.tag.value
        is_number = isinstance(value, bool | int | float)
        return (
            self.device.lower(), self.tag.tag.lower(), (not is_number, value if is_number else str(value)),
            self.tag.unit, _WORST.index(self.tag.quality), -1 if self.age_ns is None else self.age_ns,
        )[column]  # fmt: skip


class Table(Widget, can_focus=True):
    """The tags that match, as many as there is room for, below their heading."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)"), Binding("down", "move(1)"), Binding("home", "move(-1000000000)"),
        Binding("pageup", "page(-1)"), Binding("pagedown", "page(1)"), Binding("end", "move(1000000000)"),
    ]  # fmt: skip

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self.sorted_by, self.is_reversed, self.is_old = _SORTED_BY[0], False, False
        self.shown: list[Row] = []
        self.left_out: list[str] = []
        self.sortable: tuple[int, ...] = _SORTED_BY
        self._rows: list[Row] = []
        self._top = 0
        self._trends: dict[tuple[str, str], deque[Cell]] = {}
        self._widths: dict[int, int] = {}
        self._lines: list[Text] = []
        self._characters = BLOCKS if sys.stderr.encoding.lower().startswith("utf") else ASCII

    def note(self, answer: StatusSnapshot | None) -> None:
        """Take an answer, or that there was none; a trend has a cell for each."""
        self.is_old = answer is None
        if answer is not None:
            self._rows = [
                Row(device.name, tag, group.last_scan_age_ns)
                for device in answer.devices for group in device.scan_groups for tag in group.values
            ]  # fmt: skip
        down = {device.name for device in answer.devices if device.state != "up"} if answer else set()
        for row in self._rows:
            cells = self._trends.setdefault((row.device, row.tag.tag), deque(maxlen=_TREND))
            cells.append(Hole.GAP if self.is_old or row.device in down else cell_of(row.tag))
        self.lay_out()

    def counts(self) -> Counter[str]:
        """How many tags there are of each quality."""
        return Counter(row.tag.quality for row in self._rows)

    def lay_out(self) -> None:
        """Choose, sort and draw, and have written what changed."""
        self.shown = [row for row in self._rows if row.matches(self.words)]
        self.shown.sort(key=lambda row: row.key(self.sorted_by), reverse=self.is_reversed)
        room = max(0, self.size.height - 1)
        self._top = max(0, min(self._top, len(self.shown) - room))
        before, self._lines = self._lines, self._drawn(self.shown[self._top : self._top + room])
        for number in range(self.size.height):
            old, new = (lines[number] if number < len(lines) else Text() for lines in (before, self._lines))
            if old != new:
                self.refresh(Region(0, number, max(old.cell_len, new.cell_len), 1))

    def _drawn(self, rows: list[Row]) -> list[Text]:
        cells = [self._cells(row) for row in rows]
        numbers = [number for number in range(len(_COLUMNS)) if number or len({row.device for row in self._rows}) > 1]
        self.sortable = tuple(number for number in _SORTED_BY if number in numbers)
        columns = []
        for number in numbers:
            column, title = _COLUMNS[number], _COLUMNS[number].title
            if number == self.sorted_by:
                title += " v" if self.is_reversed else " ^"
            if column.least is None:
                width = max([self._widths.get(number, 0), len(title), *(cell_len(str(row[number])) for row in cells)])
                self._widths[number] = width
                title = title.rjust(width) if column.is_number else title.ljust(width)
            columns.append(Column(title=title, is_number=column.is_number, least=column.least, rank=column.rank))
        table = fit_table(columns, [[row[number] for number in numbers] for row in cells], self.size.width)
        self.left_out = table.left_out
        for line in table.lines if self.is_old else ():
            line.spans.clear()
            line.stylize(DIM)
        return table.lines

    def _cells(self, row: Row) -> list[str | Text]:
        trend = draw(list(self._trends[row.device, row.tag.tag]), self._characters).rjust(_TREND)
        return [
            printable(row.device), printable(row.tag.tag), printable(row.value), printable(row.tag.unit),
            state(row.tag.quality), quantity(age(row.age_ns)), trend, row.reason,
        ]  # fmt: skip

    def render_line(self, y: int) -> Strip:
        """One line, for textual."""
        line = self._lines[y] if y < len(self._lines) else Text()
        return Strip(line.render(self.app.console, end="")).adjust_cell_length(self.size.width)

    def on_resize(self, _: Resize) -> None:
        """Draw for the new size."""
        self._widths.clear()
        self.lay_out()

    def action_move(self, by: int) -> None:
        """Scroll by lines."""
        self._top = max(0, self._top + by)
        self.lay_out()

    def action_page(self, by: int) -> None:
        """Scroll by pages."""
        self.action_move(by * max(1, self.size.height - 2))

    def on_mouse_scroll_down(self, _: MouseScrollDown) -> None:
        """Scroll with the wheel."""
        self.action_move(3)

    def on_mouse_scroll_up(self, _: MouseScrollUp) -> None:
        """Scroll with the wheel."""
        self.action_move(-3)


class Watch(App[None]):
    """Asks again and again, and shows what is answered.

    Attributes:
        ended_by: the signal that ended it.
    """

    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen, Table, Static, Input, Input:focus { background: ansi_default; color: ansi_default; }
    Static, Input { height: 1; border: none; padding: 0; }
    Table { height: 1fr; }
    Input { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+c", "quit", priority=True), Binding("q", "quit"), Binding("slash", "filter"),
        Binding("escape", "clear"), Binding("s", "sort"), Binding("r", "reverse"),
    ]  # fmt: skip

    def __init__(
        self, ask: Callable[[], StatusSnapshot | None], first: StatusSnapshot, silent: str, period_s: float = PERIOD_S
    ) -> None:
        super().__init__(ansi_color=True)
        self._head_line, self._table, self._foot_line = Static(id="head"), Table(), Static(id="foot")
        self._ask, self._answer, self._silent, self._period_s = ask, first, silent, period_s
        self._why, self._answered_s = "", time.monotonic()
        self.ended_by: signal.Signals | None = None

    def compose(self) -> ComposeResult:
        """The lines of the screen, for textual."""
        yield self._head_line
        yield self._table
        yield Input(placeholder="words of device, tag, unit, quality or reason", compact=True)
        yield self._foot_line

    def on_mount(self) -> None:
        """Begin to ask."""
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._end, number)
        self._table.focus()
        self.run_worker(self._follow())

    def _end(self, number: signal.Signals) -> None:
        self.ended_by = number
        self.exit()

    async def _follow(self) -> None:
        while True:
            asked_s = time.monotonic()
            try:
                answer, why = await asyncio.to_thread(self._ask), self._silent
            except (LookupError, TidegateError) as error:
                answer, why = None, str(error.args[0])
            self._why = why if answer is None else ""
            if answer is not None:
                self._answer, self._answered_s = answer, time.monotonic()
            self._table.note(answer)
            self._say()
            took_s = time.monotonic() - asked_s
            await asyncio.sleep(max(self._period_s - took_s, took_s * _SHARE))

    def on_resize(self, _: Resize) -> None:
        """Say it in the new width."""
        self.call_after_refresh(self._say)

    def _say(self) -> None:
        table, width = self._table, self.size.width
        self._head_line.update(self._head(table.counts(), width), layout=False)
        foot = f"{len(table.shown):,} of {counted(table.counts().total(), 'tag')}   q end  / filter  s sort  r reverse"
        foot += f"   wider shows {', '.join(table.left_out)}" if table.left_out else ""
        self._foot_line.update(_cut(Text(foot, style=DIM), width), layout=False)

    def _head(self, counts: Counter[str], width: int) -> Text:
        if self._why:
            return _cut(outdated(self._why, int((time.monotonic() - self._answered_s) * 1e9), [], 1 << 16)[0], width)
        line = Text().append(f"{printable(self._answer.gateway.name)}   ", style=BOLD)
        for word in _WORST:
            if counts[word]:
                line.append(f"{counts[word]:,} ").append_text(state(word)).append("  ")
        if down := [device for device in self._answer.devices if device.state != "up"]:
            more = f" and {len(down) - 1} more" if len(down) > 1 else ""
            line.append(f" {printable(down[0].name)} {down[0].state}{more}: {printable(down[0].reason)}".rstrip(": "))
        return _cut(line, width)

    def action_filter(self) -> None:
        """Let words be typed."""
        self.query_one(Input).display = True
        self.query_one(Input).focus()

    def action_clear(self) -> None:
        """Show all tags again."""
        self.query_one(Input).value = ""
        self.on_input_submitted()

    def on_input_submitted(self) -> None:
        """Keep the filter, and give the keys back to the table."""
        self.query_one(Input).display = bool(self.query_one(Input).value)
        self._table.focus()

    def on_input_changed(self, event: Input.Changed) -> None:
        """Filter as it is typed."""
        self._with_table(words=event.value.lower().split())

    def action_sort(self) -> None:
        """Sort by the next column."""
        choice, now = self._table.sortable, self._table.sorted_by
        self._with_table(sorted_by=choice[(choice.index(now) + 1) % len(choice)] if now in choice else choice[0])

    def action_reverse(self) -> None:
        """Sort the other way round."""
        self._with_table(is_reversed=not self._table.is_reversed)

    def _with_table(self, **changed: Any) -> None:
        table = self._table
        for name, value in changed.items():
            setattr(table, name, value)
        table.lay_out()
        self._say()


def _cut(line: Text, width: int) -> Text:
    line.truncate(width, overflow="ellipsis")
    line.no_wrap = True
    return line
