"""The page of contracts, compared with a fresh database, files of an export, and messages."""

from __future__ import annotations

import asyncio
import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.relay.archive import RecordLocation
from edge.relay.shapes import BlockOrigin, ShapeName
from edge.relay.sinks.other_rows import MEMBERS
from edge.relay.sinks.sink import Parcel
from edge.relay.sinks.stream_messages import StreamMessages, withdrawn
from edge.relay.unified_namespace import UnifiedNamespace, context_origin
from edge.seal import Calibration, Calibrations, Context, Data, EncodedCatalogue, Gap, RecordType, encode
from edge.seal.codec import Payload
from edge.verify import Verdict
from tests.edge.report.conftest import CATALOGUE as PLANT
from tests.edge.report.conftest import Site
from tests.support.chains import UTC_NS
from tests.support.contracts import PAGE, promised, types
from tests.support.postgres import Postgres
from tests.support.sinks.lake import LakeSubject
from tests.support.sinks.world import CATALOGUE, SealedPlant, changes, notification, scan
from tests.support.sinks.world import Site as RelaySite

JSON = {str: "string", int: "number", float: "number", bool: "boolean", type(None): "null", dict: "object",
        list: "array"}  # fmt: skip


def test_views_and_tables_have_the_columns_of_the_page(postgres: Postgres) -> None:
    postgres.create("contracts")
    names = ["reading", "newest", "gap", "loss", "event", "correction", "batch", "config"]
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    columns = ("SELECT table_name, column_name, data_type FROM information_schema.columns "
               "WHERE table_schema = 'tidegate' ORDER BY ordinal_position")  # fmt: skip
    for line in postgres.psql(columns, "contracts").splitlines():
        table, column, kind = line.split("|")
        if table in found:
            found[table][column] = kind

    assert {name: list(types(f"tidegate.{name}").items()) for name in names} == {
        name: list(columns.items()) for name, columns in found.items()
    }
    version = postgres.psql("SELECT max(version) FROM tidegate.version", "contracts")
    assert f"| {version}, the row of `tidegate.version`" in PAGE.read_text("utf-8")


def test_a_reader_may_read_what_the_page_names(postgres: Postgres) -> None:
    postgres.create("readable")
    postgres.psql("CREATE ROLE mes LOGIN IN ROLE tidegate_reader")
    for name in ("reading", "newest", "gap", "loss", "event", "correction", "batch", "config", "version"):
        postgres.psql(f"SELECT * FROM tidegate.{name}", "readable", "mes")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    (tmp_path / "archive").mkdir()
    site = Site(tmp_path / "archive")
    site.read(range(10))
    site.gap(0, 10, 12, "pulled")
    site.read(range(12, 20))
    site.write()
    return site


def export(site: Site, name: str, *options: str) -> Path:
    file = site.folder.parent / name
    result = CliRunner().invoke(
        cli, ["export", str(site.folder), "--trust", str(site.anchor), "-o", str(file), *options]
    )
    assert file.exists(), result.output
    return file


def header(file: Path) -> list[str]:
    with file.open(encoding="utf-8", newline="") as lines:
        return next(csv.reader(lines))


def test_files_have_the_columns_of_the_page(site: Site) -> None:
    long, wide = types("A row for each value"), types("A column for each tag")
    parquet = {wide: export(site, f"{wide}.parquet", *["--wide"] * wide) for wide in (False, True)}
    described = {
        wide: {name: kind for name, kind, *_ in duckdb.sql(f"DESCRIBE FROM '{file}'").fetchall()}
        for wide, file in parquet.items()
    }
    of_tags = {
        f"{group.device}/{tag.name}" + (f" ({tag.unit})" if tag.unit else ""): "DOUBLE"
        for group in PLANT.groups for tag in group.tags
    }  # fmt: skip
    at = [*wide].index("not_good")
    csv_file = export(site, "long.csv")

    assert list(described[False].items()) == list(long.items())
    assert header(csv_file) == [*long]
    assert list(described[True].items()) == [*[*wide.items()][:at], *of_tags.items(), *[*wide.items()][at:]]
    assert header(csv_file.with_name("long.csv.gaps.csv")) == [*promised("What is not there")]


def messages(shape: ShapeName) -> list[dict[str, Any]]:
    """What is published of blocks that have everything which a value can have."""
    view = UnifiedNamespace("plant", shape=shape)
    mass = Calibration(CATALOGUE.groups[0].device, "mass", due=0, since_ns=UTC_NS + 3)
    view.learn(Calibrations(CATALOGUE.path, (mass,)), RecordLocation("line-4", "2023-11-14", 0, 1))
    digest = EncodedCatalogue.of(CATALOGUE).digest
    speed = 1
    found = []
    for number, block in enumerate((scan(1), notification(2), changes(3, ["mass"], ((speed, 1, 0x80340000),)),
                                    changes(4, ["mass"], ((3, 1, 0x00960000),)))):  # fmt: skip
        origin = BlockOrigin("00ff/7/0/0", UTC_NS + number, 1500 if number else None, UTC_NS, has_unknown=number == 1)
        for each in view.messages(digest, CATALOGUE, block, origin):
            found += [orjson.loads(payload) for payload in each.payloads]
    return [each for each in found if "t" in each]


