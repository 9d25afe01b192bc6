"""Which catalogue is in force at a place of a chain: the last one sealed before it. Records may come in any order."""

from __future__ import annotations

from bisect import bisect_left, insort


class CataloguesInForce:
    """The catalogues of one chain, by their digests and places."""

    def __init__(self) -> None:
        self._places: list[int] = []
        self._digests: dict[int, bytes] = {}

    def note(self, seq: int, digest: bytes) -> None:
        """Take a part of a catalogue, which is sealed again each hour."""
        if seq not in self._digests:
            insort(self._places, seq)
        self._digests[seq] = digest

    def at(self, seq: int) -> bytes | None:
        """The digest of the one in force at a place; None where none before it is held."""
        found = bisect_left(self._places, seq)
        return self._digests[self._places[found - 1]] if found else None

    @property
    def first(self) -> bytes | None:
        """The digest of the first one held."""
        return self._digests[self._places[0]] if self._places else None
