"""Whatever a Modbus device sends, a value is right or it is BAD."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from edge.testing.hostile.behaviour import Behaviour
from edge.testing.hostile.modbus import MODBUS_TCP
from edge.testing.hostile.trial import trial

SCANS = 3


@pytest.mark.parametrize("in_flight", [1, 3], ids=["in turn", "pipelined"])
@pytest.mark.parametrize("behaviour", MODBUS_TCP.behaviours, ids=lambda behaviour: behaviour.id)
async def test_a_hostile_modbus_device_never_yields_a_wrong_value(
    behaviour: Behaviour, in_flight: int, tmp_path: Path
) -> None:
    limits = {**MODBUS_TCP.settings["limits"], "in_flight": in_flight}
    async with trial(MODBUS_TCP, replace(behaviour, settings={"limits": limits}), tmp_path) as device:
        found = await device.scan(SCANS)
        device.peer.behave()
        sessions = await device.scan_until_good()

    assert device.judge.wrong == []
    assert [(scan, outcome) for scan, outcome in enumerate(found) if outcome not in behaviour.expects(scan)] == []
    assert sessions <= 2
