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
from asyncua.common.connection import TransportLimits
from asyncua.common.utils import Buffer
from asyncua.crypto.security_policies import SecurityPolicy
from asyncua.crypto.uacrypto import InvalidSignature
from asyncua.ua import ua_binary
from asyncua.ua.ua_binary import header_from_binary, struct_from_binary, uatcp_to_binary
from cryptography.exceptions import InvalidSignature as InvalidRsaSignature

from drivers.opcua.binary import MalformedError, Walk
from drivers.opcua.services import READING_SERVICES, response_head, violation
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError

# ruff: noqa: SLF001

ELEMENTS = 10_000
"""Most elements of an array that the library makes objects of, one by one; numbers come all at once."""

_DIMENSIONS = 16
_array_of = ua_binary._create_uatype_array_deserializer
_shaped = ua_binary._reshape


@cache
def _bounded_array_of(kind: Any) -> Callable[[Any], Any]:
    taken: Callable[[Any], Any] = _array_of(kind)
    if hasattr(ua_binary.Primitives1, kind.name):
        return taken
    most = 0 if kind == ua.VariantType.Null else ELEMENTS

    def bounded(data: Any) -> Any:
        (count,) = struct.unpack("<i", data.copy(4).read(4))
        if count > most:
            raise ua.UaError(f"an array of {count} {kind.name}")
        return taken(data)

    return bounded


def _bounded_shape(flat: list[Any], sizes: Sequence[int] | None) -> list[Any]:
    if not sizes or len(sizes) > _DIMENSIONS or min(sizes) < 0 or prod(sizes) != len(flat):
        raise ua.UaError("a matrix whose dimensions are not those of its elements")
    return list(_shaped(flat, sizes)) if flat else []


def _bound_arrays() -> None:
    """Have no array or matrix be larger than the bytes that it came in."""
    ua_binary._create_uatype_array_deserializer = _bounded_array_of
    ua_binary._reshape = _bounded_shape


CHUNK_BYTES = 65_535
CHUNKS = 64
MESSAGE_BYTES = 4 * 2**20
DECODED_BYTES = 256 * 2**10
"""Longest answer that the library makes objects of: a hostile one is a hundred times as large in memory."""

_DECODED_AT_ONCE_BYTES = 2048  # A longer one takes milliseconds: a thread does it.
_SMALLEST_BUFFER_BYTES = 8192  # OPC 10000-6 7.1.2.3: nobody may ask for less.
_KEPT_BYTES = 260
_CHUNK_FRAME_BYTES = 1024  # More than headers, padding and signature of a chunk ever take.
_MESSAGE = ua.MessageType.SecureMessage
_HEADER = struct.Struct("<3scI")
_KINDS = frozenset({b"ACK", b"ERR", b"OPN", b"MSG"})

BROKEN = (ua.UaError, InvalidSignature, InvalidRsaSignature, struct.error, ValueError, TypeError, LookupError,
          AttributeError, ArithmeticError, RecursionError, MemoryError)  # fmt: skip
"""What the library raises over bytes that are no OPC UA."""

READING = frozenset(getattr(ua, f"{name}Request") for name in READING_SERVICES.values())
"""The requests that may leave this gateway."""

# The library logs what it also raises, and passwords' neighbours with it.
_LIBRARY_LOG = logging.getLogger("asyncua")
_LIBRARY_LOG.setLevel(logging.CRITICAL + 1)
_LIBRARY_LOG.propagate = False
_LIBRARY_LOG.addHandler(logging.NullHandler())
_bound_arrays()


def swapped(name: str) -> str:
    """For people: the certificate of the channel is not the one that was judged."""
    return (
        f"{name} shows another certificate now than it announced in its endpoints: it was changed a moment ago, or "
        "somebody is between us and the server; look at the server if it goes on"
    )


class EndedByServer(DeviceUnreachable):
    """The server ended the connection with an error message; `code` is its StatusCode."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.code = code


class _Limits(TransportLimits):  # type: ignore[misc]
    """What we take stays as we said; the server's Acknowledge only bounds what we send."""

    sent_bytes = MESSAGE_BYTES

    def update_client_limits(self, msg: Any) -> None:
        self.max_send_buffer = min(CHUNK_BYTES, msg.ReceiveBufferSize)
        in_chunks = msg.MaxChunkCount * (self.max_send_buffer - _CHUNK_FRAME_BYTES)
        self.sent_bytes = min(filter(None, (msg.MaxMessageSize, in_chunks)), default=MESSAGE_BYTES)


