from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
from asyncua import ua
from asyncua.common.connection import SecureConnection, TransportLimits
from asyncua.crypto.security_policies import Cryptography

from drivers.opcua import channel as channel_module
from drivers.opcua.channel import CHUNK_BYTES, CHUNKS, NO_SECURITY, POLICIES
from drivers.opcua.session_setup import open_session
from drivers.opcua.settings import OpcuaDevice
from edge.clock import SystemClock
from edge.errors import DeviceUnreachable, ProtocolViolation, TidegateError

DeviceMaker = Callable[..., OpcuaDevice]
Change = Callable[[int, bytes], bytes | None]


@asynccontextmanager
async def between(port: int, change: Change) -> AsyncIterator[int]:
    """A port that leads to the server through `change`: (number of the message, message)."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", port)
        asking = asyncio.create_task(pass_on(reader, there_writer))
        try:
            for number in range(1000):
                head = await there_reader.readexactly(8)
                whole = head + await there_reader.readexactly(struct.unpack_from("<I", head, 4)[0] - 8)
                writer.write(change(number, whole) or b"")
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            asking.cancel()
            for one in (writer, there_writer):
                one.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)


async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def failure(peer: Any, device: DeviceMaker, change: Change) -> TidegateError:
    peer.be(policies=["NoSecurity"])
    async with between(peer.port, change) as port:
        settings = device(
            url=f"opc.tcp://127.0.0.1:{port}/plant",
            security="none",
            certificates=None,
            limits={"timeout": "500 ms"},
        )
        with pytest.raises(TidegateError) as caught:
            async with open_session(settings, SystemClock()):
                pass
    return caught.value


def with_length(number: int, length: int) -> Change:
    return lambda at, data: data[:4] + struct.pack("<I", length) + data[8:] if at == number else data


@pytest.mark.parametrize("number", [0, 2, 4])
@pytest.mark.parametrize("length", [2**32 - 1, CHUNK_BYTES + 1, 0, 8])
async def test_a_length_that_cannot_be_ends_the_connection(
    peer: Any, device: DeviceMaker, number: int, length: int
) -> None:
    error = await failure(peer, device, with_length(number, length))

    assert isinstance(error, ProtocolViolation)
    assert f"of {length} bytes" in str(error)
    assert len(error.data) <= 260


async def test_something_else_than_opc_ua_is_said(peer: Any, device: DeviceMaker) -> None:
    error = await failure(peer, device, lambda number, data: b"HTTP/1.1 400 Bad Request\r\n\r\n")

    assert isinstance(error, ProtocolViolation)
    assert error.data.startswith(b"HTTP/1.1")


async def test_endless_chunks_are_cut(peer: Any, device: DeviceMaker) -> None:
    """A message of many chunks, each in order, that never ends."""
    sent = 0

    def never_ending(number: int, data: bytes) -> bytes:
        nonlocal sent
        if number < 2:
            return data
        sent, first = CHUNKS + 10, struct.unpack_from("<I", data, 16)[0]
        return b"".join(
            data[:3] + b"C" + data[4:16] + struct.pack("<I", first + count) + data[20:] for count in range(sent)
        )

    error = await failure(peer, device, never_ending)

    assert isinstance(error, ProtocolViolation)
    assert "BadRequestTooLarge" in str(error)


async def test_an_error_message_is_told(peer: Any, device: DeviceMaker) -> None:
    body = struct.pack("<II", ua.StatusCodes.BadTcpServerTooBusy, 4) + b"busy"
    message = b"ERRF" + struct.pack("<I", 8 + len(body)) + body

    error = await failure(peer, device, lambda number, data: message if number == 1 else data)

    assert isinstance(error, DeviceUnreachable)
    assert str(error).endswith("ended the connection: BadTcpServerTooBusy (busy)")


async def test_a_buffer_too_small_for_a_request_is_refused(peer: Any, device: DeviceMaker) -> None:
    """A server with a buffer of a byte would need endless chunks."""
    error = await failure(
        peer, device, lambda number, data: data[:12] + struct.pack("<I", 10) + data[16:] if number == 0 else data
    )

    assert str(error).endswith("receive buffer: expected >= 8192, got 10")


@pytest.mark.parametrize("number", [0, 1, 3, 5])
async def test_silence_ends_in_time(peer: Any, device: DeviceMaker, number: int) -> None:
    error = await failure(peer, device, lambda at, data: data if at < number else None)

    assert isinstance(error, DeviceUnreachable)
    assert "did not answer within 0.5 s" in str(error)


@pytest.mark.parametrize("number", [0, 1, 2, 4])
async def test_damage_never_passes(peer: Any, device: DeviceMaker, number: int) -> None:
    """Whatever the library raises, the result is our error."""
    for at in (0, 3, 12, 24, 40):

        def damaged(n: int, data: bytes, at: int = at) -> bytes:
            return data[:at] + bytes([data[at] ^ 0xFF]) + data[at + 1 :] if n == number and at < len(data) else data

        peer.be(policies=["NoSecurity"])
        async with between(peer.port, damaged) as port:
            url = f"opc.tcp://127.0.0.1:{port}/plant"
            settings = device(url=url, security="none", certificates=None, limits={"timeout": "200 ms"})
            try:
                async with open_session(settings, SystemClock()) as connection:
                    assert connection.namespaces[0] == "http://opcfoundation.org/UA/"
            except TidegateError:
                continue


@pytest.mark.parametrize(("at", "what"), [(8, "channel id"), (12, "token id"), (16, "sequence"), (20, "request id")])
@pytest.mark.parametrize("number", [2, 4])
async def test_a_message_that_is_not_the_one_due_ends_the_connection(
    peer: Any, device: DeviceMaker, number: int, at: int, what: str
) -> None:
    def out_of_turn(n: int, data: bytes) -> bytes:
        more = struct.pack("<I", struct.unpack_from("<I", data, at)[0] + 1)
        return data[:at] + more + data[at + 4 :] if n == number else data

    error = await failure(peer, device, out_of_turn)

    assert isinstance(error, ProtocolViolation)
    assert what in str(error)


@pytest.mark.parametrize("mode", [ua.MessageSecurityMode.Sign, ua.MessageSecurityMode.SignAndEncrypt, None])
@pytest.mark.parametrize("length", [1, 15, 16, 17, 5000, CHUNK_BYTES - 1024, CHUNK_BYTES - 1023, 3 * CHUNK_BYTES])
def test_a_message_has_the_very_bytes_that_the_library_gives_it(mode: Any, length: int) -> None:
    policy: Any = NO_SECURITY()
    if mode is not None:
        policy = SimpleNamespace(Mode=mode, symmetric_cryptography=Cryptography(mode), signature_key_size=32,
                                 symmetric_key_size=32)  # fmt: skip
        POLICIES["Basic256Sha256"].make_local_symmetric_key(policy, b"secret", b"seed")
    limits = TransportLimits(CHUNK_BYTES, CHUNK_BYTES, CHUNKS, 2**22)
    ours, theirs = channel_module.Chunks(policy, limits), SecureConnection(policy, limits)
    for connection in (ours, theirs):
        connection.security_token.ChannelId, connection.security_token.TokenId = 7, 9
        connection._sequence_number = 2**32 - 3
    body = bytes(at % 251 for at in range(length))

    sent = [[each.message_to_binary(body, request_id=number) for number in range(4)] for each in (ours, theirs)]

    assert sent[0] == sent[1]


async def test_bytes_may_come_one_by_one(peer: Any, device: DeviceMaker, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = channel_module.SecureChannel.data_received

    def trickle(self: Any, data: bytes) -> None:
        for at in range(len(data)):
            whole(self, data[at : at + 1])

    monkeypatch.setattr(channel_module.SecureChannel, "data_received", trickle)
    peer.be(policies=["NoSecurity"])

    async with open_session(device(security="none", certificates=None), SystemClock()) as connection:
        assert connection.namespaces[1:]


async def test_no_other_service_than_a_reading_one_leaves(peer: Any, device: DeviceMaker) -> None:
    """The library could build them; the connection lets none pass."""
    peer.be(policies=["NoSecurity"])
    async with open_session(device(security="none", certificates=None), SystemClock()) as connection:
        sent = connection.channel.requests_sent

        for name in ("WriteRequest", "CallRequest", "HistoryUpdateRequest", "AddNodesRequest", "DeleteNodesRequest"):
            with pytest.raises(AssertionError, match=f"{name} is not a reading service"):
                await connection.channel.send_request(getattr(ua, name)())

        assert connection.channel.requests_sent == sent
