"""The cost of report by exception: microseconds per scan of 500 float32 tags, by share that moves and by setting."""

from __future__ import annotations

import time

import numpy as np

from edge.model import CatalogueGroup, CatalogueTag, DataType, Reading, Vector
from edge.scan import Reporter

TAGS = 500
SCANS = 20_000
INTERVAL_NS = 100_000_000


def microseconds(share_moving: float, *, deadband: float = 0.0, limits: tuple[float, float] | None = None) -> float:
    """The cost of one scan."""
    random = np.random.default_rng(1)
    tags = tuple(
        CatalogueTag(
            name=str(n), data_type=DataType.FLOAT32, address="", deadband=deadband, range=limits,
            at_least_every_ns=60 * 10**9,
        )
        for n in range(TAGS)
    )  # fmt: skip
    reporter = Reporter(0, CatalogueGroup(device="d", name="g", interval_ns=INTERVAL_NS, tags=tags))
    values = random.uniform(0, 100, TAGS).astype("f4")
    scans: list[tuple[Vector, ...]] = []
    for _ in range(64):
        moving = random.random(TAGS) < share_moving
        if moving.any():
            values = np.where(moving, random.uniform(0, 100, TAGS), values).astype("f4")
            vectors = (values,)
        elif not scans:
            vectors = (values,)
        scans.append(vectors)
    readings = [Reading(scans[n % 64], n * INTERVAL_NS, n * INTERVAL_NS + 1_000_000) for n in range(SCANS)]
    began = time.perf_counter()
    for reading in readings:
        reporter.report(reading)
    return (time.perf_counter() - began) / SCANS * 1e6


def main() -> None:
    """Print the table."""
    print(f"{'':24}{'plain':>10}{'deadband':>10}{'and range':>10}   us per scan of {TAGS} float32")
    for name, share in (("all moving", 1.0), ("5 % moving", 0.05), ("nothing moving", 0.0)):
        plain = microseconds(share)
        deadband = microseconds(share, deadband=0.5)
        both = microseconds(share, deadband=0.5, limits=(0.0, 100.0))
        print(f"{name:24}{plain:10.1f}{deadband:10.1f}{both:10.1f}")


if __name__ == "__main__":
    main()
