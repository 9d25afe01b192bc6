"""Output of the demo: a screen that is drawn again and again on a terminal, a few lines anywhere else."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO, TextIOWrapper

from rich.console import Console, Group
from rich.control import Control
from rich.text import Text

from edge.demo.screen import Scene, clock, draw_screen
from edge.health.trend import ASCII, BLOCKS
from edge.terminal import PIPE_WIDTH, fit_to_terminal

_LINE_INTERVAL_S = 30.0
_ROWS_SPARE = 2


class Display:
    """Lines: each of what is done to the plant once it is known what came of it, and the figures now and then.

    Attributes:
        is_gone: nobody reads any more: the terminal or the pipe was closed.
        is_screen: what is shown does not stay.
    """

    is_screen = False

    def __init__(self, *, is_terminal: bool = False) -> None:
        self.is_gone = False
        # Not on standard output itself: what it does at a closed pipe is not what is to be done here.
        self._text = StringIO()
        self._console = Console(file=self._text, force_terminal=is_terminal, highlight=False, markup=False)
        if not is_terminal:
            self._console.width = PIPE_WIDTH
        self._said = 0
        self._line_due_s = _LINE_INTERVAL_S

    @property
    def width(self) -> int:
        """Columns for a page."""
        return self._console.width

    def show(self, scene: Scene) -> None:
        """Show how it is now."""
        for entry in scene.account.entries[self._said :]:
            if not entry.outcome.is_settled:
                break
            self._said += 1
            self.page([Text(f"{clock(entry.at_s)}  {entry.text}")])
        if scene.elapsed_s >= self._line_due_s:
            self._line_due_s = scene.elapsed_s + _LINE_INTERVAL_S
            self.page([Text(f"{clock(scene.elapsed_s)}  {scene.figures()}")])

    def close(self) -> None:
        """Return to where pages are printed."""

    def page(self, lines: Sequence[Text]) -> None:
        """Print lines that stay."""
        for line in lines:
            self._console.print(line, soft_wrap=True)
        self._flush()

    def _flush(self) -> None:
        text = self._text.getvalue()
        self._text.seek(0)
        self._text.truncate()
        if self.is_gone:
            return
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            self.is_gone = True
            # What is still in the buffer of the stream is written at the end of the process, and must not fail again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ScreenDisplay(Display):
    """The alternate screen of a terminal, drawn in place."""

    is_screen = True

    def __init__(self) -> None:
        super().__init__(is_terminal=True)
        self._is_open = True
        fit_to_terminal(self._console)
        self._characters = BLOCKS if sys.stdout.encoding.lower().startswith("utf") else ASCII
        self._console.set_alt_screen(True)
        self._console.show_cursor(False)
        self._flush()

    def show(self, scene: Scene) -> None:
        """See `Display.show`."""
        fit_to_terminal(self._console)
        width, height = self._console.size
        lines = draw_screen(scene, width, max(1, height - _ROWS_SPARE), self._characters)
        self._console.update_screen(Group(*lines))
        # A key that is pressed is echoed at the cursor: in the last line that would scroll.
        self._console.control(Control.home())
        self._flush()

    def close(self) -> None:
        """See `Display.close`."""
        if not self._is_open:
            return
        self._is_open = False
        self._console.show_cursor(True)
        self._console.set_alt_screen(False)
        self._flush()


@contextmanager
def display_here() -> Iterator[Display]:
    """A display on standard output."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    is_screen = sys.stdout.isatty() and os.environ.get("TERM", "dumb") not in ("dumb", "unknown")
    display = ScreenDisplay() if is_screen else Display()
    try:
        yield display
    finally:
        display.close()
