"""What a sink of the relay costs and gives: `python -m bench.sinks`, about three minutes.

An archive of sealed scans, every value moved by noise, is written into a PostgreSQL of Debian on this machine, as a new
sink is filled: read, checked, decoded, encoded, copied. The first is scans of 1,000 tags; the second a day of scans of
100 tags at one second, of which one tag is then asked for. Others become messages of a Kafka. CPU is that of this
process, without the server's.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.results import Row, store
from edge.kafka.client import KafkaAccess
from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock
from edge.relay.sinks.historian import Historian
from edge.relay.sinks.historian_session import HistorianPlan
from edge.relay.sinks.reader import Reader
from edge.relay.sinks.sink import Sink
from edge.relay.sinks.stream import Stream, StreamPlan
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import Chain, ChainRules, EncodedCatalogue, Encoding, Record, RecordType, encode_data, issuer_of
from tests.support.chains import BOOT_NS, TIME, UTC_NS, new_identity
from tests.support.kafka import Kafka, running_kafka
from tests.support.postgres import Postgres, running_postgres

_COMMAND = "python -m bench.sinks"
_S = 10**9
_DAY_SCANS = 86_400


def archive(folder: Path, tags: int, scans: int, scans_a_record: int) -> RelayStore:
    """A relay's archive of one gateway, whose scans are a second apart."""
    issuer, identity = issuer_of("bench"), new_identity()
    (folder / "bench.pub.pem").write_bytes(identity.public_pem(issuer))
    opened = RelayStore(folder / "archive", [folder / "bench.pub.pem"], quarantine_bytes=1 << 20,
                        waiting_bytes=1 << 20, view=None)  # fmt: skip
    rules = ChainRules(encoding=Encoding.ZSTD, key_records=10**6)
    chain, epoch = Chain.start(identity, issuer=issuer, time=TIME, now_boot_ns=BOOT_NS, rules=rules)
    held = [CatalogueTag(name=f"t{n}", data_type=DataType.FLOAT32, address=f"holding {2 * n}", unit="Cel")
            for n in range(tags)]  # fmt: skip
    group = CatalogueGroup(device="d", name="1s", interval_ns=_S, tags=tuple(held))
    encoded = EncodedCatalogue.of(Catalogue(path="acme/basel/bench", groups=(group,)))
    records = [epoch, *(chain.seal(RecordType.CATALOG, part) for part in encoded.payloads)]
    random, levels = np.random.default_rng(1), np.arange(tags, dtype=np.float32) % 100 + 20
    for first in range(0, scans, scans_a_record):
        blocks = []
        for number in range(first, first + scans_a_record):
            values = levels + random.normal(0, 0.3, tags).astype(np.float32)
            blocks.append(SampleBlock(0, BOOT_NS + number * _S, BOOT_NS + number * _S + 10**6, (values,)))
        at_ns = blocks[0].sampled_at_ns
        payload = encode_data(utc_ns=UTC_NS + at_ns - BOOT_NS, boot_ns=at_ns, time=TIME, catalogue=encoded.digest,
                              blocks=blocks)  # fmt: skip
        records.append(chain.seal(RecordType.DATA, payload))
        if len(records) >= 500:
            _receive(opened, records)
            records = []
    _receive(opened, records)
    return opened


def _receive(opened: RelayStore, records: Sequence[Record]) -> None:
    opened.take([ReceivedMessage("tidegate/v1/bench/r/data", record.data, UTC_NS) for record in records])
    opened.sync()


async def fill(opened: RelayStore, directory: Path, sink: Sink) -> tuple[float, float]:
    """Fill a new sink; seconds of this process's CPU, and of the clock."""
    ends = opened.durable_ends()
    began, cpu = time.perf_counter(), time.process_time()
    async with sink.session() as session:
        reader = Reader(directory, session.mark)
        while found := reader.read(ends):
            await session.write(reader.parcel(found, opened.standing([each.place for each in found])))
    return time.process_time() - cpu, time.perf_counter() - began


