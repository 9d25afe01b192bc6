"""What each format becomes is a configuration that passes `tidegate check`, and importing it again changes nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.config.check import check
from tests.edge.importers.conftest import Plant
from tests.edge.importers.test_ignition import opc
from tests.edge.importers.test_kepware import PLAIN, SIXTEEN
from tests.edge.importers.test_logix import CSV, INSTRUCTION, MODULES, project, tag
from tests.edge.importers.test_nodeset import NODES
from tests.edge.importers.test_tia import OPENNESS

L5X = project(tag("Drives", "Motor", Dimensions="2") + tag("Map", "DINT", Dimensions="2 3") + tag("V1", "Valve")
              + tag("Recipe", "STRING_20") + tag("T", "TIMER"), INSTRUCTION + MODULES)  # fmt: skip
KEPWARE = f"{SIXTEEN}\nA.B,400001,Word{PLAIN}\nC,400010.20H,String{PLAIN}\nD,400100 [3],Float Array{PLAIN}\n"
IGNITION = json.dumps([opc("a", "[PLC]HRF101"), opc("b", "[PLC]C7", "Boolean"), opc("c", "[PLC]HRS20:8", "String")])


@pytest.mark.parametrize(
    ("driver", "text", "tags"),
    [
        ("ethernetip", L5X, 36),
        ("ethernetip", CSV, 10),
        ("opcua", NODES, 8),
        ("opcua", OPENNESS, 1),
        ("modbus", KEPWARE, 5),
        ("modbus", IGNITION, 3),
    ],
    ids=["L5X", "Logix CSV", "node set", "TIA", "Kepware", "Ignition"],
)
def test_an_imported_file_passes_check_and_is_there_when_it_comes_again(
    tmp_path: Path, driver: str, text: str, tags: int
) -> None:
    plant = Plant(tmp_path, driver)
    file = plant.file(text, "export")

    first, answer = plant.run(file)
    plans = check(plant.config).plans
    before = plant.table.read_bytes()
    again, same = plant.run(file, "--mode", "overwrite")

    assert (first, again) == (0, 0)
    assert sum(plan.cost.tags for plan in plans) == tags
    assert (same["is_written"], same["unchanged"]) == (False, len(answer["differences"]))
    assert plant.table.read_bytes() == before
