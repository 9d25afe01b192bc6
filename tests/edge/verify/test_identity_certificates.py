"""Which certificates, public keys and revocation lists say who a gateway is."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from edge.cli import cli
from edge.errors import ConfigError
from edge.relay.store import RelayStore
from edge.relay.waiting import ReceivedMessage
from edge.seal import RecordType
from edge.verify import Trust, Verdict, Verifier
from tests.support.certificates import AT, GATEWAY, MIDDLE, PEM, ROOT, certificate, certified, revocation_list
from tests.support.chains import TIME, UTC_NS, Plant, data, grow, start

ISSUER = "urn:tidegate:line-4"
CLIENT, SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH
CA = certificate("root", ROOT, "root", ROOT, is_authority=True)
SUB_CA = certificate("middle", MIDDLE, "root", ROOT, is_authority=True)
NO_CA = certificate("middle", MIDDLE, "root", ROOT)
OWN = certificate("x", GATEWAY, "root", ROOT, uri=ISSUER)
COMMON_NAME = certificate("line-4", GATEWAY, "root", ROOT)
SECOND_NS = 10**9


def file(path: Path, *content: x509.Certificate | x509.CertificateRevocationList) -> Path:
    path.write_bytes(b"".join(each.public_bytes(PEM) for each in content))
    return path


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    return file(tmp_path / "ca.pem", CA)


def first_judgement(trust: Trust, plant: Plant) -> tuple[Verdict, str]:
    judgement = Verifier(trust).add(plant.records[0].data)[0]
    return judgement.verdict, judgement.reason


@pytest.mark.parametrize(
    ("chain", "why"),
    [
        ([OWN], ""),
        ([certificate("x", GATEWAY, "middle", MIDDLE, uri=ISSUER), SUB_CA], ""),
        ([certificate("x", GATEWAY, "root", ROOT, uri=ISSUER, usages=[CLIENT, ExtendedKeyUsageOID.CODE_SIGNING])], ""),
        ([COMMON_NAME], "lacks the URI urn:tidegate:line-4"),
        ([certificate("line-5", GATEWAY, "root", ROOT)], "not for urn:tidegate:line-4"),
        ([certificate("line-4", GATEWAY, "root", ROOT, uri=ISSUER + "x")], "not for urn:tidegate:line-4"),
        ([certificate("x", GATEWAY, "root", ROOT, uri=ISSUER, usages=[CLIENT])], "for TLS connections only"),
        ([certificate("x", GATEWAY, "root", ROOT, uri=ISSUER, usages=[SERVER, CLIENT])], "for TLS connections only"),
        ([certificate("x", GATEWAY, "middle", MIDDLE, uri=ISSUER), NO_CA], "no authority"),
        ([certificate("x", GATEWAY, "middle", MIDDLE, uri=ISSUER)], "no trusted authority"),
        ([certificate("x", GATEWAY, "root", ROOT, uri=ISSUER), SUB_CA], "do not form a chain"),
        ([certificate("x", GATEWAY, "root", ROOT, uri=ISSUER, until=AT - timedelta(days=1))], "not valid"),
        ([certificate("x", GATEWAY, "root", MIDDLE, uri=ISSUER)], "no trusted authority"),
    ],
)
def test_a_certificate_is_an_identity_by_its_uri_and_its_purpose(
    authority: Path, chain: list[x509.Certificate], why: str
) -> None:
    plant = grow(certified(*chain), 30)
    verifier = Verifier(Trust.load([authority]))

    first = verifier.add(plant.records[0].data)[0]

    assert first.verdict is (Verdict.UNTRUSTED if why else Verdict.AUTHENTIC), first.reason
    assert why in first.reason
    if not why:
        assert all(verifier.add(record.data)[0].verdict is first.verdict for record in plant.records[1:])


def test_a_checkpoint_waits_for_the_epoch_that_brings_its_certificate(authority: Path) -> None:
    plant = grow(certified(OWN), 30)
    verifier = Verifier(Trust.load([authority]))

    assert {verifier.add(record.data)[0].verdict for record in plant.records[1:]} == {Verdict.UNVERIFIABLE}
    judgements = verifier.add(plant.records[0].data)

    assert {each.seq for each in judgements if each.verdict is Verdict.AUTHENTIC} == set(range(len(plant.records)))
    assert verifier.report().is_wholly_authentic()


def test_a_common_name_counts_where_its_authority_is_bound_to_the_gateway(authority: Path) -> None:
    """What was sealed before names had to be URIs stays verifiable, for the gateway that somebody vouches for."""
    by_name = certified(COMMON_NAME)

    assert first_judgement(Trust.load([(authority, "line-4")]), by_name)[0] is Verdict.AUTHENTIC
    assert first_judgement(Trust.load([(authority, "line-5")]), by_name)[0] is Verdict.UNTRUSTED
    assert first_judgement(Trust.load([authority, (authority, "line-5")]), by_name)[0] is Verdict.UNTRUSTED


def test_a_connection_certificate_stays_refused_where_its_authority_is_bound(authority: Path) -> None:
    """The forwarding role has one, and its name is the gateway's."""
    for_connections = certified(certificate("line-4", GATEWAY, "root", ROOT, usages=[CLIENT]))

    verdict, why = first_judgement(Trust.load([(authority, "line-4")]), for_connections)

    assert (verdict, why) == (
        Verdict.UNTRUSTED, "its certificate is for TLS connections only, by its extended key usage",
    )  # fmt: skip


