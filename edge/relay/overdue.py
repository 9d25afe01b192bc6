"""Which values of a view were read when the calibration of their instrument was overdue."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from edge.model import CatalogueGroup
from edge.relay.archive import RecordLocation
from edge.seal import Calibrations
from edge.seal.cbor import I64
from edge.verify.calibrations import CalibrationHistory

_RECORDS_LIMIT = 1000


class KnownCalibrations:
    """The calibrations of one gateway, and where they are on record.

    Attributes:
        version: counts up with what is known.
        locations: of the newest record of each content.
    """

    def __init__(self) -> None:
        self.history = CalibrationHistory()
        self.version = 0
        self.locations: dict[Calibrations, RecordLocation] = {}

    def learn(self, content: Calibrations, location: RecordLocation) -> None:
        """Take a record; most say again what is known."""
        self.version += self.history.note(content, content)
        self.locations.pop(content, None)
        self.locations[content] = location
        while len(self.locations) > _RECORDS_LIMIT:
            oldest = next(iter(self.locations))
            del self.locations[oldest]
            self.history.withdraw(oldest)

    def forget(self, gateway: str, day: str) -> None:
        """Forget the locations in one file; what is known stays known."""
        self.locations = {content: at for content, at in self.locations.items() if at[:2] != (gateway, day)}


class OverdueTags:
    """The tags of a scan group whose calibration was overdue; from one value to the next it is mostly the same."""

    def __init__(self, group: CatalogueGroup, known: KnownCalibrations) -> None:
        self._names = [(group.device, tag.name) for tag in group.tags]
        self._known = known
        self._version = 0
        self._from_ns, self._to_ns = I64
        self._mask: NDArray[np.bool_] | None = None

    def at(self, utc_ns: int) -> NDArray[np.bool_] | None:
        """Mask of the tags of a reading of this time; None where there is none."""
        if self._version != self._known.version or not self._from_ns <= utc_ns < self._to_ns:
            self._find(utc_ns)
        return self._mask

    def _find(self, utc_ns: int) -> None:
        self._version = self._known.version
        self._from_ns, self._to_ns = I64
        mask = np.zeros(len(self._names), np.bool_)
        for tag, name in enumerate(self._names):
            for span in self._known.history.of(*name):
                if (overdue_ns := span.overdue_ns) is None:
                    continue
                mask[tag] |= overdue_ns[0] <= utc_ns < overdue_ns[1]
                for moment_ns in overdue_ns:
                    if moment_ns <= utc_ns:
                        self._from_ns = max(self._from_ns, moment_ns)
                    else:
                        self._to_ns = min(self._to_ns, moment_ns)
        self._mask = mask if mask.any() else None
