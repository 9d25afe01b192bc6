"""`tidegate watch` in a real terminal beside a real gateway: what it shows and writes, and how it ends."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench.watch import LIMIT_BYTES, TAGS, UPDATE, moving
from tests.faults.gateway.site_under_test import Site, sites
from tests.support.terminal import Terminal

_NORMAL_SCREEN = b"\x1b[?1049l"


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from sites(tmp_path)


def watching(site: Site, *more: str, rows: int = 24) -> Terminal:
    return Terminal("watch", str(site.directory / "gateway.yaml"), *more, rows=rows)


def test_a_gateway_stops_and_comes_back_and_the_device_is_not_asked(site: Site) -> None:
    site.settings.pop("uplink")
    mixer = site.add_counter("mixer", every="100 ms")
    gateway = site.gateway()
    with watching(site, "mixer") as terminal:
        terminal.wait_for("count")
        terminal.wait_for("1 GOOD")
        updates = terminal.written.count(UPDATE)
        terminal.read_until(lambda: terminal.written.count(UPDATE) > updates + 2, "updates")
        assert mixer.connections_most == 1  # That of the gateway.

        gateway.stop()
        terminal.wait_for(f"no gateway answers; start it: tidegate run {site.directory}"[:60])
        site.gateway()
        terminal.wait_for("1 GOOD")
        terminal.press(b"q")

        assert terminal.wait() == 0
        assert terminal.modes() == terminal.modes_before
        assert _NORMAL_SCREEN in terminal.written


@pytest.mark.parametrize("end", ["Ctrl-C", signal.SIGTERM, signal.SIGHUP])
def test_the_terminal_is_as_it_was_after_ctrl_c_and_after_a_signal(site: Site, end: str | signal.Signals) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer", every="1 s")
    site.gateway()
    with watching(site) as terminal:
        terminal.wait_for("count")
        assert terminal.modes() != terminal.modes_before
        if isinstance(end, signal.Signals):
            terminal.process.send_signal(end)
        else:
            terminal.press(b"\x03")

        assert terminal.wait() == (-end if isinstance(end, signal.Signals) else 0)
        assert terminal.modes() == terminal.modes_before
        last = bytes(terminal.written[terminal.written.rindex(_NORMAL_SCREEN) :])
        assert b"\x1b[?25h" in bytes(terminal.written[terminal.written.rindex(b"\x1b[?25l") :])  # The cursor is back.
        assert b"Traceback" not in last


def test_forty_moving_tags_write_less_than_a_slow_line_carries(site: Site) -> None:
    moving(site)
    with watching(site, rows=TAGS + 3) as terminal:
        terminal.read_until(lambda: terminal.written.count(UPDATE) >= 4, "updates")
        begin, at = terminal.written.count(UPDATE), len(terminal.written)
        terminal.read_until(lambda: terminal.written.count(UPDATE) >= begin + 4, "updates")

    assert (len(terminal.written) - at) / 4 < LIMIT_BYTES


def test_without_a_gateway_it_says_what_starts_one(site: Site) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer")
    path = site.write("gateway", site.settings)
    with watching(site) as terminal:
        assert terminal.wait() == 1
        said = terminal.written.decode()
    assert f"no gateway answers at {site.state}/live.sock; start it: tidegate run {path}" in said
    assert "\x1b" not in said

    site.gateway()
    with watching(site, "nothing") as terminal:
        assert terminal.wait() == 1
        assert "has no device 'nothing'" in terminal.written.decode()
