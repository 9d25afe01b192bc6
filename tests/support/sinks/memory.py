"""The smallest sink: what the interface asks for, in memory that outlives a session."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from edge.relay.sinks.sink import Parcel, Place, SinkRecord, SinkSession, SinkUnreachable


@dataclass
class MemorySink:
    """A sink, and the subject that it is."""

    stored: dict[Place, SinkRecord] = field(default_factory=dict)
    fallen: dict[Place, str] = field(default_factory=dict)
    mark: str = ""
    refused: set[Place] = field(default_factory=set)
    is_away: bool = False
    is_full: bool = False
    name: str = "memory"
    address: str = "memory"

    @asynccontextmanager
    async def session(self) -> AsyncIterator[SinkSession]:
        await asyncio.sleep(0)
        if self.is_away:
            raise SinkUnreachable("nobody answers")
        yield _Session(self)

    def certificates(self) -> tuple[()]:
        return ()

    def sink(self) -> MemorySink:
        return self

    def kill(self, session: SinkSession) -> None:
        pass

    async def content(self) -> dict[Place, str]:
        return {place: self.fallen.get(place, "") for place in self.stored}

    def take_away(self) -> None:
        self.is_away = True

    def bring_back(self) -> None:
        self.is_away = False

    def refuse(self, place: Place) -> None:
        self.refused.add(place)

    def fill(self) -> None:
        self.is_full = True

    def make_room(self) -> None:
        self.is_full = False


class _Session:
    def __init__(self, sink: MemorySink) -> None:
        self._sink, self.mark = sink, sink.mark

    async def write(self, parcel: Parcel) -> int:
        sink = self._sink
        await asyncio.sleep(0)
        if sink.is_away or sink.is_full:
            raise SinkUnreachable("nobody answers" if sink.is_away else "it is full")
        taken = {record.place: record for record in parcel.records if record.place not in sink.refused}
        await asyncio.sleep(0)
        for place, record in taken.items():
            if place in parcel.anew:
                sink.stored[place] = record
                sink.fallen.pop(place, None)
            sink.stored.setdefault(place, record)
        sink.fallen |= {place: verdict.value for place, verdict in parcel.fallen if place in sink.stored}
        self.mark = sink.mark = parcel.mark
        return len(parcel.records) - len(taken)
