"""Identities that are not pinned, and certificates that vouch for them, or do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.support.vectors.content import (
    ED_IDENTITY,
    FIRST,
    IDENTITY,
    ISSUER,
    NEXT_SESSION,
    SESSION,
    STRANGER,
    UTC_NS,
    begin,
    case,
    checkpoint,
    epoch,
    event,
)
from tests.support.vectors.wire import CHECKPOINT, EPOCH, EVENT, Case, Chain, Key

NOW = datetime.fromtimestamp(UTC_NS // 10**9, UTC)
DAY, SECOND_OF_TIME = timedelta(days=1), timedelta(seconds=1)
LONG = (NOW - 2000 * DAY, NOW + 2000 * DAY)
YEAR = (NOW - 100 * DAY, NOW + 265 * DAY)
_CA_USAGE = dict.fromkeys(
    ("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
     "encipher_only", "decipher_only"), False,
) | {"key_cert_sign": True, "crl_sign": True}  # fmt: skip

_CLIENT, _SERVER = ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH

CA_KEY, PLANT_KEY, OTHER_CA_KEY = Key(5001), Key(5002), Key(5003)


def _certificate(
    of: str, key: Key, by: str, by_key: Key, *, uris: Sequence[str] = (), is_ca: bool | None = None,
    valid: tuple[datetime, datetime] = YEAR, usages: Sequence[x509.ObjectIdentifier] = (),
    common_name: str | None = None,
) -> bytes:  # fmt: skip
    """A certificate in DER. Signatures are deterministic, and serial numbers that of the key."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(_name(of, common_name)).issuer_name(_name(by))
        .public_key(key.private.public_key()).serial_number(key.number)
        .not_valid_before(valid[0]).not_valid_after(valid[1])
    )  # fmt: skip
    if is_ca is not None:
        builder = builder.add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    if is_ca:
        builder = builder.add_extension(x509.KeyUsage(**_CA_USAGE), critical=True)
    if uris:
        names = x509.SubjectAlternativeName([x509.UniformResourceIdentifier(each) for each in uris])
        builder = builder.add_extension(names, critical=False)
    if usages:
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    signed = builder.sign(by_key.private, hashes.SHA256(), ecdsa_deterministic=True)
    return signed.public_bytes(serialization.Encoding.DER)


def _name(of: str, common_name: str | None = None) -> x509.Name:
    common = [] if common_name is None else [x509.NameAttribute(NameOID.COMMON_NAME, common_name)]
    return x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, of), *common])


def _used_for(*usages: x509.ObjectIdentifier) -> bytes:
    return _certificate("Line 4", IDENTITY, "Works", CA_KEY, uris=[ISSUER], usages=usages)


ROOT = _certificate("Works", CA_KEY, "Works", CA_KEY, is_ca=True, valid=LONG)
PLANT = _certificate("Plant", PLANT_KEY, "Works", CA_KEY, is_ca=True, valid=LONG)
LEAF = _certificate("Line 4", IDENTITY, "Works", CA_KEY, uris=[ISSUER])
PLANT_LEAF = _certificate("Line 4", IDENTITY, "Plant", PLANT_KEY, uris=[ISSUER])


def _pem(certificate: bytes) -> str:
    return x509.load_der_x509_certificate(certificate).public_bytes(serialization.Encoding.PEM).decode()


TRUST = {"works": _pem(ROOT), "plant": _pem(PLANT)}


def cases() -> Iterator[Case]:
    """Certificates."""
    yield from _good()
    yield from _bad()
    yield from _chains()


def _leaf(valid: tuple[datetime, datetime] = YEAR, uris: Sequence[str] = (ISSUER,), by: Key = CA_KEY) -> bytes:
    return _certificate("Line 4", IDENTITY, "Works", by, uris=uris, valid=valid)


def _good() -> Iterator[Case]:
    ed25519 = _certificate("Line 4", ED_IDENTITY, "Works", CA_KEY, uris=[ISSUER])
    for slug, what, trust, identity, certificates in (
        ("leaf", "A trusted authority has issued the certificate.", "works", IDENTITY, [LEAF]),
        ("intermediate", "A trusted authority has issued the certificate of the one that issued it.",
         "works", IDENTITY, [PLANT_LEAF, PLANT]),
        ("with-root", "The certificate of the trusted authority comes too.",
         "works", IDENTITY, [PLANT_LEAF, PLANT, ROOT]),
        ("trusted-intermediate", "The authority that is trusted is itself below another one.",
         "plant", IDENTITY, [PLANT_LEAF]),
        ("two-names", "The certificate names two gateways.", "works", IDENTITY,
         [_leaf(uris=["urn:tidegate:line-3", ISSUER])]),
        ("first-second", "Valid from the second of the record on.", "works", IDENTITY, [_leaf((NOW, NOW + DAY))]),
        ("last-second", "Valid until the second of the record.", "works", IDENTITY, [_leaf((NOW - DAY, NOW))]),
        ("purpose", "Its extended key usage has a purpose besides TLS client.", "works", IDENTITY,
         [_used_for(_CLIENT, ExtendedKeyUsageOID.CODE_SIGNING)]),
        ("ed25519", "A certificate for an Ed25519 key.", "works", ED_IDENTITY, [ed25519]),
        ("pinned", "The identity is pinned: its certificate, which no trusted authority has issued, is not needed.",
         "line-4", IDENTITY, [LEAF]),
        ("pinned-no-certificate", "The identity is pinned: bytes that are no certificate do not matter.",
         "line-4", IDENTITY, [b"\x00"]),
    ):  # fmt: skip
        chain = begin(identity=identity, m2=certificates)
        chain.add(EVENT, event())
        chain.add(CHECKPOINT, checkpoint(chain))
        yield case(f"certificate/{slug}", what, chain.records, "AAA", trust=trust, wholly=True)


