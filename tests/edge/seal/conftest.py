"""A gateway's chain to look at."""

from __future__ import annotations

import pytest

from tests.support.chains import Plant, grow, start


@pytest.fixture(scope="session")
def plant() -> Plant:
    """64 records with checkpoints at 20, 40 and 60, keys at 33, and a clean stop."""
    return grow(start(), 62)
