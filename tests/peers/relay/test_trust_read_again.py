"""Trust files, revocation lists and certificates count without a restart, and the archive is not read again for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from structlog.testing import capture_logs

from edge.mqtt.access import BrokerAccess
from edge.relay.archive import Archive
from edge.relay.relay import Relay, RelayPlan
from edge.seal import IdentityKey, MemoryCounter
from edge.tls import TlsFiles
from edge.verify import Verdict
from edge.verify.anchors import anchors_in
from tests.peers.relay.conftest import Plant
from tests.peers.relay.test_relay_through_mosquitto import archived, count_of, running, send, until
from tests.support.certificates import GATEWAY, PEM, ROOT, certificate, revocation_list

LONG_AGO, NEXT_CENTURY = datetime(1970, 1, 1, tzinfo=UTC), datetime(2100, 1, 1, tzinfo=UTC)
ISSUER = "urn:tidegate:line-4"
OWN = certificate("x", GATEWAY, "root", ROOT, uri=ISSUER, since=LONG_AGO, until=NEXT_CENTURY)


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge.relay.relay._TRUST_INTERVAL_S", 0.02)


@pytest.fixture
def trusted(tmp_path: Path, plant: Plant) -> Path:
    """A directory of trust anchors with that of the plant."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    (folder / "line-4.pem").write_bytes(plant.trust.read_bytes())
    return folder


@pytest.fixture
def newcomer(tmp_path: Path) -> Plant:
    return Plant.start(tmp_path, "line-5")


