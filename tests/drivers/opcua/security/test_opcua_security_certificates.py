from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from drivers.opcua import OpcuaKind
from drivers.opcua.certificates import (
    Application,
    BadCertificate,
    application_uris,
    der,
    fingerprint,
    hosts,
    in_pairs,
    new_key,
    parse,
    parse_chain,
)
from drivers.opcua.credentials import Credentials
from drivers.opcua.session_setup import open_session
from drivers.opcua.settings import OpcuaDevice
from drivers.opcua.trust import REJECTED_FILES, CertificateValidator, TrustList, Untrusted
from edge.clock import SystemClock
from edge.errors import DeviceRefused, DeviceUnreachable

DeviceMaker = Callable[..., OpcuaDevice]
NOW = datetime.now(UTC)
URI = "urn:test:server"


@dataclass(frozen=True)
class Case:
    """A certificate with one thing wrong, the rest of the trust list, and the expected message."""

    made: Callable[[Any], x509.Certificate]
    told: str
    is_trusted: bool = True
    keys: tuple[tuple[str, Any], ...] = ()


CASES = {
    "expired": Case(lambda maker: maker.make(days=(-30, -1)), r"\(server\) expired on 20\d\d-"),
    "not yet valid": Case(lambda maker: maker.make(days=(1, 30)), r"is not valid before 20\d\d-.*, and it is 20"),
    "another application": Case(
        lambda maker: maker.make(uri="urn:other"),
        "is for the application urn:other, and the server calls itself urn:test:server",
    ),
    "no application": Case(lambda maker: maker.make(uri=None), "is for the application nothing, and the server calls"),
    "key usage": Case(lambda maker: maker.make(encipher=False), "does not allow its key to sign and to encrypt"),
    "purpose": Case(
        lambda maker: maker.make(purposes=(ExtendedKeyUsageOID.CLIENT_AUTH,)), "is not for a server"
    ),
    "expired and unknown": Case(
        lambda maker: maker.make(days=(-30, -1)), r"\(server\) expired on 20\d\d-", is_trusted=False
    ),
    "another application and unknown": Case(
        lambda maker: maker.make(uri="urn:other"), "accept it for this device with `certificate_uri`", is_trusted=False
    ),
    "unknown issuer": Case(
        lambda maker: maker.make(issuer=(maker.authority("stranger"), 1)),
        "is issued by CN=stranger, who is not known here, and it is not trusted itself: compare the fingerprint",
        is_trusted=False,
    ),
    "self-signed": Case(lambda maker: maker.make(), "is self-signed and not trusted: compare the", is_trusted=False),
    "another host": Case(
        lambda maker: maker.make(hosts=("plc-7",)), "is for plc-7, not for 127.0.0.1: write one of its names in url",
        keys=(("host_check", "always"),),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
async def test_a_bad_certificate_is_refused_with_what_to_do(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any, name: str
) -> None:
    case = CASES[name]
    certificate = peer.be(case.made(maker))
    if case.is_trusted:
        await asyncio.to_thread(trust.trust, certificate)

    with pytest.raises(DeviceRefused, match=case.told):
        async with open_session(device(**dict(case.keys)), SystemClock()):
            pass


async def test_a_renewed_certificate_of_a_known_application_is_called_that(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any
) -> None:
    known = maker.make(days=(-30, 2))
    await asyncio.to_thread(trust.trust, known)
    renewed = peer.be()

    with pytest.raises(DeviceRefused) as caught:
        async with open_session(device(), SystemClock()):
            pass

    told = str(caught.value)
    assert f"not the one of {URI} that is trusted ({fingerprint(known)[:16]}, valid until" in told
    assert "it was renewed, or somebody else shows it" in told
    assert f"tidegate keys opcua trust {trust.directory} {fingerprint(renewed)[:16]}" in told


async def test_a_server_by_another_name_than_its_certificate_is_an_exception_that_is_shown(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any
) -> None:
    await asyncio.to_thread(trust.trust, peer.be(maker.make(uri="urn:old")))
    driver = OpcuaKind().driver(device(certificate_uri="urn:old"), SystemClock())

    async with driver.connect():
        exceptions = [known.exception for known in driver.certificates()]

    says = f"its certificate is for urn:old, while it calls itself {URI}: accepted by `certificate_uri`"
    assert exceptions == ["", says]


def test_a_certificate_that_is_not_by_the_book_is_judged_without_a_warning_of_python(tmp_path: Path) -> None:
    """A serial number of 0, for which the library warns."""
    key = new_key(2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "server")])
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(0x4711).not_valid_before(NOW).not_valid_after(NOW + timedelta(days=1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    data = der(made).replace(b"\x02\x02\x47\x11", b"\x02\x02\xff\x11")
    (tmp_path / "server.der").write_bytes(data)
    command = [sys.executable, "-c", "import sys; from edge.cli import main; sys.exit(main())"]

    told = subprocess.run(
        [*command, "keys", "opcua", "trust", str(tmp_path / "pki"), str(tmp_path / "server.der")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert told.stderr == ""
    assert "certificate  server" in told.stdout


async def test_a_refused_certificate_is_trusted_by_the_command_that_was_told(
    peer: Any, trust: TrustList, device: DeviceMaker
) -> None:
    certificate = peer.be()

    with pytest.raises(DeviceRefused) as caught:
        async with open_session(device(), SystemClock()):
            pass
    told = str(caught.value)
    (kept,) = await asyncio.to_thread(trust.find, told.rsplit(" ", 1)[1], ["rejected"])
    await asyncio.to_thread(trust.trust, kept.certificate)
    driver = OpcuaKind().driver(device(), SystemClock())
    async with driver.connect() as session:
        identity = await session.identity()

    assert in_pairs(fingerprint(certificate)) in told
    assert f"tidegate keys opcua trust {trust.directory} {fingerprint(certificate)[:16]}" in told
    assert dict(identity.more)["application URI"] == URI
    assert [(known.whose, known.name) for known in driver.certificates()] == [
        ("ours", "tidegate test"),
        ("the device's", "server"),
    ]
    assert driver.certificates()[1].expires_at_ns == certificate.not_valid_after_utc.timestamp() * 10**9


async def test_another_certificate_than_announced_is_refused(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any
) -> None:
    """An attacker on the way can change the announcement, which is not signed."""
    trusted = maker.make(key=2)
    await asyncio.to_thread(trust.trust, trusted)
    peer.be(announced=trusted)

    with pytest.raises((DeviceRefused, DeviceUnreachable), match=r"did not answer within 0\.5 s"):
        async with open_session(device(limits={"timeout": "500 ms"}), SystemClock()):
            pass


async def test_a_server_with_the_same_key_in_another_certificate_is_refused(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any
) -> None:
    """It could read our messages; its certificate is not the validated one."""
    trusted = maker.make()
    await asyncio.to_thread(trust.trust, trusted)
    peer.be(maker.make(name="another"), announced=trusted)

    with pytest.raises(DeviceRefused, match="shows another certificate now than it announced"):
        async with open_session(device(), SystemClock()):
            pass


@pytest.fixture
def issued(maker: Any) -> tuple[x509.Certificate, x509.Certificate]:
    """An authority, and a server's certificate that it issued."""
    authority = maker.authority()
    return authority, maker.make(issuer=(authority, 1))


def validate(
    trust: TrustList, certificate: x509.Certificate, host: str = "127.0.0.1", *above: x509.Certificate
) -> None:
    data = b"".join(map(der, (certificate, *above)))
    CertificateValidator(trust, URI, host, "issued", NOW).validate(data)


async def test_a_server_of_a_trusted_authority_is_let_in(
    peer: Any, trust: TrustList, device: DeviceMaker, issued: Any
) -> None:
    authority, certificate = issued
    await asyncio.to_thread(trust.trust, authority)
    peer.be(certificate)

    async with open_session(device(), SystemClock()) as connection:
        assert not connection.is_lost


async def test_a_revoked_server_is_refused(
    peer: Any, trust: TrustList, device: DeviceMaker, maker: Any, issued: Any
) -> None:
    authority, certificate = issued
    await asyncio.to_thread(trust.trust, authority)
    listed = maker.revocations(authority, certificate).public_bytes(serialization.Encoding.PEM)
    await asyncio.to_thread((trust.directory / "crl" / "plant.crl").write_bytes, listed)
    peer.be(certificate)

    with pytest.raises(DeviceRefused, match="was revoked by plant CA: the server needs a new one"):
        async with open_session(device(), SystemClock()):
            pass


def test_a_list_that_revokes_others_lets_in(trust: TrustList, maker: Any, issued: Any) -> None:
    authority, certificate = issued
    trust.trust(authority)
    crl(trust, maker.revocations(authority, maker.make(issuer=(authority, 1))))

    validate(trust, certificate)


def test_a_list_that_ran_out_proves_nothing(trust: TrustList, maker: Any, issued: Any) -> None:
    authority, certificate = issued
    trust.trust(authority)
    crl(trust, maker.revocations(authority, days=-1))

    with pytest.raises(Untrusted, match=r"may have been revoked: the list of plant CA in .*crl ran out on 20"):
        validate(trust, certificate)


def test_a_list_by_somebody_else_is_no_list(trust: TrustList, maker: Any, issued: Any) -> None:
    authority, certificate = issued
    trust.trust(authority)
    crl(trust, maker.revocations(authority, key=2))

    with pytest.raises(Untrusted, match=r"cannot be checked: .*plant.crl is not signed by plant CA"):
        validate(trust, certificate)


def test_one_current_list_of_an_authority_is_enough(trust: TrustList, maker: Any, issued: Any) -> None:
    """A new list beside the old one, or one of the authority's new key, locks no server out."""
    authority, certificate = issued
    trust.trust(authority)
    crl(trust, maker.revocations(authority, days=-1), "old.crl")
    crl(trust, maker.revocations(authority, key=2), "key-2.crl")
    crl(trust, maker.revocations(authority), "new.crl")

    validate(trust, certificate)

    crl(trust, maker.revocations(authority, certificate, days=-1), "old.crl")
    with pytest.raises(Untrusted, match="was revoked by plant CA"):
        validate(trust, certificate)


def test_a_list_that_cannot_be_checked_is_not_passed_over(trust: TrustList, maker: Any, issued: Any) -> None:
    """A server that is trusted itself may be revoked by an authority of which only the list is here."""
    authority, certificate = issued
    trust.trust(certificate)
    crl(trust, maker.revocations(authority, certificate))

    with pytest.raises(Untrusted, match=r"cannot be checked: .*plant.crl is not signed by plant CA, as far as"):
        validate(trust, certificate)


def test_an_authority_that_may_make_no_others_makes_none(trust: TrustList, maker: Any) -> None:
    """RFC 5280, 4.2.1.9."""
    authority = {"uri": None, "hosts": (), "purposes": None, "is_authority": True}
    root = maker.make(key=2, name="root", path_length=0, **authority)
    middle = maker.make(key=1, name="middle", issuer=(root, 2), **authority)
    trust.trust(root)

    validate(trust, maker.make(issuer=(root, 2)))
    with pytest.raises(Untrusted, match="is issued by root, whose own certificate allows 0 authorities below it, and"):
        validate(trust, maker.make(issuer=(middle, 1)), "127.0.0.1", middle)


def test_an_issuer_that_completes_a_chain_is_trusted_for_nothing(trust: TrustList, issued: Any) -> None:
    authority, certificate = issued
    trust.trust(authority, "issuers")

    with pytest.raises(Untrusted, match="is issued by plant CA, whom nobody trusts here"):
        validate(trust, certificate)


def test_a_chain_that_the_server_sends_leads_to_a_trusted_authority(trust: TrustList, maker: Any) -> None:
    root = maker.authority("root", key=2)
    middle = maker.make(key=1, name="middle", uri=None, hosts=(), purposes=None, is_authority=True, issuer=(root, 2))
    certificate = maker.make(issuer=(middle, 1))
    trust.trust(root)

    validate(trust, certificate, "127.0.0.1", middle)
    with pytest.raises(Untrusted, match="CN=middle, who is not known here"):
        validate(trust, certificate)


def test_an_ordinary_certificate_issues_no_others(trust: TrustList, maker: Any) -> None:
    """Or every trusted server could make more of them."""
    neighbour = maker.make(key=1, name="neighbour", uri="urn:neighbour")
    trust.trust(neighbour)

    with pytest.raises(Untrusted, match="CN=neighbour, who is not known here"):
        validate(trust, maker.make(issuer=(neighbour, 1)))


def test_an_authority_that_expired_lets_nobody_in(trust: TrustList, maker: Any) -> None:
    authority = maker.make(key=1, name="plant CA", uri=None, hosts=(), purposes=None, is_authority=True, days=(-30, -1))
    trust.trust(authority)

    with pytest.raises(Untrusted, match="is issued by plant CA, whose own certificate expired on"):
        validate(trust, maker.make(issuer=(authority, 1)))


def test_the_host_counts_where_the_issuer_is_trusted_and_not_the_certificate(trust: TrustList, issued: Any) -> None:
    """One authority issues to many servers: only the host says which of them this is."""
    authority, certificate = issued
    trust.trust(authority)

    with pytest.raises(Untrusted, match=r"is for 127.0.0.1, not for 192.0.2.7"):
        validate(trust, certificate, "192.0.2.7")
    trust.trust(certificate)
    validate(trust, certificate, "192.0.2.7")


def test_a_short_key_is_refused(trust: TrustList, maker: Any) -> None:
    short = rsa.generate_private_key(65537, 1024)
    certificate = maker.make(private=short)
    trust.trust(certificate)

    with pytest.raises(Untrusted, match="has a key of 1024 bits, not 2048 to 4096"):
        validate(trust, certificate)


def test_rejected_certificates_are_bounded(trust: TrustList, maker: Any) -> None:
    """A server with a new certificate each time must not fill the disk."""
    for _ in range(REJECTED_FILES + 5):
        trust.add_rejected(maker.make())

    assert len(list(trust.certificates_in("rejected"))) == REJECTED_FILES


def test_a_directory_that_cannot_be_written_is_said(trust: TrustList, maker: Any) -> None:
    (trust.directory / "rejected").write_text("in the way")

    with pytest.raises(Untrusted, match=r"trust .* FILE \(it could not be kept here: "):
        validate(trust, maker.make())


def test_a_link_among_the_rejected_leads_nowhere(trust: TrustList, maker: Any, tmp_path: Path) -> None:
    """A server's certificate is only ever stored in rejected/."""
    certificate = maker.make()
    (trust.directory / "rejected").mkdir()
    (trust.directory / "rejected" / f"{fingerprint(certificate)}.der").symlink_to(tmp_path / "elsewhere")

    trust.add_rejected(certificate)

    assert not (tmp_path / "elsewhere").exists()
    assert [kept.certificate for kept in trust.certificates_in("rejected")] == [certificate]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    trust = TrustList(tmp_path)
    trust.create(Application("line-4", "gw", ("gw",)), NOW, days=30, bits=2048)

    (tmp_path / "own" / "key.pem").chmod(0o640)

    with pytest.raises(BadCertificate, match=r"key.pem can be read by others \(mode 0640\); chmod 600 "):
        trust.own(NOW)


def test_secrets_are_not_shown() -> None:
    """Not in a traceback either."""
    assert "hunter2" not in repr(Credentials(password=b"hunter2", user_key=new_key(2048)))
    assert "key" not in repr(Credentials(user_key=new_key(2048)))


@pytest.mark.parametrize("version", [0, 1, 7, 255])
def test_a_certificate_of_another_version_is_judged_too(trust: TrustList, maker: Any, version: int) -> None:
    data = der(maker.make())
    at = data.index(b"\xa0\x03\x02\x01\x02") + 4

    with pytest.raises(Untrusted):
        CertificateValidator(trust, URI, "h", "issued", NOW).validate(data[:at] + bytes([version]) + data[at + 1 :])


@given(data=st.binary(max_size=300))
def test_whatever_a_server_shows_is_judged(data: bytes) -> None:
    with pytest.raises(Untrusted, match="something else than a certificate"):
        CertificateValidator(TrustList(Path("nowhere")), URI, "h", "issued", NOW).validate(data)


@given(at=st.integers(0, 900), flip=st.integers(1, 255))
def test_a_damaged_certificate_is_never_trusted(damaged: tuple[TrustList, bytes], at: int, flip: int) -> None:
    trust, data = damaged
    at %= len(data)

    with pytest.raises(Untrusted):
        CertificateValidator(trust, URI, "127.0.0.1", "issued", NOW).validate(
            data[:at] + bytes([data[at] ^ flip]) + data[at + 1 :]
        )


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory, maker: Any) -> tuple[TrustList, bytes]:
    trust, certificate = TrustList(tmp_path_factory.mktemp("damaged")), maker.make()
    trust.trust(certificate)
    return trust, der(certificate)


def test_our_certificate_says_all_that_servers_check(tmp_path: Path) -> None:
    """OPC 10000-6, 6.2.2."""
    application = Application("line-4", "gw", ("gw", "192.0.2.4"), "Acme")

    made = TrustList(tmp_path).create(application, NOW, days=100, bits=2048)

    own = TrustList(tmp_path).own(NOW)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert own.uri == "urn:gw:tidegate:line-4"
    assert application_uris(made) == [own.uri]
    assert hosts(made) == ["gw", "192.0.2.4"]
    assert usage.digital_signature
    assert usage.content_commitment
    assert usage.key_encipherment
    assert usage.data_encipherment
    assert usage.key_cert_sign
    assert not made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert (made.not_valid_after_utc - NOW).days in (99, 100)
    assert (tmp_path / "own" / "key.pem").stat().st_mode & 0o777 == 0o600


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    application = Application("line-4", "gw", ("gw",))
    TrustList(tmp_path).create(application, NOW, days=1, bits=2048)

    with pytest.raises(FileExistsError):
        TrustList(tmp_path).create(application, NOW, days=1, bits=2048)


OURS = {
    "missing": (lambda own: (own / "cert.der").unlink(), "make it with: tidegate keys opcua create"),
    "torn": (lambda own: (own / "cert.der").write_bytes(b"0\x82"), "it is no certificate in DER or PEM"),
    "of another key": (
        lambda own: (own / "key.pem").write_bytes(
            new_key(2048).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        ),
        "do not belong together",
    ),
    "no key": (lambda own: (own / "key.pem").write_bytes(b"secret"), "is no private key in PEM without a password"),
}


@pytest.mark.parametrize("name", OURS)
def test_what_is_wrong_with_our_certificate_is_said(tmp_path: Path, name: str) -> None:
    spoil, told = OURS[name]
    TrustList(tmp_path).create(Application("line-4", "gw", ("gw",)), NOW, days=1, bits=2048)
    spoil(tmp_path / "own")

    with pytest.raises(BadCertificate, match=told):
        TrustList(tmp_path).own(NOW)


def test_our_certificate_expires_with_a_sentence(tmp_path: Path) -> None:
    TrustList(tmp_path).create(Application("line-4", "gw", ("gw",)), NOW, days=1, bits=2048)

    with pytest.raises(BadCertificate, match=r"our certificate .* expired on .*; make a new one, and trust it on the"):
        TrustList(tmp_path).own(NOW + timedelta(days=2))


def test_a_chain_is_split_and_bounded(maker: Any) -> None:
    certificate = maker.make()

    assert parse_chain(der(certificate) * 9) == [certificate] * 5
    assert parse(certificate.public_bytes(serialization.Encoding.PEM)) == certificate


def crl(trust: TrustList, listed: x509.CertificateRevocationList, name: str = "plant.crl") -> None:
    (trust.directory / "crl" / name).write_bytes(listed.public_bytes(serialization.Encoding.DER))