def _bad() -> Iterator[Case]:
    no_authority = _certificate("Plant", PLANT_KEY, "Works", CA_KEY, valid=LONG)
    explicitly_none = _certificate("Plant", PLANT_KEY, "Works", CA_KEY, is_ca=False, valid=LONG)
    expired_plant = _certificate("Plant", PLANT_KEY, "Works", CA_KEY, is_ca=True,
                                 valid=(LONG[0], NOW - SECOND_OF_TIME))  # fmt: skip
    for slug, what, lists in (
        ("expired", "The certificate ended a second before the record.", [[_leaf((NOW - DAY, NOW - SECOND_OF_TIME))]]),
        ("not-yet", "The certificate begins a second after the record.", [[_leaf((NOW + SECOND_OF_TIME, NOW + DAY))]]),
        ("expired-intermediate", "The certificate of the authority between ended before the record.",
         [[PLANT_LEAF, expired_plant]]),
        ("name", "The certificate is for another gateway, for one whose name begins the same, or in capitals.",
         [[_leaf(uris=[each])] for each in ("urn:tidegate:line-5", ISSUER + "4", "urn:tidegate:LINE-4")]),
        ("common-name", "The certificate names the gateway only as its common name.",
         [[_certificate("Line 4", IDENTITY, "Works", CA_KEY, common_name="line-4")]]),
        ("tls-only", "Its extended key usage is TLS client, TLS server, or both.",
         [[_used_for(_CLIENT)], [_used_for(_SERVER)], [_used_for(_CLIENT, _SERVER)]]),
        ("other-authority", "An authority of the same name, but with another key, has issued the certificate.",
         [[_leaf(by=OTHER_CA_KEY)]]),
        ("self-signed", "The identity has issued its certificate itself.",
         [[_certificate("Line 4", IDENTITY, "Line 4", IDENTITY, uris=[ISSUER])]]),
        ("missing-intermediate", "The certificate of the authority between is missing.", [[PLANT_LEAF]]),
        ("unrelated", "A certificate that has not issued the one before it.", [[LEAF, PLANT], [PLANT_LEAF, ROOT]]),
        ("not-a-ca", "The certificate between does not say that it is of an authority, or says that it is not.",
         [[PLANT_LEAF, no_authority], [PLANT_LEAF, explicitly_none]]),
        ("signature", "A bit of the certificate's signature is another one.", [[LEAF[:-1] + bytes((LEAF[-1] ^ 1,))]]),
        ("none", "No certificate, one that is none, and one that is cut.", [[], [b"\x00"], [LEAF[:-1]]]),
        ("order", "The certificate of the authority comes first.", [[PLANT, PLANT_LEAF]]),
        ("another-key", "The certificate is for another key than the one that is named and has signed.",
         [[_certificate("Line 4", STRANGER, "Works", CA_KEY, uris=[ISSUER])]]),
    ):  # fmt: skip
        fresh = Chain(FIRST, IDENTITY, SESSION)
        records = [fresh.make(EPOCH, epoch(m2=each)) for each in lists]
        yield case(f"certificate/{slug}", what, records, "U" * len(records), trust="works", tail={})


def _chains() -> Iterator[Case]:
    stolen = Chain(FIRST, IDENTITY, SESSION)
    yield case("certificate/stolen", "The certificate is for the key that is named, and another one has signed.",
               [stolen.make(EPOCH, epoch(m2=[LEAF]), sign=STRANGER.sign)], "X", trust="works", tail={})  # fmt: skip
    chain = begin(m2=[LEAF])
    chain.add(EVENT, event())
    chain.add(CHECKPOINT, checkpoint(chain))
    chain.add(EVENT, event(1))
    yield case("certificate/no-epoch", "Without the EPOCH no certificate is known, and nothing of the chain.",
               chain.records[1:], "???", trust="works", tail={})  # fmt: skip
    chain = begin(m2=[LEAF])
    chain.add(EVENT, event())
    taken = chain.make(CHECKPOINT, checkpoint(chain, session=NEXT_SESSION), key=STRANGER)
    yield case("certificate/checkpoint", "A stranger signs a CHECKPOINT of a chain whose EPOCH has a certificate.",
               [*chain.records, taken], "AAU", trust="works")  # fmt: skip
