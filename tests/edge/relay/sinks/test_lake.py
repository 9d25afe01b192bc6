"""The lake: what stands in its files, how they are cut, and what changes them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.relay.shown_values import LONG
from edge.relay.sinks.feed import SinkFeed
from edge.relay.sinks.sink import Parcel, Place, SinkRecord, SinkUnreachable
from edge.testing.clock import ManualClock
from edge.verify import Verdict
from tests.support.chains import UTC_NS
from tests.support.sinks.lake import LakeSubject, write_all
from tests.support.sinks.world import SealedPlant, Site, changes, scan

ROOT = Path(__file__).parents[4]
HOUR = 3600
DAY = "2023-11-15"
MIDNIGHT = 6400  # In seconds of the world.


@pytest.fixture
def lake(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> LakeSubject:
    return LakeSubject.create(tmp_path / "lake", monkeypatch)


@pytest.fixture
def plant() -> SealedPlant:
    return SealedPlant()


@pytest.fixture
def site(tmp_path: Path, plant: SealedPlant) -> Iterator[Site]:
    site = Site(tmp_path, [plant])
    yield site
    site.store.close()


async def fed(site: Site, lake: LakeSubject, rows: int = 1) -> str:
    """Feed it, and end as a crash does; returns the mark that is durable."""
    async with lake.sink(rows=rows).session() as session:
        await site.feed(session)
        return session.mark


async def called(*words: object) -> Result:
    """A command, in a thread: it blocks."""
    return await asyncio.to_thread(CliRunner().invoke, cli, [str(word) for word in words])


async def parcels(site: Site, size: int) -> AsyncIterator[Parcel]:
    """The whole archive in small parcels, each with the mark of its last record."""
    async for parcel in site.parcels(""):
        for at in range(0, len(parcel.records), size):
            yield Parcel(records=parcel.records[at : at + size], mark=f"{at + size}")


def hours(plant: SealedPlant, count: int, scans: int = 6) -> None:
    """Scans spread over the first hours of a day."""
    plant.announce()
    for number in range(count * scans):
        plant.data(scan(MIDNIGHT + number * HOUR // scans))


async def test_every_value_is_the_one_that_an_export_writes(
    site: Site, plant: SealedPlant, lake: LakeSubject, tmp_path: Path
) -> None:
    plant.every_kind()
    plant.data(changes(9, ["temperature", "power", "power_exponent"], ((1, 1, 0x80310000),)))
    await site.receive(plant.records)
    await fed(site, lake)
    exported = tmp_path / "out.parquet"
    ran = await called("export", site.archive, "--trust", site.trust[0], "-o", exported)
    assert exported.exists(), ran.output

    columns = ", ".join(f'"{name}"' for name in LONG if not name.startswith("corrected"))
    ours = lake.read(f"SELECT {columns} FROM rows")
    same = "* REPLACE (CASE type WHEN 'float32' THEN value::FLOAT::DOUBLE ELSE value END AS value)"
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW ours AS SELECT {columns} FROM '{lake.directory}/readings/**/*.parquet'")
        connection.execute(f"CREATE VIEW theirs AS SELECT {columns} FROM '{exported}'")
        kinds = [connection.execute(f"DESCRIBE {each}").fetchall() for each in ("ours", "theirs")]
        for one, other in (("ours", "theirs"), ("theirs", "ours")):
            left = connection.execute(f"SELECT {same} FROM {one} EXCEPT ALL SELECT {same} FROM {other}").fetchall()
            assert left == [], one

    assert kinds[0] == kinds[1]
    assert len(ours) > 15


async def test_an_hour_is_a_file_sorted_by_tag_and_time_and_the_mark_stays_in_front_of_what_waits(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    hours(plant, 3)
    await site.receive(plant.records)
    async with lake.sink(rows=10_000).session() as session:
        async for parcel in parcels(site, 1):
            await session.write(parcel)
        mark = session.mark

    epoch = plant.records[0].epoch.hex()
    below = f"gateway=line-4/day={DAY}"
    assert lake.files() == [f"{below}/hour=00-{epoch}-2-7.parquet", f"{below}/hour=01-{epoch}-8-13.parquet"]
    assert int(mark) < len(plant.records)
    sql = f"SELECT tag, time FROM read_parquet('{lake.directory}/readings/{lake.files()[1]}')"
    with duckdb.connect() as connection:
        rows = connection.execute(sql).fetchall()
    assert rows == sorted(rows)


@pytest.mark.parametrize("rows", [25, 10_000])
async def test_a_repeat_cuts_the_same_files_of_the_same_bytes_whenever_it_ended(
    site: Site, plant: SealedPlant, lake: LakeSubject, tmp_path: Path, rows: int
) -> None:
    hours(plant, 4)
    await site.receive(plant.records)
    once = LakeSubject.create(tmp_path / "once", lake.patch)
    all_parcels = [parcel async for parcel in parcels(site, 1)]
    async with once.sink(rows=rows).session() as session:
        for parcel in all_parcels:
            await session.write(parcel)
    written = 0
    for ends in range(5, len(all_parcels) + 5, 5):
        async with lake.sink(rows=rows).session() as session:
            written = int(session.mark or 0)
            for parcel in all_parcels[written:ends]:
                await session.write(parcel)

    assert 0 < written < len(all_parcels)
    assert lake.files() == once.files() != []
    for name in once.files():
        ours, theirs = ((each.directory / "readings" / name).read_bytes() for each in (lake, once))
        assert ours == theirs, name


async def test_files_from_before_contexts_are_compacted_with_those_that_have_them(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    hours(plant, 1, scans=1)
    plant.data(replace(scan(MIDNIGHT + 60), context=(3, 5)))
    await site.receive(plant.records)
    await fed(site, lake)
    older = lake.directory / "readings" / lake.files()[0]
    with duckdb.connect() as connection:
        ((places,),) = connection.execute(
            f"SELECT value FROM parquet_kv_metadata('{older}') WHERE key = 'tidegate'"
        ).fetchall()
        rows = f"SELECT * EXCLUDE (gateway, day, context, context_before) FROM '{older}'"
        about = f"FORMAT parquet, KV_METADATA {{tidegate: '{places.decode()}'}}"
        connection.execute(f"COPY ({rows}) TO '{older}.new' ({about})")
    older.with_name(f"{older.name}.new").replace(older)
    ran = await called("lake", "compact", lake.directory, DAY)

    assert ran.exit_code == 0, ran.output
    found = "SELECT DISTINCT context, context_before FROM rows ORDER BY ALL"
    assert (len(lake.files()), lake.read(found)) == (1, [(5, 3), (None, None)])


async def test_late_records_are_in_a_further_file(site: Site, plant: SealedPlant, lake: LakeSubject) -> None:
    hours(plant, 3)
    late, others = plant.records[10], [each for each in plant.records if each is not plant.records[10]]
    await site.receive(others)
    async with lake.sink(rows=10_000).session() as session:
        await site.feed(session)
        await write_all(session)
        before = lake.files()
        await site.receive([late])
        await site.feed(session)
        await write_all(session)

    (further,) = {*lake.files()} - {*before}
    assert further.endswith(f"hour=01-{late.epoch.hex()}-{late.seq}-{late.seq}.parquet")
    assert lake.read("SELECT count(*) - count(DISTINCT (epoch, seq, tag)) FROM rows") == [(0,)]


async def test_what_waits_too_much_is_cut_early(
    site: Site, plant: SealedPlant, lake: LakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.relay.sinks.lake._HELD_BYTES", 20_000)
    hours(plant, 1, scans=40)
    plant.data(scan(MIDNIGHT + HOUR))
    await site.receive(plant.records)
    async with lake.sink(rows=10_000).session() as session:
        await site.feed(session)
        assert session._size <= 20_000
        await write_all(session)

    assert lake.read("SELECT count(DISTINCT seq) FROM rows") == [(41,)]


async def test_an_hour_of_a_silent_gateway_is_written_by_the_clock(
    site: Site, plant: SealedPlant, lake: LakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    hours(plant, 1)
    await site.receive(plant.records)
    async with lake.sink(rows=10_000).session() as session:
        await site.feed(session)
        before = lake.files()
        monkeypatch.setattr("edge.relay.sinks.lake._SILENT_S", 0.0)
        monkeypatch.setattr("edge.relay.sinks.lake._LOOK_EVERY_S", 0.0)
        await session._write_due()
        assert json.loads(session.mark)

    assert before == []
    assert lake.read("SELECT count(DISTINCT seq) FROM rows") == [(6,)]


async def test_a_day_becomes_one_file_with_the_same_rows_and_late_or_fallen_records_still_find_it(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    hours(plant, 2)
    thief = plant.thief()
    stolen = plant.data(scan(MIDNIGHT + 70), chain=thief)
    await site.receive([*plant.records, stolen])
    await fed(site, lake)
    everything = "SELECT * FROM rows ORDER BY ALL"
    before, names = lake.read(everything), lake.files()
    ran = await called("lake", "compact", lake.directory, DAY)
    compacted, after = lake.files(), lake.read(everything)
    plant.roll()
    await site.receive(plant.records[-1:])
    await fed(site, lake)

    assert ran.exit_code == 0, ran.output
    assert ran.output.startswith(f"{DAY}: of ")
    assert (len(names), len(compacted)) == (13, 1)
    assert after == before
    assert lake.files() == compacted
    assert lake.read("SELECT DISTINCT seq, verdict FROM rows WHERE verdict <> 'AUTHENTIC'") == [(stolen.seq, "FORK")]


async def test_a_directory_whose_name_is_a_pattern_is_that_directory(
    site: Site, plant: SealedPlant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lake = LakeSubject.create(tmp_path / "[l]a*?", monkeypatch)
    hours(plant, 2)
    thief = plant.thief()
    stolen = plant.data(scan(MIDNIGHT + 70), chain=thief)
    await site.receive([*plant.records, stolen])
    await fed(site, lake)
    for file in lake.files():  # What the pattern matches, and must not be read.
        other = tmp_path / "lake/readings" / file
        other.parent.mkdir(parents=True, exist_ok=True)
        other.write_text("another's")
    ran = await called("lake", "compact", lake.directory, DAY)
    plant.roll()
    await site.receive(plant.records[-1:])
    await fed(site, lake)
    fallen = "SELECT DISTINCT seq, verdict FROM rows WHERE verdict <> 'AUTHENTIC'"
    lake.directory = lake.directory.rename(tmp_path / "found")

    assert ran.exit_code == 0, ran.output
    assert lake.read(fallen) == [(stolen.seq, "FORK")]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((".", DAY), "is no lake: no relay has written files there"),
        (("lake", "yesterday"), "'yesterday' is no day: write it as 2026-01-31"),
        (("lake", "2023-11-16"), "has no files of 2023-11-16; it has 2023-11-14 to 2023-11-14"),
    ],
)
async def test_a_compaction_that_cannot_be_says_why(
    site: Site, plant: SealedPlant, lake: LakeSubject, arguments: tuple[str, str], said: str
) -> None:
    plant.every_kind()
    await site.receive(plant.records)
    await fed(site, lake)
    ran = await called("lake", "compact", lake.directory.parent / arguments[0], arguments[1])

    assert ran.exit_code != 0
    assert said in " ".join(ran.output.split())


async def test_days_that_are_not_kept_are_removed_by_the_newest_value(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    plant.announce()
    for day in range(4):
        plant.data(scan(day * 24 * HOUR))
    await site.receive(plant.records)
    await fed(site, lake)
    before = lake.read("SELECT DISTINCT day::VARCHAR FROM rows ORDER BY 1")
    async with lake.sink(rows=1, keep_days=2).session() as session:
        plant.data(scan(4 * 24 * HOUR))
        await site.receive(plant.records[-1:])
        await site.feed(session)

    assert [day for (day,) in before] == ["2023-11-14", "2023-11-15", "2023-11-16", "2023-11-17"]
    days = lake.read("SELECT DISTINCT day::VARCHAR FROM rows ORDER BY 1")
    assert [day for (day,) in days] == ["2023-11-16", "2023-11-17", "2023-11-18"]


async def test_events_gaps_and_losses_are_files_of_their_own(site: Site, plant: SealedPlant, lake: LakeSubject) -> None:
    plant.every_kind()
    await site.receive(plant.records)
    await fed(site, lake)
    said = dict(lake.read("SELECT kind, content FROM rows WHERE kind <> 'chain'", "events"))
    gaps = lake.read("SELECT device, scan_group, time IS NULL FROM rows WHERE kind = 'gap'", "events")

    assert {*said} == {"event", "gap", "loss", "config", "batch", "identity"}
    assert json.loads(said["gap"])["status"] == 0x80310000
    assert json.loads(said["config"])["account"] == "anna"
    assert gaps == [("mixer", "1s", False)]
    assert lake.read("SELECT day IS NULL FROM rows WHERE kind = 'loss'", "events") == [(True,)]


async def test_corrections_of_the_clock_find_the_values_that_they_are_of(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    page = (ROOT / "docs/how-to/lake.md").read_text("utf-8")
    (query,) = (each for each in re.findall("```sql\n(.*?)\n```", page, re.DOTALL) if "corrected_time" in each)
    plant.every_kind()
    plant.correct(0, 3, 5 * 10**9)
    plant.correct(2, 3, 60 * 10**9)
    plant.data(scan(1))
    await site.receive(plant.records)
    await fed(site, lake)
    query = query.replace("/srv/lake", str(lake.directory))
    found = lake.read(f"SELECT DISTINCT epoch_ns(time), epoch_ns(corrected_time) FROM ({query})")

    by_ns = {((time - UTC_NS) // 10**9, corrected - time) for time, corrected in found}
    assert by_ns == {(1, 5 * 10**9), (2, 60 * 10**9), (3, 60 * 10**9)}


async def test_readings_are_found_by_their_batch(site: Site, plant: SealedPlant, lake: LakeSubject) -> None:
    page = (ROOT / "docs/how-to/lake.md").read_text("utf-8")
    (query,) = (each for each in re.findall("```sql\n(.*?)\n```", page, re.DOTALL) if "B-17" in each)
    plant.announce()
    ours, following = plant.context(batch="B-17", phase="heat").seq, plant.context(batch="B-18").seq
    plant.context(ours, batch="B-17", phase="heat")  # Sealed again with the catalogue.
    for second, context in enumerate([(ours,), (ours, following), (following,), (0,), ()], 1):
        plant.data(replace(scan(second), context=context))
    await site.receive(plant.records)
    await fed(site, lake)
    query = query.replace("/srv/lake", str(lake.directory))

    assert lake.read(f"SELECT value, phase FROM ({query}) WHERE tag = 'mass'") == [(1.1, "heat")]


async def test_a_name_that_a_path_does_not_take_is_that_name_when_it_is_read(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    plant.every_kind()
    await site.receive(plant.records)
    name = "../ä=1/b %?*\\"
    async with lake.sink().session() as session:
        async for parcel in site.parcels(""):
            records = [SinkRecord(place=each.place._replace(gateway=name), type=each.type, content=each.content,
                                  catalogue=each.catalogue) for each in parcel.records]  # fmt: skip
            await session.write(Parcel(records=records, mark="1"))

    assert lake.read("SELECT DISTINCT gateway FROM rows") == [(name,)]
    assert all(file.count("/") == 2 for file in lake.files())


async def test_a_time_that_parquet_has_no_place_for_is_refused_alone(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    hours(plant, 1)
    await site.receive(plant.records)
    (parcel,) = [parcel async for parcel in site.parcels("")]
    at = next(n for n, each in enumerate(parcel.records) if each.catalogue)
    bad = parcel.records[at]
    object.__setattr__(bad.content, "utc_ns", 2**63)
    async with lake.sink().session() as session:
        refused = await session.write(parcel)

    assert refused == 1
    kept = [(each.place.seq,) for each in parcel.records if each.catalogue and each is not bad]
    assert lake.read("SELECT DISTINCT seq FROM rows ORDER BY 1") == kept


async def test_the_status_says_what_waits_for_its_file(
    site: Site, plant: SealedPlant, lake: LakeSubject, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.relay.sinks.feed._MEASURE_EVERY_S", 0.01)
    monkeypatch.setattr("edge.relay.sinks.lake._LOOK_EVERY_S", 0.01)
    hours(plant, 1)
    await site.receive(plant.records)

    async def in_archive(function: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.to_thread(function, *arguments)

    feed = SinkFeed(lake.sink(rows=10_000), site.archive, site.store, in_archive, ManualClock())
    task = asyncio.create_task(feed.run())
    while not (waiting := feed.status()).waiting_bytes or waiting.lag_ns or waiting.state != "up":  # noqa: ASYNC110 - a status is asked for
        await asyncio.sleep(0.01)
    before = lake.files()
    monkeypatch.setattr("edge.relay.sinks.lake._SILENT_S", 0.0)
    while (written := feed.status()).waiting_bytes:  # noqa: ASYNC110 - a status is asked for
        await asyncio.sleep(0.01)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    feed.close()

    assert before == []
    assert len(lake.files()) == 1
    assert (waiting.records, written.records) == (len(plant.records), len(plant.records))


async def test_a_directory_that_is_not_there_moved_or_used_by_another_relay_is_said(lake: LakeSubject) -> None:
    async def why() -> str:
        with pytest.raises(SinkUnreachable) as raised:
            async with lake.sink().session():
                pass
        return str(raised.value)

    async with lake.sink().session() as session:
        used = await why()
        lake.take_away()
        away = await why()
        with pytest.raises(SinkUnreachable, match="there is no such directory"):
            await session.write(Parcel(records=(), mark="x"))
        lake.directory.mkdir()
        with pytest.raises(SinkUnreachable, match="another directory is there now"):
            await session.write(Parcel(records=(), mark="x"))
    lake.directory.rmdir()
    lake.directory.write_text("")
    unreadable = LakeSubject.create(lake.directory.with_name("a\\[b]"), lake.patch)
    with pytest.raises(SinkUnreachable, match="has a backslash and one of"):
        async with unreadable.sink().session():
            pass

    assert used == f"{lake.directory}: another relay writes there; give each a directory of its own"
    assert away == f"{lake.directory}: there is no such directory: make it, or mount the disk that it is on"
    assert await why() == f"{lake.directory}: it is not a directory"


async def test_what_a_killed_process_left_is_removed_and_nobody_reads_it(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    hours(plant, 1)
    await site.receive(plant.records)
    await fed(site, lake)
    folder = (lake.directory / "readings" / lake.files()[0]).parent
    (folder / ".hour=22-x.parquet.new").write_bytes(b"half")
    (lake.directory / ".scratch").mkdir(exist_ok=True)
    (lake.directory / ".scratch/day-x.parquet").write_bytes(b"half")
    read = lake.read("SELECT count(DISTINCT seq) FROM rows")
    await fed(site, lake)

    assert read == [(6,)]
    assert [*lake.directory.glob("readings/**/.*"), *lake.directory.glob(".scratch/*")] == []


async def test_a_place_that_falls_while_it_waits_is_not_written(
    site: Site, plant: SealedPlant, lake: LakeSubject
) -> None:
    hours(plant, 1)
    await site.receive(plant.records)
    place = Place("line-4", plant.records[3].epoch, plant.records[3].seq)
    async with lake.sink(rows=10_000).session() as session:
        await site.feed(session)
        await session.write(Parcel(records=(), fallen=[(place, Verdict.FORK)], mark="{}"))
        await write_all(session)

    assert (place.seq,) not in lake.read("SELECT DISTINCT seq FROM rows")
    assert lake.read("SELECT count(DISTINCT seq) FROM rows") == [(5,)]


@pytest.mark.parametrize("words", [("check", "CONFIG"), ("relay", "CONFIG"), ("lake", "compact", "FOLDER", DAY)])
def test_without_duckdb_it_says_what_to_install(tmp_path: Path, words: tuple[str, ...]) -> None:
    (tmp_path / "relay.yaml").write_text(
        f"relay: {{name: r, archive: a, trust: [{ROOT}/configs/trust], mqtt: {{host: 127.0.0.1, tls: off}}, "
        "sinks: {lake: {directory: x}}}"
    )
    said = {"CONFIG": str(tmp_path / "relay.yaml"), "FOLDER": str(tmp_path)}
    code = "import sys; sys.modules['duckdb'] = None; from edge.cli import main; main()"
    ran = subprocess.run([sys.executable, "-c", code, *(said.get(word, word) for word in words)], capture_output=True,
                         text=True, check=False)  # fmt: skip

    assert ran.returncode in (2, 78), ran.stderr
    assert "install the Debian package tidegate-lake, or tidegate[lake]" in " ".join((ran.stdout + ran.stderr).split())
    assert "Traceback" not in ran.stderr
