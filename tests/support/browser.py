"""A headless Chromium from Debian, driven over the DevTools protocol through its pipe: no driver and no port."""

from __future__ import annotations

import asyncio
import base64
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.support.waiting import LIMIT_S

_FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-extensions",
    "--disable-dev-shm-usage", "--font-render-hinting=none", "--lang=en",
)  # fmt: skip


class Browser:
    """One Chromium with a profile of its own."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.WriteTransport) -> None:
        self._reader, self._writer = reader, writer
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._pages: dict[str, Page] = {}
        self._last = 0

    async def listen(self) -> None:
        """Take what Chromium says, until it ends."""
        while part := await self._reader.readuntil(b"\0"):
            message = json.loads(part[:-1])
            if "id" in message:
                self._answers.pop(message["id"]).set_result(message)
            elif (page := self._pages.get(message.get("sessionId", ""))) is not None:
                page.take(message["method"], message["params"])

    async def call(self, method: str, session: str = "", **params: Any) -> dict[str, Any]:
        """A command of the protocol, and its result."""
        self._last += 1
        answer = self._answers[self._last] = asyncio.get_running_loop().create_future()
        message = {"id": self._last, "method": method, "params": params}
        if session:
            message["sessionId"] = session
        self._writer.write(json.dumps(message).encode() + b"\0")
        async with asyncio.timeout(LIMIT_S):
            said = await answer
        if "error" in said:
            raise RuntimeError(f"{method}: {said['error']['message']}")
        result: dict[str, Any] = said["result"]
        return result

    async def open(
        self, url: str, *, width: int = 1280, height: int = 900, media: Sequence[tuple[str, str]] = (), first: str = ""
    ) -> Page:
        """A page at an address, before which a script may run; it is not waited for."""
        target = (await self.call("Target.createTarget", url="about:blank"))["targetId"]
        session = (await self.call("Target.attachToTarget", targetId=target, flatten=True))["sessionId"]
        page = self._pages[session] = Page(self, session, target)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await page.call(f"{domain}.enable")
        await page.resize(width, height)
        await page.call(
            "Emulation.setEmulatedMedia", features=[{"name": name, "value": value} for name, value in media]
        )
        await page.call("Page.addScriptToEvaluateOnNewDocument", source=first)
        await page.call("Page.navigate", url=url)
        return page


class Page:
    """One tab.

    Attributes:
        complaints: errors and warnings of its console, and exceptions that nothing caught.
        requested: the addresses that it asked for.
    """

    def __init__(self, browser: Browser, session: str, target: str) -> None:
        self._browser, self._session, self._target = browser, session, target
        self.complaints: list[str] = []
        self.requested: list[str] = []

    def take(self, method: str, params: dict[str, Any]) -> None:
        """An event of the protocol."""
        if method == "Runtime.exceptionThrown":
            self.complaints.append(str(params["exceptionDetails"].get("exception", {}).get("description")))
        elif method == "Runtime.consoleAPICalled" and params["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([each.get("value") for each in params["args"]]))
        elif method == "Log.entryAdded" and params["entry"]["level"] in ("error", "warning"):
            self.complaints.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        elif method == "Network.requestWillBeSent":
            self.requested.append(params["request"]["url"])

    async def call(self, method: str, **params: Any) -> dict[str, Any]:
        """A command of the protocol to this tab."""
        return await self._browser.call(method, self._session, **params)

    async def resize(self, width: int, height: int) -> None:
        """Give the tab another size."""
        await self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                        mobile=False)  # fmt: skip

    async def do(self, expression: str) -> Any:
        """The value of an expression of JavaScript, awaited."""
        said = await self.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        if "exceptionDetails" in said:
            raise RuntimeError(said["exceptionDetails"].get("exception", {}).get("description", str(said)))
        return said["result"].get("value")

    async def until(self, expression: str, limit_s: float = LIMIT_S) -> Any:
        """The value of an expression once it is true; raises TimeoutError."""
        try:
            async with asyncio.timeout(limit_s):
                while not (value := await self.do(f"(it => it instanceof Node || it)({expression})")):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
        except TimeoutError as error:
            raise TimeoutError(
                f"{expression} did not become true; the page says {await self.text()!r:.2000}"
            ) from error
        return value

    async def text(self) -> str:
        """Everything that can be read."""
        return str(await self.do("document.body.innerText"))

    async def press(self, *keys: str) -> None:
        """Press keys, one after the other; a character is typed."""
        codes = {
            "Tab": 9,
            "Enter": 13,
            "Escape": 27,
            " ": 32,
            "ArrowDown": 40,
            "ArrowLeft": 37,
            "PageDown": 34,
            "End": 35,
        }
        for key in keys:
            text = {"Enter": "\r"}.get(key, key if len(key) == 1 else "")
            more = {"key": key, "windowsVirtualKeyCode": codes.get(key, ord(key[0].upper())), "code": key}
            await self.call("Input.dispatchKeyEvent", type="keyDown" if text else "rawKeyDown", text=text, **more)
            await self.call("Input.dispatchKeyEvent", type="keyUp", **more)

    async def picture(self, path: Path, *, is_whole: bool = False) -> None:
        """Save what is seen, or the whole page, as PNG."""
        data = (await self.call("Page.captureScreenshot", format="png", captureBeyondViewport=is_whole))["data"]
        await asyncio.to_thread(path.write_bytes, base64.b64decode(data))

    async def printed(self) -> bytes:
        """The page as PDF."""
        return base64.b64decode((await self.call("Page.printToPDF", preferCSSPageSize=True))["data"])

    async def close(self) -> None:
        """Close the tab."""
        await self._browser.call("Target.closeTarget", targetId=self._target)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """A running browser."""
    loop = asyncio.get_running_loop()
    to_browser, from_browser = os.pipe(), os.pipe()
    with TemporaryDirectory(prefix="chromium", ignore_cleanup_errors=True) as profile:
        command = " ".join(["exec", "chromium", *_FLAGS, f"--user-data-dir={profile}", "about:blank"])
        shell = f"exec 3<&{to_browser[0]} 4>&{from_browser[1]}; {command}"
        process = await asyncio.create_subprocess_exec(
            "bash", "-c", shell, pass_fds=(to_browser[0], from_browser[1]),
            stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
        os.close(to_browser[0])
        os.close(from_browser[1])
        reader = asyncio.StreamReader(limit=64 * 2**20)
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(from_browser[0], "rb"))
        writer, _ = await loop.connect_write_pipe(asyncio.Protocol, os.fdopen(to_browser[1], "wb"))
        browser = Browser(reader, writer)
        listening = asyncio.ensure_future(browser.listen())
        try:
            yield browser
        finally:
            listening.cancel()
            writer.close()
            try:
                async with asyncio.timeout(5):
                    await process.wait()
            except TimeoutError:
                os.killpg(process.pid, 9)
                await process.wait()
