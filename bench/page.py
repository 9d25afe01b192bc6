"""The page of a gateway with 5,000 tags at 1 s: first paint in Chromium, CPU with viewers, scans, and after a restart.

A viewer is a client with both streams of a browser that shows 40 tags. CPU is that of the page's process and what the
gateway needs more than without it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
import urllib.request
from pathlib import Path

from bench.results import Row, store
from tests.faults.gateway.site_under_test import Process, Site, sites
from tests.support.browser import chromium
from tests.support.ports import free_port

DEVICES, TAGS = 5, 1000
_PAINT = """performance.getEntriesByName('first-contentful-paint')[0]?.startTime"""
_COMMAND = "python -m bench.page"


def _cpu_s(process: Process) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _missed(site: Site) -> tuple[int, int]:
    status = site.status()
    assert status is not None
    groups = [group for device in status.devices for group in device.scan_groups]
    return sum(group.skipped_scans + group.failed_scans for group in groups), sum(group.due_scans for group in groups)


async def _paint(url: str) -> tuple[float, float]:
    """Milliseconds to the first paint, and to a page with figures."""
    async with chromium() as browser:
        page = await browser.open(url)
        await page.until("document.getElementById('word')?.textContent !== 'UNKNOWN'")
        shown = await page.do("performance.now()")
        return float(await page.until(_PAINT)), float(shown)


async def _watch(port: int, version: str, viewers: int, seconds: float) -> None:
    async def read(target: str) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        try:
            while await reader.read(1 << 16):
                pass
        finally:
            writer.transport.abort()

    first = [number * (DEVICES * TAGS // viewers) for number in range(viewers)]
    targets = [f"/values?tags={version}&rows={at}-{at + 39}" for at in first] + ["/events"] * viewers
    tasks = [asyncio.ensure_future(read(target)) for target in targets]
    await asyncio.sleep(seconds)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def _get(url: str) -> bytes:
    with urllib.request.urlopen(url) as answer:
        return bytes(answer.read())


def measure(site: Site, seconds: float) -> list[Row]:
    """All figures."""
    point = {"signal": "sine", "low": 10, "high": 90, "type": "float32", "unit": "Cel"}
    for device in range(DEVICES):
        tags = [{"name": f"point-{tag:04}", "period": f"{10 + tag % 90} s", **point} for tag in range(TAGS)]
        groups = [{"every": "1 s", "tags": tags}]
        site.settings["devices"].append({"name": f"mixer-{device}", "driver": "simulator", "scan_groups": groups})
    site.settings.pop("uplink")
    gateway, port = site.gateway(is_awaited=False), free_port()
    site.wait(lambda: gateway.said("running"), "the gateway to run", 120)
    began_s = _cpu_s(gateway)
    time.sleep(seconds)
    alone = (_cpu_s(gateway) - began_s) / seconds
    url, socket = f"http://127.0.0.1:{port}/", str(site.state / "status.sock")
    page = site.command("page", "--socket", socket, "--listen", f"127.0.0.1:{port}", "--log", "json", name="page")
    site.wait(lambda: page.said("page served"), "the page")
    version = site.wait(
        lambda: b'"version":"",' not in (text := _get(f"{url}tags")) and text[12:20], "the tags"
    ).decode()
    painted, shown = asyncio.run(_paint(url))
    figures: dict[int, tuple[float, float, int, int]] = {}
    for viewers in (10, 50):
        missed, due = _missed(site)
        before = _cpu_s(page), _cpu_s(gateway)
        asyncio.run(_watch(port, version, viewers, seconds))
        after = _cpu_s(page), _cpu_s(gateway)
        now_missed, now_due = _missed(site)
        of_page, of_gateway = ((new - old) / seconds for new, old in zip(after, before, strict=True))
        figures[viewers] = of_page, of_gateway - alone, now_missed - missed, now_due - due
    gateway.stop()
    gateway = site.gateway(is_awaited=False)
    site.wait(site.status, "the status", 120)
    answered_s = time.monotonic()
    site.wait(lambda: b'"away":null' in _first_event(port), "the page to be live again")
    back_s = time.monotonic() - answered_s

    def row(figure: str, goal: str, measured: str) -> Row:
        return Row(figure=f"Page {figure}", goal=goal, measured=measured, command=_COMMAND)

    return [
        row("5,000 tags, first paint", "<= 1 s", f"{painted:.0f} ms; with figures after {shown:.0f} ms"),
        *(row(f"5,000 tags, CPU with {viewers} viewers", "<= 5 % of a core" if viewers == 10 else "-",
              f"{of_page:.1%} the page, {of_gateway:.1%} more in the gateway")
          for viewers, (of_page, of_gateway, _, _) in figures.items()),
        row("5,000 tags, scans missed with 50 viewers", "none", f"{figures[50][2]} of {figures[50][3]}"),
        row("live after the gateway answers again", "<= 3 s", f"{back_s:.1f} s"),
    ]  # fmt: skip


def _first_event(port: int) -> bytes:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/events") as stream:
        return b"".join(stream.readline() for _ in range(4))


def main() -> None:
    """Measure, and keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory(prefix="page-") as place:
        for site in sites(Path(place)):
            store(measure(site, seconds))


if __name__ == "__main__":
    main()
