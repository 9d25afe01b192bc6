"""X.509 certificates as OPC UA uses them (OPC 10000-6, 6.2): reading, making, showing and checking one."""

from __future__ import annotations

import ipaddress
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

warnings.filterwarnings("ignore", category=CryptographyDeprecationWarning)  # What is wrong with one we say ourselves.

WITHOUT_KEY_CERT_SIGN = (
    "it was made without keyCertSign, which some servers (Ignition) require; move the folder own/ away and make a new "
    "one: tidegate keys opcua create"
)
SMALLEST_KEY_BITS, LARGEST_KEY_BITS = 2048, 4096
_WEAK_HASHES = frozenset({"md5", "sha1"})
LONGEST_CHAIN = 5


class BadCertificate(ValueError):
    """A certificate cannot be used; the sentence says why, without its subject."""


@dataclass(frozen=True, slots=True)
class Application:
    """What our application certificate says about us."""

    name: str
    host: str
    names: tuple[str, ...]
    organization: str = ""

    @property
    def uri(self) -> str:
        """The application URI, the same in the certificate and in every session."""
        return f"urn:{self.host}:tidegate:{self.name}"


def parse(data: bytes) -> x509.Certificate:
    """One certificate in DER or PEM. Raises BadCertificate."""
    return parse_chain(data)[0]


def parse_chain(data: bytes) -> list[x509.Certificate]:
    """Certificates in DER one after the other, the owner's first (OPC 10000-6, 6.2.6), or in PEM."""
    try:
        if data.lstrip().startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificates(data)[:LONGEST_CHAIN]
        return [x509.load_der_x509_certificate(der) for der in _split(data)]
    except (ValueError, x509.InvalidVersion) as error:
        raise BadCertificate("it is no certificate in DER or PEM") from error


def _split(data: bytes) -> Iterator[bytes]:
    for _ in range(LONGEST_CHAIN):
        if len(data) < 4 or data[:2] != b"\x30\x82":  # No certificate is shorter than 256 or longer than 65,535 bytes.
            raise BadCertificate("it is no certificate in DER or PEM")
        size = 4 + int.from_bytes(data[2:4])
        yield data[:size]
        if not (data := data[size:]):
            return


def der(certificate: x509.Certificate) -> bytes:
    """A certificate in DER."""
    return certificate.public_bytes(serialization.Encoding.DER)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 of the certificate as plain hexadecimal: its name in the trust list."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def sha1_fingerprint(certificate: x509.Certificate) -> str:
    """SHA-1 of the certificate as plain hexadecimal: the thumbprint that many servers show."""
    return certificate.fingerprint(hashes.SHA1()).hex()  # noqa: S303 - for display only; trust uses SHA-256.


def in_pairs(hexadecimal: str) -> str:
    """A fingerprint as servers show it."""
    return ":".join(hexadecimal[at : at + 2] for at in range(0, len(hexadecimal), 2)).upper()


def subject(certificate: x509.Certificate) -> str:
    """The common name of its subject, or the whole name, as printable text."""
    try:
        return _common_name(certificate.subject)
    except ValueError:
        return "(a name that cannot be read)"


def issuer_name(certificate: x509.Certificate) -> str:
    """Who issued a certificate, as `subject`. Raises ValueError."""
    return _common_name(certificate.issuer)


def _common_name(name: x509.Name) -> str:
    names = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(names[0].value) if names else name.rfc4514_string()
    return "".join(letter for letter in text[:100] if letter.isprintable()) or "(no name)"


def application_uris(certificate: x509.Certificate) -> list[str]:
    """The URIs among its subject alternative names; a good application certificate has one."""
    return _alternative_names(certificate).get_values_for_type(x509.UniformResourceIdentifier)


def hosts(certificate: x509.Certificate) -> list[str]:
    """The host names and addresses among its subject alternative names."""
    names = _alternative_names(certificate)
    return names.get_values_for_type(x509.DNSName) + [str(ip) for ip in names.get_values_for_type(x509.IPAddress)]


def names_host(certificate: x509.Certificate, host: str) -> bool:
    """Whether it was made for a host name or address."""
    return host.lower() in {known.lower() for known in hosts(certificate)}


def _alternative_names(certificate: x509.Certificate) -> x509.SubjectAlternativeName:
    try:
        return certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, x509.DuplicateExtension, x509.UnsupportedGeneralNameType, ValueError):
        return x509.SubjectAlternativeName([])


def check_validity(certificate: x509.Certificate, now: datetime) -> None:
    """Raise BadCertificate outside its validity."""
    if now > certificate.not_valid_after_utc:
        raise BadCertificate(f"expired on {_day(certificate.not_valid_after_utc)}")
    if now < certificate.not_valid_before_utc:
        raise BadCertificate(f"is not valid before {_day(certificate.not_valid_before_utc)}, and it is {_day(now)}")


