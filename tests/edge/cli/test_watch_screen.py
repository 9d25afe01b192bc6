"""The screen of `tidegate watch` in a terminal of textual's own: rows, filter, order, widths, a gateway away."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise

import pytest
from click.testing import CliRunner
from textual.pilot import Pilot

from edge.cli import cli
from edge.cli.watch_screen import Table, Watch
from edge.gateway.control import GatewayRefuses
from edge.health import DeviceStatus, GatewayStatus, GroupStatus, StatusSnapshot, TagStatus
from edge.model import StatusCode
from edge.terminal import AMBER, RED
from tests.support.waiting import until

TAGS = (
    TagStatus(tag="temperature", value=21.5, unit="Cel"),
    TagStatus(tag="speed", value=7, unit="rpm", quality="UNCERTAIN", status=StatusCode.UNCERTAIN_OUT_OF_RANGE),
    TagStatus(tag="level", value=None, unit="%", quality="BAD", status=StatusCode.BAD_ADDRESS),
    TagStatus(tag="a-running-pump-with-a-very-long-name-of-its-own", value=100, text="on"),
)


def told(*tags: TagStatus, device: str = "mixer", **more: object) -> DeviceStatus:
    group = GroupStatus(name="1 s", every_ns=10**9, tags=len(tags), last_scan_age_ns=400_000_000, values=tags)
    return replace(DeviceStatus(name=device, driver="modbus", state="up", scan_groups=(group,)), **more)  # type: ignore[arg-type]


def answer(*devices: DeviceStatus) -> StatusSnapshot:
    gateway = GatewayStatus(name="line-4", path="acme", role="run", version="1", pid=1, uptime_ns=1)
    return StatusSnapshot(gateway=gateway, devices=devices)


class Shown:
    """A screen, with what it is told next."""

    def __init__(self, first: StatusSnapshot) -> None:
        self.next: Callable[[], StatusSnapshot | None] = lambda: first
        self.app = Watch(self.ask, first, "no gateway answers; start it", period_s=0.01)

    def ask(self) -> StatusSnapshot | None:
        return self.next()

    def lines(self) -> list[str]:
        table = self.app.query_one(Table)
        head, foot = (str(self.app.query_one(name).render()) for name in ("#head", "#foot"))
        body = [table.render_line(number).text.rstrip() for number in range(table.size.height)]
        return [head, *body, foot]

    def tags(self) -> list[str]:
        return [line.split()[0] for line in self.lines()[2:-1] if line]

    async def until(self, text: str) -> None:
        await until(lambda: any(text in line for line in self.lines()))


@asynccontextmanager
async def shown(first: StatusSnapshot, columns: int = 100, rows: int = 12) -> AsyncIterator[tuple[Shown, Pilot[None]]]:
    screen = Shown(first)
    async with screen.app.run_test(size=(columns, rows)) as pilot:
        await screen.until("tags")
        await until(lambda: len(screen.lines()[1].split()) > 3)
        yield screen, pilot


async def test_each_tag_has_value_unit_quality_as_a_word_age_and_trend_and_the_worst_are_first() -> None:
    async with shown(answer(told(*TAGS)), columns=120) as (screen, _):
        lines = screen.lines()
        table = screen.app.query_one(Table)
        colours = {number: {str(each.style.color.name) for each in table.render_line(number) if each.style
                            and each.style.color} for number in range(1, 5)}  # fmt: skip

    assert lines[0].split() == ["line-4", "1", "BAD", "1", "UNCERTAIN", "2", "GOOD"]
    assert lines[1].split() == ["tag", "value", "unit", "quality", "^", "age", "trend", "reason"]
    assert lines[2].split()[:5] == ["level", "-", "%", "BAD", "0.4"]
    assert lines[2].endswith("the device has no such address")
    assert lines[3].split()[:5] == ["speed", "7", "rpm", "UNCERTAIN", "0.4"]
    assert lines[3].endswith("out of range")
    assert lines[4].split()[:4] == ["temperature", "21.5", "Cel", "GOOD"]
    assert "on (100)" in lines[5]
    assert colours == {1: {RED}, 2: {AMBER}, 3: set(), 4: set()}
    assert lines[-1].startswith("4 of 4 tags   q end")


async def test_a_filter_narrows_as_it_is_typed_and_escape_ends_it() -> None:
    async with shown(answer(told(*TAGS), told(TAGS[0], device="tank"))) as (screen, pilot):
        await pilot.press("slash", *"tank")
        await screen.until("1 of 5 tags")
        await pilot.press("backspace", "backspace", "backspace", "backspace", *"no mix q")
        await screen.until("0 of 5 tags")  # Each word counts, and q is typed here and ends nothing.
        await pilot.press("backspace", "backspace", "enter")
        await screen.until("1 of 5 tags")
        assert screen.lines()[2].split()[1] == "level"  # "the device has no such address"
        await pilot.press("escape")
        await screen.until("5 of 5 tags")
        await pilot.press("q")
        await until(lambda: not screen.app.is_running)
    assert screen.app.return_code == 0


async def test_s_sorts_by_each_column_in_turn_and_r_reverses() -> None:
    async with shown(answer(told(*TAGS))) as (screen, pilot):
        orders = {}
        for _ in range(5):
            heading = screen.lines()[1]
            orders[heading[: heading.index(" ^")].split()[-1]] = [name[:3] for name in screen.tags()]
            await pilot.press("s")
        begun_again = [name[:3] for name in screen.tags()]
        await pilot.press("r")
        worst_last = [name[:3] for name in screen.tags()]

    assert orders == {
        "quality": ["lev", "spe", "tem", "a-r"],
        "age": ["tem", "spe", "lev", "a-r"],
        "tag": ["a-r", "lev", "spe", "tem"],
        "value": ["spe", "tem", "a-r", "lev"],
        "unit": ["a-r", "lev", "tem", "spe"],
    }
    assert begun_again == orders["quality"]
    assert worst_last[-1] == "lev"


@pytest.mark.parametrize("columns", [80, 50, 20])
async def test_no_line_is_wider_than_the_window_and_the_quality_is_always_whole(columns: int) -> None:
    async with shown(answer(told(*TAGS), told(*TAGS, device="another-mixer-in-the-north"))) as (screen, pilot):
        await pilot.resize_terminal(columns, 12)
        await until(lambda: screen.app.query_one(Table).size.width == columns)
        await until(lambda: columns != 80 or "wider shows reason" in screen.lines()[-1])
        lines = screen.lines()

    assert max(map(len, lines)) <= columns
    if columns >= 50:
        assert sum("UNCERTAIN" in line for line in lines[2:]) == 2
    if columns == 80:
        assert "trend" in lines[1]


async def test_a_gateway_that_is_away_is_one_line_and_an_empty_stretch_of_the_trends() -> None:
    first = answer(told(*TAGS))
    async with shown(first) as (screen, _):
        screen.next = lambda: None
        await screen.until("UNKNOWN")
        away = screen.lines()
        is_faded = all(
            each.style and each.style.dim for each in screen.app.query_one(Table).render_line(1) if each.text.strip()
        )

        def refuse() -> StatusSnapshot:
            raise GatewayRefuses("this account may not ask")

        screen.next = refuse
        await screen.until("this account may not ask")
        screen.next = lambda: answer(told(*TAGS, state="down", reason="no route to host"))
        await screen.until("mixer down: no route to host")
        await until(lambda: "GOOD" in screen.lines()[0])

    assert "old: no gateway answers; start it" in away[0]
    assert any("░" in line or "/" in line for line in away[2:])
    assert is_faded
    assert away[4].split()[:2] == ["temperature", "21.5"]


async def test_many_tags_are_scrolled_and_no_number_moves_its_neighbours() -> None:
    tags = [TagStatus(tag=f"t{number:03}", value=number) for number in range(200)]
    async with shown(answer(told(*tags)), rows=12) as (screen, pilot):
        seen = []
        for key in ("pagedown", "down", "end", "up", "home"):
            await pilot.press(key)
            seen.append((key, screen.tags()[0]))
        screen.next = lambda: answer(told(*(replace(tag, value=123456.789) for tag in tags)))
        await screen.until("123456.789")
        wide = screen.lines()[1]
        screen.next = lambda: answer(told(*tags))
        await until(lambda: "123456.789" not in screen.lines()[2])
        assert screen.lines()[1] == wide

    assert seen == [("pagedown", "t008"), ("down", "t009"), ("end", "t191"), ("up", "t190"), ("home", "t000")]


async def test_a_gateway_with_very_many_tags_is_asked_less_often() -> None:
    asked: list[float] = []
    loop = asyncio.get_running_loop()
    first = answer(told(*TAGS))

    def slowly() -> StatusSnapshot:
        asked.append(loop.time())
        waiting = asyncio.run_coroutine_threadsafe(asyncio.sleep(0.05), loop)
        waiting.result()
        return first

    async with shown(first) as (screen, _):
        screen.next = slowly
        await until(lambda: len(asked) >= 3)

    assert all(later - earlier >= 0.5 for earlier, later in pairwise(asked))


def test_without_the_library_it_says_which_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "textual", None)

    ran = CliRunner().invoke(cli, ["watch", "site.yaml"])

    assert ran.exit_code == 2
    assert "this needs a library that is not installed; install tidegate[watch]" in ran.output


def test_without_a_terminal_it_names_the_command_that_prints_once() -> None:
    ran = CliRunner().invoke(cli, ["watch", "site.yaml"])

    assert ran.exit_code == 2
    assert "this needs a terminal; tidegate status site.yaml --tags prints the values once" in ran.output
