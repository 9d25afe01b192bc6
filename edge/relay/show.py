"""From the archive to the view's broker: what was archived is shown at that broker's pace, and again after a loss."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import NoReturn

from edge.errors import BrokerRefused, BrokerUnreachable
from edge.logs import get_logger
from edge.relay.follow import Follower
from edge.relay.receive import RETRY_S_FIRST, Announcer, BrokerAddress, announcing, pause

log = get_logger(__name__)

_SHOWN_AT_ONCE = 64
_MESSAGES_AT_ONCE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewPlan:
    """Where the unified namespace is published."""

    broker: BrokerAddress
    prefix: str = ""


class Show:
    """Publishes what a follower finds; records are read and decoded in a thread of their own."""

    def __init__(self, broker: BrokerAddress, follower: Follower) -> None:
        self._broker, self._follower = broker, follower
        self._thread = ThreadPoolExecutor(1, "view")
        self._has_due = asyncio.Event()
        self._shown: dict[str, bytes] = {}
        self._is_refused = False

    def wake(self) -> None:
        """Something may be due."""
        self._has_due.set()

    def close(self) -> None:
        """Give the thread back."""
        self._thread.shutdown(wait=False)

    async def run(self) -> NoReturn:
        """Connect, show, and begin again, until cancelled."""
        delay_s = RETRY_S_FIRST
        while True:
            try:
                async with announcing(self._broker) as announcer:
                    log.info("view connected", broker=self._broker.host)
                    delay_s = RETRY_S_FIRST
                    await self._publish(announcer)
            except (BrokerRefused, BrokerUnreachable) as error:
                log.warning("view lost", reason=str(error))
            delay_s = await pause(delay_s)

    async def _publish(self, announcer: Announcer) -> NoReturn:
        # What was under way when the last connection was lost is not known: all that is shown is shown again.
        await self._announce(announcer, list(self._shown.items()))
        loop = asyncio.get_running_loop()
        while True:
            self._has_due.clear()
            while self._follower.has_more:
                due = await loop.run_in_executor(self._thread, self._follower.messages, _SHOWN_AT_ONCE)
                self._shown.update(due)
                await self._announce(announcer, due)
            await self._has_due.wait()

    async def _announce(self, announcer: Announcer, messages: list[tuple[str, bytes]]) -> None:
        for at in range(0, len(messages), _MESSAGES_AT_ONCE):
            await announcer.publish(messages[at : at + _MESSAGES_AT_ONCE])
            if bool(announcer.refusal) != self._is_refused:
                self._is_refused = not self._is_refused
                if announcer.refusal:
                    log.error("view refused", reason=announcer.refusal)
                else:
                    log.info("view accepted")
