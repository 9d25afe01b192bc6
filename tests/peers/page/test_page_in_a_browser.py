"""The page in a headless Chromium, beside real gateways, a real broker and a relay."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import urllib.request
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

from edge.units import format_value
from tests.faults.gateway.site_under_test import LoopThread, Process, Site, sites
from tests.support.browser import Browser, Page, chromium
from tests.support.ports import free_port

_LOOK_S = 5


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from sites(tmp_path)


class Tab:
    """A page, driven from the test's thread."""

    def __init__(self, plant: LoopThread, page: Page) -> None:
        self._plant, self._page = plant, page

    @property
    def complaints(self) -> list[str]:
        return self._page.complaints

    @property
    def requested(self) -> list[str]:
        return self._page.requested

    def do(self, expression: str) -> Any:
        return self._plant.do(self._page.do(expression))

    def until(self, expression: str) -> Any:
        return self._plant.do(self._page.until(expression))

    def text(self) -> str:
        return self._plant.do(self._page.text())

    def violations(self) -> list[Any]:
        """What axe-core finds."""
        self.do((files("axe_core_python") / "axe.min.js").read_text())
        found: list[Any] = self.do(_JUDGED)
        return found

    def printed_pages(self) -> int:
        return len(re.findall(rb"/Type\s*/Page\b", self._plant.do(self._page.printed())))

    def press(self, *keys: str) -> None:
        self._plant.do(self._page.press(*keys))


class Screen:
    """A Chromium beside a site."""

    def __init__(self, site: Site) -> None:
        self._plant = site.plant
        self._browser: Browser = site.plant.enter(chromium())

    def open(self, url: str, word: str = "", **options: Any) -> Tab:
        """A tab with the page, which shows live figures and a verdict that begins with this word."""
        tab = Tab(self._plant, self._plant.do(self._browser.open(url, **options)))
        tab.until(f"document.getElementById('word')?.textContent.startsWith({word!r}) && "
                  "!document.body.matches('.old') && document.querySelector('#rows tbody tr')")  # fmt: skip
        return tab


@pytest.fixture
def browser(site: Site) -> Screen:
    return Screen(site)


def add_simulator(site: Site, name: str, tags: int, every: str = "500 ms", **more: Any) -> None:
    point = {"signal": "sine", "low": 10, "high": 90, "period": "7 s", "type": "float32", "unit": "Cel"}
    points = [{"name": f"{name}-{number:04}", **point} for number in range(tags)]
    site.settings["devices"].append({
        "name": name, "driver": "simulator", "seed": 7, "scan_groups": [{"every": every, "tags": points}], **more,
    })  # fmt: skip


def serve(site: Site, *sockets: Path) -> tuple[str, Process]:
    """The address of a running page."""
    port = free_port()
    named = [word for path in sockets or (site.state / "status.sock",) for word in ("--socket", str(path))]
    process = site.command("page", *named, "--listen", f"127.0.0.1:{port}", "--log", "json", name="page")
    site.wait(lambda: process.has_ended or process.said("page served"), "the page to be served")
    assert not process.has_ended, process.log()
    return f"http://127.0.0.1:{port}/", process


def fetch(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=10) as answer:
        return json.load(answer)


_ROW = """(() => {
    const row = [...document.querySelectorAll('#rows tbody tr')].find(one => one.cells[0].textContent === NAME);
    return row && [...row.cells].map(cell => [cell.dataset.title, cell.innerText]);
})()"""
_COUNT = """[...document.querySelectorAll('table.tags tr')].find(row => row.innerText.startsWith('count'))
    ?.cells[2].innerText.replaceAll(',', '')"""
_ARE_READ = """(() => {
    const shown = [...document.querySelectorAll('table.tags tbody tr[role=row]')];
    return shown.length < 80 && shown.slice(8, -8).every(row => row.cells[4].innerText.startsWith('GOOD'));
})()"""


def shown_row(page: Tab, name: str) -> dict[str, str]:
    """The cells of a device or gateway, by their heads."""
    return dict(page.until(_ROW.replace("NAME", repr(name))))


