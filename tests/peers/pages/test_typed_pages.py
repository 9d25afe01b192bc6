"""Pages typed from top to bottom: every command on them works, in this order, and shows what the page shows."""

from __future__ import annotations

from pathlib import Path

from tests.support.ports import free_port
from tests.support.typist import shows, typist


def test_simulating_the_devices_of_a_table(tmp_path: Path) -> None:
    with typist(tmp_path, {"5020": str(free_port())}) as person:
        person.type_page("docs/how-to/simulate-modbus-devices.md")

        assert shows("temperature: 21 Cel  GOOD", person.run("tidegate read lab.yaml reactor temperature")) == ""
