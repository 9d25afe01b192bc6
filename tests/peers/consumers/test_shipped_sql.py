"""What is shipped for Grafana and Power BI asks a real database, and reads what was sealed."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import numpy as np
import pytest

from edge.model import SampleBlock
from tests.support.chains import BOOT_NS, UTC_NS
from tests.support.postgres import Postgres
from tests.support.sinks.postgres import PostgresSubject
from tests.support.sinks.world import TAGS, S, SealedPlant, Site, values, vectors_of

SHIPPED = Path(__file__).parents[3] / "configs/historian"
FROM_S, TO_S = UTC_NS // S - 60, UTC_NS // S + 60
MACROS = {
    "$__timeFilter(t)": f"t BETWEEN to_timestamp({FROM_S}) AND to_timestamp({TO_S})",
    "$__timeGroupAlias(t,$__interval)": 'floor(extract(epoch FROM t) / 10) * 10 AS "time"',
    "$__unixEpochFrom()": str(FROM_S),
    "$__unixEpochTo()": str(TO_S),
    "${gateway}": "line-4",
    "${device}": "mixer",
    "${tag:singlequote}": ",".join(f"'{tag.name}'" for tag in TAGS),
}
"""What Grafana makes of its macros and variables for two minutes, by intervals of 10 s."""


@pytest.fixture
async def filled(postgres: Postgres, tmp_path: Path) -> PostgresSubject:
    """A database that has records of every kind, and a value that is no number."""
    subject = PostgresSubject.create(postgres)
    plant = SealedPlant()
    plant.every_kind()
    found, _ = vectors_of(values(5) | {"temperature": np.float32("inf")})
    plant.data(SampleBlock(0, BOOT_NS + 5 * S, BOOT_NS + 5 * S, tuple(found)))
    site = await asyncio.to_thread(Site, tmp_path, [plant])
    await site.receive(plant.records)
    async with subject.sink().session() as session:
        await site.feed(session)
    await asyncio.to_thread(site.store.close)
    return subject


def asked(subject: PostgresSubject, sql: str) -> list[dict[str, object]]:
    """The rows of a query of Grafana's, as a reader has them."""
    for macro, text in MACROS.items():
        sql = sql.replace(macro, text)
    assert "$" not in sql
    rows = subject.sql(f"SET ROLE tidegate_reader; SELECT coalesce(json_agg(q), '[]') FROM ({sql}) q")
    found: list[dict[str, object]] = json.loads(rows)
    return found


async def test_every_query_of_the_dashboard_finds_what_was_sealed(filled: PostgresSubject) -> None:
    dashboard = json.loads((SHIPPED / "grafana-dashboard.json").read_text())
    queries = {each["name"]: each["query"] for each in dashboard["templating"]["list"] if each["type"] == "query"}
    queries |= {each["name"]: each["target"]["rawSql"] for each in dashboard["annotations"]["list"]}
    queries |= {panel["title"]: target["rawSql"] for panel in dashboard["panels"] for target in panel["targets"]}
    found = {name: await asyncio.to_thread(asked, filled, sql) for name, sql in queries.items()}

    assert [row for row in found["Values"] if row["metric"] == "speed /min"] == [
        {"time": "2023-11-14T22:13:21.0005+00:00", "metric": "speed /min", "value": 120.1},
        {"time": "2023-11-14T22:13:25+00:00", "metric": "speed /min", "value": 120.5},
    ]
    assert {row["metric"]: row["value"] for row in found["Mean of a window"]}["speed"] == 120.3
    assert {row["tag"]: row["value"] for row in found["Newest"]}["speed"] == 120.5
    assert [row["tag"] for row in found["Not good"]] == ["temperature"] * 2
    assert [row["time"] for row in found["Not read"]] == [UTC_NS // 10**6]
    assert found["gateway"] == [{"gateway": "line-4"}]
    assert found["device"] == [{"device": "mixer"}]
    assert {row["tag"] for row in found["tag"]} == {tag.name for tag in TAGS}


async def test_the_views_for_odbc_have_plain_columns_and_no_number_that_is_none(filled: PostgresSubject) -> None:
    def views() -> tuple[str, str, str, str]:
        filled.server.psql_file(SHIPPED / "power-bi.sql", filled.database)
        filled.server.psql_file(SHIPPED / "power-bi.sql", filled.database)  # Again, and nothing changes.
        kinds = filled.sql("SELECT DISTINCT data_type FROM information_schema.columns WHERE table_schema = 'tidegate' "
                           "AND table_name LIKE 'bi\\_%' ORDER BY 1")  # fmt: skip
        odd = filled.sql("SET ROLE tidegate_reader; SELECT value, quality FROM tidegate.bi_value WHERE "
                         "tag = 'temperature' AND t = '2023-11-14 22:13:25Z'")  # fmt: skip
        newest = filled.sql("SET ROLE tidegate_reader; SELECT value, unit FROM tidegate.bi_newest WHERE tag = 'speed'")
        missing = filled.sql("SET ROLE tidegate_reader; SELECT kind, since FROM tidegate.bi_missing ORDER BY kind")
        return kinds, odd, newest, missing

    kinds, odd, newest, missing = await asyncio.to_thread(views)
    assert kinds.split("\n") == ["double precision", "text", "timestamp with time zone"]
    assert odd == "|uncertain"
    assert newest == "120.5|/min"
    assert missing.split("\n") == ["gap|2023-11-14 22:13:20+00", "loss|"]
