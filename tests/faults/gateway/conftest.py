from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.gateway.site_under_test import Site, sites


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    yield from sites(tmp_path)
