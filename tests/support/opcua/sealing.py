"""The server's end of a secured channel, for servers that are made by hand; the library does the cryptography."""

from __future__ import annotations

from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256, SignerSha256
from asyncua.ua.ua_binary import header_from_binary, struct_from_binary
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.certificates import der

POLICY: str = SecurityPolicyBasic256Sha256.URI
SIGNATURE: str = SecurityPolicyBasic256Sha256.AsymmetricSignatureURI
_LIFETIME_MS = 3_600_000

Identity = tuple[x509.Certificate, rsa.RSAPrivateKey]


class Sealing:
    """Opens the messages of one client, and seals those to it, with Basic256Sha256."""

    def __init__(self, client: bytes, own: Identity, shown: Identity | None = None) -> None:
        """`shown` is the certificate and key that the channel uses instead of its own."""
        policy = SecurityPolicyBasic256Sha256(client, *own, ua.MessageSecurityMode.SignAndEncrypt)
        if shown is not None:
            policy.host_certificate = der(shown[0])
            policy.asymmetric_cryptography.Signer = SignerSha256(shown[1])
        self._connection = SecureConnection(policy, TransportLimits())

    def take_keys(self, theirs: bytes, ours: bytes, channel: int, token: int) -> None:
        """Derive the channel's keys from both nonces."""
        policy, secured = self._connection.security_policy, self._connection.security_token
        policy.make_local_symmetric_key(theirs, ours)
        policy.make_remote_symmetric_key(ours, theirs, _LIFETIME_MS)
        secured.ChannelId, secured.TokenId = channel, token

    def open(self, data: bytes) -> tuple[bytes, int]:
        """A message without its headers, and the id of its request."""
        buffer = Buffer(data)
        message = self._connection.receive_from_header_and_body(header_from_binary(buffer), buffer)
        body = message.body()
        return body.read(len(body)), message.request_id()

    def seal(self, body: bytes, kind: bytes, request: int) -> bytes:
        """A message, ready to be sent."""
        return bytes(self._connection.message_to_binary(body, kind, request))


def signed(key: rsa.RSAPrivateKey, data: bytes) -> bytes:
    """A signature of the policy."""
    return bytes(SignerSha256(key).signature(data))


def proof_wanted(create_session: bytes) -> bytes:
    """The bytes that a client expects to be signed in the answer to its CreateSessionRequest (OPC 10000-4, 5.7.2)."""
    asked = struct_from_binary(ua.CreateSessionRequest, Buffer(create_session)).Parameters
    return bytes(asked.ClientCertificate + asked.ClientNonce)
