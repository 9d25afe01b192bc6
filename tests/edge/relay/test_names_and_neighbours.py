"""What one gateway or a stranger sends neither leaves the archive nor keeps the records of others out of it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import cbor2
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import IdentityKey, MemoryCounter, Record
from edge.seal.keys import SigningKey
from edge.verify import Verdict, Verifier
from tests.support.chains import Plant, archived_records, grow, start

NOON_NS = 20_000 * 86_400 * 10**9
NO_NAMES = [
    "../escaped", "/tmp/absolute", "a/b", "", ".", "..", "line-4/", "-x", "x" * 65, "line\n4", "line-4\n", "a\0b",
    "quarantine.cbor", "quarantine.older", "relay.snapshot", "relay.snapshot.new", "status.sock", "waiting.cbor",
]  # fmt: skip


@pytest.fixture
def honest() -> Plant:
    return grow(start(), 20)


@pytest.fixture
def trusted(tmp_path: Path, honest: Plant) -> Path:
    """A directory of trust anchors with that of the honest gateway."""
    folder = tmp_path / "trusted"
    folder.mkdir()
    trust(folder, honest)
    return folder


def trust(folder: Path, plant: Plant) -> None:
    name = f"{len(list(folder.iterdir()))}.pem"
    (folder / name).write_bytes(plant.identity.public_pem(plant.chain.issuer))


def opened(folder: Path, waiting_bytes: int = 1 << 20) -> RelayStore:
    return RelayStore(
        folder / "archive",
        [folder / "trusted"],
        quarantine_bytes=1 << 20,
        waiting_bytes=waiting_bytes,
        view=None,
    )


def received(records: Iterable[Record], gateway: str = "line-4") -> list[ReceivedMessage]:
    return [ReceivedMessage(f"tidegate/v1/{gateway}/r/data", record.data, NOON_NS) for record in records]


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("name", NO_NAMES)
def test_a_name_that_no_gateway_can_have_reaches_neither_disk_nor_verdict(
    tmp_path: Path, honest: Plant, trusted: Path, name: str
) -> None:
    """The name is in the record, and whoever signs it may be trusted: it is asked for before anything else."""
    odd = grow(start(name), 3)
    if "\n" not in name:
        trust(trusted, odd)
    before = files(tmp_path)
    store = opened(tmp_path)

    store.take([*received(odd.records), *received(honest.records)])
    store.sync()
    store.close()

    [day] = [path.name for path in (tmp_path / "archive/line-4").glob("*.rec")]
    own = {"archive", "archive/line-4", f"archive/line-4/{day}", f"archive/line-4/{day[:-4]}.idx", "archive/.lock"}
    assert files(tmp_path) - before == own | {"archive/quarantine.cbor", "archive/relay.snapshot"}
    assert archived_records(tmp_path / "archive/line-4") == [record.data for record in honest.records]
    assert store.intake.counts["urn:tidegate:line-4"].refused == len(odd.records)
    with (tmp_path / "archive/quarantine.cbor").open("rb") as file:
        _, verdict, reason, _, data = cbor2.load(file)
    assert (verdict, data) == ("REFUSED", odd.records[0].data)
    assert "no gateway can have the name" in reason


def test_a_record_that_cannot_be_judged_stops_no_other(
    tmp_path: Path, honest: Plant, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would come again after every start. What the verifier knows then is not kept: it may be half of something."""
    add = Verifier.add

    def stumble(verifier: Verifier, data: bytes, *more: object) -> object:
        if data == honest.records[5].data:
            raise ZeroDivisionError
        return add(verifier, data, *more)  # type: ignore[arg-type]

    store = opened(tmp_path)
    with monkeypatch.context() as broken:
        broken.setattr(Verifier, "add", stumble)
        store.take(received(honest.records))
    store.close()
    again = opened(tmp_path)
    again.take(received(honest.records))
    again.close()

    whole = {record.data for record in honest.records}
    assert store.intake.counts["unknown"].verdicts[Verdict.GARBAGE] == 1
    assert set(archived_records(tmp_path / "archive/line-4")) == whole
    assert again.intake.counts["urn:tidegate:line-4"].verdicts[Verdict.DUPLICATE] == len(whole) - 1


