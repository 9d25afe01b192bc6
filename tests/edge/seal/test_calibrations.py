"""Calibrations are a CATALOG record of their own, which a reader that does not know them takes for a catalogue."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType
from edge.seal import (
    MAX_RECORD_BYTES,
    Calibration,
    Calibrations,
    CataloguePart,
    Malformed,
    RecordType,
    Unknown,
    decode,
    encode_calibrations,
    join_catalogue,
)
from edge.seal import cbor as encoding
from edge.seal.catalogue import _group_to_cbor, _part_from_cbor, catalogue_digest

FULL = Calibration("plc-1", "TT-101", "TT-101", "S-77", "C-2026/17", 20_543, 20_908, "0.5 Cel", 17 * 10**17)
NONE = Calibration("plc-1", "TT-102", since_ns=17 * 10**17 + 1)
HEAD = {1: bytes(8), 2: 0, 3: 1, 4: [], 5: "p"}


def seen(payload: dict[int, Any] | bytes) -> tuple[object, list[str]]:
    unknown = Unknown()
    data = payload if isinstance(payload, bytes) else encoding.encode(payload)
    return decode(RecordType.CATALOG, data, unknown), list(unknown.words)


def test_calibrations_come_back_as_they_were_sealed() -> None:
    said = Calibrations("acme/basel", (FULL, NONE))

    [payload] = encode_calibrations(said)

    assert seen(payload) == (said, [])
    assert (FULL.is_empty, NONE.is_empty) == (False, True)


def test_a_site_with_many_instruments_takes_many_records() -> None:
    said = Calibrations("p", tuple(FULL._replace(tag=f"TT-{number}", certificate="C" * 200) for number in range(500)))

    payloads = encode_calibrations(said)

    parts = [seen(payload)[0] for payload in payloads]
    assert len(payloads) > 2
    assert max(map(len, payloads)) < MAX_RECORD_BYTES - 1000
    assert tuple(each for part in parts for each in part.entries) == said.entries  # type: ignore[attr-defined]
    assert encode_calibrations(Calibrations("p", ())) == []


def test_a_reader_from_before_takes_them_for_a_catalogue_of_no_group() -> None:
    [payload] = encode_calibrations(Calibrations("acme/basel", (FULL,)))
    unknown = Unknown()

    part = _part_from_cbor(encoding.decode(payload), unknown)

    assert list(unknown.words) == ["member 7"]
    assert join_catalogue([part]) == Catalogue(path="acme/basel", groups=())
    assert part.digest == catalogue_digest(Catalogue(path="acme/basel", groups=()))


@pytest.mark.parametrize(
    "member",
    [
        0, [], {}, ["x"], [list(FULL)[:8]], [list(FULL), []], [[*FULL[:5], "2026-03-31", *FULL[6:]]],
        [[*FULL[:6], 2**62, *FULL[7:]]], [[*FULL[:8], 2**63]], [[*FULL[:8], None]],
    ],
)  # fmt: skip
def test_another_form_of_them_is_content_that_is_not_known(member: Any) -> None:
    content, words = seen({**HEAD, 7: member})

    assert isinstance(content, CataloguePart)
    assert words == ["member 7"]


def test_more_about_a_calibration_is_skipped_and_counted() -> None:
    content, words = seen({**HEAD, 7: [[*FULL, "laboratory"]], 9: 1})

    assert content == Calibrations("p", (FULL,))
    assert sorted(words) == ["element 10", "member 9"]


def test_beside_scan_groups_they_are_not_known() -> None:
    tag = CatalogueTag(name="a", data_type=DataType.BOOL, address="1")
    group = CatalogueGroup(device="d", name="g", interval_ns=1, tags=(tag,))
    content, words = seen({**HEAD, 4: [_group_to_cbor(0, group)], 7: [list(FULL)]})

    assert isinstance(content, CataloguePart)
    assert content.groups == ((0, group),)
    assert words == ["member 7"]


@pytest.mark.parametrize("member", [[list(FULL), -(2**64)], [[*FULL[:8], cbor2.CBORTag(5, 0)]]])
def test_beyond_the_limits_of_the_encoding_the_record_is_garbage(member: Any) -> None:
    with pytest.raises(Malformed):
        seen({**HEAD, 7: member})


def test_a_reading_is_overdue_from_the_day_after_the_last_valid_one() -> None:
    day_ns = 86_400 * 10**9

    assert not FULL.is_overdue(20_909 * day_ns - 1)
    assert FULL.is_overdue(20_909 * day_ns)
    assert not NONE.is_overdue(2**63 - 1)
