"""What cannot be judged yet waits beside the archive, bounded for each gateway, and enters it when it is judged."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization

from edge.relay.archive import Archive
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import Record
from edge.verify import Trust, Verifier
from edge.verify.undecided import CHAIN_BYTES
from tests.support.certificates import ROOT, certificate
from tests.support.chains import Plant, archived_records, grow, start

NOON_NS = 20_000 * 86_400 * 10**9
KEY_SEQ = 33


@dataclass
class Site:
    """Two gateways that are trusted by name, and a relay's directory."""

    folder: Path
    plants: tuple[Plant, Plant]

    def opened(self, waiting_bytes: int = 1 << 20) -> RelayStore:
        return RelayStore(
            self.folder / "archive", [self.folder / "trusted"], quarantine_bytes=1 << 20, waiting_bytes=waiting_bytes,
            view=None,
        )  # fmt: skip

    def archived(self, name: str) -> list[bytes]:
        return archived_records(self.folder / "archive" / name)

    def is_wholly_authentic(self, name: str) -> bool:
        verifier = Verifier(Trust.load([self.folder / "trusted"]))
        for data in self.archived(name):
            verifier.add(data)
        return verifier.report().is_wholly_authentic()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Each chain has one change of the session key, and no checkpoint after it."""
    plants = [grow(start(name), 50, checkpoint_every=100, stop=False) for name in ("line-4", "line-5")]
    (tmp_path / "trusted").mkdir()
    for plant in plants:
        (tmp_path / f"trusted/{plant.chain.issuer[-6:]}.pem").write_bytes(plant.identity.public_pem(plant.chain.issuer))
    return Site(tmp_path, (plants[0], plants[1]))


def received(records: Iterable[Record], gateway: str = "line-4") -> list[ReceivedMessage]:
    return [ReceivedMessage(f"tidegate/v1/{gateway}/r/data", record.data, NOON_NS) for record in records]


def without_key(plant: Plant) -> list[Record]:
    return [record for record in plant.records if record.seq != KEY_SEQ]


@pytest.mark.parametrize("ends", ["closed", "killed", "killed before a snapshot"])
def test_records_wait_over_a_restart_and_enter_the_archive_when_their_key_comes(site: Site, ends: str) -> None:
    plant, _ = site.plants
    store = site.opened()
    if ends != "killed before a snapshot":
        store.save()
    store.take(received(without_key(plant)))
    store.sync()
    before = site.archived("line-4")
    if ends == "closed":
        store.close()
    else:
        store._archive.close()  # Only what the end of the process would do: the lock is gone.

    again = site.opened()
    counts = again.intake.counts["urn:tidegate:line-4"]
    waiting = counts.waiting
    again.take(received(without_key(plant)))
    again.take(received([plant.records[KEY_SEQ]]))
    again.close()

    assert before == [record.data for record in plant.records[:KEY_SEQ]]
    assert waiting == len(plant.records) - KEY_SEQ - 1
    assert sorted(site.archived("line-4")) == sorted(record.data for record in plant.records)
    assert counts.waiting == 0
    assert (site.folder / "archive/waiting.cbor").stat().st_size == 0
    assert site.is_wholly_authentic("line-4")


def test_a_kill_between_archive_and_store_archives_nothing_twice(site: Site) -> None:
    plant, _ = site.plants
    store = site.opened()
    store.take(received(without_key(plant)))
    store.sync()
    store.take(received([plant.records[KEY_SEQ]]))
    store._archive.sync()
    store._archive.close()

    again = site.opened()
    again.close()

    assert sorted(site.archived("line-4")) == sorted(record.data for record in plant.records)
    assert (site.folder / "archive/waiting.cbor").stat().st_size == 0


def test_a_torn_end_of_the_store_loses_only_what_was_not_acknowledged(site: Site) -> None:
    plant, _ = site.plants
    store = site.opened()
    store.take(received(without_key(plant)))
    store.sync()
    store._archive.close()
    path = site.folder / "archive/waiting.cbor"
    path.write_bytes(path.read_bytes()[:-7])

    again = site.opened()
    again.take(received([plant.records[KEY_SEQ], plant.records[-1]]))
    again.close()

    assert sorted(site.archived("line-4")) == sorted(record.data for record in plant.records)


def test_a_full_store_refuses_its_own_gateway_only(site: Site) -> None:
    """What waits already was acknowledged, and is never given up for what comes later."""
    plant, neighbour = site.plants
    flood = [record for _ in range(20) for record in grow(start(), 20, checkpoint_every=100).records[1:]]
    store = site.opened(waiting_bytes=100_000)
    store.take(received(without_key(plant)))
    store.take(received(flood))
    store.take(received(without_key(neighbour), "line-5"))
    store.sync()
    waiting_bytes = (site.folder / "archive/waiting.cbor").stat().st_size
    counts, others = (store.intake.counts[f"urn:tidegate:{name}"] for name in ("line-4", "line-5"))
    refused = counts.refused
    for each, name in zip(site.plants, ("line-4", "line-5"), strict=True):
        store.take(received([each.records[KEY_SEQ]], name))
    store.close()

    assert 0 < refused < len(flood)
    assert others.refused == 0
    assert waiting_bytes < 2 * 120_000
    for each, name in zip(site.plants, ("line-4", "line-5"), strict=True):
        assert sorted(site.archived(name)) == sorted(record.data for record in each.records)
        assert site.is_wholly_authentic(name)
    with (site.folder / "archive/quarantine.cbor").open("rb") as file:
        _, verdict, reason, _, _ = cbor2.load(file)
    assert (verdict, reason) == ("REFUSED", "its key is not known yet, and there is no room for it to wait")


def test_invented_gateways_share_one_store_and_take_nothing_from_a_known_one(site: Site) -> None:
    """With a trust anchor that is bound to no name, anything may be the name of a gateway."""
    plant, _ = site.plants
    authority = certificate("root", ROOT, "root", ROOT, is_authority=True)
    (site.folder / "trusted/ca.pem").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    store = site.opened(waiting_bytes=50_000)
    for number in range(100):
        name = f"invented-{number}"
        store.take(received(grow(start(name), 5).records[1:], name))
    store.take(received(without_key(plant)))
    store.take(received([plant.records[KEY_SEQ]]))
    store.close()

    unknown = store.intake.counts["unknown"]
    assert set(store.intake.counts) == {"unknown", "urn:tidegate:line-4"}
    assert unknown.waiting + unknown.refused == 100 * 6
    assert 0 < unknown.waiting < 100
    assert len(store._verifier._chains) <= 50_000 // CHAIN_BYTES + 1
    assert sorted(site.archived("line-4")) == sorted(record.data for record in plant.records)


def test_what_was_altered_while_it_waited_is_put_aside(site: Site) -> None:
    """Its key was not known when it came; once it is, the signature decides."""
    plant, _ = site.plants
    bad = bytearray(plant.records[-3].data)
    bad[-70] ^= 1
    store = site.opened()
    store.take([*received(plant.records[:KEY_SEQ]), ReceivedMessage("tidegate/v1/line-4/r/data", bytes(bad), NOON_NS)])
    assert store.intake.counts["urn:tidegate:line-4"].waiting == 1
    store.take(received(plant.records[KEY_SEQ:]))
    store.close()

    assert sorted(site.archived("line-4")) == sorted(record.data for record in plant.records)
    with (site.folder / "archive/quarantine.cbor").open("rb") as file:
        _, verdict, _, topic, data = cbor2.load(file)
    assert (verdict, topic, data) == ("ALTERED", "tidegate/v1/line-4/r/data", bytes(bad))


def test_records_of_an_older_archive_that_wait_in_it_are_judged_where_they_are(site: Site) -> None:
    plant, _ = site.plants
    archive = Archive(site.folder / "archive")
    for record in without_key(plant):
        archive.append("line-4", record.epoch, record.seq, record.hash, record.data, arrived_ns=NOON_NS)
    archive.close()
    site.opened().close()

    store = site.opened()
    store.take(received([plant.records[KEY_SEQ]]))
    store.close()

    assert site.archived("line-4") == [record.data for record in [*without_key(plant), plant.records[KEY_SEQ]]]
    assert store.missing() == []
