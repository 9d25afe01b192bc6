"""What a configuration says of instruments that cannot be is a warning with its place: values are recorded anyway."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config.check import check

SITE = """\
gateway: {name: line-4, path: p}
uplink: {mqtt: {host: 127.0.0.1, tls: "off"}}
devices:
  - name: plc
    driver: modbus
    host: 127.0.0.1
    scan_groups:
      - every: 1 s
        tags_from: tags.csv
        tags:
          - {name: a, address: holding 1, type: int16%s}
          - {name: b, address: holding 2, type: int16%s}
"""


def warnings(folder: Path, first: str, second: str = "", rows: str = "") -> list[tuple[int, int, str]]:
    (folder / "tags.csv").write_text(
        f"name,address,type,instrument,calibration_certificate\nc,holding 3,int16,{rows}\n"
    )
    (folder / "site.yaml").write_text(SITE % (first, second))
    checked = check(folder / "site.yaml")
    assert not checked.errors
    return [(each.line, each.column, each.message) for each in checked.warnings if "free" not in each.message]


@pytest.mark.parametrize(("due", "is_said"), [("2025-03-31", True), ("2026-03-31", False), ("2027-03-31", False)])
def test_a_due_day_before_the_calibration(tmp_path: Path, due: str, is_said: bool) -> None:
    found = warnings(tmp_path, f", calibrated_on: 2026-03-31, calibration_due: {due}", rows=",")

    message = f"{due} is before calibrated_on, which is 2026-03-31: are they mixed up?"
    assert found == ([(11, 100, message)] if is_said else [])


def test_one_instrument_behind_two_tags_with_other_certificates(tmp_path: Path) -> None:
    one = ", instrument: TT-1, calibration_certificate: C-1"

    same = warnings(tmp_path, one, one, "TT-2,C-3")
    other = warnings(tmp_path, one, one.replace("C-1", "C-2"), "TT-1,C-3")

    assert same == []
    asks = "is one of them of another instrument?"
    assert other == [
        (12, 99, f"instrument TT-1 has C-2 here and C-1 in line 11: {asks}"),
        (2, 5, f"instrument TT-1 has C-3 here and C-1 in {tmp_path / 'site.yaml'}:11: {asks}"),
    ]
