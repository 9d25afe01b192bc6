"""TLS towards a broker or a device: a context from files, failures as sentences, and when certificates expire."""

from __future__ import annotations

import ssl
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from edge.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate as X509Certificate

_MINIMUM = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}
_CLOCK = "this machine's clock says {today}"
_WHO = "check {settings}.ca, or find out who answers in its place"
_ISSUER = f"the authority of its certificate is not in our CA file; {_WHO}"
_WEAK = "its certificate, or its authority's, has a key or signature that is too weak; renew it with P-256 and SHA-256"
_LIST = "the revocation list in {settings}.crl"
# OpenSSL's verification results (openssl-verification-options, X509_V_ERR_*). "{settings}" is where the files are set.
_VERIFICATION = {
    2: _ISSUER,
    3: "{settings}.crl has no revocation list of an authority of its certificate; fetch that list, in PEM",
    7: "the signature of its certificate is wrong: it was not issued by the authority that it names",
    8: _LIST + " was not signed by the authority that it names; fetch it again",
    9: "its certificate, or its authority's, is not valid yet; " + _CLOCK + ": set the clock that is wrong",
    10: "its certificate, or its authority's, has expired; renew it, or check this machine's clock, which says {today}",
    11: _LIST + " is not valid yet; " + _CLOCK + ": set the clock that is wrong",
    12: _LIST + " is out of date; fetch the new one, or check this machine's clock, which says {today}",
    18: f"its certificate is self-signed and not in our CA file; {_WHO}",
    19: _ISSUER,
    20: _ISSUER,
    21: _ISSUER,
    23: "its certificate has been revoked by its authority; find out why before it gets another one",
    24: "its certificate was issued by one that is no authority; it needs one from an authority in {settings}.ca",
    25: "its certificate has more authorities above it than they allow; issue it from the one below",
    26: "its certificate is not for a server; issue it with the extended key usage serverAuth",
    62: "its certificate is for another host name; use the name in the certificate as host, or renew it",
    64: "its certificate is for another address; use a name or address in the certificate as host, or renew it",
    66: _WEAK,
    67: _WEAK,
    68: _WEAK,
    79: "its certificate was issued by one that is no authority; it needs one from an authority in {settings}.ca",
}
_ALERTS = {
    "CERTIFICATE_REQUIRED": "it asks for a client certificate; set {settings}.certificate and {settings}.key",
    "UNKNOWN_CA": "it does not know the authority of our certificate; load our CA into it",
    "CERTIFICATE_EXPIRED": "it says our certificate has expired; renew it, or check its clock",
    "CERTIFICATE_REVOKED": "it says our certificate has been revoked; ask the authority why, and for another one",
    "UNSUPPORTED_CERTIFICATE": "it says our certificate is not for a client; issue it with the usage clientAuth",
    "BAD_CERTIFICATE": "it refuses our certificate; its log says why",
    "CERTIFICATE_UNKNOWN": "it refuses our certificate; its log says why",
    "ACCESS_DENIED": "it knows our certificate and does not let us in",
    "HANDSHAKE_FAILURE": "it refuses the handshake; it may ask for a client certificate",
    "PROTOCOL_VERSION": "it speaks no TLS version that we accept ({minimum} and newer)",
    "UNSUPPORTED_PROTOCOL": "it speaks no TLS version that we accept ({minimum} and newer)",
    "WRONG_VERSION_NUMBER": "it does not speak TLS on this port",
    "RECORD_LAYER_FAILURE": "it does not speak TLS on this port",
    "UNEXPECTED_EOF": "it closed the connection during the TLS handshake; its log says why",
    "DH_KEY_TOO_SMALL": "it offers a key exchange that is too weak; set up TLS {minimum} with P-256 on it",
}
# What loading our own files says, by the reason of OpenSSL.
_OWN = {
    "KEY_VALUES_MISMATCH": "the key belongs to another certificate",
    "EE_KEY_TOO_SMALL": "its key is too short to be safe; make one with P-256, or RSA with 2,048 bits or more",
    "CA_KEY_TOO_SMALL": "the key of an authority in it is too short to be safe; use another authority",
    "CA_MD_TOO_WEAK": "it is signed with a hash that can be forged; have it issued again with SHA-256",
    "NO_START_LINE": "it is not PEM",
    "PEM lib": "it is not PEM",
    "NO_CERTIFICATE_OR_CRL_FOUND": "it is not PEM",
}
_DAY_FORMAT = "%Y-%m-%d"
_DER = 2  # _ssl.ENCODING_DER


