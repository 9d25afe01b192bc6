"""What browsers get: a few files, and two streams of events, of which none can ask for more than is shown already.

A browser that is led here by another site's name or script is refused, on loopback too: the host that it asks for must
be a number, localhost, or a name that was given, as only a name can be made to mean another machine.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from importlib.resources import files
from ipaddress import ip_address
from urllib.parse import urlsplit

import orjson

from edge import http
from edge.page.source import SPANS, Source, load_what_reads_status

STREAMS_LIMIT = 128
"""Most streams at once: two of a browser that shows tags."""
SERVICE = http.Service(name="page", setting="--listen", tls_setting="--certificate, --key and --ca", connections=192)

_ROWS_LIMIT = 400
_KEEP_ALIVE_S = 10.0
_TICK_S = 0.25
_TYPES = {"html": "text/html; charset=utf-8", "css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8",
          "svg": "image/svg+xml"}  # fmt: skip
_HEADERS = (
    ("Content-Security-Policy",
     ("default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; base-uri 'none'; "
     "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
    ("Cache-Control", "no-store"),
)  # fmt: skip

Handler = Callable[[http.Request], Awaitable[http.Response]]


class PageServer:
    """Answers browsers from the sources, which may become more while it runs."""

    def __init__(self, sources: Mapping[str, Source], names: Sequence[str] = ()) -> None:
        """Not for the event loop: it reads files.

        `names` are the host names under which browsers reach the page, besides localhost and addresses.
        """
        self._sources = sources
        self._names = {"localhost", *(name.lower() for name in names)}
        self._streams = 0
        folder = files("edge.page") / "static"
        self._files = {f"/{each.name}": each.read_bytes() for each in folder.iterdir()}
        self._files["/"] = self._files.pop("/index.html")
        load_what_reads_status()

    async def answer(self, request: http.Request) -> http.Response:
        """The answer to a request."""
        response = self._answer(request)
        kept = (*response.headers, *_HEADERS)
        return http.Response(response.status, response.content_type, response.body, kept, response.stream)

    def _answer(self, request: http.Request) -> http.Response:
        if not self._is_meant(request):
            sentence = b"This page is not served under that name; tidegate page --name adds one.\n"
            return http.Response("403 Forbidden", body=sentence)
        if (file := self._files.get(request.path)) is not None:
            kind = request.path.rpartition(".")[2] if request.path != "/" else "html"
            return http.Response(content_type=_TYPES[kind], body=file)
        if request.path not in ("/status", "/tags", "/history", "/events", "/values"):
            return http.Response("404 Not Found", body=b"There is no such page here.\n")
        source = self._source(request.query.get("of", ""))
        if source is None:
            return http.Response("404 Not Found", body=b"No gateway or relay of that name is known here.\n")
        return self._of_source(source, request)

    def _is_meant(self, request: http.Request) -> bool:
        hosts = [request.headers.get("host", "")]
        if (origin := request.headers.get("origin")) is not None:
            hosts.append(urlsplit(origin).netloc)
        if request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin") and request.path != "/":
            return False
        return all(self._is_ours(host) for host in hosts)

    def _is_ours(self, host: str) -> bool:
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        with suppress(ValueError):
            return bool(ip_address(name))
        return name in self._names

    def _source(self, key: str) -> Source | None:
        if not key:
            return next(iter(self._sources.values()), None)
        return self._sources.get(key)

    def _of_source(self, source: Source, request: http.Request) -> http.Response:
        json = "application/json"
        match request.path:
            case "/status":
                if source.answer is None or source.away is not None:
                    why = source.away[1] if source.away else "it was not asked yet"
                    return http.Response("503 Service Unavailable", body=f"{why}\n".encode())
                return http.Response(content_type=json, body=orjson.dumps(source.answer))
            case "/tags":
                body = source.catalogue.json if source.catalogue else b'{"version":"","groups":[]}'
                return http.Response(content_type=json, body=body)
            case "/history":
                span_ns = SPANS.get(request.query.get("span", ""), SPANS["hour"])
                return http.Response(content_type=json, body=source.history(span_ns))
            case "/events":
                return self._stream(lambda writer: self._send_events(source, writer))
        tags = _numbers(request.query.get("rows", ""))
        catalogue = source.catalogue
        if catalogue is None or request.query.get("tags") != catalogue.version:
            return http.Response("409 Conflict", body=b"The tags are other ones now.\n")
        chosen = [tag for tag in tags if tag < len(catalogue.tags)]
        return self._stream(lambda writer: _send_values(source, chosen, writer))

    def _stream(self, stream: http.Stream) -> http.Response:
        if self._streams >= STREAMS_LIMIT:
            body = b"Too many browsers look at this page; close some.\n"
            return http.Response("503 Service Unavailable", body=body)

        async def counted(writer: asyncio.StreamWriter) -> None:
            self._streams += 1
            try:
                await http.send(writer, b"retry: 1000\n\n")
                await stream(writer)
            finally:
                self._streams -= 1

        return http.Response(content_type="text/event-stream", stream=counted)

    async def _send_events(self, source: Source, writer: asyncio.StreamWriter) -> None:
        seen, recent = -1, b""
        while True:
            if source.version != seen:
                rows = source.changed_rows if source.version == seen + 1 and seen >= 0 else source.all_rows
                seen = source.version
                told = b"" if source.recent == recent else _event("recent", source.recent)
                recent = source.recent
                await http.send(writer, _event("overview", self._overview(source)) + _event("rows", rows) + told)
            if not await source.status_notice.wait(_KEEP_ALIVE_S):
                await http.send(writer, b":\n\n")

    def _overview(self, source: Source) -> bytes:
        local = time.localtime()
        return orjson.dumps({
            "now": time.time_ns() // 10**6, "zone": [local.tm_zone, local.tm_gmtoff * 1000],
            "of": source.key, "away": source.away, "tags": source.catalogue.version if source.catalogue else "",
            "is_tagged": bool(source.answer and source.answer.gateway.live_socket),
            "sources": [[each.key, each.name, each.verdict] for each in self._sources.values()],
            "overview": orjson.Fragment(source.overview),
        })  # fmt: skip


def _event(name: str, data: bytes) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), data)


def _numbers(text: str) -> list[int]:
    """The numbers of a text such as 0-40,55; at most so many as are shown at once."""
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        if first.isdecimal() and (last.isdecimal() or not last):
            start = int(first)
            numbers += range(start, min(int(last or first) + 1, start + _ROWS_LIMIT))
    return list(dict.fromkeys(numbers))[:_ROWS_LIMIT]


async def _send_values(source: Source, tags: Sequence[int], writer: asyncio.StreamWriter) -> None:
    """First the trends, then what changes, until the tags of the gateway are other ones."""
    catalogue, trends = source.catalogue, source.trends
    assert catalogue is not None
    assert trends is not None
    forget = source.watch(tags)
    groups = sorted({catalogue.tags[tag].group for tag in tags})
    cell, not_good, seen = -1, [-1], 0
    sent_at: dict[int, int] = {}
    try:
        while catalogue is source.catalogue:
            document: dict[str, object] = {}
            if trends.cell != cell:
                cells = None if cell < 0 else min(trends.cell - cell, 120)
                document["trends"] = [[tag, trends.last(tag, cells or 120)] for tag in tags]
                cell = trends.cell
            if source.not_good != not_good:
                document["not_good"] = not_good = source.not_good
            rows = [[tag, *known[1]] for tag in tags if (known := source.values.get(tag)) and known[0] > seen]
            seen = source.values_version
            if rows:
                document["rows"] = rows
            at = {group: source.read_at[group] for group in groups if group in source.read_at}
            if at != sent_at:
                document["at"] = sent_at = at
            if document:
                document["now"] = time.time_ns() // 10**6
                text = orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS)
                await http.send(writer, _event("values", text))
                await asyncio.sleep(_TICK_S / 2)
            if not await source.values_notice.wait(_KEEP_ALIVE_S):
                await http.send(writer, b":\n\n")
    finally:
        forget()
