"""Current values for whoever looks: converted one request after the other, and with a bounded share of a core."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from edge.gateway.control import Request

_REST = 9
"""For how many times as long as an answer took none is made: at most a tenth of a core goes to who only looks."""
_TAGS_LIMIT = 4000


class LiveValues:
    """Answers questions for values that scans have brought already; however many ask, scans keep their time."""

    def __init__(self, convert: Callable[[Request], Awaitable[bytes]]) -> None:
        self._convert = convert
        self._turn = asyncio.Lock()
        self._free_s = 0.0

    async def answer(self, request: Request) -> bytes:
        """The values. Raises LookupError where the gateway does not read that device, or too many tags are named."""
        if len(request.tags) > _TAGS_LIMIT:
            raise LookupError(f"at most {_TAGS_LIMIT} tags can be named at once; name none for all of a device")
        loop = asyncio.get_running_loop()
        async with self._turn:
            await asyncio.sleep(self._free_s - loop.time())
            began_s = loop.time()
            answer = await self._convert(request)
            self._free_s = loop.time() + _REST * (loop.time() - began_s)
        return answer