def test_a_record_of_another_gateway_than_its_topic_is_refused(tmp_path: Path, honest: Plant, trusted: Path) -> None:
    """The broker lets an account publish below its own name only: what names another gateway did not come from it."""
    other = grow(start("line-5"), 5)
    trust(trusted, other)
    forged = grow(start(), 40).records
    store = opened(tmp_path)

    store.take(received(honest.records[:10]))
    store.take(received([*forged, *honest.records], "line-5"))
    store.take([*received(honest.records[10:]), *received(other.records, "line-5")])
    store.close()

    counts = store.intake.counts
    assert archived_records(tmp_path / "archive/line-4") == [record.data for record in honest.records]
    assert archived_records(tmp_path / "archive/line-5") == [record.data for record in other.records]
    assert (counts["urn:tidegate:line-4"].refused, counts["urn:tidegate:line-5"].refused) == (0, 40 + 2 + 22)
    with (tmp_path / "archive/quarantine.cbor").open("rb") as file:
        _, verdict, reason, topic, data = cbor2.load(file)
    assert (verdict, topic, data) == ("REFUSED", "tidegate/v1/line-5/r/data", forged[0].data)
    assert reason == "it names urn:tidegate:line-4, and came on a topic of another gateway"


def test_a_trusted_neighbour_that_takes_the_same_epoch_changes_nothing(
    tmp_path: Path, honest: Plant, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The eight bytes of an epoch are for everybody to see, and its owner's hashes are looked up by them."""
    with monkeypatch.context() as chosen:
        chosen.setattr("os.urandom", lambda _: honest.records[0].epoch)
        neighbour = grow(start("line-5"), 20)
    trust(trusted, neighbour)
    store = opened(tmp_path)
    store.take([*received(honest.records), *received(neighbour.records, "line-5")])
    store.close()
    (tmp_path / "archive/relay.snapshot").unlink()

    again = opened(tmp_path)
    found = [again._hash_of("urn:tidegate:line-4", record.epoch, record.seq) for record in honest.records]
    again.take([*received(honest.records), *received(neighbour.records, "line-5")])
    again.close()

    assert found == [record.hash for record in honest.records]
    assert archived_records(tmp_path / "archive/line-4") == [record.data for record in honest.records]


def odd_certificates() -> list[bytes]:
    """A certificate of a version that does not exist, and one with an extension twice."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "line-4")])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(7)
        .not_valid_before(now).not_valid_after(now + timedelta(days=1))
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.99"), b"1"), critical=False)
        .add_extension(x509.UnrecognizedExtension(x509.ObjectIdentifier("2.5.29.98"), b"1"), critical=False)
    )  # fmt: skip
    good = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)
    version = bytes.fromhex("a003020102")
    assert version in good
    return [good.replace(version, bytes.fromhex("a003020163")), good.replace(b"\x55\x1d\x62", b"\x55\x1d\x63")]


@pytest.mark.parametrize("certificate", odd_certificates(), ids=["version", "extension"])
def test_a_certificate_that_is_none_stops_no_other(
    tmp_path: Path, honest: Plant, trusted: Path, certificate: bytes
) -> None:
    """Anybody can put one into an EPOCH: certificates are read before anything is known of who sent them."""
    stranger = start("stranger", identity=IdentityKey(SigningKey.generate(), MemoryCounter(), [certificate]))
    store = opened(tmp_path)

    store.take([*received(stranger.records, "stranger"), *received(honest.records)])
    store.close()

    assert archived_records(tmp_path / "archive/line-4") == [record.data for record in honest.records]
    assert store.intake.counts["unknown"].verdicts[Verdict.UNTRUSTED] == 1
    assert not store.intake.is_verifier_in_doubt
