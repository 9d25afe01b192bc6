"""The adapter to asyncua: the only module that imports anything of it but `asyncua.ua`, its data types.

One TCP connection with its SecureChannel: whole chunks go to the library, bounded and checked, and only requests of
reading services leave.

Importing this module imports asyncua: only what connects or browses does.
"""

from __future__ import annotations

import asyncio
import logging
import os
import struct
from collections.abc import Callable, Sequence
from functools import cache
from math import prod
from typing import Any

from asyncua import ua
from asyncua.client.ua_client import UASocketProtocol
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto import security_policies
from asyncua.crypto.uacrypto import InvalidSignature
from asyncua.ua import ua_binary
from cryptography import x509
from cryptography.exceptions import InvalidSignature as InvalidRsaSignature
from cryptography.hazmat.primitives.asymmetric import rsa

from drivers.opcua.binary import BinaryReader, MalformedError
from drivers.opcua.services import READING_SERVICES, ServiceRequest, response_head, violation
from edge.clock import Clock
from edge.errors import DeviceRefused, DeviceUnreachable, ErrorCode, ProtocolViolation, TidegateError, ended

# ruff: noqa: SLF001

CHUNK_BYTES = 65_535
CHUNKS = 64
MESSAGE_BYTES = 4 * 2**20
DECODED_BYTES = 256 * 2**10
"""Longest response that the library makes objects of: a hostile one takes a hundred times as much memory."""
ELEMENTS = 10_000
"""Most elements of an array that the library makes objects of one by one; numbers are decoded all at once."""

_DIMENSIONS = 16
_DECODED_AT_ONCE_BYTES = 2048  # A longer one takes milliseconds: a thread does it.
_SMALLEST_BUFFER_BYTES = 8192  # OPC 10000-6, 7.1.2.3: the least that either side may ask for.
_KEPT_BYTES = 260
_CHUNK_FRAME_BYTES = 1024  # More than headers, padding and signature of a chunk ever take.
_NUMBERS = 2**32 - 1  # Request numbers start from 1 again after so many, in a year or two.
_MESSAGE = ua.MessageType.SecureMessage
_HEADER = struct.Struct("<3scI")
_CHUNK = struct.Struct("<3scIIIII")  # Kind, final or not, size, channel, token, number of the chunk and of the request.
_KINDS = frozenset({b"ACK", b"ERR", b"OPN", b"MSG"})

BROKEN = (ua.UaError, InvalidSignature, InvalidRsaSignature, struct.error, ValueError, TypeError, LookupError,
          AttributeError, ArithmeticError, RecursionError, MemoryError)  # fmt: skip
"""What the library raises over bytes that are no OPC UA."""

READING = frozenset(getattr(ua, f"{name}Request") for name in READING_SERVICES.values())
"""The library's requests that may be sent."""

POLICY_URI = "http://opcfoundation.org/UA/SecurityPolicy#"
NO_SECURITY = security_policies.SecurityPolicyNone
POLICIES = {
    "Basic256Sha256": security_policies.SecurityPolicyBasic256Sha256,
    "Aes128_Sha256_RsaOaep": security_policies.SecurityPolicyAes128Sha256RsaOaep,
    "Aes256_Sha256_RsaPss": security_policies.SecurityPolicyAes256Sha256RsaPss,
}
"""The library's classes of security policies, by name."""

# The library logs what it also raises, and password tokens with it.
_LIBRARY_LOG = logging.getLogger("asyncua")
_LIBRARY_LOG.setLevel(logging.CRITICAL + 1)
_LIBRARY_LOG.propagate = False
_LIBRARY_LOG.addHandler(logging.NullHandler())


# Limits for the library's array decoder, which pads matrices, and repeats a value of no bytes as often as is claimed.

_array_of = ua_binary._create_uatype_array_deserializer
_shaped = ua_binary._reshape


@cache
def _bounded_array_of(kind: Any) -> Callable[[Any], Any]:
    """The library's decoder of an array, which rejects one of too many elements."""
    decode: Callable[[Any], Any] = _array_of(kind)
    if hasattr(ua_binary.Primitives1, kind.name):
        return decode
    most = 0 if kind == ua.VariantType.Null else ELEMENTS

    def bounded(data: Any) -> Any:
        (count,) = struct.unpack("<i", data.copy(4).read(4))
        if count > most:
            raise ua.UaError(f"an array of {count} {kind.name}")
        return decode(data)

    return bounded


