"""A site whose units run batches: each context and each scan is sealed by hand, so that the truth is known."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock
from edge.seal import Context
from tests.edge.report.conftest import S, Site, ns
from tests.support.chains import BOOT_NS


def group(device: str) -> CatalogueGroup:
    """A scan group of two tags, read each second."""
    tags = tuple(
        CatalogueTag(name=name, data_type=DataType.FLOAT32, address=name, unit="degC") for name in ("temp", "jacket")
    )
    return CatalogueGroup(device=device, name="fast", interval_ns=S, tags=tags)


PLANT = Catalogue(path="acme/basel", groups=(group("reactor"), group("dryer"), group("hall")))
REACTOR, DRYER, HALL = range(3)


class BatchSite(Site):
    """Units of one gateway; a hall that belongs to none."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)
        super().__init__(folder, catalogue=PLANT)

    def context(self, second: float, unit: str = "r-1", *, before: float = 0.4, **members: str | None) -> int:
        """The unit does this since `second`, and at most `before` earlier; returns the number of the context."""
        number = self.plant.chain.head.seq + 1
        self.last = Context(number=number, unit=unit, members=members, from_ns=ns(second - before), to_ns=ns(second),
                          sources={name: ("reactor", name) for name in members})  # fmt: skip
        self.seal(self.last)
        return number

    def again(self, number: int, content: Context) -> None:
        """The context is sealed again under its number, as it is each hour."""
        self.seal(replace(content, number=number))

    def scan(self, seconds: Iterable[float], context: tuple[int, ...] = (), of: int = REACTOR) -> None:
        """The group is read at each of these seconds, in this context."""
        for second in seconds:
            at_ns = BOOT_NS + int(second * S)
            values = np.array([second, -second], np.float32)
            self.block(second, SampleBlock(of, at_ns, at_ns, (values,), context=context))