def test_an_authority_bound_to_one_gateway_speaks_for_no_other(authority: Path) -> None:
    other = certified(certificate("x", GATEWAY, "root", ROOT, uri="urn:tidegate:line-5"), name="line-5")

    assert first_judgement(Trust.load([(authority, "line-4")]), other)[0] is Verdict.UNTRUSTED
    assert first_judgement(Trust.load([authority]), other)[0] is Verdict.AUTHENTIC


def test_a_certificate_that_is_no_authority_pins_its_key_to_the_gateway_it_is_given_for(tmp_path: Path) -> None:
    """Also one for connections: the key was the identity once, and what it sealed stays verifiable."""
    leaf = certificate("whoever", GATEWAY, "elsewhere", MIDDLE, usages=[CLIENT])
    path = file(tmp_path / "leaf.pem", leaf)

    assert first_judgement(Trust.load([(path, "line-4")]), certified(leaf))[0] is Verdict.AUTHENTIC
    assert first_judgement(Trust.load([path]), certified(leaf))[0] is Verdict.UNTRUSTED


def test_a_public_key_counts_for_the_gateway_it_is_bound_to(tmp_path: Path) -> None:
    plant, path, bound = grow(start(), 5), tmp_path / "key.pem", tmp_path / "bound.pem"
    path.write_bytes(plant.identity.public_pem("x").partition(b"\n")[2])
    bound.write_bytes(plant.identity.public_pem(ISSUER))

    assert first_judgement(Trust.load([(path, "line-4")]), plant)[0] is Verdict.AUTHENTIC
    assert first_judgement(Trust.load([(path, "line-5")]), plant)[0] is Verdict.UNTRUSTED
    assert first_judgement(Trust.load([bound]), plant)[0] is Verdict.AUTHENTIC
    with pytest.raises(ConfigError, match=r"key\.pem is a public key that is bound to no gateway; give it as GATEWAY="):
        Trust.load([path])
    with pytest.raises(ConfigError, match=r"is the key of urn:tidegate:line-4, and is given for urn:tidegate:line-5"):
        Trust.load([(bound, "line-5")])


def with_revocation(tmp_path: Path, after_s: int, *, signer: x509.Certificate = CA) -> list[Path]:
    key, name = (ROOT, "root") if signer is CA else (MIDDLE, "middle")
    revoked = revocation_list(name, key, OWN, AT + timedelta(seconds=after_s))
    return [file(tmp_path / "ca.pem", CA), file(tmp_path / "revoked.crl", revoked)]


@pytest.mark.requirement("REQ-VERIFY-04")
def test_offline_a_revocation_counts_from_the_time_that_records_state(tmp_path: Path) -> None:
    """It is in the file beside the authority; what was sealed before stays as it is."""
    plant = grow(certified(OWN), 100)  # One record each 100 ms.
    verifier = Verifier(Trust.load(with_revocation(tmp_path, 5)))

    judgements = [verifier.add(record.data)[0] for record in plant.records]

    data_records = [each for each in judgements if each.type is RecordType.DATA]
    assert {each.verdict for each in data_records if each.seq < 50} == {Verdict.AUTHENTIC}
    assert {each.verdict for each in data_records if each.seq >= 50} == {Verdict.UNTRUSTED}
    assert data_records[-1].reason == (
        f"its certificate is revoked since {AT + timedelta(seconds=5):%Y-%m-%dT%H:%M:%SZ}, "
        "before the time that the record states"
    )


