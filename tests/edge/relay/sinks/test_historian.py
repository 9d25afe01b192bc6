"""The historian on a real PostgreSQL: what stands in its views, and what it says where it cannot write."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge.model import Catalogue, CatalogueTag, DataType, SampleBlock
from edge.relay.sinks import historian
from edge.relay.sinks.historian_session import Rename
from edge.relay.sinks.sink import SinkUnreachable
from edge.seal import RecordType
from tests.support.chains import BOOT_NS, TIME, UTC_NS
from tests.support.contracts import PAGE
from tests.support.postgres import SCHEMA, Postgres
from tests.support.sinks.postgres import PostgresSubject
from tests.support.sinks.world import (
    CATALOGUE,
    GROUP,
    LARGEST,
    TAGS,
    S,
    SealedPlant,
    Site,
    changes,
    scan,
    values,
    vectors_of,
)

HALF_RTT_NS = 500_000
FIRST_SCHEMA = Path("tests/support/sinks/historian-1.sql")


@pytest.fixture
def subject(postgres: Postgres) -> PostgresSubject:
    return PostgresSubject.create(postgres)


@pytest.fixture
def plant() -> SealedPlant:
    plant = SealedPlant()
    plant.every_kind()
    return plant


@pytest.fixture
def site(tmp_path: Path, plant: SealedPlant) -> Iterator[Site]:
    site = Site(tmp_path, [plant])
    yield site
    site.store.close()


async def fed(site: Site, subject: PostgresSubject, **changed: Any) -> int:
    async with subject.sink(**changed).session() as session:
        return await site.feed(session)


async def readings(subject: PostgresSubject, tag: str, columns: str = "value") -> list[Any]:
    rows = await subject.fetch(f"SELECT {columns} FROM tidegate.reading WHERE tag = $1 ORDER BY t_ns, row", tag)
    return [row[0] if len(row) == 1 else tuple(row) for row in rows]


async def test_values_are_in_their_units_with_quality_and_source(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    await site.receive(plant.records)
    await fed(site, subject)

    assert await readings(subject, "speed", "value, unit, quality, status") == [(120.1, "/min", "good", 0)]
    assert await readings(subject, "total", "exact") == [LARGEST - 1, LARGEST - 2]
    assert await readings(subject, "mass") == [1.1]
    assert await readings(subject, "batch", "text") == ["B\N{SYMBOL FOR NULL}1", "B\N{SYMBOL FOR NULL}2"]
    assert await readings(subject, "state", "value, text") == [(1.0, "running")]
    assert await readings(subject, "running") == [1.0]
    assert await readings(subject, "begun", "text, value") == [("2023-11-14T22:13:20.000000001Z", None)]
    assert await readings(subject, "power") == [1000.0]
    (data,) = [record for record in plant.records if record.type.name == "DATA"][:1]
    at_ns, bound_ns = UTC_NS + S + HALF_RTT_NS, TIME.bound_at(BOOT_NS + S + HALF_RTT_NS)
    assert bound_ns is not None
    assert await readings(subject, "mass", "t_ns, t, uncertainty_ns, epoch, seq, block, row") == [
        (at_ns, datetime.fromtimestamp(at_ns // S, UTC).replace(microsecond=500), bound_ns + HALF_RTT_NS, data.epoch,
         data.seq, 0, 0)
    ]  # fmt: skip


async def test_changes_and_notifications_are_readings_too(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    await site.receive(plant.records)
    await fed(site, subject)

    found = await readings(subject, "temperature", "value, quality, source_ns, row")
    assert [each[0] for each in found[:3]] == [20.1, 20.2, 1.5]
    assert math.isnan(found[3][0])
    assert [each[1:] for each in found] == [
        ("good", None, 0), ("good", None, 0), ("good", UTC_NS + 7, 0), ("uncertain", None, 1),
    ]  # fmt: skip


async def test_a_scan_in_which_nothing_moved_has_no_reading(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    mass = [tag.name for tag in TAGS].index("mass")
    plant.data(changes(6, []))
    plant.data(changes(7, [], ((mass, 1, 0x80340000),)))
    await site.receive(plant.records)
    await fed(site, subject)

    assert await readings(subject, "speed") == [120.1]
    assert await readings(subject, "mass", "value, quality") == [(1.1, "good"), (None, "bad")]


async def test_a_value_that_is_no_number_is_kept_and_never_good(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    held = values(5) | {"temperature": np.float32("inf"), "mass": math.nan}
    found, _ = vectors_of(held)
    plant.data(SampleBlock(0, BOOT_NS + 5 * S, BOOT_NS + 5 * S, tuple(found)))
    await site.receive(plant.records)
    await fed(site, subject)

    assert (await readings(subject, "temperature", "value, quality, status"))[-1] == (math.inf, "uncertain", 0x40940000)
    (value, quality) = (await readings(subject, "mass", "value, quality"))[-1]
    assert (math.isnan(value), quality) == (True, "uncertain")


async def test_a_tag_that_is_bad_has_its_status_and_no_value_also_where_it_was_not_reported(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    speed = [tag.name for tag in TAGS].index("speed")
    plant.data(changes(6, ["mass"], ((speed, 1, 0x80340000),)))
    plant.data(replace(scan(7), status=((speed, 1, 0x80340000),)))
    await site.receive(plant.records)
    await fed(site, subject)

    assert (await readings(subject, "speed", "value, quality, status"))[1:] == [(None, "bad", 0x80340000)] * 2
    assert await readings(subject, "mass") == [1.1, 6.1, 7.1]


async def test_a_scale_tag_counts_from_the_scan_that_reported_it_last(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    plant.data(changes(8, ["power"]))
    await site.receive(plant.records)
    await fed(site, subject)

    assert await readings(subject, "power") == [1000.0, 8000.0]


async def test_a_tag_keeps_its_identity_through_changes_of_scale_unit_and_name(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    other = [replace(tag, scale=1.0, unit="Hz", name="velocity") if tag.name == "speed" else tag for tag in TAGS]
    plant.announce(Catalogue(path=CATALOGUE.path, groups=(replace(GROUP, tags=tuple(other)),)))
    plant.data(scan(9))
    await site.receive(plant.records)
    await fed(site, subject)
    apart = await readings(subject, "velocity", "value, unit")
    rename = Rename("line-4", "mixer", "speed", "mixer", "velocity")
    await fed(site, subject, renames=[rename])
    await fed(site, subject, renames=[rename])

    assert apart == [(1209.0, "Hz")]
    assert await readings(subject, "velocity", "value, unit, named") == [
        (120.1, "/min", "speed"),
        (1209.0, "Hz", "velocity"),
    ]
    assert await readings(subject, "speed") == []


async def test_a_rename_that_is_told_first_holds_from_the_first_record_on(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    await site.receive(plant.records)
    await fed(site, subject, renames=[Rename("line-4", "mixer", "speed", "mixer", "velocity")])

    assert await readings(subject, "velocity", "value, named") == [(120.1, "speed")]


async def test_the_newest_value_of_every_tag_is_at_hand(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    plant.data(changes(10, ["mass", "batch"]))
    plant.data(changes(4, ["mass"]))  # Older, and comes later.
    await site.receive(plant.records)
    await fed(site, subject)

    rows = await subject.fetch("SELECT tag, value, text, t_ns FROM tidegate.newest ORDER BY tag")
    newest = {row["tag"]: row for row in rows}
    assert set(newest) == {tag.name for tag in TAGS}
    assert newest["mass"]["value"] == 10.1
    assert newest["batch"]["text"] == "B\N{SYMBOL FOR NULL}10"
    assert newest["speed"]["value"] == 120.1
    assert newest["power"]["value"] == 1000.0
    assert newest["begun"]["text"] == "2023-11-14T22:13:20.000000001Z"
    assert newest["mass"]["t_ns"] == UTC_NS + 10 * S + HALF_RTT_NS


async def test_the_time_of_the_newest_value_is_rounded_down_as_that_of_a_reading_is(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    at_ns = BOOT_NS + 20 * S + 999_999_999
    plant.data(replace(scan(20), asked_at_ns=at_ns, answered_at_ns=at_ns))
    await site.receive(plant.records)
    await fed(site, subject)

    (newest,) = await subject.fetch("SELECT t_ns, t FROM tidegate.newest WHERE tag = 'mass'")
    (reading,) = await subject.fetch("SELECT t_ns, t FROM tidegate.reading WHERE tag = 'mass' ORDER BY t DESC LIMIT 1")
    assert newest == reading
    assert (reading["t_ns"] % S, reading["t"].microsecond) == (999_999_999, 999_999)


async def test_the_other_records_have_rows_of_their_own(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    await site.receive(plant.records)
    await fed(site, subject)

    chain = await subject.fetch("SELECT type FROM tidegate.chain ORDER BY seq")
    assert [row["type"] for row in chain] == ["EPOCH", "KEY", "CHECKPOINT"]
    (event,) = await subject.fetch("SELECT kind, subject, data->>'of' AS of, data->>'raw' AS raw FROM tidegate.event")
    assert tuple(event) == ("device.up", "mi\N{SYMBOL FOR NULL}xer", "a\N{SYMBOL FOR NULL}b", "01")
    (gap,) = await subject.fetch("SELECT scan_group, to_ns, status FROM tidegate.gap")
    assert tuple(gap) == (0, None, 0x80310000)
    (loss,) = await subject.fetch("SELECT first, last, records, reason FROM tidegate.loss")
    assert tuple(loss) == (0, 0, 1, "CORRUPT")
    (config,) = await subject.fetch("SELECT account, why, changes->0->>2 AS new FROM tidegate.config")
    assert tuple(config) == ("anna", "trial", "2")
    (identity,) = await subject.fetch("SELECT device, vendor, serial FROM tidegate.identity")
    assert tuple(identity) == ("mixer", "acme", "7")


async def test_corrections_of_the_clock_find_the_values_that_they_are_of(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    query = re.findall("```sql\n(.*?);\n```", PAGE.read_text("utf-8"), re.DOTALL)[0]
    plant.correct(0, 3, 5 * S)
    plant.correct(2, 3, 60 * S)
    plant.data(scan(1))
    await site.receive(plant.records)
    await fed(site, subject)

    found = [((row["t_ns"] - UTC_NS) // S, (row["right_ns"] - row["t_ns"]) // S) for row in await subject.fetch(query)]

    assert sorted(found) == [(1, 0), (1, 5), (2, 60), (3, 60), (3, 60)]


@pytest.mark.requirement("REQ-BATCH-01")
async def test_readings_are_asked_for_by_batch_and_unit_and_none_counts_to_a_batch_that_it_may_not_belong_to(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    heat = plant.context(batch="B-17", phase="heat", at_s=11).seq
    hold = plant.context(batch="B-17", phase="hold", at_s=12).seq
    following = plant.context(batch="B-18", phase="heat", at_s=14).seq
    lost = plant.context(batch=None, phase=None, at_s=16).seq
    plant.context(heat, batch="B-17", phase="heat", at_s=11)  # Sealed again with the catalogue.
    contexts: list[tuple[int, ...]] = [
        (heat,), (heat, hold), (hold,), (hold, following), (following,), (lost,), (0,), (0, heat), (),
    ]  # fmt: skip
    for second, context in enumerate(contexts, 11):
        plant.data(replace(scan(second), context=context))
    await site.receive(plant.records)
    await fed(site, subject)

    asked = "SELECT value FROM tidegate.reading WHERE tag = 'mass' AND batch = 'B-17' AND process_unit = 'reactor-1'"
    assert [row["value"] for row in await subject.fetch(f"{asked} ORDER BY t_ns")] == [11.1, 12.1, 13.1]
    shown = await readings(subject, "mass", "batch, phase, context, context_before, process_unit")
    assert shown[1:] == [
        ("B-17", "heat", heat, None, "reactor-1"), ("B-17", None, hold, heat, "reactor-1"),
        ("B-17", "hold", hold, None, "reactor-1"), (None, None, following, hold, "reactor-1"),
        ("B-18", "heat", following, None, "reactor-1"), (None, None, lost, None, "reactor-1"),
        (None, None, 0, None, None), (None, None, heat, 0, "reactor-1"), (None, None, None, None, None),
    ]  # fmt: skip
    rows = await subject.fetch("SELECT number, batch, lot, operation, from_ns, sources->>'phase' AS source "
                               "FROM tidegate.batch ORDER BY number")  # fmt: skip
    assert [row["number"] for row in rows[1:]] == [heat, hold, following, lost]
    assert tuple(rows[0])[1:4] == ("B\N{SYMBOL FOR NULL}-17", "", None)
    assert (rows[1]["from_ns"], rows[1]["source"]) == (UTC_NS + 11 * S, '["mixer", "batch"]')


async def test_a_context_that_has_fallen_names_no_batch_until_it_is_sealed_again(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    thief = plant.thief()
    await site.receive(plant.records)
    stolen = plant.context(chain=thief, batch="B-99")
    await site.receive([stolen, plant.data(replace(scan(20), context=(stolen.seq,)), chain=thief)])
    await fed(site, subject)
    before = await readings(subject, "mass", "batch")
    plant.roll()
    plant.data(replace(scan(21), context=(stolen.seq,)))
    await site.receive(plant.records[-2:])
    await fed(site, subject)
    fallen = await readings(subject, "mass", "batch, value")
    plant.context(stolen.seq, batch="B-19")
    await site.receive(plant.records[-1:])
    await fed(site, subject)

    assert before == [None, "B-99"]
    assert fallen == [(None, 1.1), (None, 21.1)]
    assert await readings(subject, "mass", "batch, value") == [(None, 1.1), ("B-19", 21.1)]


async def test_what_has_fallen_is_in_no_view(site: Site, plant: SealedPlant, subject: PostgresSubject) -> None:
    thief = plant.thief()
    await site.receive(plant.records)
    await site.receive([plant.data(scan(20), chain=thief), plant.data(scan(21), chain=thief)])
    await fed(site, subject)
    before = await readings(subject, "mass")
    plant.roll()
    await site.receive(plant.records[-1:])
    await fed(site, subject)

    assert before == [1.1, 20.1, 21.1]
    assert await readings(subject, "mass") == [1.1]


async def test_days_are_partitions_and_old_ones_are_dropped(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    for day in range(1, 4):
        plant.data(scan(day * 86_400))
    await site.receive(plant.records)
    await fed(site, subject)
    partitions = (
        "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'tidegate.block'::regclass ORDER BY 1"
    )
    before = [row[0] for row in await subject.fetch(partitions)]
    plant.data(scan(3 * 86_400 + 1))
    await site.receive(plant.records[-1:])
    await fed(site, subject, keep_days=2)
    kept = await readings(subject, "mass")
    plant.data(scan(2))  # Of a day that is gone: it comes back with it, until a day is over.
    await site.receive(plant.records[-1:])
    await fed(site, subject)

    assert before == [f"tidegate.block_202311{day}" for day in (14, 15, 16, 17)]
    assert kept == [86400.1, 172800.1, 259200.1, 259201.1]
    assert await readings(subject, "mass") == [2.1, *kept]


async def test_two_relays_write_one_database_and_everything_is_there_once(
    site: Site, plant: SealedPlant, subject: PostgresSubject, tmp_path: Path
) -> None:
    (other := tmp_path / "other").mkdir()
    second = await asyncio.to_thread(Site, other, [plant])
    await site.receive(plant.records)
    await second.receive(plant.records)
    await fed(site, subject)
    await fed(second, subject, relay="second")
    await asyncio.to_thread(second.store.close)

    assert await readings(subject, "mass") == [1.1]
    assert [tuple(row) for row in await subject.fetch("SELECT relay FROM tidegate.mark ORDER BY 1")] == [
        ("dmz",),
        ("second",),
    ]


async def test_two_relays_of_one_name_do_not_write_at_once(subject: PostgresSubject) -> None:
    async with subject.sink().session():
        with pytest.raises(SinkUnreachable, match="another relay writes there under the name dmz"):
            async with subject.sink().session():
                pass


async def test_names_with_odd_characters_are_texts_and_nothing_else(tmp_path: Path, subject: PostgresSubject) -> None:
    odd = SealedPlant("line.4_a-B")
    tag = CatalogueTag(name='x"; DROP TABLE tidegate.block; --%s/é', data_type=DataType.FLOAT32, address="a'b\\")
    odd.announce(Catalogue(path="a/b", groups=(replace(GROUP, device="d'1\\", tags=(tag,)),)))
    odd.data(SampleBlock(0, BOOT_NS, BOOT_NS, (np.ones(1, np.float32),)))
    site = await asyncio.to_thread(Site, tmp_path, [odd])
    await site.receive(odd.records, odd.name)
    await fed(site, subject)
    await asyncio.to_thread(site.store.close)

    assert await readings(subject, tag.name, "gateway, device, value") == [("line.4_a-B", "d'1\\", 1.0)]


@pytest.mark.parametrize(("sql", "changed", "said"), [
    ("INSERT INTO tidegate.version VALUES (4)", {}, "version 4 of the schema, and 3 is needed; this relay writes no"),
    ("DROP SCHEMA tidegate CASCADE", {}, "a table is not there: have its administrator apply"),
    ("REVOKE INSERT ON tidegate.block FROM tidegate_writer", {}, "permission denied .*GRANT tidegate_writer"),
    ("ALTER ROLE tidegate SET default_transaction_read_only = on", {}, "it is read-only"),
    ("SELECT 1", {"database": "nowhere"}, "there is no such database"),
    ("SELECT 1", {"account": "nobody"}, "it does not let us in"),
    ("SELECT 1", {"port": 1}, "cannot be reached"),
], ids=["newer", "no schema", "no permission", "read-only", "no database", "no account", "away"])  # fmt: skip
async def test_a_database_that_cannot_be_written_is_named_with_what_would_help(
    site: Site, plant: SealedPlant, subject: PostgresSubject, sql: str, changed: dict[str, Any], said: str
) -> None:
    await site.receive(plant.records)
    subject.sql(sql)
    try:
        with pytest.raises(SinkUnreachable, match=said):
            await fed(site, subject, **changed)
    finally:
        subject.sql("ALTER ROLE tidegate RESET default_transaction_read_only")


def test_a_schema_is_not_taken_backward(subject: PostgresSubject) -> None:
    subject.sql("INSERT INTO tidegate.version VALUES (4)")
    with pytest.raises(
        RuntimeError, match=r"has version 4 of the schema, and this file brings version 3[^$]*Rows are not"
    ):
        subject.server.psql_file(SCHEMA, subject.database)


async def test_an_older_schema_is_brought_forward_with_its_rows_and_with_what_it_could_not_hold(
    site: Site, plant: SealedPlant, subject: PostgresSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Version 1 had no table for corrections: the relay that wrote it put them among the events, and went on."""
    subject.sql("DROP SCHEMA tidegate CASCADE")
    subject.server.psql_file(FIRST_SCHEMA, subject.database)
    await site.receive(each for each in plant.records if each.type is not RecordType.CONTEXT)
    subject.sql("ALTER TABLE tidegate.block ADD COLUMN context bigint, ADD COLUMN context_before bigint")
    with monkeypatch.context() as before:  # By a relay of today: what it writes beyond version 1 is taken away again.
        before.setattr(historian, "SCHEMA_VERSION", 1)
        await fed(site, subject)
    subject.sql("ALTER TABLE tidegate.block DROP COLUMN context, DROP COLUMN context_before")
    correction = plant.correct(0, 3, 5 * S)
    await site.receive(plant.records[-1:])
    mark = [parcel.mark async for parcel in site.parcels(subject.sql("SELECT mark FROM tidegate.mark"))][-1]
    subject.sql(f"UPDATE tidegate.mark SET mark = '{mark}'")
    event = "INSERT INTO tidegate.event VALUES ('line-4', $1, $2, 0, 'time', 'INFO', '', $3)"
    await subject.fetch(event, correction.epoch, correction.seq, '{"correction_ns": 5}')
    rows = await subject.content(without="batch")
    with pytest.raises(SinkUnreachable, match="version 1 of the schema, and 3 is needed; have its administrator apply"):
        await fed(site, subject)

    subject.server.psql_file(SCHEMA, subject.database)
    plant.data(scan(7))
    await site.receive(plant.records[-1:])
    await fed(site, subject)

    assert await readings(subject, "mass") == [1.1, 7.1]
    assert subject.sql("SELECT seq, correction_ns FROM tidegate.correction") == f"{correction.seq}|{5 * S}"
    assert await subject.content() == rows | {plant.place(plant.records[-1]): ""}


