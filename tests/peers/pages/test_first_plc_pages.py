"""The pages for a first value of each protocol, typed from top to bottom by somebody who has a device."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.peers.pages.devices import beside_logix, beside_modbus, beside_opc_ua, beside_serial

pytestmark = pytest.mark.timeout(300)


def test_a_first_value_of_modbus(tmp_path: Path) -> None:
    with beside_modbus(tmp_path) as person:
        person.type_page("docs/how-to/first-modbus.md")


def test_a_first_value_of_opc_ua(tmp_path: Path) -> None:
    with beside_opc_ua(tmp_path) as person:
        person.type_page("docs/how-to/first-opc-ua.md")


def test_a_first_value_of_a_logix_controller(tmp_path: Path) -> None:
    with beside_logix(tmp_path) as person:
        person.type_page("docs/how-to/first-logix.md")


def test_a_first_value_of_a_serial_line(tmp_path: Path) -> None:
    with beside_serial(tmp_path) as person:
        person.type_page("docs/how-to/first-serial.md")