@pytest.mark.parametrize(("shape", "heading"), [
    ("tag", "PREFIX/PATH/DEVICE/TAG"), ("device", "PREFIX/PATH/DEVICE/GROUP"),
])  # fmt: skip
def test_messages_have_the_keys_of_the_page(shape: ShapeName, heading: str) -> None:
    is_as_promised(messages(shape), heading)


def test_a_context_has_the_keys_of_the_page() -> None:
    view, digest, found = UnifiedNamespace("plant"), EncodedCatalogue.of(CATALOGUE).digest, []
    for number, members in enumerate(({}, dict.fromkeys(MEMBERS), dict.fromkeys(MEMBERS, "a")), 1):
        said = Context(number=number, unit="reactor-1", members=members, from_ns=0, to_ns=number)
        origin = context_origin(f"00ff/{number}", said, 0, RecordLocation("line-4", "1970-01-01", 0, 1))
        found += [orjson.loads(payload) for each in view.messages(digest, CATALOGUE, said, origin)
                  for payload in each.payloads]  # fmt: skip

    is_as_promised(found, "PREFIX/PATH/UNIT/context")


def is_as_promised(found: list[dict[str, Any]], heading: str) -> None:
    """Messages have the keys and types of the page, and those always that are always there."""
    keys = promised(heading)
    kinds: dict[str, set[str]] = {name: set() for name in keys}
    for each in found:
        for key, value in each.items():
            kinds[key].add(JSON[type(value)])

    assert kinds == {name: set(cells[0].split(", ")) for name, cells in keys.items()}
    assert {name for name in keys if all(name in each for each in found)} == {
        name for name, cells in keys.items() if cells[1] == "always"
    }


def without_bound(content: Payload) -> Data:
    """As of a gateway that does not know how far its clock is off."""
    assert isinstance(content, Data)
    return replace(content, time=replace(content.time, bound_ns=None))


async def test_a_stream_has_the_keys_of_the_page(tmp_path: Path) -> None:
    plant = SealedPlant()
    plant.every_kind()
    plant.data(changes(3, ["mass"], ((1, 1, 0x80340000), (2, 1, 0x40000000))))
    plant.data(changes(4, ["mass"], ((3, 1, 0x00960000),)))
    plant.seal(RecordType.GAP, encode(Gap(group=0, from_ns=UTC_NS, to_ns=UTC_NS + 1, status=0x80310000)))
    later = plant.data(changes(5, ["total"]))
    plant.data(replace(scan(6), context=(7,)), replace(scan(7), context=(7, 9)))
    site = await asyncio.to_thread(RelaySite, tmp_path, [plant])
    await site.receive(plant.records)
    (parcel,) = [parcel async for parcel in site.parcels("")]
    await asyncio.to_thread(site.store.close)
    maker = StreamMessages()
    records = [replace(each, has_unknown=True, content=without_bound(each.content))
               if each.place == plant.place(later) else each for each in parcel.records]  # fmt: skip
    made = [message for record in records for message in maker.of(record)]
    fell = Parcel(records=parcel.records, anew=frozenset({plant.place(later)}), mark="",
                  fallen=[(plant.place(plant.records[0]), Verdict.FORK)])  # fmt: skip

    is_as_promised([orjson.loads(each.payload) for each in made if each.is_values], "Streams: values")
    is_as_promised([orjson.loads(each.payload) for each in made if not each.is_values], "Streams: events")
    is_as_promised([orjson.loads(payload) for _, payload in withdrawn(fell)], "Streams: withdrawn")


@pytest.mark.parametrize("dataset", ["readings", "events"])
async def test_a_lake_has_the_columns_of_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dataset: str
) -> None:
    lake = LakeSubject.create(tmp_path / "lake", monkeypatch)
    plant = SealedPlant()
    plant.every_kind()
    site = await asyncio.to_thread(RelaySite, tmp_path, [plant])
    await site.receive(plant.records)
    async with lake.sink().session() as session:
        await site.feed(session)
    await asyncio.to_thread(site.store.close)

    found = {name: kind for name, kind, *_ in lake.read("DESCRIBE rows", dataset)}

    assert list(found.items()) == list(types(f"Lake: {dataset}").items())
