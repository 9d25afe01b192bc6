"""What one scan asks of a device, and what came of it."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import Enum

from drivers.modbus.codec import Request


class Fault(Enum):
    """Why a request has no data, where it was not an exception code of the device."""

    UNANSWERED = "no answer"
    WRONG = "a wrong answer"


class Exchange:
    """The requests of one scan on their way through a conversation."""

    __slots__ = ("answered_at_ns", "asked", "asked_at_ns", "data", "done", "doubts", "faults", "image", "left",
                 "requests", "timeout_s", "violations")  # fmt: skip

    def __init__(self, requests: Sequence[Request], image: bytearray, timeout_s: float) -> None:
        self.requests = requests
        self.image = image
        self.timeout_s = timeout_s
        self.asked = 0
        self.doubts = 0
        self.left = len(requests)
        self.faults: dict[Request, Fault | int] = {}
        self.data: dict[Request, bytes] = {}
        self.violations: list[str] = []
        self.asked_at_ns = 0
        self.answered_at_ns = 0
        self.done: asyncio.Future[None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether nobody waits for it: it is done, or was cancelled."""
        return self.done is None or self.done.done()

    @property
    def is_unanswered(self) -> bool:
        """Whether the device said nothing at all."""
        return len(self.faults) == len(self.requests) and all(
            fault is Fault.UNANSWERED for fault in self.faults.values()
        )

    @property
    def is_answered_so_far(self) -> bool:
        """Whether the device said something, and was not silent to anything yet."""
        return len(self.requests) > self.left and Fault.UNANSWERED not in self.faults.values()

    def fail_rest(self) -> None:
        """Do without what was not asked for yet."""
        for request in self.requests[self.asked :]:
            self.faults[request] = Fault.UNANSWERED
            self.left -= 1
        self.asked = len(self.requests)