class Transport(UASocketProtocol):  # type: ignore[misc]
    """One TCP connection with its secure channel; the library builds and opens messages, we count their bytes."""

    def __init__(self, name: str, timeout_s: float, policy: SecurityPolicy) -> None:
        limits = _Limits(CHUNK_BYTES, CHUNK_BYTES, CHUNKS, MESSAGE_BYTES)
        super().__init__(timeout_s, policy, limits)
        self._name = name
        self._open_secure_channel_exchange: Any = None
        self._have = bytearray()
        self._aborted = 0
        self._why_lost: TidegateError | None = None
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def why_lost(self) -> TidegateError | None:
        """Why nothing more can be asked here; None while it can."""
        return self._why_lost

    @property
    def requests_sent(self) -> int:
        """How many requests left so far."""
        return int(self._request_id)

    @property
    def sent_bytes_limit(self) -> int:
        """Longest message that the server takes."""
        return int(self._connection._limits.sent_bytes)

    @property
    def policy(self) -> Any:
        """The library's security policy of the channel."""
        return self._connection.security_policy

    @property
    def token(self) -> int:
        """Number of the channel's keys; it moves when they are renewed."""
        return int(self._connection.security_token.TokenId)

    def drop(self, why: TidegateError) -> None:
        """End the connection now, without another word; whoever waits on it is told."""
        if self._why_lost is None:
            self._why_lost = why
        if self.transport is not None:
            self.transport.abort()
        self._fail_all_pending(ConnectionError(str(why)))

    async def send_hello(self, url: str, max_messagesize: int = MESSAGE_BYTES, max_chunkcount: int = CHUNKS) -> Any:
        """Say how much we take (OPC 10000-6 7.1.2.3): a server that sends more is dropped."""
        hello = ua.Hello(0, CHUNK_BYTES, CHUNK_BYTES, max_messagesize, max_chunkcount, url)
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._callbackmap[0] = answer
        assert self.transport is not None
        self.transport.write(uatcp_to_binary(ua.MessageType.Hello, hello))
        acknowledge = await answer
        if acknowledge.ReceiveBufferSize < _SMALLEST_BUFFER_BYTES:
            got = acknowledge.ReceiveBufferSize
            self.drop(ProtocolViolation(f"{self._name}: receive buffer", f">= {_SMALLEST_BUFFER_BYTES}", got))
            raise ConnectionError
        return acknowledge

    async def open_channel(self, lifetime_ms: int, *, is_renewal: bool = False) -> int:
        """Open a secure channel, or renew its keys; how long the server lets them live, in ms."""
        asked, policy = ua.OpenSecureChannelParameters(), self.policy
        kinds = ua.SecurityTokenRequestType
        asked.RequestType = kinds.Renew if is_renewal else kinds.Issue
        asked.SecurityMode, asked.RequestedLifetime = policy.Mode, lifetime_ms
        asked.ClientNonce = os.urandom(policy.secure_channel_nonce_length)
        self._open_secure_channel_exchange = asked
        await self._send_request(ua.OpenSecureChannelRequest(Parameters=asked), message_type=ua.MessageType.SecureOpen)
        opened, self._open_secure_channel_exchange = self._open_secure_channel_exchange, None
        if opened is asked:
            raise ua.UaError("something else than a secure channel")
        return int(opened.Parameters.SecurityToken.RevisedLifetime)

    async def exchange(self, request: Any) -> Any:
        """Ask for a service with an object of the library; its answer as another.

        An answer that is too long to be decoded is refused as servers refuse one.
        """
        # Not by the library's `send_request`: an answer that comes just in time makes a cancellation of its timeout.
        answer = await self._send_request(request, self.timeout)
        if len(answer) > DECODED_BYTES:
            raise ua.UaStatusCodeError(ua.StatusCodes.BadResponseTooLarge)
        self._check_head(request, answer.copy().read(len(answer)))
        kind = getattr(ua, type(request).__name__.replace("Request", "Response"))
        if len(answer) > _DECODED_AT_ONCE_BYTES:
            return await asyncio.to_thread(struct_from_binary, kind, answer)
        return struct_from_binary(kind, answer)

    def _check_head(self, request: Any, data: bytes) -> None:
        """The library takes any answer that has the number of the request for one to it."""
        try:
            head = response_head(Walk(data), request.TypeId.Identifier, request.RequestHeader.RequestHandle)
        except MalformedError as error:
            raise violation(f"{self._name}: answer", error, data) from error
        ua.StatusCode(ua.UInt32(head.result)).check()

    def _send_request(self, request: Any, timeout: float = 1, message_type: Any = _MESSAGE) -> Any:
        if type(request) not in READING:
            raise AssertionError(f"{type(request).__name__} is not a reading service")
        return super()._send_request(request, timeout, message_type)

    # What the event loop calls.

    def connection_lost(self, exc: Exception | None) -> None:
        """See `asyncio.BaseProtocol`."""
        if self._why_lost is None:
            how = f"broke the connection ({exc})" if exc else "closed the connection"
            self._why_lost = DeviceUnreachable(f"{self._name} {how}")
        super().connection_lost(exc)
        if not self.closed.done():
            self.closed.set_result(None)

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`. A chunk that is too long is refused by its header, before its bytes are kept."""
        have = self._have
        have += data
        at = 0
        while self._why_lost is None and len(have) - at >= _HEADER.size:
            kind, _, size = _HEADER.unpack_from(have, at)
            if kind not in _KINDS or not _HEADER.size < size <= CHUNK_BYTES:
                self._break(f"{kind!r} of {size} bytes", bytes(have[at : at + _KEPT_BYTES]))
            elif len(have) - at < size:
                break
            else:
                self._chunk(bytes(have[at : at + size]))
                at += size
        del have[:at]

    def _chunk(self, data: bytes) -> None:
        buffer = Buffer(data)
        try:
            header = header_from_binary(buffer)
            if header.MessageType == ua.MessageType.SecureOpen and not self._is_from_our_server(buffer):
                return
            message = self._connection.receive_from_header_and_body(header, buffer)
            self._aborted += header.ChunkType == ua.ChunkType.Abort
            if self._aborted > self.requests_sent:
                raise ua.UaError("more messages aborted than asked for")
            if isinstance(message, ua.ErrorMessage):
                self._refuse(message)
                return
            # First: whoever waits for the answer takes it that the channel is open.
            if header.MessageType == ua.MessageType.SecureOpen and message is not None:
                self._channel_opened(message)
            self._process_received_message(message)
        except BROKEN as error:
            self._break(f"{type(error).__name__}: {error}", data[:_KEPT_BYTES])

    def _is_from_our_server(self, buffer: Buffer) -> bool:
        """Whether a channel is opened by the very certificate that was judged; the connection ends where not."""
        policy, sender = (
            self._connection.security_policy,
            struct_from_binary(ua.AsymmetricAlgorithmHeader, buffer.copy()),
        )
        if policy.peer_certificate and not bytes(sender.SenderCertificate or b"").startswith(policy.peer_certificate):
            self.drop(DeviceRefused(swapped(self._name)))
            return False
        return True

    def _channel_opened(self, message: Any) -> None:
        asked = self._open_secure_channel_exchange
        answer = struct_from_binary(ua.OpenSecureChannelResponse, message.body())
        answer.ResponseHeader.ServiceResult.check()
        if len(answer.Parameters.ServerNonce or b"") < self._connection.security_policy.secure_channel_nonce_length:
            raise ua.UaError("a nonce too short for the keys of a channel")  # OPC 10000-4 5.6.2.2.
        self._open_secure_channel_exchange = answer
        self._connection.set_channel(answer.Parameters, asked.RequestType, asked.ClientNonce)

    def _refuse(self, message: Any) -> None:
        reason = "".join(letter for letter in str(message.Reason or "")[:200] if letter.isprintable())
        said = f"{message.Error.name} ({reason})" if reason else message.Error.name
        self.drop(EndedByServer(f"{self._name} ended the connection: {said}", message.Error.value))

    def _break(self, got: str, data: bytes) -> None:
        self.drop(ProtocolViolation(f"{self._name}: message", "one of OPC UA", got, data))