def measure(server: Postgres, tags: int, scans: int, scans_a_record: int) -> tuple[float, float, float, str]:
    """Readings per CPU second and per second, bytes a reading, and the database."""
    with tempfile.TemporaryDirectory() as folder:
        opened = archive(Path(folder), tags, scans, scans_a_record)
        database = f"bench_{tags}"
        server.create(database)
        plan = HistorianPlan(name="historian", relay="bench", host=server.socket, port=server.port, database=database)
        cpu, seconds = asyncio.run(fill(opened, Path(folder) / "archive", Historian(plan)))
        opened.close()
    size = server.psql("SELECT sum(pg_total_relation_size(inhrelid)) FROM pg_inherits "
                       "WHERE inhparent = 'tidegate.block'::regclass", database)  # fmt: skip
    readings = tags * scans
    assert server.psql("SELECT count(*) FROM tidegate.block", database) == str(scans)
    return readings / cpu, readings / seconds, int(size) / readings, database


def one_tag(server: Postgres, database: str) -> float:
    """Seconds for one tag of a day, all its values and times."""
    server.psql("VACUUM ANALYZE tidegate.block", database)
    asked = ("SELECT count(value), count(t_ns) FROM tidegate.reading WHERE gateway = 'bench' AND device = 'd' "
             "AND tag = 't7' AND t >= '2023-11-14' AND t < '2023-11-17'")  # fmt: skip
    took = []
    for _ in range(3):
        began = time.perf_counter()
        assert server.psql(asked, database) == f"{_DAY_SCANS}|{_DAY_SCANS}"
        took.append(time.perf_counter() - began)
    return sorted(took)[1]


def stream(kafka: Kafka, tags: int, scans: int) -> tuple[float, float, float]:
    """Readings per CPU second and per second as messages of Kafka, and bytes a reading on its disk."""
    prefix = f"bench-{tags}."
    for topic in ("values", "events"):
        kafka.create_topic(f"{prefix}{topic}", 1)
    with tempfile.TemporaryDirectory() as folder:
        opened = archive(Path(folder), tags, scans, 1)
        access = KafkaAccess(servers=(kafka.address(),), client_id="bench")
        plan = StreamPlan(name="stream", access=access, prefix=prefix, mark=Path(folder) / "stream.mark")
        cpu, seconds = asyncio.run(fill(opened, Path(folder) / "archive", Stream(plan)))
        opened.close()
    size = sum(path.stat().st_size for path in (kafka.folder / "data" / f"{prefix}values-0").glob("*.log"))
    readings = tags * scans
    return readings / cpu, readings / seconds, size / readings


def main() -> None:
    """Measure, and keep the figures."""
    with running_kafka() as kafka:
        streamed, streamed_rate, streamed_bytes = stream(kafka, 1000, 4000)
        narrow, narrow_rate, narrow_bytes = stream(kafka, 10, 40_000)
    with running_postgres() as server:
        wide, wide_rate, wide_bytes, _ = measure(server, 1000, 4000, 1)
        day, day_rate, day_bytes, database = measure(server, 100, _DAY_SCANS, 10)
        seconds = one_tag(server, database)
    store([
        Row(figure="P10 historian", goal=">= 1,000,000 readings/s per relay core",
            measured=f"{wide:,.0f} readings per CPU second of the relay, {wide_rate:,.0f} readings/s with the server "
            f"on the same machine (scans of 1,000 tags); {day:,.0f} and {day_rate:,.0f} (of 100 tags)",
            command=_COMMAND),
        Row(figure="P10 historian, size", goal="5.7 bytes a reading",
            measured=f"{wide_bytes:.1f} bytes a reading in scans of 1,000 tags, {day_bytes:.1f} in scans of 100, "
            "indexes included", command=_COMMAND),
        Row(figure="P10 historian, one tag of a day at 1 s", goal="<= 1.5 s",
            measured=f"{seconds:.2f} s for {_DAY_SCANS:,} values from scans of 100 tags", command=_COMMAND),
        Row(figure="P10 stream", goal="not set",
            measured=f"{streamed:,.0f} readings per CPU second of the relay, {streamed_rate:,.0f} readings/s with "
            f"Kafka on the same machine, {streamed_bytes:.1f} bytes a reading on its disk (scans of 1,000 tags); "
            f"{narrow:,.0f}, {narrow_rate:,.0f} and {narrow_bytes:.1f} (of 10 tags)", command=_COMMAND),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
