from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from drivers.simulator.settings import SimulatorDevice
from edge.config.validate import settings_from

DeviceMaker = Callable[..., SimulatorDevice]


@pytest.fixture
def make_device() -> DeviceMaker:
    """Makes a device with one scan group; tags without a name get one."""

    def make(tags: Sequence[Mapping[str, Any]], **settings: Any) -> SimulatorDevice:
        rows = [{"name": f"tag-{number}", **tag} for number, tag in enumerate(tags)]
        return settings_from(
            SimulatorDevice,
            {"name": "device", "driver": "simulator", **settings, "scan_groups": [{"every": "100 ms", "tags": rows}]},
        )

    return make
