from __future__ import annotations

from collections.abc import Iterator

import pytest

from edge.testing.logix import Controller, LogixServer, in_thread
from edge.testing.logix.showcase import showcase


@pytest.fixture
def plc() -> Controller:
    return showcase()


@pytest.fixture
def logix(plc: Controller) -> Iterator[LogixServer]:
    with in_thread(plc) as (server,):
        yield server
    assert plc.writes_asked == 0