def check_strength(certificate: x509.Certificate) -> None:
    """Raise BadCertificate where key or signature are weaker than our security policies demand (OPC 10000-7)."""
    key = certificate.public_key()
    if not isinstance(key, rsa.RSAPublicKey):
        raise BadCertificate("has no RSA key")
    if not SMALLEST_KEY_BITS <= key.key_size <= LARGEST_KEY_BITS:
        raise BadCertificate(f"has a key of {key.key_size} bits, not {SMALLEST_KEY_BITS} to {LARGEST_KEY_BITS}")
    algorithm = certificate.signature_hash_algorithm
    if algorithm is None or algorithm.name in _WEAK_HASHES:
        raise BadCertificate(f"is signed with {algorithm.name if algorithm else 'no hash'}, which can be forged")


def check_server_usage(certificate: x509.Certificate) -> None:
    """Raise BadCertificate where its key usage excludes an OPC UA server (OPC 10000-4, 6.1.3)."""
    extensions = certificate.extensions
    try:
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        if not (usage.digital_signature and (usage.key_encipherment or usage.data_encipherment)):
            raise BadCertificate("does not allow its key to sign and to encrypt (key usage)")
    except x509.ExtensionNotFound:
        pass
    try:
        purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        if not purposes & {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE}:
            raise BadCertificate("is not for a server (extended key usage)")
    except x509.ExtensionNotFound:
        pass


def check_path_length(issuer: x509.Certificate, below: int) -> None:
    """Raise BadCertificate where an authority allows fewer authorities below it (RFC 5280, 4.2.1.9)."""
    longest = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length
    if longest is not None and below > longest:
        raise BadCertificate(f"allows {longest} authorities below it, and there are {below}")


def issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether one certificate is signed by another that may sign certificates."""
    try:
        certificate.verify_directly_issued_by(issuer)
        if not issuer.extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            return False
        return issuer.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
    except x509.ExtensionNotFound as error:
        return error.oid == x509.KeyUsage.oid
    except Exception:  # noqa: BLE001 - each kind of bad signature, key and name raises another error.
        return False


def lacks_key_cert_sign(certificate: x509.Certificate) -> bool:
    """Whether it is self-signed without keyCertSign, as ours once were."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return False
    return certificate.issuer == certificate.subject and not usage.key_cert_sign


def new_key(bits: int) -> rsa.RSAPrivateKey:
    """A private key."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


def key_pem(key: rsa.RSAPrivateKey) -> bytes:
    """A private key in PEM, unencrypted, as a gateway starts unattended: the mode of its file protects it."""
    form = serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


def self_signed(application: Application, key: rsa.RSAPrivateKey, now: datetime, days: int) -> x509.Certificate:
    """An application instance certificate (OPC 10000-6, 6.2.2) with all extensions that servers check."""
    name = _name(application)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))  # For servers whose clock is slow.
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    )
    for extension, critical in _extensions(application, is_self_signed=True):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256())


def signing_request(application: Application, key: rsa.RSAPrivateKey) -> bytes:
    """The same as a request to a certification authority, in PEM."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(application))
    for extension, critical in _extensions(application, is_self_signed=False):
        builder = builder.add_extension(extension, critical)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def load_key(data: bytes) -> rsa.RSAPrivateKey:
    """A private key in PEM. Raises BadCertificate."""
    try:
        key = serialization.load_pem_private_key(data, password=None)
    except (ValueError, TypeError) as error:
        raise BadCertificate("is no private key in PEM without a password") from error
    if not isinstance(key, rsa.RSAPrivateKey):
        raise BadCertificate("is no RSA key")
    return key


def read_bounded(path: Path, limit_bytes: int) -> bytes:
    """The bytes of a file. Raises BadCertificate if it is longer than the limit."""
    with path.open("rb") as file:
        data = file.read(limit_bytes + 1)
    if len(data) > limit_bytes:
        raise BadCertificate(f"is longer than {limit_bytes} bytes")
    return data


def _extensions(application: Application, *, is_self_signed: bool) -> Sequence[tuple[x509.ExtensionType, bool]]:
    usage = x509.KeyUsage(
        digital_signature=True, content_commitment=True, key_encipherment=True, data_encipherment=True,
        key_agreement=False,
        key_cert_sign=is_self_signed,  # Some servers require it (OPC 10000-6, 6.2.2), though it is no authority.
        crl_sign=False, encipher_only=False, decipher_only=False,
    )  # fmt: skip
    uri = x509.UniformResourceIdentifier(application.uri)
    names = [uri, *(_general_name(host) for host in application.names)]
    purposes = [ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]
    return [
        (x509.SubjectAlternativeName(names), False),
        (usage, True),
        (x509.ExtendedKeyUsage(purposes), False),  # Some servers require both.
    ]


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(application: Application) -> x509.Name:
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, f"tidegate {application.name}"[:64])]
    if application.organization:
        attributes.append(x509.NameAttribute(NameOID.ORGANIZATION_NAME, application.organization))
    return x509.Name(attributes)


def _day(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