def test_the_page_says_what_the_status_says_and_goes_on_with_it(site: Site, browser: Screen) -> None:
    """Verdict, tiles, device, its tags with live value and trend; then the broker goes."""
    site.add_counter("mixer", every="100 ms")
    add_simulator(site, "reactor", 12)
    broker = site.mosquitto()
    site.relay()
    site.gateway()
    url, _ = serve(site)
    page = browser.open(url, "OK")
    status = fetch(f"{url}status")
    text = page.text()

    assert status["gateway"]["name"] == "line-4"
    assert status.keys() >= {"verdict", "problems", "devices", "buffer", "uplink", "clock", "chain"}
    assert "All 2 devices answer, and records reach the broker" in text
    row = shown_row(page, "reactor")
    assert (row["State"], row["Tags"], row["BAD"]) == ("up", "12", "0")
    assert page.do("[...document.querySelectorAll('#tiles h2')].map(one => one.innerText)") == [
        "Devices", "Buffer", "Uplink", "Clock"
    ]  # fmt: skip

    page.until("document.querySelectorAll('table.tags td.trend svg path.line').length >= 12")
    # What is shown of a counter is at most some scans old, and grows by itself.
    first = int(page.until(_COUNT))
    page.until(f"Number({_COUNT}) > {first + 5}")
    shown = int(page.do(_COUNT))
    assert shown in {value for _, value in site.served("mixer")}

    broker.kill()
    page.until("document.querySelectorAll('#tiles > li')[2].dataset.state === 'DEGRADED'")
    page.until("document.getElementById('sentence').textContent.startsWith('uplink: ')")
    assert page.complaints == []
    assert {re.match(r"[^/]+//[^/]+/", each)[0] for each in page.requested} == {url}  # type: ignore[index]


def test_a_gateway_that_stops_is_old_figures_and_is_there_again_by_itself(site: Site, browser: Screen) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    gateway = site.gateway()
    url, _ = serve(site)
    page = browser.open(url, "OK")

    assert gateway.stop() == 0
    page.until("document.body.matches('.old')")
    assert "The figures are old since" in page.text()
    assert page.do("document.getElementById('word').textContent") == "UNKNOWN"
    assert (shown_row(page, "mixer"))["Tags"] == "1"  # They stay, in grey.

    site.gateway()
    page.until("!document.body.matches('.old') && document.getElementById('word').textContent === 'OK'")
    page.until("document.querySelector('.block[data-kind=away]')")  # The time line keeps that nothing was seen.
    assert "NOT SEEN" in page.do("document.querySelector('.block[data-kind=away]').ariaLabel")


def test_a_page_process_that_ends_is_said_and_its_successor_is_found(site: Site, browser: Screen) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    site.gateway()
    url, served = serve(site)
    page = browser.open(url, "OK")

    assert served.stop() == 0
    page.until("document.getElementById('notice').textContent.startsWith('No connection to this page')")
    address = url.removeprefix("http://").rstrip("/")
    site.command("page", "--socket", str(site.state / "status.sock"), "--listen", address, name="page")
    page.until("!document.body.matches('.old') && document.getElementById('word').textContent === 'OK'")


def test_both_processes_of_a_gateway_and_the_relay_are_on_one_page(site: Site, browser: Screen) -> None:
    site.add_counter("mixer", every="100 ms")
    site.mosquitto()
    lake = site.directory / "lake"
    lake.mkdir()
    site.relay(sinks={"historian": {"host": "/nowhere", "tls": "off"}, "lake": {"directory": str(lake)}})
    site.gateway("acquire")
    site.gateway("forward")
    url, served = serve(site, site.state / "status.sock", site.archive / "status.sock")
    page = browser.open(url, "OK")

    assert "devices and uplink in two processes" in page.text()
    assert page.do("document.querySelectorAll('#tiles li')[2].querySelector('.state').innerText") == "OK"
    shown = page.do("[...document.querySelectorAll('#sources a')].map(one => one.firstChild.data.trim())")
    assert shown == ["line-4", "it"]
    assert "mixer answers" in page.do(_EVENTS)

    page.do("document.querySelectorAll('#sources a')[1].click()")
    page.until("document.getElementById('h-rows')?.textContent === 'Gateways' && document.querySelector('#rows td')")
    row = shown_row(page, "line-4")
    assert (row["State"], row["Missing"], row["Refused"]) == ("up", "0", "0")
    sinks = page.until("document.querySelector('.sinks [data-state=UP]') && document.getElementById('sinks').innerText")
    assert re.search(
        r"historian\s+DOWN\s.*tidegate at /nowhere:5432 cannot be reached: .* \(TG-R08\)", sinks, re.DOTALL
    )
    assert re.search(rf"lake\s+up\s.*{lake}", sinks, re.DOTALL)
    assert page.do("document.getElementById('tags').hidden")
    page.until("document.querySelectorAll('.events li b').length")
    assert "line-4 The gateway started" in page.do(_EVENTS)
    assert "line-4" in page.do("document.querySelector('.configurations').innerText")
    assert page.violations() == []
    assert page.complaints == []
    # Asking is all that this process can do.
    loaded = Path(f"/proc/{served.pid}/maps").read_text()
    assert "cryptography" not in loaded


