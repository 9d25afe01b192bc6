"""Who signs, with what, and what is refused as a key."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import cbor2
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from edge.errors import ConfigError
from edge.seal import (
    MAX_RECORD_BYTES,
    Chain,
    ChainRules,
    Encoding,
    FileCounter,
    IdentityKey,
    MemoryCounter,
    RecordTooLarge,
    RecordType,
    load_identity_file,
    load_or_create_identity,
    parse,
    public_path_of,
)
from edge.seal.keys import ORDER, PublicKey, SigningKey
from edge.verify import Trust, Verdict, Verifier
from tests.support.certificates import GATEWAY, MIDDLE, PEM, ROOT, certificate
from tests.support.chains import BOOT_NS, TIME, Plant, data, grow, start

ISSUER = "urn:tidegate:line-4"


# Chain


@pytest.mark.requirement("REQ-SEAL-01")
def test_each_record_names_the_one_before_it(plant: Plant) -> None:
    for before, record in zip(plant.records, plant.records[1:], strict=False):
        frame = parse(record.data)
        assert (frame.seq, frame.prev) == (before.seq + 1, before.hash)
        assert record.hash == hashlib.sha256(record.data).digest()


@pytest.mark.requirement("REQ-SEAL-01")
def test_a_record_is_cose_sign1_to_any_cbor_library(plant: Plant) -> None:
    record = plant.records[3]
    tagged = cbor2.loads(record.data)
    protected, unprotected, payload, signature = tagged.value
    header = cbor2.loads(protected)

    assert tagged.tag == 18
    assert unprotected == {}
    assert len(signature) == 64
    assert header[1] == -7
    assert header[3] == "application/vnd.tidegate.record+cbor"
    assert header[15] == {1: ISSUER, 2: "DATA"}
    assert header[-70001] == [0, record.epoch, 3, plant.records[2].hash]
    assert parse(record.data).signed == cbor2.dumps(["Signature1", protected, b"", payload])
    assert cbor2.dumps(header, canonical=True) == protected


def test_every_signature_has_a_low_s() -> None:
    key = SigningKey.generate()

    assert all(int.from_bytes(key.sign(bytes((n,)))[32:], "big") <= ORDER // 2 for n in range(64))


@pytest.mark.parametrize("encoding", Encoding)
def test_data_is_packed_as_the_rules_say_and_key_records_never_are(encoding: Encoding) -> None:
    plant = grow(start(encoding=encoding), 30)
    plant.records.append(plant.chain.seal(RecordType.DATA, data(1, tags=500)))
    frames = [parse(record.data) for record in plant.records]
    verifier = Verifier(plant.trust)

    assert frames[-1].enc is encoding
    assert all(frame.enc is Encoding.PLAIN for frame in frames if frame.type.is_identity_signed)
    assert all(verifier.add(record.data)[0].verdict is Verdict.AUTHENTIC for record in plant.records)


def test_a_key_is_due_by_time_or_by_records() -> None:
    chain = start().chain
    rules = ChainRules(key_period_ns=1000, key_records=3)
    chain, _ = Chain.start(chain.identity, issuer=ISSUER, time=TIME, now_boot_ns=BOOT_NS, rules=rules)

    assert not chain.is_roll_due(BOOT_NS + 999)
    assert chain.is_roll_due(BOOT_NS + 1000)
    chain.roll(TIME, BOOT_NS + 1000)
    assert not chain.is_roll_due(BOOT_NS + 10_000), "not before the KEY is durable"
    chain.roll_is_durable()
    assert not chain.is_roll_due(BOOT_NS + 1999)
    for number in range(3):
        chain.seal(RecordType.DATA, data(number))
    assert chain.is_roll_due(BOOT_NS + 1001)


def test_a_payload_that_fits_no_record_leaves_the_chain_as_it_was() -> None:
    chain = start().chain
    head = chain.head

    with pytest.raises(RecordTooLarge, match=str(MAX_RECORD_BYTES)):
        chain.seal(RecordType.DATA, bytes(MAX_RECORD_BYTES))
    assert chain.head == head


# Identity


def pem_of(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def private_file(path: Path, content: bytes) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(content)
    return path


def test_a_missing_identity_is_made_once_with_its_public_key_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "identity.pem"
    made, is_new = load_or_create_identity(path, issuer=ISSUER, counter=MemoryCounter())
    again, is_new_again = load_or_create_identity(path, issuer=ISSUER, counter=MemoryCounter())
    trust = Trust.load([public_path_of(path)])

    assert (is_new, is_new_again) == (True, False)
    assert made.fingerprint == again.fingerprint
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert trust.pinned(made.key_id, ISSUER) == made.public
    assert trust.pinned(made.key_id, "urn:tidegate:line-5") is None
    assert not list(path.parent.glob("*.new"))


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "is not a PEM private key"),
        (b"hello", "is not a PEM private key"),
        (pem_of(ec.generate_private_key(ec.SECP384R1())), "an EC key on secp384r1, a P-256 key is needed"),
        (pem_of(ed25519.Ed25519PrivateKey.generate()), "an Ed25519 key, a P-256 key is needed"),
        (pem_of(rsa.generate_private_key(65537, 2048)), "an RSA key, a P-256 key is needed"),
        (
            ec.generate_private_key(ec.SECP256R1()).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            ),
            "is encrypted",
        ),
        (
            ec.generate_private_key(ec.SECP256R1()).public_key().public_bytes(
                serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
            ),
            "is not a PEM private key",
        ),
    ],
)  # fmt: skip
def test_a_file_that_is_no_p256_key_is_refused_by_name(tmp_path: Path, content: bytes, why: str) -> None:
    path = private_file(tmp_path / "identity.pem", content)

    with pytest.raises(ConfigError, match=why) as refused:
        load_identity_file(path, counter=MemoryCounter())
    assert str(path) in str(refused.value)


@pytest.mark.requirement("REQ-SEAL-02")
def test_a_key_that_others_can_read_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = private_file(tmp_path / "identity.pem", pem_of(ec.generate_private_key(ec.SECP256R1())))
    path.chmod(0o640)

    with pytest.raises(ConfigError, match=f"can be read by others.*chmod 600 {path}"):
        load_identity_file(path, counter=MemoryCounter())


def test_the_counter_survives_and_never_repeats(tmp_path: Path) -> None:
    path = tmp_path / "counter"
    first = FileCounter(path)

    assert [first.next(), first.next()] == [1, 2]
    first.save()
    assert FileCounter(path).next() == 3
    found_in_the_chain = FileCounter(path)
    found_in_the_chain.raise_to(7)
    found_in_the_chain.raise_to(5)
    assert found_in_the_chain.next() == 8
    path.write_text("many")
    with pytest.raises(ConfigError, match="holds no number"):
        FileCounter(path)


# Trust


def test_the_certificate_of_another_key_is_refused() -> None:
    other = certificate("line-4", MIDDLE, "root", ROOT).public_bytes(PEM)

    with pytest.raises(ConfigError, match="for another key"):
        IdentityKey.load(pem_of(GATEWAY), MemoryCounter(), certificates=other)


def test_a_directory_of_trust_anchors_is_read_and_an_odd_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_bytes(certificate("root", ROOT, "root", ROOT, is_authority=True).public_bytes(PEM))
    _, _ = load_or_create_identity(tmp_path / "keys" / "identity.pem", issuer=ISSUER, counter=MemoryCounter())
    (tmp_path / "line-4.pem").write_bytes((tmp_path / "keys" / "identity.pub.pem").read_bytes())
    (tmp_path / "README.txt").write_text("not a key")
    key = load_identity_file(tmp_path / "keys" / "identity.pem", counter=MemoryCounter())

    assert Trust.load([tmp_path]).pinned(key.key_id, ISSUER) == key.public
    (tmp_path / "odd.pem").write_text("not a key")
    with pytest.raises(ConfigError, match=r"odd\.pem is neither"):
        Trust.load([tmp_path])
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no \.pem file"):
        Trust.load([tmp_path / "empty"])


def test_a_key_id_is_a_hash_of_the_required_members() -> None:
    key = PublicKey(bytes(range(64)))
    members = b"\xa4\x01\x02\x20\x01\x21\x58\x20" + bytes(range(32)) + b"\x22\x58\x20" + bytes(range(32, 64))

    assert key.kid == hashlib.sha256(members).digest()[:8]
