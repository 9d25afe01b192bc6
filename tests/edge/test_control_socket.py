"""Questions to a running gateway: bounded in size and time, and none of them disturbs it."""

from __future__ import annotations

import asyncio
import os
import stat
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import orjson
import pytest

from edge.gateway import control
from edge.gateway.control import ControlServer, Request, ask_values
from edge.health import DeviceStatus, GatewayStatus, StatusSnapshot
from tests.support.waiting import until

LARGE = 8 * 2**20


async def values(request: Request) -> bytes:
    if request.device == "large":
        return b'"' + b"x" * LARGE + b'"'
    if request.device != "mixer":
        raise LookupError(f"no device {request.device!r}")
    device = DeviceStatus(name="mixer", driver="modbus", state="up")
    return StatusSnapshot(gateway=GatewayStatus(name="line-4"), devices=(device,)).to_json()


def server(folder: Path) -> ControlServer:
    return ControlServer(folder / "control.sock", {"values": values})


async def answer_to(folder: Path, words: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(folder / "control.sock")
    try:
        writer.write(words)
        writer.write_eof()
        return await reader.read()
    finally:
        writer.transport.abort()


async def test_a_question_is_answered(tmp_path: Path) -> None:
    async with server(tmp_path):
        snapshot = await asyncio.to_thread(ask_values, tmp_path / "control.sock", "mixer")

    assert snapshot is not None
    assert [device.name for device in snapshot.devices] == ["mixer"]


async def test_a_device_that_is_not_read_is_said(tmp_path: Path) -> None:
    async with server(tmp_path):
        with pytest.raises(LookupError, match="no device 'kiln'"):
            await asyncio.to_thread(ask_values, tmp_path / "control.sock", "kiln")


def test_nobody_answers_where_no_gateway_runs(tmp_path: Path) -> None:
    assert ask_values(tmp_path / "control.sock", "mixer") is None


@pytest.mark.parametrize(
    "words",
    [b"\n", b"stop\n", b"{}\n", b"[]\n", b'{"ask": "write", "device": "mixer"}\n', b'{"ask": [], "device": {}}\n',
     b'{"ask": "values", "device": "mixer", "value": 1}\n', b'{"ask": "values", "device": "mixer", "tags": [1]}\n',
     b'{"ask": "values", "device": "mixer", "path": {}}\n', b"\xff\x00\n"],
)  # fmt: skip
async def test_what_is_no_question_is_answered_with_a_sentence(tmp_path: Path, words: bytes) -> None:
    async with server(tmp_path):
        answer = orjson.loads(await answer_to(tmp_path, words))

    assert answer.keys() == {"error"}


async def test_a_question_that_does_not_end_is_not_kept(tmp_path: Path) -> None:
    async with server(tmp_path):
        answer = b"?"
        try:
            answer = await answer_to(tmp_path, b"x" * LARGE)
        except ConnectionError:
            answer = b""
        other = await answer_to(tmp_path, b'{"ask": "values", "device": "mixer"}\n')

    assert answer == b""
    assert b"mixer" in other


async def test_one_that_does_not_ask_or_does_not_read_is_given_up(tmp_path: Path) -> None:
    with patch.object(control, "ANSWER_WITHIN_S", 0.05):
        async with server(tmp_path) as running:
            silent, one = await asyncio.open_unix_connection(tmp_path / "control.sock")
            deaf, two = await asyncio.open_unix_connection(tmp_path / "control.sock")
            two.write(b'{"ask": "values", "device": "large"}\n')
            assert await silent.read() == b""
            await until(lambda: not running._open)
            received = b""
            with suppress(ConnectionError):
                received = await deaf.read()
            one.transport.abort()
            two.transport.abort()

    assert len(received) < LARGE


async def test_who_hangs_up_withdraws_the_question(tmp_path: Path) -> None:
    begun, withdrawn = asyncio.Event(), asyncio.Event()

    async def browse(request: Request) -> bytes:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            withdrawn.set()
        return b""

    async with ControlServer(tmp_path / "control.sock", {"browse": browse}) as running:
        asking = asyncio.ensure_future(control.ask(tmp_path / "control.sock", Request(ask="browse", device="mixer")))
        await asyncio.wait_for(begun.wait(), 20)
        asking.cancel()
        await asyncio.wait_for(withdrawn.wait(), 20)
        await until(lambda: not running._open)

    assert asking.cancelled()


ASKER = """
import os, socket, sys
os.setgroups([int(group) for group in sys.argv[2:]])
os.setgid(4242)
os.setuid(4242)
with socket.socket(socket.AF_UNIX) as asking:
    asking.connect(sys.argv[1])
    asking.sendall(b'{"ask": "values", "device": "mixer", "user": 0}\\n')
    print(asking.recv(1 << 16).decode())
"""


@pytest.mark.requirement("REQ-SAFE-05")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize(("groups", "may_ask"), [([], False), ([4244], False), ([4242, 4243], True)])
async def test_the_kernel_says_who_asks_whatever_the_mode_of_the_socket(groups: list[int], *, may_ask: bool) -> None:
    """The mode of the file keeps others away; where somebody widens it, what the kernel says of the peer does."""
    with tempfile.TemporaryDirectory() as name:
        os.chown(name, 0, 4243)
        os.chmod(name, 0o2755)  # noqa: PTH101 - as tmpfiles.d makes it
        socket = Path(name) / "control.sock"
        async with server(Path(name)):
            os.chmod(socket, 0o666)  # noqa: PTH101
            command = [sys.executable, "-I", "-c", ASKER, str(socket), *map(str, groups)]
            asked = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)

    answer = orjson.loads(asked.stdout)
    assert ("devices" in answer) is may_ask
    assert may_ask or "may not ask: it is neither root, nor the gateway's own" in answer["error"]


@pytest.mark.requirement("REQ-SAFE-05")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.parametrize("owner_only", [(), ("values",)])
async def test_who_asks_is_who_the_kernel_says_and_not_every_question_is_for_the_group(
    owner_only: tuple[str, ...],
) -> None:
    users: list[int] = []

    async def heard(request: Request) -> bytes:
        users.append(request.user)
        return b"{}"

    with tempfile.TemporaryDirectory() as name:
        os.chown(name, 0, 4243)
        os.chmod(name, 0o2755)  # noqa: PTH101 - as tmpfiles.d makes it
        path = Path(name) / "control.sock"
        async with ControlServer(path, {"values": heard, "apply": heard}, owner_only=owner_only):
            command = [sys.executable, "-I", "-c", ASKER, str(path), "4243"]
            asked = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=True)
            await control.ask(path, Request(ask="apply", device="", user=4242))

    assert users == ([0] if owner_only else [4242, 0])
    assert (b"may not ask: it is neither root, nor the gateway's own\"" in asked.stdout) is bool(owner_only)


@pytest.mark.requirement("REQ-SAFE-05")
async def test_only_owner_and_group_can_ask(tmp_path: Path) -> None:
    async with server(tmp_path):
        assert stat.S_IMODE((tmp_path / "control.sock").stat().st_mode) == 0o660
    assert not (tmp_path / "control.sock").exists()