@pytest.fixture
def plan(tmp_path: Path, trusted: Path, mosquitto_port: int) -> RelayPlan:
    broker = BrokerAccess(host="127.0.0.1", port=mosquitto_port, client_id="relay")
    return RelayPlan(archive=tmp_path / "archive", trust=[trusted], broker=broker)


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is read of the archive from its beginning."""
    found: list[str] = []
    since = Archive.since

    def watched(archive: Archive, gateway: str, day: str = "", offset: int = 0) -> object:
        if not day:
            found.append(gateway)
        return since(archive, gateway, day, offset)

    monkeypatch.setattr(Archive, "since", watched)
    return found


def put(path: Path, content: bytes) -> None:
    """Whole at once, as a tool that deploys files does it."""
    draft = path.with_suffix(".part")
    draft.write_bytes(content)
    draft.rename(path)


def fingerprint_of(plant: Plant) -> str:
    [anchor] = anchors_in(plant.trust.read_bytes())
    return anchor.fingerprint


async def read_again(said: list[dict[str, object]], times: int = 1) -> None:
    await until(lambda: [line["event"] for line in said].count("trust files read again") == times)


async def test_a_gateway_is_believed_once_its_trust_file_is_there(
    plan: RelayPlan, plant: Plant, newcomer: Plant, trusted: Path, reads: list[str]
) -> None:
    """What was refused before is not forgotten by the gateway: the same bytes count when they come again."""
    with capture_logs() as said:
        async with running(plan) as relay:
            await send(plan.broker.port, newcomer, newcomer.records)
            await until(lambda: relay.report().acknowledged == 2)
            put(trusted / "line-5.pem", newcomer.trust.read_bytes())
            await read_again(said)
            await send(plan.broker.port, newcomer, [*newcomer.records, newcomer.scan(1)])
            await until(lambda: count_of(relay, newcomer, Verdict.AUTHENTIC) == 3)

    trusts = [(line["kind"], line["name"], line["fingerprint"]) for line in said if line["event"] == "trusted"]
    before, after = (("identity", each.name, fingerprint_of(each)) for each in (plant, newcomer))
    assert trusts == [before, before, after]  # At the start, and of all when they are read again.
    assert archived(plan, "line-5") == [record.data for record in newcomer.records]
    assert reads == []


async def test_a_gateway_whose_trust_file_goes_is_refused_and_its_archive_stays(
    plan: RelayPlan, plant: Plant, newcomer: Plant, trusted: Path, reads: list[str]
) -> None:
    put(trusted / "line-5.pem", newcomer.trust.read_bytes())
    with capture_logs() as said:
        async with running(plan) as relay:
            await send(plan.broker.port, plant, [*plant.records, plant.scan(1)])
            await until(lambda: count_of(relay, plant, Verdict.AUTHENTIC) == 3)
            await asyncio.to_thread((trusted / "line-4.pem").unlink)
            await read_again(said)
            late = plant.scan(2)
            await send(plan.broker.port, plant, [late])
            await until(lambda: count_of(relay, plant, Verdict.UNTRUSTED) == 1)
            kept = await asyncio.to_thread(archived, plan)
            put(trusted / "line-4.pem", plant.trust.read_bytes())
            await read_again(said, 2)
            await send(plan.broker.port, plant, plant.records)
            await until(lambda: relay.report().acknowledged == 4 + len(plant.records))

    assert kept == [record.data for record in plant.records[:-1]]
    assert archived(plan) == [record.data for record in plant.records]
    assert [line["issuer"] for line in said if "no longer trusted" in line["event"]] == [ISSUER]
    assert reads == []


async def test_a_trust_file_that_cannot_be_used_changes_nothing(plan: RelayPlan, plant: Plant, trusted: Path) -> None:
    with capture_logs() as said:
        async with running(plan) as relay:
            put(trusted / "odd.pem", b"not a key")
            await until(lambda: [line for line in said if line["event"].startswith("trust files not used")])
            await send(plan.broker.port, plant, plant.records)
            await until(lambda: count_of(relay, plant, Verdict.AUTHENTIC) == 2)

    [refused] = [line for line in said if line["event"].startswith("trust files not used")]
    assert "odd.pem is neither" in refused["reason"]


async def test_a_revocation_list_counts_for_what_arrives_after_it(
    plan: RelayPlan, plant: Plant, trusted: Path, reads: list[str]
) -> None:
    authority = certificate("root", ROOT, "root", ROOT, is_authority=True, since=LONG_AGO, until=NEXT_CENTURY)
    put(trusted / "ca.pem", authority.public_bytes(PEM))
    await asyncio.to_thread((trusted / "line-4.pem").unlink)
    pem = GATEWAY.private_bytes(PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    identity = IdentityKey.load(pem, MemoryCounter(), certificates=OWN.public_bytes(PEM))
    certified = Plant.begin("line-4", identity, plant.trust)
    with capture_logs() as said:
        async with running(plan) as relay:
            await send(plan.broker.port, certified, [*certified.records, certified.scan(1)])
            await until(lambda: count_of(relay, plant, Verdict.AUTHENTIC) == 3)
            put(
                trusted / "ca.crl",
                revocation_list("root", ROOT, OWN, datetime(2024, 1, 1, tzinfo=UTC)).public_bytes(PEM),
            )
            await read_again(said)
            await send(plan.broker.port, certified, [certified.scan(2), certified.checkpoint()])
            await until(lambda: count_of(relay, plant, Verdict.UNTRUSTED) == 2)

    assert archived(plan) == [record.data for record in certified.records[:3]]
    assert reads == []


async def test_a_start_with_other_trust_files_reads_nothing_again(
    plan: RelayPlan, plant: Plant, newcomer: Plant, trusted: Path, reads: list[str]
) -> None:
    async with running(plan) as relay:
        await send(plan.broker.port, plant, plant.records)
        await until(lambda: count_of(relay, plant, Verdict.AUTHENTIC) == 2)
    put(trusted / "line-5.pem", newcomer.trust.read_bytes())
    await asyncio.to_thread((trusted / "line-4.pem").unlink)

    async with running(plan) as relay:
        await send(plan.broker.port, plant, [plant.scan(1), *plant.records])
        await until(lambda: count_of(relay, plant, Verdict.UNTRUSTED) == 1)

    assert archived(plan) == [record.data for record in plant.records[:2]]
    assert reads == []


async def test_certificates_for_the_broker_are_read_for_each_connection(plan: RelayPlan, tmp_path: Path) -> None:
    """A renewed certificate counts with the next connection; one that cannot be read is said, and tried again."""
    ca = tmp_path / "ca.pem"
    hidden = replace(plan, broker=replace(plan.broker, tls=TlsFiles(ca=ca)))
    async with Relay(hidden) as relay:
        task = asyncio.create_task(relay.run())
        await until(lambda: "not connected yet" not in relay.report().reason)
        missing = relay.report().reason
        ca.write_bytes(certificate("root", ROOT, "root", ROOT, is_authority=True).public_bytes(PEM))
        await until(lambda: relay.report().reason != missing)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert f"CA file {ca} cannot be used: there is no such file" in missing
    assert str(ca) not in relay.report().reason  # The broker speaks no TLS.
