"""Metrics that other machines can reach: only who has a certificate of the right authority reads them."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.health import StatusSnapshot, serve_metrics
from edge.health.metrics import _CONNECTIONS_LIMIT
from edge.tls import TlsFiles
from tests.support.authority import OpensslAuthority
from tests.support.waiting import until

GET = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


@pytest.fixture
def authority(tmp_path: Path) -> OpensslAuthority:
    return OpensslAuthority(tmp_path)


@pytest.fixture
def files(authority: OpensslAuthority) -> TlsFiles:
    certificate, key = authority.issue("metrics", use="serverAuth")
    return TlsFiles(ca=authority.path, certificate=certificate, key=key)


async def ask(at: tuple[str, int], context: ssl.SSLContext | None) -> bytes:
    """What is answered; empty where the connection ends without an answer."""
    try:
        reader, writer = await asyncio.open_connection(*at, ssl=context)
    except OSError:
        return b""
    try:
        writer.write(GET)
        return await reader.read()
    except OSError:
        return b""
    finally:
        writer.transport.abort()


async def test_a_reader_with_a_certificate_reads_also_beyond_this_machine(
    snapshot: StatusSnapshot, authority: OpensslAuthority, files: TlsFiles
) -> None:
    reader = authority.context_of(authority.issue("prometheus")[0])

    async with serve_metrics("0.0.0.0:0", lambda: snapshot, files) as (_, port):
        answer = await ask(("127.0.0.1", port), reader)

    assert answer.startswith(b"HTTP/1.1 200 OK")
    assert b"tidegate_uptime_seconds" in answer


@pytest.mark.parametrize(
    "reader",
    [
        lambda ours, _: ours.context_of(None),
        lambda ours, _: ours.context_of(ours.issue("late", days=-1)[0]),
        lambda ours, _: ours.context_of(ours.issue("wrong-use", use="serverAuth")[0]),
        lambda ours, others: ours.context_of(others.issue("foreign")[0]),
        lambda ours, _: None,
    ],
    ids=["no certificate", "expired", "not for readers", "another authority", "no TLS"],
)
async def test_nobody_else_reads_a_byte(
    snapshot: StatusSnapshot,
    authority: OpensslAuthority,
    files: TlsFiles,
    tmp_path: Path,
    reader: Callable[[OpensslAuthority, OpensslAuthority], ssl.SSLContext | None],
) -> None:
    asked = 0

    def count() -> StatusSnapshot:
        nonlocal asked
        asked += 1
        return snapshot

    async with serve_metrics("127.0.0.1:0", count, files) as at:
        answer = await ask(at, reader(authority, OpensslAuthority(tmp_path / "others")))
        assert (answer, asked) == (b"", 0)
        assert await ask(at, authority.context_of(authority.issue("prometheus")[0]))
        assert asked == 1


async def test_a_renewed_certificate_needs_no_restart_and_a_missing_one_is_said(
    snapshot: StatusSnapshot, authority: OpensslAuthority, files: TlsFiles, capsys: pytest.CaptureFixture[str]
) -> None:
    reader = authority.context_of(authority.issue("prometheus")[0])

    async def shown(at: tuple[str, int]) -> bytes | None:
        _, writer = await asyncio.open_connection(*at, ssl=reader)
        shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        writer.transport.abort()
        return shown

    async with serve_metrics("127.0.0.1:0", lambda: snapshot, files) as at:
        before = await shown(at)
        authority.issue("metrics", use="serverAuth")
        after = await shown(at)
        (authority.folder / "metrics.key").unlink()
        refused = await ask(at, reader)
        authority.issue("metrics", use="serverAuth")
        again = await ask(at, reader)

    assert before != after
    assert refused == b""
    assert "metrics.key cannot be used: there is no such file" in "".join(capsys.readouterr())
    assert again


async def test_wrong_files_are_said_before_anything_listens(snapshot: StatusSnapshot, files: TlsFiles) -> None:
    files.ca.write_text("not PEM\n")

    with pytest.raises(ConfigError, match="must hold PEM certificates"):
        async with serve_metrics("127.0.0.1:0", lambda: snapshot, files):
            pass


def answered_at_once() -> int:
    return sum(task.get_name() == "metrics answer" for task in asyncio.all_tasks())


async def test_many_connections_take_no_more_than_a_few(snapshot: StatusSnapshot) -> None:
    """A neighbour that opens all it can must not take the file descriptors that devices need."""
    async with serve_metrics("127.0.0.1:0", lambda: snapshot) as at, asyncio.TaskGroup() as tasks:
        held = [await asyncio.open_connection(*at) for _ in range(_CONNECTIONS_LIMIT)]
        await until(lambda: answered_at_once() == _CONNECTIONS_LIMIT)
        waiting = [tasks.create_task(ask(at, None)) for _ in range(20)]
        await asyncio.sleep(0.2)  # More would be accepted now, if any were.
        assert answered_at_once() == _CONNECTIONS_LIMIT
        for _, writer in held:
            writer.write(GET)
        assert all([(await reader.read()).startswith(b"HTTP/1.1 200 OK") for reader, _ in held])
        for _, writer in held:
            writer.transport.abort()

    assert {answer.result()[:15] for answer in waiting} == {b"HTTP/1.1 200 OK"}