def test_a_revocation_of_another_authority_or_of_another_certificate_changes_nothing(tmp_path: Path) -> None:
    plant = grow(certified(OWN), 30)
    verifier = Verifier(Trust.load(with_revocation(tmp_path, -5, signer=SUB_CA)))

    assert {verifier.add(record.data)[0].verdict for record in plant.records} == {Verdict.AUTHENTIC}


@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_the_revocation_of_an_authority_in_between_counts_too(tmp_path: Path, encoding: Encoding) -> None:
    plant = certified(certificate("x", GATEWAY, "middle", MIDDLE, uri=ISSUER), SUB_CA)
    path = tmp_path / "revoked.crl"
    path.write_bytes(revocation_list("root", ROOT, SUB_CA, AT - timedelta(days=1)).public_bytes(encoding))

    verdict, why = first_judgement(Trust.load([file(tmp_path / "ca.pem", CA), path]), plant)

    assert verdict is Verdict.UNTRUSTED
    assert "revoked since" in why


def test_at_the_relay_a_revocation_counts_from_the_time_of_arrival(tmp_path: Path) -> None:
    """A stolen key can state any time; it cannot arrive earlier than it does. A late key changes nothing about that."""
    plant = grow(certified(OWN), 30, stop=False)
    stolen = certified(OWN)
    stolen.records.append(stolen.chain.seal(RecordType.DATA, data(1)))
    trust = with_revocation(tmp_path, 60)

    def received(plant: Plant, at_ns: int) -> list[ReceivedMessage]:
        return [ReceivedMessage("tidegate/v1/line-4/r/data", record.data, at_ns) for record in plant.records]

    def opened() -> RelayStore:
        return RelayStore(tmp_path / "archive", trust, quarantine_bytes=1 << 20, waiting_bytes=1 << 20, view=None)

    store = opened()
    store.take(received(plant, UTC_NS + 59 * SECOND_NS))
    store.take(received(stolen, UTC_NS + 61 * SECOND_NS))
    plant.records[:] = [plant.chain.checkpoint(TIME)]
    store.take(received(plant, UTC_NS + 61 * SECOND_NS))
    store.close()
    (tmp_path / "archive/relay.snapshot").unlink()
    again = opened()
    again.close()

    counts = store.intake.counts[ISSUER]
    assert (counts.verdicts[Verdict.AUTHENTIC], counts.verdicts[Verdict.UNTRUSTED], counts.waiting) == (30, 2, 1)
    assert again.intake.counts[ISSUER].verdicts[Verdict.AUTHENTIC] == 30


def test_the_report_says_by_which_time_revocations_were_judged(tmp_path: Path) -> None:
    plant = grow(certified(OWN), 30)
    (tmp_path / "day.rec").write_bytes(b"".join(record.data for record in plant.records))
    ca, revoked = with_revocation(tmp_path, 3600)

    def verify(*trust: Path) -> str:
        arguments = [word for each in trust for word in ("--trust", str(each))]
        result = CliRunner().invoke(cli, ["verify", str(tmp_path / "day.rec"), *arguments])
        assert result.exit_code == 0, result.output
        return result.output

    assert "revocation list" not in verify(ca)
    assert "1 revocation list(s) used, by the time that each record states." in verify(ca, revoked)


def test_the_command_takes_a_gateway_before_the_file(tmp_path: Path) -> None:
    plant = grow(start(), 30)
    (tmp_path / "day.rec").write_bytes(b"".join(record.data for record in plant.records))
    key = tmp_path / "key.pem"
    key.write_bytes(plant.identity.public_pem("x").partition(b"\n")[2])
    assert GATEWAY.public_key().public_bytes(PEM, PublicFormat.SubjectPublicKeyInfo) != key.read_bytes()

    def verify(trust: str) -> int:
        return CliRunner().invoke(cli, ["verify", str(tmp_path / "day.rec"), "--trust", trust]).exit_code

    assert (verify(f"line-4={key}"), verify(f"line-5={key}")) == (0, 1)
