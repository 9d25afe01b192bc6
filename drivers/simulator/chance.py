"""Chance that can be repeated: the same seed and number always give the same draw, in any order."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_STEP = np.uint64(0x9E3779B97F4A7C15)
_FIRST = np.uint64(0xBF58476D1CE4E5B9)
_SECOND = np.uint64(0x94D049BB133111EB)
_SHIFTS = np.uint64(30), np.uint64(27), np.uint64(31)
_TOP_53 = np.uint64(11)


def seed_of(device_seed: int, name: str) -> int:
    """A seed for one tag: tags of one device differ, and keep their values when others come and go."""
    return int.from_bytes(blake2b(f"{device_seed} {name}".encode(), digest_size=8).digest(), "little")


def draw(seeds: NDArray[np.uint64], numbers: NDArray[np.int64]) -> NDArray[np.float64]:
    """One draw between -1 and 1 for each seed and number (SplitMix64)."""
    mixed = seeds + numbers.astype(np.uint64) * _STEP
    mixed = (mixed ^ (mixed >> _SHIFTS[0])) * _FIRST
    mixed = (mixed ^ (mixed >> _SHIFTS[1])) * _SECOND
    mixed ^= mixed >> _SHIFTS[2]
    drawn: NDArray[np.float64] = (mixed >> _TOP_53).astype(np.float64) * 2.0**-52 - 1.0
    return drawn