def test_what_happened_before_the_page_was_there_is_told(site: Site, browser: Screen) -> None:
    """Events, gaps and configurations come from the gateway; those configurations from before its start, too."""
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    add_simulator(site, "reactor", 3, failures=[{"kind": "silent", "at": "2 s", "lasts": "2 s"}])
    gateway = site.gateway()
    gateway.stop()
    site.settings["devices"][0]["scan_groups"][0]["every"] = "50 ms"
    site.gateway().stop()
    site.gateway()
    site.wait_for_status(lambda status: "reactor did not" in str(status.recent and status.recent.gaps), "a gap")
    url, _ = serve(site)
    page = browser.open(url)
    page.until("document.querySelector('.block[data-kind=gap]')")

    events = page.do(_EVENTS)
    assert events.index("WARNING reactor does not answer: ") < events.index("reactor answers")  # The newest first.
    assert "WARNING All scan groups were not read for " in events
    blocks = page.do("[...document.querySelectorAll('.block[data-kind=gap]')].map(one => one.ariaLabel)")
    assert any(re.match("reactor: NOT READ, reactor did not answer .* lasted ", each) for each in blocks), blocks
    changes = page.do("[...document.querySelectorAll('.configurations li')].map(one => one.innerText)")
    assert len(changes) == 2
    assert "1 change\n\nfound at the start\n" in changes[0]
    assert "every from 100 ms to 50 ms" in changes[0]
    assert "first start" in changes[1]
    assert page.complaints == []


_EVENTS = "document.getElementById('events').innerText.replaceAll(/\\s+/g, ' ')"


def test_ranges_and_addresses_are_shown(site: Site, browser: Screen) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    add_simulator(site, "reactor", 2)
    site.settings["devices"][1]["scan_groups"][0]["tags"][0]["range"] = [0, 80]
    site.gateway()
    url, _ = serve(site)
    page = browser.open(url, "OK", width=1920)

    page.until("document.querySelector('td.trend rect.range')")
    titles = page.do("[...document.querySelectorAll('td.trend')].map(one => one.title)")
    assert sorted(titles) == ["", "", "plausible from 0 to 80 Cel"]
    assert shown_row(page, "mixer")["Address"] == f"unit 1 at 127.0.0.1:{site.devices['mixer'].port}"


def test_a_browser_with_another_clock_is_told_and_shows_the_gateways_times(site: Site, browser: Screen) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    site.gateway()
    url, _ = serve(site)
    wrong = "{ const right = Date.now; Date.now = () => right() + 7_200_000; }"
    page = browser.open(url, "OK", first=wrong)

    page.until("document.getElementById('notice').textContent.startsWith('The clock of this browser is 2 h ahead of')")
    assert page.until("document.querySelector('td.last').innerText").endswith(" s")
    assert page.do("document.getElementById('utc').textContent.slice(0, 3)") == (
        page.do("new Date().toISOString().slice(11, 14)")
    )


def test_two_gateways_of_one_name_and_one_that_never_answers_are_told_apart(site: Site, browser: Screen) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    site.gateway()
    url, _ = serve(site, site.state / "status.sock", site.directory / "elsewhere" / site.state.name / "status.sock")
    page = browser.open(url, "OK")

    page.until("document.querySelectorAll('#sources a').length === 2")
    page.do("document.querySelectorAll('#sources a')[1].click()")
    page.until("document.getElementById('notice')?.textContent.includes('status.sock: no answer (No such file')")
    assert page.do("document.getElementById('word').textContent") == "UNKNOWN"
    assert "Nothing is known of it yet" in page.text()
    assert page.violations() == []


@pytest.mark.timeout(300)
def test_of_ten_thousand_tags_only_those_in_view_exist_and_all_can_be_reached(site: Site, browser: Screen) -> None:
    site.settings.pop("uplink")
    for number in range(10):
        add_simulator(site, f"line{number}", 1000, every="1 s")
    gateway = site.gateway(is_awaited=False)
    site.wait(lambda: gateway.said("running"), "the gateway to run", 120)
    url, _ = serve(site)
    page = browser.open(url)
    page.until("document.querySelector('table.tags')?.ariaRowCount === '10001'")
    page.do("document.getElementById('tag-window').scrollIntoView()")

    for place in (0.31, 0.77, 1.0):
        page.do("(() => { const place = document.getElementById('tag-window'); "
                      f"place.scrollTop = place.scrollHeight * {place}; }})()")  # fmt: skip
        page.until(_ARE_READ)
    page.until("[...document.querySelectorAll('table.tags tr[role=row]')].at(-1).cells[0].innerText === 'line9-0999'")
    page.until(_ARE_READ)
    assert 1 < page.printed_pages() < 10
    page.until(_ARE_READ)  # Rows are there again after it.
    page.press("/")
    for key in "line4-0042":
        page.press(key)
    page.until("document.getElementById('tag-count').innerText === '1 of 10,000'")
    page.until("document.querySelector('table.tags tbody tr[role=row]')?.cells[4].innerText === 'GOOD'")
    assert page.complaints == []


