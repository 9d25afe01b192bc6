"""One gateway, broker and relay in their zones, for all tests here: to start them takes the most time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.zones import ZonedLine, Zones


@pytest.fixture(scope="package")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ZonedLine]:
    with Zones(tmp_path_factory.mktemp("zones")) as zones:
        zones.dmz.start_broker()
        yield ZonedLine(zones)
