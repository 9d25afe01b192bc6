"""Devices of each protocol behind a network that breaks: data flow again by themselves once it is mended (R9).

Unplugged: no packet arrives, either way. Rebooted meanwhile: the connections that the gateway still has are half open,
and the device knows nothing of them. Its namespaces may have another order then. `python -m bench.devices_return` says
how long each takes.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hil.namespaces import Machine
from tests.faults.network.devices_cut_off import Plant, cut_off


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with Machine(tmp_path_factory.mktemp("machine")) as machine:
        plant = Plant(machine)
        yield plant
        plant.gateway.terminate()
        assert plant.gateway.wait() == 0
        assert "Traceback" not in (plant.folder / "log").read_text()


def test_devices_that_were_unplugged_are_read_again(plant: Plant) -> None:
    plant.wait_until_read()

    with cut_off(plant):
        pass

    plant.wait_until_read()


def test_devices_that_were_rebooted_behind_half_open_connections_are_read_again(plant: Plant) -> None:
    plant.wait_until_read()

    for in_other_order in (False, True):
        with cut_off(plant):
            plant.switch_off()
            plant.switch_on(in_other_order=in_other_order)

        plant.wait_until_read()