async def test_a_schema_without_contexts_gets_them_and_keeps_its_rows_and_the_place_that_was_reached(
    site: Site, plant: SealedPlant, subject: PostgresSubject
) -> None:
    """What version 3 added is taken away: what is left is a database of version 2 with its rows."""
    context = next(each for each in plant.records if each.type is RecordType.CONTEXT).seq
    await site.receive(plant.records)
    await fed(site, subject)
    subject.sql("DROP VIEW tidegate.reading; DROP TABLE tidegate.batch; DELETE FROM tidegate.version WHERE version = 3;"
                "ALTER TABLE tidegate.block DROP COLUMN context, DROP COLUMN context_before")  # fmt: skip
    with pytest.raises(SinkUnreachable, match="version 2 of the schema, and 3 is needed; have its administrator apply"):
        await fed(site, subject)

    subject.server.psql_file(SCHEMA, subject.database)
    plant.context(context, batch="B-17")
    plant.data(replace(scan(7), context=(context,)))
    await site.receive(plant.records[-2:])
    async with subject.sink().session() as session:
        (parcel,) = [parcel async for parcel in site.parcels(session.mark)]
        await session.write(parcel)

    assert len(parcel.records) == 2
    assert await readings(subject, "mass", "value, batch") == [(1.1, None), (7.1, "B-17")]