@dataclass(frozen=True, slots=True, kw_only=True)
class TlsFiles:
    """Where the trust and our own certificate are; read again for every connection, so that they can be renewed.

    Attributes:
        crl: revocation lists; with them every authority above the peer's certificate needs one that is in force.
        settings: the key of the configuration under which ca, certificate and key are set, for messages.
    """

    ca: Path
    certificate: Path | None = None
    key: Path | None = None
    crl: Path | None = None
    minimum: Literal["1.2", "1.3"] = "1.3"
    settings: str = "tls"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certificate:
    """A certificate, or a revocation list, that a connection depends on.

    Attributes:
        whose: "ours", "the device's", "the broker's", "the database's", the same for an authority
            ("our authority's"), or "revocation list".
        name: its subject; of a revocation list its authority.
        expires_at_ns: UTC of the end of its validity.
        exception: what was accepted of it only because the settings say so; else empty.
    """

    whose: str
    name: str
    expires_at_ns: int
    exception: str = ""


def load_context(files: TlsFiles) -> ssl.SSLContext:
    """A context for a client that checks the certificate and name of its peer. Reads files: not for the event loop.

    Raises:
        ConfigError: a file is missing or is not what it should be.
    """
    return _load(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), files)


def _load(context: ssl.SSLContext, files: TlsFiles) -> ssl.SSLContext:
    context.minimum_version = _MINIMUM[files.minimum]
    try:
        context.load_verify_locations(files.ca)
    except (OSError, ValueError) as error:
        raise ConfigError(f"CA file {files.ca} cannot be used: {_why(error)}; it must hold PEM certificates") from error
    if files.certificate is not None:
        try:
            context.load_cert_chain(files.certificate, files.key, password=_refuse_to_ask)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"certificate {files.certificate} with key {files.key or files.certificate} cannot be used: "
                f"{_why(error)}"
            ) from error
    if files.crl is not None:
        _load_lists(context, files.crl)
    return context


def load_server_context(files: TlsFiles) -> ssl.SSLContext:
    """As `load_context`, for a server that admits only clients with a certificate of its authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.verify_mode = ssl.CERT_REQUIRED
    return _load(context, files)


def _load_lists(context: ssl.SSLContext, path: Path) -> None:
    try:
        text = path.read_bytes()
        # A certificate among them would be trusted as an authority.
        is_lists = b"-----BEGIN X509 CRL-----" in text and b"CERTIFICATE-----" not in text
        if is_lists:
            context.load_verify_locations(path)
    except (OSError, ValueError) as error:
        raise ConfigError(f"revocation list {path} cannot be used: {_why(error)}") from error
    if not is_lists:
        remedy = "it must hold revocation lists in PEM and nothing else; openssl crl -inform DER makes PEM of one"
        raise ConfigError(f"revocation list {path} cannot be used: {remedy}")
    context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_CHAIN


def explain(error: Exception, files: TlsFiles | None = None) -> str:
    """What went wrong in TLS, said of the peer as "it"; `files` are those of the connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        other = f"its certificate is not trusted by our CA file ({error.verify_message}); check {{settings}}.ca"
        text = _VERIFICATION.get(error.verify_code, other)
    else:
        reason = (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)
        text = next((text for alert, text in _ALERTS.items() if alert in reason.upper()), f"TLS failed: {reason}")
    settings, minimum = (files.settings, files.minimum) if files else ("tls", "1.2")
    # The day alone: a sentence that changes with each attempt would be logged with each.
    today = datetime.now(UTC).strftime(_DAY_FORMAT)
    return text.replace("{settings}", settings).replace("{minimum}", minimum).replace("{today}", today)


