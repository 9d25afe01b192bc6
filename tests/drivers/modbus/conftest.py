from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pytest

from drivers.modbus.settings import ModbusDevice
from edge.config.validate import settings_from

DeviceMaker = Callable[..., ModbusDevice]


@pytest.fixture
def make_device() -> DeviceMaker:
    """A device with one scan group; tags are (address, type) or dictionaries of settings."""

    def make(tags: Sequence[Mapping[str, Any] | tuple[str, str | None]], **settings: Any) -> ModbusDevice:
        rows = [dict(tag) if isinstance(tag, Mapping) else {"address": tag[0], "type": tag[1]} for tag in tags]
        for number, row in enumerate(rows):
            row.setdefault("name", f"tag-{number}")
        return settings_from(
            ModbusDevice,
            {"name": "device", "driver": "modbus", "host": "127.0.0.1", **settings}
            | {"scan_groups": [{"every": "100 ms", "tags": rows}]},
        )

    return make