def test_a_schema_that_is_there_already_is_left_as_it_is(subject: PostgresSubject) -> None:
    subject.sql("INSERT INTO tidegate.mark VALUES ('dmz', '{}')")
    subject.server.psql_file(SCHEMA, subject.database)

    assert subject.sql("SELECT relay FROM tidegate.mark") == "dmz"


def test_each_role_may_do_what_it_needs_and_no_more(subject: PostgresSubject) -> None:
    subject.server.psql(f"CREATE ROLE analyst_{subject.database} LOGIN IN ROLE tidegate_reader")
    analyst = f"analyst_{subject.database}"

    assert subject.sql("SELECT count(*) FROM tidegate.reading", analyst) == "0"
    for account, sql in [
        (analyst, "INSERT INTO tidegate.mark VALUES ('x', '')"),
        (analyst, "SELECT tidegate.drop_days('2030-01-01')"),
        ("tidegate", "DROP TABLE tidegate.gap"),
        ("tidegate", "CREATE TABLE tidegate.mine (n int)"),
        ("tidegate", "UPDATE tidegate.version SET version = 9"),
        ("tidegate", "TRUNCATE tidegate.block"),
    ]:
        with pytest.raises(RuntimeError, match=r"permission denied|must be owner"):
            subject.sql(sql, account)
