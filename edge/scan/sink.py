"""Where polling hands on what it yields."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from edge.model import Identity, SampleBlock, TagMetadata


class Sink(Protocol):
    """Takes what polling yields, and never makes it wait."""

    def block(self, block: SampleBlock, *, urgent: bool) -> None:
        """One scan; an urgent one is sealed at once."""
        ...

    def gap(self, group: int, from_ns: int, to_ns: int | None, status: int, detail: str) -> None:
        """A silent stretch of a scan group, in boot time: told when it begins (`to_ns` None) and when it ends."""
        ...

    def event(self, kind: str, subject: str, data: Mapping[str, str | int | None]) -> None:
        """Something for the audit trail; `subject` names the device."""
        ...

    def identified(self, device: str, identity: Identity) -> None:
        """What a device says it is, when it is heard for the first time or is another than before."""
        ...

    def tag_metadata(self, group: int, metadata: Sequence[TagMetadata]) -> None:
        """What a device says of each tag of a scan group, with every session; nothing where it says nothing."""
        ...