def _bounded_shape(flat: list[Any], sizes: Sequence[int] | None) -> list[Any]:
    if not sizes or len(sizes) > _DIMENSIONS or min(sizes) < 0 or prod(sizes) != len(flat):
        raise ua.UaError("a matrix whose dimensions are not those of its elements")
    return list(_shaped(flat, sizes)) if flat else []


ua_binary._create_uatype_array_deserializer = _bounded_array_of
ua_binary._reshape = _bounded_shape


def node_id_of(data: bytes) -> Any:
    """The library's NodeId from its bytes on the wire."""
    return ua_binary.nodeid_from_binary(Buffer(data))


def sign(key: rsa.RSAPrivateKey, data: bytes, policy: str) -> tuple[bytes, str]:
    """A signature of a policy's asymmetric algorithm, and the algorithm's URI."""
    signature, algorithm = security_policies.sign_asymmetric(key, data, POLICY_URI + policy)
    return signature, algorithm


def encrypt(certificate: x509.Certificate, data: bytes, policy: str) -> tuple[bytes, str]:
    """Data encrypted for the owner of a certificate, and the algorithm's URI. Raises ValueError if it is too long."""
    encrypted, algorithm = security_policies.encrypt_asymmetric(certificate.public_key(), data, POLICY_URI + policy)
    return encrypted, algorithm


def certificate_changed(name: str) -> str:
    """The message for a channel whose certificate is not the one that was validated."""
    return (
        f"{name} shows another certificate now than it announced in its endpoints: it was changed a moment ago, or "
        "somebody is between us and the server; look at the server if it goes on"
    )


class EndedByServer(DeviceUnreachable):
    """The server ended the connection with an error message; `status` is its StatusCode."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class _Limits(TransportLimits):  # type: ignore[misc]
    """Limits of messages: the server's Acknowledge bounds only what we send."""

    sent_bytes = MESSAGE_BYTES

    def update_client_limits(self, msg: Any) -> None:
        self.max_send_buffer = min(CHUNK_BYTES, msg.ReceiveBufferSize)
        in_chunks = msg.MaxChunkCount * (self.max_send_buffer - _CHUNK_FRAME_BYTES)
        self.sent_bytes = min(filter(None, (msg.MaxMessageSize, in_chunks)), default=MESSAGE_BYTES)


class Chunks(SecureConnection):  # type: ignore[misc]
    """The library's chunks, of which the most frequent take no objects: a message without security that is one chunk.

    The layout is OPC 10000-6, 6.7.2.
    """

    _sequence_number: int
    _peer_sequence_number: int | None

    def message_to_binary(self, message: bytes, message_type: Any = _MESSAGE, request_id: int = 0) -> bytes:
        """A message as it is sent."""
        size, token = _CHUNK.size + len(message), self.security_token
        if message_type != _MESSAGE or size > self._limits.max_send_buffer or self._is_secured:
            return bytes(super().message_to_binary(message, message_type, request_id))
        self._sequence_number = self._sequence_number % _NUMBERS + 1
        numbers = token.ChannelId, token.TokenId, self._sequence_number, request_id
        return _CHUNK.pack(b"MSG", b"F", size, *numbers) + message

    def response_in(self, data: bytes) -> tuple[int, bytes] | None:
        """Number of the request and body, where a chunk without security is a whole message and the next one due."""
        if self._is_secured or len(data) < _CHUNK.size or self._incoming_parts:
            return None
        kind, final, _, channel, token_id, sequence, request_id = _CHUNK.unpack_from(data)
        token = self.security_token
        due = b"MSG", b"F", token.ChannelId, token.TokenId, self._peer_sequence_number
        if (kind, final, channel, token_id, sequence - 1) != due:
            return None
        self._peer_sequence_number = sequence
        return request_id, data[_CHUNK.size :]

    @property
    def _is_secured(self) -> bool:
        return bool(self.security_policy.Mode != ua.MessageSecurityMode.None_)


