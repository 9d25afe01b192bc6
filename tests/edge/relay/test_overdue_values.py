"""A view marks the values that were read when the calibration of their instrument was overdue, by their own time."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from edge.relay.archive import RecordLocation
from edge.relay.follow import ArchivedRecord, Follower
from edge.relay.shapes import ShapeName
from edge.relay.unified_namespace import UnifiedNamespace
from edge.seal import Calibration, Calibrations, RecordType, encode_calibrations
from tests.edge.relay.test_unified_namespace import CATALOGUE, DIGEST, NOON_NS, from_at, published, scan, shown
from tests.support.chains import Plant, start

DAY_NS = 86_400 * 10**9
TODAY = NOON_NS // DAY_NS
PLACE = RecordLocation("line-4", "2025-06-15", 0, 100)
OLD = Calibration("mixer", "temperature", "TT-1", certificate="C-1", due=TODAY, since_ns=0)
NEW = OLD._replace(certificate="C-2", due=TODAY + 365, since_ns=NOON_NS + 2 * DAY_NS)


def said(*entries: Calibration) -> Calibrations:
    return Calibrations(CATALOGUE.path, entries)


@pytest.mark.requirement("REQ-CALIB-02")
def test_a_value_is_marked_while_its_calibration_is_overdue_and_not_before_or_after() -> None:
    view = UnifiedNamespace("plant")
    view.learn(said(OLD, NEW), PLACE)

    marks = []
    for hours in (0, 6, 15, 47, 49):  # It is 15 h into its day.
        values = shown(view, scan(hours, hours), from_at(NOON_NS + hours * 3600 * 10**9))
        assert {value["q"] for value in values.values()} == {"good"}
        assert "cal" not in values["speed"]
        marks.append(values["temperature"].get("cal"))

    assert marks == [None, None, "overdue", "overdue", None]


def test_a_calibration_that_comes_later_counts_for_the_values_that_follow() -> None:
    view = UnifiedNamespace("plant")
    late = from_at(NOON_NS + DAY_NS)

    before = shown(view, scan(1), late)
    view.learn(said(OLD), PLACE)
    after = shown(view, scan(2), from_at(late.utc_ns + 1))
    view.learn(said(OLD._replace(tag="elsewhere")), PLACE)
    again = shown(view, scan(3), from_at(late.utc_ns + 2))

    assert [each["temperature"].get("cal") for each in (before, after, again)] == [None, "overdue", "overdue"]


def test_a_message_of_a_whole_scan_names_the_tags() -> None:
    view = UnifiedNamespace("plant", shape="device")
    view.learn(said(OLD), PLACE)

    def last(hours: int) -> dict[str, Any]:
        *_, (_, payload) = published(
            view.messages(DIGEST, CATALOGUE, scan(hours), from_at(NOON_NS + hours * 3600 * 10**9))
        )
        message: dict[str, Any] = orjson.loads(payload)
        return message

    assert "cal" not in last(0)
    assert last(24)["cal"] == {"temperature": "overdue"}


@pytest.fixture
def plant() -> Plant:
    return start()


@pytest.mark.parametrize("shape", ["tag", "device"])
def test_calibrations_are_known_again_after_a_restart_of_the_relay(plant: Plant, shape: ShapeName) -> None:
    [payload] = encode_calibrations(said(OLD))
    record = plant.chain.seal(RecordType.CATALOG, payload)
    follower, again = (Follower(UnifiedNamespace("plant", shape=shape), lambda _: record.data) for _ in range(2))
    follower.add([ArchivedRecord(PLACE, 0)])
    follower.messages()

    again.restore(follower.state())
    again.messages()

    assert again.state().catalogues == [PLACE]
    again.forget("line-4", PLACE.day)
    assert again.state().catalogues == []
