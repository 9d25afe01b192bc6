"""What the log and the report say happened."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from edge.gateway.audit import EventKind
from edge.model import Catalogue, CatalogueGroup
from edge.seal import (
    CataloguePart,
    ConfigChange,
    EncodedCatalogue,
    Epoch,
    EpochReason,
    Event,
    Gap,
    KeyChange,
    Loss,
    LossReason,
    RecordType,
    Severity,
    Stop,
    TimeChange,
    decode,
)
from edge.seal.keys import SigningKey
from edge.sentences import Happening, sentence
from edge.verify.logbook import LOGGED, Entry, Logbook, Place
from tests.support.chains import TIME, UTC_NS

_S = 10**9
_CHAIN = "urn:tidegate:line-4", bytes(8)
_BEGUN = UTC_NS
_UNTIL = UTC_NS + 9_400 * 10**6


def _catalogue(*groups: tuple[str, str]) -> CataloguePart:
    named = tuple(CatalogueGroup(device=device, name=name, interval_ns=_S, tags=()) for device, name in groups)
    [payload] = EncodedCatalogue.of(Catalogue(path="", groups=named)).payloads
    part = decode(RecordType.CATALOG, payload)
    assert isinstance(part, CataloguePart)
    return part


def _gap(group: int | None = 0, to_ns: int | None = _UNTIL, from_ns: int = _BEGUN) -> Gap:
    return Gap(group=group, from_ns=from_ns, to_ns=to_ns, status=0, detail="connection closed (port 502)")


def _entries(*contents: Happening | CataloguePart, seqs: tuple[int, ...] = ()) -> list[Entry]:
    logbook = Logbook()
    noted = []
    for seq, content in zip(seqs or range(len(contents)), contents, strict=True):
        noted += logbook.note(Place(*_CHAIN, seq), content)
    noted += logbook.still_open()
    return [logbook.entry(each) for each in noted]


def test_a_gap_is_one_entry_with_begin_and_end_in_any_order_of_its_records() -> None:
    """Both records, and the catalogue that names its scan group, may arrive late: records are resent."""
    records = [(0, _catalogue(("plc", "fast"))), (1, _gap(to_ns=None)), (2, _gap())]

    for order in permutations(records):
        [entry] = _entries(*(content for _, content in order), seqs=tuple(seq for seq, _ in order))

        assert (entry.at_ns, entry.to_ns, entry.is_open) == (_BEGUN, _UNTIL, False)
        assert (entry.kind, entry.device, entry.group, entry.severity) == ("gap", "plc", "fast", Severity.WARNING)
        assert entry.text == (
            "plc, scan group fast, was not read for 9.4 s, until 22:13:29.400Z: connection closed (port 502)"
        )


def test_a_gap_without_an_end_is_still_open() -> None:
    """Whoever reads it must not take the last record for its end."""
    [entry] = _entries(_catalogue(("plc", "fast")), _gap(to_ns=None))

    assert entry.is_open
    assert entry.to_ns is None
    assert "still open" in entry.text


def test_a_gap_that_a_crash_left_open_ends_where_the_gateway_was_off() -> None:
    """The start after a crash declares the rest for all scan groups: the record format says so."""
    of_all = _gap(None, _UNTIL, _BEGUN + 5 * _S)

    every, of_one = _entries(_catalogue(("plc", "fast")), _gap(to_ns=None), of_all)

    assert (every.device, every.text.partition(" for ")[0]) == ("", "All scan groups were not read")
    assert (of_one.to_ns, of_one.is_open) == (_BEGUN + 5 * _S, False)


def test_a_gap_names_the_scan_group_by_the_catalogue_of_its_place() -> None:
    """Another configuration gives other numbers; GAPs before its catalogue still use the old ones."""
    before, after = _catalogue(("plc", "fast")), _catalogue(("boiler", "slow"), ("plc", "fast"))

    names = [entry.device for entry in _entries(before, _gap(), after, _gap(from_ns=_BEGUN + 1))]

    assert names == ["plc", "boiler"]


def test_a_scan_group_without_a_catalogue_keeps_its_number() -> None:
    """An archive that begins within a chain may hold no catalogue yet."""
    [entry] = _entries(_gap(3))

    assert entry.text.startswith("Scan group 3 was not read for 9.4 s")


@pytest.mark.requirement("REQ-TRAIL-01")
@pytest.mark.parametrize("kind", EventKind)
def test_every_event_has_a_sentence_of_its_own(kind: EventKind) -> None:
    """A sentence that only repeats the kind tells a plant engineer nothing."""
    event = Event(at_ns=UTC_NS, kind=kind.label, severity=Severity(kind.severity + 1), subject="plc", data={})

    text = sentence(event)

    assert not text.startswith(kind.label)
    assert text[0].islower() == text.startswith("plc")
    assert not text.endswith(".")


_EVENTS = {
    "device.down": ({"reason": "connection closed (port 502)"}, "plc does not answer: connection closed (port 502)"),
    "device.address": (
        {"group": "fast", "tags": "T1, T2", "count": 2},
        "plc does not have the address of 2 tags of scan group fast (T1, T2)",
    ),
    "device.identity": (
        {"vendor": "ACME", "was_vendor": "ACME", "firmware": "2.1", "was_firmware": "2.0"},
        "plc is another device or has other firmware: firmware 2.0 -> 2.1",
    ),
    "device.clock": (
        {"state": "off", "clock": "device", "off_ns": -3 * _S, "limit_ns": _S},
        "The clock of plc is 3 s behind the gateway's; the limit is 1 s",
    ),
    "poll.overrun": (
        {"group": "fast", "late_ns": 2 * _S, "count": 12, "span_ns": 40 * _S},
        "A scan of plc, scan group fast, was 2 s late, and the next ones were skipped (12 times within 40 s)",
    ),
    "batch.start": (
        {"batch": "B-7", "from_ns": 1, "to_ns": 100, "bound_ns": _S // 4},
        "Batch B-7 began in unit plc, within 250 ms",
    ),
    "batch.end": ({"batch": "B\u202e7", "from_ns": 1, "to_ns": 100, "bound_ns": None}, "Batch B?7 ended in unit plc"),
    "phase.start": (
        {"batch": "B-7", "phase": "HEAT", "from_ns": None, "to_ns": 100, "bound_ns": None},
        "Phase HEAT of batch B-7 began in unit plc, or earlier: it was so when it was read first",
    ),
    "phase.end": (
        {"batch": "", "phase": "HEAT", "from_ns": 1, "to_ns": 100, "bound_ns": None},
        "Phase HEAT of no batch ended in unit plc",
    ),
    "later.kind": ({"of": 7, "raw": b"\x01"}, "later.kind plc: of 7, raw 01"),
}  # fmt: skip


@pytest.mark.parametrize("kind", _EVENTS)
def test_an_event_says_what_its_data_say(kind: str) -> None:
    """In words: no names of members, durations with their units."""
    data, text = _EVENTS[kind]

    assert sentence(Event(at_ns=UTC_NS, kind=kind, subject="plc", data=data)) == text


def test_what_a_device_says_cannot_move_the_cursor() -> None:
    """A reason may quote a device, and a terminal obeys escape sequences."""
    event = Event(at_ns=UTC_NS, kind="device.down", subject="plc", data={"reason": "gone\x1b[2J\nnow"})

    assert sentence(event) == "plc does not answer: gone?[2J?now"


def test_a_step_of_the_clock_is_one_entry() -> None:
    """The TIME record and the event of a step say the same."""
    after = replace(TIME, offset_ns=TIME.offset_ns - 2 * _S)
    step = TimeChange(before=TIME, after=after, step_ns=-2 * _S)
    event = Event(at_ns=UTC_NS, kind="time.step", subject="clock", data={"step_ns": -2 * _S})

    [entry] = _entries(step, event)

    assert entry.text == (
        "The clock stepped back by 2 s: 2023-11-14T22:13:20.000Z became 22:13:18.000Z"
    )  # fmt: skip


@pytest.mark.requirement("REQ-TRAIL-01")
def test_every_record_that_says_what_happened_is_an_entry() -> None:
    """And each has a time of its own, so that it can be sorted among the others."""
    key = SigningKey.generate().public
    contents = [
        Epoch(session=key, reason=EpochReason.STORE_LOST, version="1.0", config_hash=bytes(32), time=TIME, counter=1),
        Event(at_ns=UTC_NS, kind="start"),
        ConfigChange(at_ns=UTC_NS, account="root", why="found at the start", old_hash=b"\x01" * 32,
                     new_hash=b"\x02" * 32, changes=(("gateway.path", "a", "b"), ("devices[plc]", "", "added"))),
        KeyChange(session=key, time=TIME),
        Loss(first=91, last=129, from_ns=None, to_ns=None, records=39, readings=4000, reason=LossReason.BUFFER_FULL),
        TimeChange(before=TIME, after=TIME, corrected_boot_ns=(0, _S), correction_ns=-_S, bound_after_ns=1000),
        Stop(time=TIME),
        _gap(None),
    ]  # fmt: skip

    entries = _entries(*contents)

    assert {type(each).__name__ for each in contents} == {each.__name__ for each in Happening.__args__}
    assert {content.type for content in contents} == LOGGED
    assert [entry.text.partition(":")[0] for entry in entries] == [
        "A new chain began",
        "The gateway started",
        "Configuration 02020202 replaced 01010101, by account root (found at the start)",
        f"The session key changed to {key.fingerprint[:4]}",
        "39 records (seq 91 to 129) with 4,000 readings were lost before delivery",
        "The clock is trusted again",
        "The gateway stopped; no record follows until its next start",
        "All scan groups were not read for 9.4 s, until 22",
    ]
    assert entries[2].text.endswith("gateway.path from a to b; devices[plc] added: added")
    assert [entry.is_routine for entry in entries] == [False, False, False, True, False, False, False, False]
    assert [entry.severity.name for entry in entries[:5]] == ["ERROR", "INFO", "INFO", "INFO", "ERROR"]
