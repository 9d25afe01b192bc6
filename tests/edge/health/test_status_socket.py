from __future__ import annotations

import asyncio
import socket
import stat
from contextlib import suppress
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.health import StatusServer, StatusSnapshot, read_status
from edge.health.status import READERS_LIMIT


async def ask(path: Path, words: bytes = b"") -> bytes:
    """Everything that is received; what is sent is not read, so the connection may end with a reset."""
    reader, writer = await asyncio.open_unix_connection(path)
    document = b""
    with suppress(ConnectionError):
        writer.write(words)
        document = await reader.read()
    writer.transport.abort()
    return document


async def test_a_connection_gets_the_whole_snapshot(tmp_path: Path, snapshot: StatusSnapshot) -> None:
    path = tmp_path / "status.sock"

    async with StatusServer(path, lambda: snapshot):
        status = await asyncio.to_thread(read_status, path)

    assert status == snapshot


async def test_what_a_reader_sends_changes_nothing(tmp_path: Path, snapshot: StatusSnapshot) -> None:
    path = tmp_path / "status.sock"

    async with StatusServer(path, lambda: snapshot):
        for words in (b"stop\n", b"\x00\xff" * 10_000, b"GET / HTTP/1.1\r\n\r\n"):
            await ask(path, words)
        answer = await ask(path)

    assert answer == snapshot.to_json() + b"\n"


async def test_only_owner_and_group_can_ask(tmp_path: Path, snapshot: StatusSnapshot) -> None:
    path = tmp_path / "status.sock"

    async with StatusServer(path, lambda: snapshot):
        mode = stat.S_IMODE(path.stat().st_mode)

    assert mode == 0o660


async def test_the_socket_is_gone_with_the_gateway(tmp_path: Path, snapshot: StatusSnapshot) -> None:
    path = tmp_path / "status.sock"

    async with StatusServer(path, lambda: snapshot):
        pass

    assert not path.exists()


async def test_a_socket_left_by_a_crash_is_replaced(tmp_path: Path, snapshot: StatusSnapshot) -> None:
    path = tmp_path / "status.sock"
    with socket.socket(socket.AF_UNIX) as crashed:
        crashed.bind(str(path))

    async with StatusServer(path, lambda: snapshot):
        answer = await ask(path)

    assert answer


async def test_a_second_gateway_does_not_take_the_socket(tmp_path: Path, snapshot: StatusSnapshot) -> None:
    path = tmp_path / "status.sock"

    async with StatusServer(path, lambda: snapshot):
        with pytest.raises(ConfigError, match="another process answers"):
            await StatusServer(path, lambda: snapshot).__aenter__()
        answer = await ask(path)

    assert answer


@pytest.mark.parametrize(
    ("name", "reason"),
    [("x" * 200, "longer than 107 bytes"), ("missing/status.sock", "No such file"), ("file", "in use")],
)
async def test_a_path_that_cannot_be_used_is_explained(
    tmp_path: Path, snapshot: StatusSnapshot, name: str, reason: str
) -> None:
    (tmp_path / "file").write_text("not ours")

    with pytest.raises(ConfigError, match=reason):
        await StatusServer(tmp_path / name, lambda: snapshot).__aenter__()

    assert (tmp_path / "file").read_text() == "not ours"


@pytest.fixture
def large(snapshot: StatusSnapshot) -> StatusSnapshot:
    """A document larger than any socket buffer: the rest stays with the gateway until it is read."""
    return StatusSnapshot(gateway=snapshot.gateway, devices=snapshot.devices * 5_000)


async def test_readers_that_do_not_read_are_bounded(
    tmp_path: Path, large: StatusSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "status.sock"
    monkeypatch.setattr("edge.health.status.READ_WITHIN_S", 3600)

    async with StatusServer(path, lambda: large):
        idle = [await asyncio.open_unix_connection(path, limit=1024) for _ in range(READERS_LIMIT)]
        refused = await ask(path)
        for _, writer in idle:
            writer.transport.abort()

    assert refused == b""


async def test_a_reader_that_does_not_read_makes_room_in_time(
    tmp_path: Path, large: StatusSnapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "status.sock"
    monkeypatch.setattr("edge.health.status.READ_WITHIN_S", 0.01)

    async with StatusServer(path, lambda: large) as server:
        _, writer = await asyncio.open_unix_connection(path, limit=1024)
        while not server._readers:  # noqa: ASYNC110
            await asyncio.sleep(0)
        while server._readers:  # noqa: ASYNC110
            await asyncio.sleep(0.001)
        writer.transport.abort()


async def test_something_else_on_the_socket_is_not_taken_for_a_status(tmp_path: Path) -> None:
    path = tmp_path / "other.sock"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b'{"gateway": "line-4"}')
        writer.close()

    async with await asyncio.start_unix_server(answer, path):
        with pytest.raises(ValueError, match="StatusSnapshot"):
            await asyncio.to_thread(read_status, path)
