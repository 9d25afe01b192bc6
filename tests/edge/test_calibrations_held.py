"""A gateway keeps since when each calibration holds, and tells once that one is due, over restarts too."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from pathlib import Path

import pytest

from edge.config.check import check
from edge.config.settings import GatewaySettings
from edge.driver import DeviceSettings
from edge.gateway.calibrations import CalibrationKeeper, HeldCalibrations, is_same_but_for_calibration
from edge.health import InstrumentStatus
from edge.seal import Calibration, Event
from edge.sentences import sentence

DAY_NS = 86_400 * 10**9
NOW_NS = 20_500 * DAY_NS + 15 * 3600 * 10**9


def day(days: int) -> str:
    """The date so many days from now."""
    return str(date(1970, 1, 1) + timedelta(20_500 + days))


@dataclass
class Gateway:
    folder: Path
    events: list[tuple[str, str, Mapping[str, str | int]]] = field(default_factory=list)

    def settings(self, **tags: str) -> GatewaySettings:
        """A device with these tags, each with more keys."""
        rows = "\n".join(f"          - {{name: {name}, address: holding {number}, type: int16{more}}}"
                         for number, (name, more) in enumerate(tags.items()))  # fmt: skip
        (self.folder / "site.yaml").write_text(
            "gateway: {name: line-4, path: p}\ndevices:\n  - name: plc\n    driver: modbus\n    host: 127.0.0.1\n"
            f"    scan_groups:\n      - every: 1 s\n        tags:\n{rows}\n"
        )
        return check(self.folder / "site.yaml").gateway()

    def keeper(self) -> CalibrationKeeper:
        """As a start of the gateway makes it."""
        return CalibrationKeeper(self.folder / "calibrations.json", lambda *event: self.events.append(event))

    def told(self, keeper: CalibrationKeeper, days: float = 0) -> list[tuple[str, object]]:
        """Instruments and days left of the events that a check so many days from now records."""
        before = len(self.events)
        asyncio.run(keeper.check(NOW_NS + round(days * DAY_NS)))
        return [(subject, data["days_left"]) for _, subject, data in self.events[before:]]


def take(keeper: CalibrationKeeper, settings: GatewaySettings, days: float = 0) -> HeldCalibrations:
    held = keeper.plan(settings, NOW_NS + round(days * DAY_NS))
    keeper.use(held)
    return held


def since(held: HeldCalibrations) -> dict[str, tuple[str, float]]:
    """Certificates of tags, and since how many days from now they hold."""
    return {each.tag: (each.certificate, (each.since_ns - NOW_NS) / DAY_NS) for each in held.entries}


def certificate(name: str, due: int | None = None) -> str:
    return f", instrument: TT-1, calibration_certificate: {name}" + (f", calibration_due: {day(due)}" if due else "")


def test_what_holds_keeps_its_beginning_over_changes_of_others_and_restarts(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    keeper = gateway.keeper()

    first = take(keeper, gateway.settings(a=certificate("C-1"), b=certificate("C-1"), plain=""))
    second = take(keeper, gateway.settings(a=certificate("C-1"), b=certificate("C-2")), 1)
    third = take(gateway.keeper(), gateway.settings(a=certificate("C-1"), b=certificate("C-2")), 2)

    assert since(first) == {"a": ("C-1", 0), "b": ("C-1", 0)}
    assert since(second) == since(third) == {"a": ("C-1", 0), "b": ("C-2", 1)}
    assert second.payloads == third.payloads


def test_a_tag_without_its_calibration_is_on_record_as_having_none_also_when_it_was_away(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    take(gateway.keeper(), gateway.settings(a=certificate("C-1"), b=certificate("C-1")))

    away = take(gateway.keeper(), gateway.settings(b=""), 1)
    again = take(gateway.keeper(), gateway.settings(a="", b=""), 2)

    assert away.entries == (Calibration("plc", "b", since_ns=NOW_NS + DAY_NS),)
    assert since(again) == {"a": ("", 2), "b": ("", 1)}
    assert all(each.is_empty for each in again.entries)
    assert gateway.keeper().status(NOW_NS) is None


@pytest.mark.requirement("REQ-CALIB-02")
def test_each_threshold_is_told_once_also_over_restarts_and_a_renewed_one_is_another(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    settings = gateway.settings(a=certificate("C-1", 40), b=certificate("C-1", 40))
    found = []
    for hours in range(0, 43 * 24, 8):  # Each time a start, and two checks.
        keeper = gateway.keeper()
        take(keeper, settings)
        found += gateway.told(keeper, hours / 24) + gateway.told(keeper, hours / 24)
    keeper = gateway.keeper()
    take(keeper, gateway.settings(a=certificate("C-2", 400), b=certificate("C-2", 400)))
    found += gateway.told(keeper, 43) + gateway.told(keeper, 371)

    assert found == [("TT-1", 30), ("TT-1", 7), ("TT-1", 0), ("TT-1", 29)]
    assert dict(gateway.events[0][2]) == {
        "certificate": "C-1", "device": "plc", "tags": "plc/a, plc/b", "due": day(40), "days_left": 30
    }  # fmt: skip


def test_the_events_are_sentences() -> None:
    def said(days: int) -> str:
        data = {"certificate": "C-1", "due": "2026-03-31", "days_left": days, "device": "plc", "tags": "plc/a"}
        return sentence(Event(at_ns=0, kind="calibration.due", subject="TT-1", data=data))

    begin = "The calibration of TT-1, certificate C-1,"
    assert [said(days) for days in (30, 1, 0, -1)] == [
        f"{begin} ends in 30 days (due 2026-03-31): calibrate it",
        f"{begin} ends in 1 day (due 2026-03-31): calibrate it",
        f"{begin} ends with this day (due 2026-03-31): calibrate it",
        f"{begin} has been overdue for 1 day (due 2026-03-31): calibrate it",
    ]


def test_a_damaged_file_costs_only_the_beginnings(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)
    settings = gateway.settings(a=certificate("C-1", 40))
    take(gateway.keeper(), settings)
    for damage in (b"", b"[]", b'{"kept": [1], "told": []}', b'{"kept": [], "told": [["a", null, 1]]}', b"\xff"):
        (tmp_path / "calibrations.json").write_bytes(damage)

        assert since(take(gateway.keeper(), settings, 3)) == {"a": ("C-1", 3)}


def test_the_status_counts_instruments_and_names_those_that_are_due_first(tmp_path: Path) -> None:
    gateway, keeper = Gateway(tmp_path), Gateway(tmp_path).keeper()
    tags = {f"t{number}": f", instrument: I-{number}, calibration_due: {day(due)}"
            for number, due in enumerate((90, -1, 30, 31, 0))}  # fmt: skip
    take(keeper, gateway.settings(**tags, none="", silent=", instrument: X"))

    status = keeper.status(NOW_NS)

    assert status is not None
    assert (status.instruments, status.overdue, status.due_soon) == (6, 1, 2)
    assert status.first == tuple(
        InstrumentStatus(name=name, certificate="", due=day(due))
        for name, due in (("I-1", -1), ("I-4", 0), ("I-2", 30))
    )


def test_a_change_of_calibrations_alone_is_no_change_of_a_device(tmp_path: Path) -> None:
    gateway = Gateway(tmp_path)

    def device(**tags: str) -> DeviceSettings:
        [only] = gateway.settings(**tags).devices
        return only

    one = device(a=certificate("C-1"), b="")

    assert is_same_but_for_calibration(one, device(a=certificate("C-2", 9), b=", serial: S-1"))
    for other in ({"a": ", scale: 2", "b": ""}, {"a": ""}, {"a": "", "b": "", "c": ""}, {"b": "", "a": ""}):
        assert not is_same_but_for_calibration(one, device(**other))
