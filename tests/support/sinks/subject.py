"""What the conformance suite needs of a sink besides the interface."""

from __future__ import annotations

from typing import Protocol

from edge.relay.sinks.sink import Place, Sink, SinkSession


class SinkSubject(Protocol):
    """A sink and what is behind it."""

    def sink(self) -> Sink:
        """The sink; each call as by a process of its own."""

    def kill(self, session: SinkSession) -> None:
        """End what a session holds, as the end of the process does."""

    async def content(self) -> dict[Place, str]:
        """What is stored: for each place the verdict by which it fell, or nothing."""

    def take_away(self) -> None:
        """Nobody answers."""

    def bring_back(self) -> None:
        """It answers again."""

    def refuse(self, place: Place) -> None:
        """Refuse the record of a place for good."""

    def fill(self) -> None:
        """There is no room."""

    def make_room(self) -> None:
        """There is room again."""
