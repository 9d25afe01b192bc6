"""What was seen outside the gateway: the other half of every proof."""

from __future__ import annotations

from dataclasses import dataclass

import orjson
from pydantic import TypeAdapter

from hil.simulation import Served


@dataclass(frozen=True, slots=True, kw_only=True)
class Witness:
    """What the devices recorded of themselves, what was measured, and what did not happen although it should have.

    `served` is by `device/tag`.
    """

    served: dict[str, Served]
    figures: dict[str, float]
    troubles: list[str]

    def to_json(self) -> bytes:
        """One JSON document."""
        return orjson.dumps(self)

    @classmethod
    def from_json(cls, document: bytes) -> Witness:
        """The inverse of `to_json`; raises ValueError for anything else."""
        return TypeAdapter(cls).validate_json(document)
