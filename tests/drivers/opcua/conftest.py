"""Shared by the tests of the OPC UA driver: a real server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.testing.clock import ManualClock
from tests.drivers.opcua.plant import Plant


@pytest.fixture(scope="module")
def running_plant() -> Iterator[Plant]:
    with Plant() as plant:
        yield plant


@pytest.fixture
def plant(running_plant: Plant) -> Iterator[Plant]:
    """The server of this module, in its first state."""
    running_plant.reads.clear()
    yield running_plant
    running_plant.before_read = None
    running_plant.end_connections()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()