def chain_of(tls: Any) -> list[bytes]:
    """The certificate of the peer and the authorities above it, in DER, of a connection that is open."""
    if hasattr(tls, "get_verified_chain"):  # Since Python 3.13.
        return list(tls.get_verified_chain())
    return [each.public_bytes(_DER) for each in tls._sslobj.get_verified_chain()]  # noqa: SLF001


def named(certificates: Sequence[bytes], whose: str) -> list[Certificate]:
    """A chain in DER, its owner's first; ValueError for anything else. `whose` is as in `Certificate`."""
    from cryptography import x509  # Takes a while to import.

    return list(_named([x509.load_der_x509_certificate(each) for each in certificates], whose))


def in_use(files: TlsFiles) -> list[Certificate]:
    """What our files bring: our certificate, the authorities above it, and revocation lists.

    What cannot be read is left out: connecting says it. Reads files: not for the event loop.
    """
    from cryptography import x509

    found: list[Certificate] = []
    if files.certificate is not None:
        with suppress(OSError, ValueError):
            own = x509.load_pem_x509_certificates(files.certificate.read_bytes())
            found += _named(own, "ours")
            found += _named(_authorities_above(own, files.ca), "ours", is_authority=True)
    if files.crl is not None:
        with suppress(OSError, ValueError):
            found += _lists_in(files.crl.read_bytes())
    return found


def with_peer(ours: Sequence[Certificate], peer: Sequence[bytes], whose: str) -> tuple[Certificate, ...]:
    """Also the peer's chain, in DER; an authority of both sides is there once, as ours."""
    known = {(each.name, each.expires_at_ns) for each in ours}
    try:
        theirs = named(peer, whose)
    except ValueError:
        return tuple(ours)
    return (*ours, *(each for each in theirs if (each.name, each.expires_at_ns) not in known))


def in_pem(pem: bytes) -> list[Certificate]:
    """The certificates of a PEM file, or its revocation lists; keys are passed over. Raises ValueError."""
    from cryptography import x509

    if b"-----BEGIN CERTIFICATE-----" in pem:
        return list(_named(x509.load_pem_x509_certificates(pem), ""))
    return list(_lists_in(pem))


def _authorities_above(own: Sequence[X509Certificate], ca: Path) -> list[X509Certificate]:
    """Those of our CA file that issued our certificate: most plants have one authority for both sides."""
    from cryptography import x509

    if own[-1].subject == own[-1].issuer:
        return []
    return [each for each in x509.load_pem_x509_certificates(ca.read_bytes()) if each.subject == own[-1].issuer]


def _named(chain: Sequence[X509Certificate], whose: str, *, is_authority: bool = False) -> Iterator[Certificate]:
    authority = "our authority's" if whose == "ours" else f"{whose} authority's"
    for number, each in enumerate(chain):
        yield Certificate(
            whose=authority if number or is_authority else whose,
            name=each.subject.rfc4514_string() or "(without a name)",
            expires_at_ns=int(each.not_valid_after_utc.timestamp()) * 10**9,
        )


def _lists_in(pem: bytes) -> Iterator[Certificate]:
    from cryptography import x509

    end = b"-----END X509 CRL-----"
    for each in pem.split(end)[:-1]:
        revoked = x509.load_pem_x509_crl(each[each.index(b"-----BEGIN") :] + end + b"\n")
        if (next_update := revoked.next_update_utc) is not None:
            yield Certificate(
                whose="revocation list", name=revoked.issuer.rfc4514_string(),
                expires_at_ns=int(next_update.timestamp()) * 10**9,
            )  # fmt: skip


def _why(error: Exception) -> str:
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, PermissionError):
        return "it may not be read by this user"
    reason = (error.reason if isinstance(error, ssl.SSLError) else None) or str(error)
    return next((text for known, text in _OWN.items() if known in reason), reason)


def _refuse_to_ask() -> str:
    raise ValueError("the key is encrypted; store it without a password and readable for this service only")
