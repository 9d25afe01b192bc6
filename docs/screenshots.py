"""Take the pictures of the page from a real run, in Debian's Chromium: `make screenshots`. It takes four minutes."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.faults.gateway.site_under_test import sites
from tests.support.browser import chromium
from tests.support.ports import free_port

PICTURES = Path(__file__).parent / "pictures"
_SECONDS = 200  # Until the failures of the plant are on the time line.
_SIZES = {"page": (1280, 1160), "page-phone": (360, 800)}


def _tag(name: str, low: float, high: float, period: str, unit: str, **more: Any) -> dict[str, Any]:
    return {"name": name, "signal": "sine", "low": low, "high": high, "period": period, "type": "float32", "unit": unit,
            "noise": (high - low) / 100, **more}  # fmt: skip


_REACTOR = [
    _tag("temperature", 36.5, 37.5, "2 min", "Cel", range=[36.2, 38]),
    _tag("dissolved-oxygen", 20, 60, "90 s", "%", range=[10, 80]),
    _tag("acidity", 6.9, 7.1, "50 s", "[pH]"), _tag("exhaust-pressure", 180, 240, "70 s", "mbar", range=[160, 250]),
    {"name": "pump-on", "signal": "square", "period": "40 s", "type": "bool"},
    {"name": "phase", "signal": "text", "texts": ["inoculation", "growth", "harvest"], "period": "5 min"},
]  # fmt: skip
_AUTOCLAVE = [
    _tag("chamber-temperature", 20, 134, "9 min", "Cel"),
    _tag("chamber-pressure", 1, 3.1, "9 min", "bar"),
]
_PLANT: dict[str, dict[str, Any]] = {
    "bioreactor-1": {"tags": _REACTOR, "failures": [{"kind": "silent", "at": "60 s", "lasts": "25 s"}]},
    "bioreactor-2": {
        "tags": _REACTOR,
        "failures": [{"kind": "bad", "at": "170 s", "lasts": "1 h", "tags": ["dissolved-oxygen"]}],
    },
    "autoclave": {"tags": _AUTOCLAVE, "failures": []},
}


def main() -> None:
    """Run a plant, and take the pictures."""
    with tempfile.TemporaryDirectory() as folder:
        for site in sites(Path(folder)):
            for seed, (name, plant) in enumerate(_PLANT.items()):
                site.settings["devices"].append({
                    "name": name, "driver": "simulator", "seed": seed, "failures": plant["failures"],
                    "scan_groups": [{"every": "500 ms", "tags": plant["tags"]}],
                })  # fmt: skip
            site.mosquitto()
            site.relay()
            site.gateway()
            port = free_port()
            socket = str(site.state / "status.sock")
            site.command("page", "--socket", socket, "--listen", f"127.0.0.1:{port}", name="page")
            time.sleep(_SECONDS)
            asyncio.run(_take(f"http://127.0.0.1:{port}/"))


async def _take(url: str) -> None:
    async with chromium() as browser:
        for name, (width, height) in _SIZES.items():
            for shade in ("light", "dark"):
                media = [("prefers-color-scheme", shade), ("prefers-reduced-motion", "reduce")]
                page = await browser.open(url, width=width, height=height, media=media)
                await page.until("document.querySelector('.plot')")
                await asyncio.sleep(3)
                await page.picture(PICTURES / f"{name}-{shade}.png")
                await page.close()


if __name__ == "__main__":
    main()