class PendingResponse(asyncio.Future[Any]):
    """A response to come, and the boot time of its arrival, as the task that awaits it may run later."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(loop=asyncio.get_running_loop())
        self._boot_ns = clock.boot_ns
        self.arrived_at_ns = 0

    def _arrive(self, result: Any, /) -> None:
        self.arrived_at_ns = self._boot_ns()
        super().set_result(result)

    set_result = _arrive  # The library's table of requests knows it by this name.

    def expire(self) -> None:
        """Fail with TimeoutError unless the response has come; one that comes later is dropped."""
        if not self.done():
            self.set_exception(TimeoutError())


class SecureChannel(UASocketProtocol):  # type: ignore[misc]
    """One TCP connection with its SecureChannel: the library builds and opens messages, we bound their size."""

    _request_id: int
    _request_handle: int

    def __init__(self, name: str, timeout_s: float, policy: Any) -> None:
        limits = _Limits(CHUNK_BYTES, CHUNK_BYTES, CHUNKS, MESSAGE_BYTES)
        super().__init__(timeout_s, policy, limits)
        self._connection = Chunks(policy, limits)
        self._name = name
        self._open_secure_channel_exchange: Any = None
        self._unread = b""
        self._aborted = 0
        self._has_answered = False
        self._why_lost: TidegateError | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def why_lost(self) -> TidegateError | None:
        """Why the connection has ended; None while it is open."""
        return self._why_lost

    @property
    def requests_sent(self) -> int:
        """How many requests were sent so far."""
        return int(self._request_id)

    @property
    def sent_bytes_limit(self) -> int:
        """Longest message that the server accepts."""
        return int(self._connection._limits.sent_bytes)

    @property
    def policy(self) -> Any:
        """The library's security policy of the channel."""
        return self._connection.security_policy

    @property
    def token_id(self) -> int:
        """TokenId of the channel's keys; another one after each renewal."""
        return int(self._connection.security_token.TokenId)

    def drop(self, why: TidegateError) -> None:
        """Abort the connection now; pending requests fail."""
        if self._why_lost is None:
            self._why_lost = why
        if self.transport is not None:
            self.transport.abort()
        self._fail_all_pending(ConnectionError(str(why)))

    async def send_hello(self, url: str, max_messagesize: int = MESSAGE_BYTES, max_chunkcount: int = CHUNKS) -> Any:
        """Send a Hello with our limits (OPC 10000-6, 7.1.2.3); a server that exceeds them is dropped."""
        hello = ua.Hello(0, CHUNK_BYTES, CHUNK_BYTES, max_messagesize, max_chunkcount, url)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._callbackmap[0] = answer
        assert self.transport is not None
        self.transport.write(ua_binary.uatcp_to_binary(ua.MessageType.Hello, hello))
        acknowledge = await answer
        if acknowledge.ReceiveBufferSize < _SMALLEST_BUFFER_BYTES:
            got = acknowledge.ReceiveBufferSize
            self.drop(ProtocolViolation(f"{self._name}: receive buffer", f">= {_SMALLEST_BUFFER_BYTES}", got))
            raise ConnectionError
        return acknowledge

    async def open_channel(self, lifetime_ms: int, *, is_renewal: bool = False) -> int:
        """Open the SecureChannel, or renew its keys; their revised lifetime in ms."""
        request, policy = ua.OpenSecureChannelParameters(), self.policy
        kinds = ua.SecurityTokenRequestType
        request.RequestType = kinds.Renew if is_renewal else kinds.Issue
        request.SecurityMode, request.RequestedLifetime = policy.Mode, lifetime_ms
        request.ClientNonce = os.urandom(policy.secure_channel_nonce_length)
        self._open_secure_channel_exchange = request
        await self._send_request(
            ua.OpenSecureChannelRequest(Parameters=request), message_type=ua.MessageType.SecureOpen
        )
        opened, self._open_secure_channel_exchange = self._open_secure_channel_exchange, None
        if opened is request:
            raise ua.UaError("something else than a secure channel")
        return int(opened.Parameters.SecurityToken.RevisedLifetime)

    @property
    def session_token(self) -> bytes:
        """The session's authentication token as it is on the wire."""
        return bytes(ua_binary.nodeid_to_binary(self.authentication_token))

    def send(self, request: ServiceRequest, clock: Clock) -> tuple[int, PendingResponse]:
        """Send a request; its handle and its response.

        As the library's `_send_request`, without making a thousand objects of the request first.
        """
        self.revolve_security_token()
        request_id, handle = self._request_id % _NUMBERS + 1, self._request_handle % _NUMBERS + 1
        message = self._connection.message_to_binary(request.body(handle, clock.utc_ns()), request_id=request_id)
        self._request_id, self._request_handle = request_id, handle
        self._callbackmap[request_id] = response = PendingResponse(clock)
        self.transport.write(message)
        return handle, response

    async def exchange(self, request: Any) -> Any:
        """Send a request object of the library; its response object.

        Raises UaStatusCodeError where the server refuses, and for a response that is too long to be decoded.
        """
        # Not by the library's `send_request`: there a response just in time turns a timeout into a cancellation.
        answer = await self._send_request(request, self.timeout)
        if len(answer) > DECODED_BYTES:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadResponseTooLarge)
        self._check_head(request, answer.copy().read(len(answer)))
        kind = getattr(ua, type(request).__name__.replace("Request", "Response"))
        if len(answer) > _DECODED_AT_ONCE_BYTES:
            return await asyncio.to_thread(ua_binary.struct_from_binary, kind, answer)
        return ua_binary.struct_from_binary(kind, answer)

    def _check_head(self, request: Any, data: bytes) -> None:
        """Raise ProtocolViolation if a response is of another service: the library compares request numbers only."""
        try:
            head = response_head(BinaryReader(data), request.TypeId.Identifier, request.RequestHeader.RequestHandle)
        except MalformedError as error:
            raise violation(f"{self._name}: answer", error, data) from error
        ua.StatusCode(ua.UInt32(head.result)).check()

    def _send_request(self, request: Any, timeout: float = 1, message_type: Any = _MESSAGE) -> Any:
        if type(request) not in READING:
            raise AssertionError(f"{type(request).__name__} is not a reading service")
        return super()._send_request(request, timeout, message_type)

    # Callbacks of the event loop.

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._why_lost is None:
            self._why_lost = ended(self._name, exc, has_answered=self._has_answered)
        super().connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. A chunk that is too long is rejected by its header, before its bytes are stored."""
        received = self._unread + data if self._unread else data
        at = 0
        while self._why_lost is None and len(received) - at >= _HEADER.size:
            kind, _, size = _HEADER.unpack_from(received, at)
            if kind not in _KINDS or not _HEADER.size < size <= CHUNK_BYTES:
                self._break(f"{kind!r} of {size} bytes", received[at : at + _KEPT_BYTES])
            elif len(received) - at < size:
                break
            else:
                self._chunk(received[at : at + size])
                at += size
        self._unread = received[at:]

    def _chunk(self, data: bytes) -> None:
        self._has_answered = True
        buffer = Buffer(data)
        try:
            if (response := self._connection.response_in(data)) is not None:
                request_id, body = response
                self._call_callback(request_id, Buffer(body))
                return
            header = ua_binary.header_from_binary(buffer)
            if header.MessageType == ua.MessageType.SecureOpen and not self._accept_sender(buffer):
                return
            message = self._connection.receive_from_header_and_body(header, buffer)
            self._aborted += header.ChunkType == ua.ChunkType.Abort
            if self._aborted > self.requests_sent:
                raise ua.UaError("more messages aborted than asked for")
            if isinstance(message, ua.ErrorMessage):
                self._end(message)
                return
            # Before the response is handed on: its receiver expects the channel to be open.
            if header.MessageType == ua.MessageType.SecureOpen and message is not None:
                self._channel_opened(message)
            self._process_received_message(message)
        except BROKEN as error:
            self._break(f"{type(error).__name__}: {error}", data[:_KEPT_BYTES])

    def _accept_sender(self, buffer: Buffer) -> bool:
        """True if the channel is opened with the validated certificate; otherwise the connection is dropped."""
        policy = self._connection.security_policy
        sender = ua_binary.struct_from_binary(ua.AsymmetricAlgorithmHeader, buffer.copy())
        if policy.peer_certificate and not bytes(sender.SenderCertificate or b"").startswith(policy.peer_certificate):
            self.drop(DeviceRefused(certificate_changed(self._name), code=ErrorCode.DEVICE_NOT_TRUSTED))
            return False
        return True

    def _channel_opened(self, message: Any) -> None:
        request = self._open_secure_channel_exchange
        refused = ua_binary.struct_from_binary(ua.ServiceFault, message.body().copy()).ResponseHeader.ServiceResult
        if not refused.is_good():  # Some servers say so here and not by an Error message.
            self.drop(EndedByServer(f"{self._name} opens no secure channel: {refused.name}", refused.value))
            return
        response = ua_binary.struct_from_binary(ua.OpenSecureChannelResponse, message.body())
        if len(response.Parameters.ServerNonce or b"") < self._connection.security_policy.secure_channel_nonce_length:
            raise ua.UaError("a nonce too short for the keys of a channel")  # OPC 10000-4, 5.6.2.2.
        self._open_secure_channel_exchange = response
        self._connection.set_channel(response.Parameters, request.RequestType, request.ClientNonce)

    def _end(self, message: Any) -> None:
        reason = "".join(letter for letter in str(message.Reason or "")[:200] if letter.isprintable())
        said = f"{message.Error.name} ({reason})" if reason else message.Error.name
        self.drop(EndedByServer(f"{self._name} ended the connection: {said}", message.Error.value))

    def _break(self, got: str, data: bytes) -> None:
        self.drop(ProtocolViolation(f"{self._name}: message", "one of OPC UA", got, data))
