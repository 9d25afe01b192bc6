"""A report says what is true of a range: complete, unaltered, the clock, the quality, and what changed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from edge.cli.time_range import window_of
from edge.clock import TimeState
from edge.report.answer import Asked, range_report
from edge.report.collect import Collector
from edge.report.text import report_lines
from edge.report.times import Times
from edge.seal import Chain, ConfigChange, Event, Loss, LossReason, RecordType, TimeChange
from tests.edge.report.conftest import CATALOGUE, MIXER, PRESS, S, Site, ns, utc
from tests.support.chains import BOOT_NS, TIME, Plant, start

FREE = replace(TIME, state=TimeState.FREE_RUNNING, bound_ns=None)


@pytest.mark.requirement("REQ-VERIFY-05")
def test_a_range_that_is_whole_is_complete_and_unaltered(site: Site) -> None:
    """Eleven seconds of a minute: eleven records, and the ones before and after are held."""
    site.write()

    result = site.run("--from", utc(20), "--to", utc(30))

    assert result.exit_code == 0
    assert result.stdout.startswith("RESULT  COMPLETE AND UNALTERED: all 11 records of the range are here")
    gateway = site.gateway(20, 30)
    assert gateway["unaltered"]["valid"] == gateway["unaltered"]["records"] == 11
    assert gateway["unaltered"]["fingerprints"] == [site.plant.identity.fingerprint]
    assert (gateway["quality"]["good"], gateway["quality"]["bad"]) == (33, 0)
    assert gateway["continues"] == {
        "is_before": True,
        "before": "seq 21 held",
        "is_after": True,
        "after": "seq 33 held",
    }


@pytest.mark.requirement("REQ-VERIFY-05")
def test_missing_records_are_named_with_their_places_and_times(site: Site) -> None:
    """Records 24 to 27 were read at 22 to 25 s, between those of 21 and 26 s."""
    site.write(each.data for each in site.plant.records if not 24 <= each.seq <= 27)

    report = site.ask(20, 30)
    [gateway] = report["gateways"]

    assert report["text"] == "NOT COMPLETE: 4 records are missing. What is here is unaltered."
    [missing] = gateway["complete"]["missing"]
    assert (missing["first_seq"], missing["last_seq"], missing["records"]) == (24, 27, 4)
    assert (missing["from_ns"], missing["to_ns"], missing["is_declared"]) == (ns(21), ns(26), False)
    assert gateway["complete"]["gaps"] == []
    [mixer, _] = gateway["devices"]
    assert mixer["not_read"] == [[ns(21), ns(26), "missing"]]


def test_records_that_the_gateway_dropped_are_missing_as_declared(site: Site) -> None:
    """A LOSS record names them; the range is not complete all the same."""
    site.seal(Loss(first=24, last=27, from_ns=ns(22), to_ns=ns(25), records=4, readings=12,
                   reason=LossReason.BUFFER_FULL))  # fmt: skip
    site.write(each.data for each in site.plant.records if not 24 <= each.seq <= 27)

    report = site.ask(20, 30)

    assert report["text"].startswith("NOT COMPLETE: 4 records are missing, as declared.")
    [said] = report["gateways"][0]["complete"]["losses"]
    assert said.startswith("4 records (seq 24 to 27) with 12 readings were lost before delivery")
    assert site.gateway(40, 50)["complete"]["losses"] == []
    assert report["gateways"][0]["complete"]["missing"][0]["is_declared"]


def test_what_is_missing_elsewhere_is_no_fault_of_the_range(site: Site) -> None:
    """Each batch is asked about by itself."""
    site.write(each.data for each in site.plant.records if not 24 <= each.seq <= 27)

    assert site.ask(30, 50)["result"] == "complete"


def test_a_gap_in_the_range_is_named_with_its_reason_and_one_outside_is_marked(site: Site) -> None:
    """The gap of 61 to 71 s is in the range of 55 to 75 s, and just outside that of 75 to 80 s."""
    site.gap(0, 60, None, "connection closed")
    site.gap(0, 60, 71, "connection closed")
    site.read(range(71, 91))
    site.write()

    inside, outside = site.gateway(55, 75), site.gateway(75, 80)

    assert inside["text"] == "NOT COMPLETE: mixer was not read for 11 s. What is here is unaltered."
    [gap] = inside["complete"]["gaps"]
    assert (gap["device"], gap["from_ns"], gap["to_ns"], gap["reason"]) == (
        "mixer", ns(60), ns(71), "connection closed")  # fmt: skip
    assert outside["result"] == "complete"
    assert [each["is_inside"] for each in outside["complete"]["gaps"]] == [False]
    assert "22:14:20.0 to 22:14:31.0, 11 s (connection closed), outside the range" in (
        site.run("--from", utc(75), "--to", utc(80)).stdout)  # fmt: skip


def test_a_gap_without_an_end_lasts_to_the_end_of_the_range(site: Site) -> None:
    """A device that is still away."""
    site.gap(0, 60, None, "no answer")
    for second in range(61, 101, 5):
        site.block(second)
    site.write()

    gateway = site.gateway(50, 90)

    assert gateway["text"].startswith("NOT COMPLETE: mixer was not read for 30 s.")
    assert "no end is on record" in site.run("--from", utc(50), "--to", utc(90)).stdout


@pytest.mark.parametrize(("first", "last"), [(50, 90), (65, 90)])
def test_a_device_that_silently_stops_being_read_is_a_hole(site: Site, first: int, last: int) -> None:
    """Heartbeats go on, and no GAP says why there are no readings."""
    for second in range(61, 101, 5):
        site.block(second)
    site.write()

    [hole] = [gap for gap in site.gateway(first, last)["complete"]["gaps"] if gap["device"] == "mixer"]

    assert (hole["is_declared"], hole["from_ns"], hole["to_ns"]) == (False, max(ns(60), ns(first)), ns(last))


@pytest.mark.requirement("REQ-VERIFY-05")
def test_a_hole_between_readings_is_not_complete(site: Site) -> None:
    """Of 61 to 69 s nothing was read, although the records are all here."""
    site.read(range(70, 80))
    site.write()

    [hole] = site.gateway(50, 75)["complete"]["gaps"]

    assert (hole["is_declared"], hole["from_ns"], hole["to_ns"]) == (False, ns(60), ns(70))


@pytest.mark.requirement("REQ-VERIFY-05")
def test_an_altered_record_is_the_answer_and_not_a_missing_one(site: Site) -> None:
    """One bit of the record at 25 s is another; ranges without it are whole."""
    records = [each.data for each in site.plant.records]
    records[27] = records[27][:-1] + bytes([records[27][-1] ^ 1])
    site.write(records)

    inside = site.ask(20, 30)

    assert inside["text"].startswith("ALTERED: 1 of 11 records is not what the gateway signed.")
    assert inside["gateways"][0]["complete"]["missing"] == []
    [refused] = inside["refused"]
    assert (refused["verdict"], refused["seq"], refused["is_inside"]) == ("ALTERED", 27, True)
    assert site.ask(40, 50)["result"] == "complete"


@pytest.mark.parametrize(("first", "last", "result"), [(20, 30, "altered"), (40, 50, "complete")])
def test_damaged_bytes_count_where_they_lie(site: Site, first: int, last: int, result: str) -> None:
    """Between the records of 24 and 25 s: what they were cannot be said, and when can."""
    records = [each.data for each in site.plant.records]
    records.insert(27, b"\xd2garbage")
    site.write(records)

    report = site.ask(first, last)

    assert report["result"] == result
    assert (report["refused_inside"], report["refused_outside"]) == ((1, 0) if result == "altered" else (0, 1))


def test_records_of_another_key_among_those_of_the_range_are_untrusted(site: Site) -> None:
    """Somebody put records of the same gateway name into the archive."""
    forged = Site(site.folder, start("line-4"))
    forged.read(range(25, 30))
    records = [each.data for each in site.plant.records]
    site.write(records[:28] + [each.data for each in forged.plant.records] + records[28:])

    assert site.ask(20, 30)["result"] == "untrusted"
    assert site.ask(40, 50)["result"] == "complete"


def test_records_whose_key_is_not_known_are_not_passed_over(site: Site) -> None:
    """Those of a chain of which the first record was left out."""
    forged = Site(site.folder, start("line-4"))
    forged.read(range(25, 30))
    records = [each.data for each in site.plant.records]
    site.write(records[:28] + [each.data for each in forged.plant.records[2:]] + records[28:])

    report = site.ask(20, 30)

    assert report["text"].startswith("UNTRUSTED: 5 of 16 records are not signed by a key")
    assert site.ask(40, 50)["result"] == "complete"
    assert site.ask()["gateways"][0]["unaltered"]["verdicts"] == {"AUTHENTIC": 63, "UNVERIFIABLE": 5}


def test_records_that_come_before_their_key_are_verified_once_it_comes(site: Site) -> None:
    """The order of arrival changes no answer."""
    records = [each.data for each in site.plant.records]
    site.write([*records[1:], records[0]])

    report = site.ask(20, 30)

    assert (report["result"], report["refused"]) == ("complete", [])


def test_a_device_of_which_nothing_was_ever_read_is_a_hole(tmp_path: Path) -> None:
    """It is on the list of what the gateway reads, and has no readings and no GAP."""
    (tmp_path / "archive").mkdir()
    silent = replace(PRESS, sign_of_life_ns=10 * S)
    site = Site(tmp_path / "archive", catalogue=replace(CATALOGUE, groups=(MIXER, silent)))
    site.read(range(61))
    site.write()

    gaps = site.gateway(0, 50)["complete"]["gaps"]

    assert [(each["device"], each["from_ns"], each["to_ns"]) for each in gaps] == [("press", ns(0), ns(50))]
    assert [each["due"] for each in site.gateway(0, 50, "--tags", "press/*")["tags"]] == [None, None]


def test_an_archive_of_another_key_is_untrusted_as_a_whole(site: Site) -> None:
    """The fingerprint that was compared is not that of the records."""
    site.write()
    site.anchor.write_bytes(start("line-4").identity.public_pem(site.plant.chain.issuer))

    report = site.ask(20, 30)

    assert report["text"].startswith(
        "UNTRUSTED: 63 records are here in the name of line-4, and none is signed by a key"
    )


@pytest.mark.parametrize(("first", "last"), [(-90, -30), (90, 120)])
def test_a_range_of_which_nothing_is_held_says_what_is(site: Site, first: int, last: int) -> None:
    """Before the first record, and after the last one."""
    site.write()

    report = site.ask(first, last)

    assert report["text"] == ("NOTHING HELD: there is no record of this range. "
                              "line-4 is held from 22:13:20.0 to 22:14:20.0.")  # fmt: skip


@pytest.mark.parametrize(("first", "last", "why"), [
    (50, 90, "Nothing is held after 22:14:20.0."),
    (-30, 20, "Nothing is held before 22:13:20.0, when the record of this gateway begins."),
])  # fmt: skip
def test_a_range_that_reaches_beyond_what_is_held_is_not_complete(site: Site, first: int, last: int, why: str) -> None:
    """What nobody recorded is not complete."""
    site.write()

    assert site.ask(first, last)["text"] == f"NOT COMPLETE: {why} What is here is unaltered."


def test_the_clock_is_not_known_for_a_part_of_the_range(site: Site) -> None:
    """It ran free from 61 to 70 s."""
    site.read(range(61, 71), time=FREE)
    site.read(range(71, 81))
    site.write()

    clock = site.gateway(50, 75)["clock"]

    assert not clock["is_known"]
    assert [(each["state"], each["worst_bound_ns"] is None) for each in clock["stretches"]] == [
        ("synchronized", False), ("free running", True), ("synchronized", False)]  # fmt: skip
    assert (clock["stretches"][1]["from_ns"], clock["stretches"][1]["to_ns"]) == (ns(61), ns(71))
    assert site.gateway(20, 40)["clock"]["is_known"]


def test_the_bound_of_the_clock_grows_with_its_age(site: Site) -> None:
    """Stated as of boot, with 50 ppm: at 30 s it is 200 us and 1.5 ms."""
    site.write()

    clock = site.gateway(20, 30)["clock"]

    assert clock["worst_bound_ns"] == TIME.bound_at(BOOT_NS + 30 * S)
    assert clock["bounds"][-1] == [ns(30), clock["worst_bound_ns"]]


def test_a_step_of_the_clock_is_no_good_clock(site: Site) -> None:
    """Its record is in the range."""
    after = replace(TIME, as_of_ns=BOOT_NS + 60 * S)
    site.seal(TimeChange(before=TIME, after=after, step_ns=-3 * S))
    site.read(range(61, 71))
    site.write()

    clock = site.gateway(50, 70)["clock"]

    assert not clock["is_known"]
    assert "The clock stepped back by 3 s" in clock["events"][0]


def test_readings_are_counted_for_each_tag(site: Site) -> None:
    """Ten readings with a bad level, five uncertain ones of all, and what the press sent."""
    site.read(range(61, 71), ((1, 1, 0x80320000),))
    site.read(range(71, 76), ((0, 3, 0x40000000),))
    site.sent(76, [0, 0, 1], ((1, 1, 0x80000000),))
    site.write()

    gateway = site.gateway(51, 80, "--tags")

    rows = {each["tag"]: each for each in gateway["tags"]}
    numbers = {tag: tuple(row[name] for name in ("due", "received", "good", "uncertain", "bad"))
               for tag, row in rows.items()}  # fmt: skip
    assert numbers == {
        "temperature": (29, 25, 20, 5, 0), "level": (29, 25, 10, 5, 10), "speed": (29, 25, 20, 5, 0),
        "force": (None, 2, 1, 0, 1), "strokes": (None, 1, 1, 0, 0),
    }  # fmt: skip
    assert (rows["level"]["first_ns"], rows["level"]["last_ns"]) == (ns(51), ns(75))
    quality = gateway["quality"]
    assert (quality["good"], quality["uncertain"], quality["bad"], quality["tags"]) == (52, 15, 11, 5)
    assert [(each["tag"], each["bad"], each["reason"]) for each in quality["worst"][:2]] == [
        ("level", 10, "BAD_WAITING_FOR_INITIAL_DATA"), ("force", 1, "BAD 0x80000000")]  # fmt: skip


def test_tags_are_chosen_by_a_pattern(site: Site) -> None:
    """Of 10,000 tags somebody wants one device."""
    site.write()

    chosen = site.gateway(20, 30, "--tags", "mixer/*e*")["tags"]

    assert [each["tag"] for each in chosen] == ["temperature", "level", "speed"]
    assert site.gateway(20, 30)["tags"] is None


def test_records_without_the_list_of_their_tags_are_not_passed_over(site: Site) -> None:
    """The catalogue is sealed each hour: an archive may begin in between."""
    site.write(each.data for each in site.plant.records if each.type is not RecordType.CATALOG)

    gateway = site.gateway(20, 30)

    assert gateway["quality"]["not_counted_records"] == 11


def test_a_gap_of_a_scan_group_without_a_name_is_not_one_of_all_devices(site: Site) -> None:
    """The catalogue that names it is not held."""
    site.gap(0, 20, 25, "no answer")
    site.write(each.data for each in site.plant.records if each.type is not RecordType.CATALOG)

    report = site.ask(15, 30)

    assert report["text"].endswith("scan group 0 was not read for 5 s. What is here is unaltered.")


def test_readings_before_their_catalogue_are_counted_once_it_comes(site: Site) -> None:
    """Records may be archived in any order."""
    records = [each.data for each in site.plant.records]
    site.write([records[0], *records[2:], records[1]])

    assert site.gateway(20, 30)["quality"]["good"] == 33


def test_changes_of_configuration_and_starts_are_sentences(site: Site) -> None:
    """One in the range, and the nearest outside is marked."""
    for second, number in ((61, 1), (80, 2)):
        site.seal(ConfigChange(at_ns=ns(second), account="root", old_hash=bytes(32), new_hash=bytes([number]) * 32))
        site.read(range(second, second + 19))
    site.seal(Event(at_ns=ns(99), kind="start", data={"version": "9", "configuration": "ab" * 32, "fingerprint": "x"}))
    site.write()

    changes = site.gateway(55, 70)["changes"]

    assert [(each["at_ns"], each["is_inside"]) for each in changes] == [(ns(61), True), (ns(80), False)]
    assert changes[0]["text"].startswith("Configuration 01010101 replaced 00000000, by account root")


def test_a_range_over_two_chains_is_complete_where_both_are(site: Site) -> None:
    """The gateway got a new chain, which names the one before."""
    first = site.plant
    first.records += first.chain.stop(replace(TIME, as_of_ns=BOOT_NS + 60 * S))
    chain, epoch = Chain.start(first.identity, issuer=first.chain.issuer, time=replace(TIME, as_of_ns=BOOT_NS + 61 * S),
                               now_boot_ns=BOOT_NS + 61 * S, previous=first.chain.head)  # fmt: skip
    second = Site(site.folder, Plant(first.identity, chain, [epoch]))
    second.read(range(61, 91))
    site.write([each.data for each in (*first.records, *second.plant.records)])

    gateway = site.gateway(50, 80)

    assert gateway["result"] == "complete"
    assert gateway["quality"]["good"] == 93
    assert [each["kind"] for each in gateway["changes"]] == ["stop", "epoch"]
    tail = site.gateway(70, 80)
    assert (tail["result"], tail["continues"]["is_before"]) == ("complete", True)


def test_a_start_after_a_power_cut_is_one_gap_of_every_device(site: Site) -> None:
    """A gap that the cut left open ends where the gap of all devices begins, and the chain goes on."""
    before = site.plant
    site.gap(0, 60, None, "no answer")
    chain, checkpoint = Chain.resume(
        before.identity,
        before.chain.head,
        issuer=before.chain.issuer,
        time=replace(TIME, as_of_ns=BOOT_NS + 80 * S),
        now_boot_ns=BOOT_NS + 80 * S,
    )
    before.chain, before.records = chain, [*before.records, checkpoint]
    site.gap(None, 65, 80, "the gateway was off")
    site.read(range(80, 101))
    site.write()

    gateway = site.gateway(50, 90)

    assert [(each["device"], each["from_ns"], each["to_ns"]) for each in gateway["complete"]["gaps"]] == [
        ("mixer", ns(60), ns(65)), ("", ns(65), ns(80))]  # fmt: skip
    assert gateway["text"].startswith("NOT COMPLETE: No device was read for 15 s, mixer was not read for 5 s.")
    assert gateway["complete"]["missing"] == []


def test_records_under_a_key_that_was_stolen_are_not_what_the_gateway_signed(site: Site) -> None:
    """The change of the key comes last: what was signed with the old one is withdrawn."""
    plant, old = site.plant, site.plant.chain.session
    before = [each.data for each in plant.records]
    key = plant.chain.roll(replace(TIME, as_of_ns=BOOT_NS + 60 * S), BOOT_NS + 60 * S)
    plant.chain.roll_is_durable()
    site.read(range(61, 81))
    thief = Site(site.folder, start("line-4", identity=plant.identity))
    thief.plant.chain.head, thief.plant.chain.session = key.head, old
    thief.seal(ConfigChange(at_ns=ns(61), account="thief", old_hash=bytes(32), new_hash=bytes(32)))
    forged = thief.plant.records[-1]
    site.write([*before, forged.data, key.data, *(each.data for each in plant.records[len(before) :])])

    gateway = site.gateway(50, 70)

    assert gateway["result"] == "untrusted"
    assert (gateway["changes"], gateway["quality"]["withdrawn_records"]) == ([], 1)


def test_a_tag_is_due_while_its_configuration_is_in_force(site: Site) -> None:
    """The speed is no longer read from 61 s on; what was read before is sent again between what is new."""
    before = len(site.plant.records)
    fewer = Site(site.folder, site.plant, replace(CATALOGUE, groups=(replace(MIXER, tags=MIXER.tags[:2]),)))
    fewer.read(range(61, 101))
    records = [each.data for each in site.plant.records]
    old, new = records[2:before], records[before + 1 :]
    mixed = [data for pair in zip(old, new, strict=False) for data in pair] + old[len(new) :]
    site.write([*records[:2], records[before], *mixed])

    gateway = site.gateway(41, 81, "--tags")

    assert gateway["result"] == "complete"
    due = {each["tag"]: (each["due"], each["received"]) for each in gateway["tags"]}
    assert (due["level"], due["speed"]) == ((41, 41), (20, 20))


@pytest.mark.parametrize("seed", range(3))
def test_the_order_of_arrival_changes_no_answer(site: Site, seed: int) -> None:
    """What waited in the buffer of a gateway arrives after what is fresh."""
    site.gap(0, 60, 71, "connection closed")
    site.seal(ConfigChange(at_ns=ns(71), account="root", old_hash=bytes(32), new_hash=bytes(32)))
    site.read(range(71, 81), ((1, 1, 0x80320000),), time=FREE)
    site.read(range(81, 101))
    records = [each.data for each in site.plant.records if each.seq != 30]
    site.write(records)
    in_order = site.gateway(20, 90, "--tags")

    Random(seed).shuffle(records)
    site.write(records)

    assert site.gateway(20, 90, "--tags") == in_order


def test_each_gateway_gets_its_answer_and_one_without_a_key_is_named(
    site: Site, another: Callable[[str], Site], tmp_path: Path
) -> None:
    """The worst of them is the result."""
    other, third = another("line-5"), another("line-6")
    other.read(range(0, 61, 10))
    for each in (site, other, third):
        each.write()
    site.write(each.data for each in site.plant.records if each.seq != 25)

    report = site.ask(20, 30, "--trust", other.anchor)

    assert report["text"].startswith("NOT COMPLETE: line-4, line-5. 0 of 2 gateways")
    assert [each["gateway"] for each in report["gateways"]] == ["line-4", "line-5"]
    assert report["not_reported"] == ["line-6"]
    assert [each["gateway"] for each in site.ask(20, 30, "--gateway", "line-4")["gateways"]] == ["line-4"]


@pytest.mark.requirement("REQ-TIME-05")
def test_the_day_on_which_clocks_are_put_back_is_asked_about_as_25_hours(site: Site) -> None:
    """The range is shown in UTC and in the zone."""
    site.write()

    result = site.run("--from", "2026-10-25", "--to", "2026-10-26", "--zone", "Europe/Zurich")

    assert "2026-10-24 22:00:00 to 2026-10-25 23:00:00 UTC (2026-10-25 00:00:00 to" in result.stdout


@pytest.mark.parametrize(("options", "code", "why"), [
    (("--gateway", "line-9"), 2, "holds no gateway 'line-9'; there are line-4"),
    (("--from", "2023-11-14T23:00Z", "--to", "2023-11-14T22:00Z"), 2, "--to lies before --from"),
])  # fmt: skip
def test_a_question_that_cannot_be_answered_says_why(site: Site, options: tuple[str, ...], code: int, why: str) -> None:
    """Before anything is read."""
    site.write()

    result = site.run(*options)

    assert (result.exit_code, why in result.stderr) == (code, True)


def test_the_hashes_are_those_of_the_files(site: Site) -> None:
    """Whoever has the files can show that the report is about them."""
    site.write()

    report = site.ask(20, 30)

    for each in (*report["files"], *report["trust"]):
        assert each["sha256"] == hashlib.sha256(Path(each["file"]).read_bytes()).hexdigest()


@pytest.mark.parametrize(("width", "count"), [(40, 50), (80, 10_000), (100, 50), (160, 50)])
def test_ten_thousand_tags_with_long_names_fit(tmp_path: Path, width: int, count: int) -> None:
    """No line is wider than the terminal, and no number is cut."""
    tags = tuple(replace(MIXER.tags[0], name=f"{number:05}-{'x' * 54}") for number in range(count))
    group = replace(MIXER, device="d" * 60, tags=tags)
    (tmp_path / "archive").mkdir()
    site = Site(tmp_path / "archive", catalogue=replace(CATALOGUE, groups=(group,)))
    site.read(range(2))
    site.write()
    collector = Collector(site.plant.trust, window_of(utc(0), utc(1)))
    collector.read(site.folder / "line-4" / "2023-11-14.rec")
    times = Times()
    times.begin_with(collector.begin_ns)
    asked = Asked(zone="", version="1", command="", made_at_ns=0, trust=(), not_reported=(), with_tags=lambda *_: True)

    lines = [line.plain for line in report_lines(range_report(collector, asked), times, width)]

    assert max(map(len, lines)) <= width
    rows = [line for line in lines if line.startswith("dd")]
    assert len(rows) == count
    assert f"{count - 1:05}"[:4] in rows[-1]