def test_it_is_accessible(site: Site, browser: Screen) -> None:
    """By the rules of axe-core, those of WCAG 2.1 AA among them, with trouble on the page."""
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    bad = {"kind": "bad", "at": "1 s", "lasts": "1 h", "tags": ["reactor-0003"]}
    add_simulator(site, "reactor", 12, failures=[bad])
    add_simulator(site, "silent", 3, failures=[{"kind": "silent", "at": "1 s", "lasts": "1 h"}])
    site.gateway()
    url, _ = serve(site)
    for scheme, width in (("light", 1280), ("dark", 360), ("dark", 1920), ("light", 360)):
        page = browser.open(url, "DEGRADED", width=width, media=[("prefers-color-scheme", scheme)])
        page.until("document.querySelector('.block') && document.querySelector('.state[data-state=DOWN]')")

        assert (scheme, width, page.violations()) == (scheme, width, [])
        assert page.do("document.documentElement.scrollWidth") == width


_JUDGED = """axe.run().then(found => found.violations.map(one =>
    [one.id, one.help, one.nodes.map(node => node.html).slice(0, 3)]))"""


def test_the_keyboard_alone_reaches_everything(site: Site, browser: Screen) -> None:
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    add_simulator(site, "silent", 3, failures=[{"kind": "silent", "at": "1 s", "lasts": "1 h"}])
    site.gateway()
    url, _ = serve(site)
    page = browser.open(url, "DEGRADED")
    page.until("document.querySelector('.block[data-kind=down]')")
    reached: list[str] = []
    said: list[str] = []
    while "plot" not in reached:
        page.press("Tab")
        at, text, outline = page.do(_FOCUSED)
        assert outline != "none", (at, text)
        assert len(reached) < 80
        reached.append(at)
        said.append(page.do("document.getElementById('block').textContent"))
        if at == "BUTTON" and text == "silent":
            page.press("Enter")
            page.until("document.querySelector('.details')?.innerText.includes('Scan group')")

    assert {"skip", "block", "filter", "tag-window", "plot"} <= set(reached)
    assert any(sentence.startswith("silent: DOWN, no answer: silent did not answer") for sentence in said)
    assert page.complaints == []


_FOCUSED = """(() => {
    const at = document.activeElement;
    return [at.id || at.className || at.tagName, at.innerText ?? '', getComputedStyle(at).outlineStyle];
})()"""


def test_fifty_browsers_cost_no_scan(site: Site) -> None:
    """Fifty clients with both streams get at most four events a second, and the gateway goes on with its scans."""
    site.settings.pop("uplink")
    site.add_counter("mixer", every="100 ms")
    add_simulator(site, "reactor", 500, every="1 s")
    site.gateway()
    url, served = serve(site)
    tags = site.wait(lambda: fetch(f"{url}tags")["version"], "the tags")
    before = site.status()
    counts = site.plant.do(_look(int(url.rstrip("/").rpartition(":")[2]), tags))
    after = site.status()

    assert min(counts) >= 3
    assert max(counts) <= (_LOOK_S + 1) * 4
    assert before is not None
    assert after is not None
    for old, new in zip(before.devices, after.devices, strict=True):
        [one], [other] = old.scan_groups, new.scan_groups
        assert other.scans - one.scans >= 0.8 * _LOOK_S * 10**9 / one.every_ns
    served.send(signal.SIGTERM)
    assert served.wait() == 0


async def _look(port: int, tags: str) -> list[int]:
    """How many events each of fifty clients got on each of its streams."""

    async def client(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        assert (await reader.readline()).startswith(b"HTTP/1.1 200"), target
        return reader, writer

    clients = [await client(f"/values?tags={tags}&rows={8 * number}-{8 * number + 40}") for number in range(50)]
    clients += [await client("/events") for _ in range(50)]
    reading = [asyncio.ensure_future(_count(reader)) for reader, _ in clients]
    await asyncio.sleep(_LOOK_S)
    for task in reading:
        task.cancel()
    counts = await asyncio.gather(*reading)
    for _, writer in clients:
        writer.transport.abort()
    return counts


async def _count(reader: asyncio.StreamReader) -> int:
    count = 0
    try:
        while line := await reader.readline():
            count += line.startswith((b"event: overview", b"event: values"))
    except asyncio.CancelledError:
        pass
    return count


def test_the_whole_page_is_small() -> None:
    parts = list((files("edge.page") / "static").iterdir())

    assert sum(len(part.read_bytes()) for part in parts) <= 120_000
    assert sum(part.read_text().count("\n") for part in parts) <= 1_500
    assert format_value(None) == "-"
