"""Record the demo's screen from a real run, as SVG for light and for dark pages: `make picture`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from io import StringIO
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text
from rich.theme import Theme

from edge.demo.display import Display
from edge.demo.run import Demo, DemoPlan
from edge.demo.screen import Scene, draw_screen
from edge.demo.stop import Stop
from edge.health.trend import BLOCKS

PICTURES = Path(__file__).parent / "pictures"
_WIDTH, _HEIGHT = 80, 22
_SECONDS = 30.0
_CELL, _MARGIN = (12.2, 24.4), 24  # Of a character, as rich draws it.

# (background, text, structure), with a contrast of at least 4.5 to 1 between each and the background.
_COLOURS = {"light": ("#ffffff", "#1f2328", "#59636e"), "dark": ("#0d1117", "#f0f6fc", "#9198a1")}
# The font of the reader's machine, and nothing from another host.
_FORMAT = """\
<svg viewBox="0 0 WIDTH HEIGHT" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="The demo on a terminal">
<style>
.{unique_id}-matrix {{ font-family: ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace;
  font-size: {char_height}px; line-height: {line_height}px; }}
{styles}
</style>
<defs>{lines}</defs>
<rect width="WIDTH" height="HEIGHT" rx="6" fill="BACKGROUND"/>
<g transform="translate(MARGIN, MARGIN)">{backgrounds}<g class="{unique_id}-matrix">
{matrix}
</g></g>
</svg>
"""


def svg(lines: list[Text], shade: str) -> str:
    """Lines of a terminal as an SVG; `shade` is light or dark."""
    background, text, structure = _COLOURS[shade]
    console = Console(
        record=True, width=_WIDTH, file=StringIO(), force_terminal=True, color_system="truecolor", highlight=False,
        theme=Theme({"dim": structure}),
    )  # fmt: skip
    for line in lines:
        console.print(line)
    theme = TerminalTheme(_rgb(background), _rgb(text), [_rgb(text)] * 8)
    size = {"WIDTH": _WIDTH * _CELL[0], "HEIGHT": len(lines) * _CELL[1]}
    code_format = _FORMAT.replace("BACKGROUND", background).replace("MARGIN", str(_MARGIN))
    for name, pixels in size.items():
        code_format = code_format.replace(name, f"{pixels + 2 * _MARGIN:g}")
    return console.export_svg(theme=theme, code_format=code_format, unique_id=f"demo-{shade}")


def _rgb(colour: str) -> tuple[int, int, int]:
    return int(colour[1:3], 16), int(colour[3:5], 16), int(colour[5:7], 16)


class _Recorder(Display):
    """Keeps the last screen before the demo is ended."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[Text] = []

    def show(self, scene: Scene) -> None:
        """See `Display.show`."""
        if not scene.is_ending:
            self.lines = draw_screen(scene, _WIDTH, _HEIGHT, BLOCKS)


def main() -> None:
    """Run the demo, and write the pictures."""
    recorder = _Recorder()
    with tempfile.TemporaryDirectory() as directory:
        plan = DemoPlan(Path(directory), seconds=_SECONDS)
        demo = Demo(plan, recorder, Stop())
        answer = asyncio.run(demo.run())
    if answer is None or not answer.is_whole or not all(e.outcome.is_settled for e in demo.scene.account.entries):
        sys.exit("the demo did not come to its end; see `tidegate demo`")
    PICTURES.mkdir(exist_ok=True)
    for shade in _COLOURS:
        (PICTURES / f"demo-{shade}.svg").write_text(svg(recorder.lines, shade), "utf-8")


if __name__ == "__main__":
    main()
