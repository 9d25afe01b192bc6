from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge.health import Notifier, StatusLine, StatusSnapshot, Watchdog


@pytest.fixture(params=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[socket.socket, str]]:
    """What systemd gives a unit: a datagram socket, on a path or abstract, and its name in the environment."""
    address = str(tmp_path / "notify") if request.param == "path" else f"@tidegate-{os.getpid()}-{id(request)}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(f"\0{address[1:]}" if address.startswith("@") else address)
        listening.setblocking(False)
        yield listening, address


def received(listening: socket.socket) -> list[bytes]:
    messages = []
    while True:
        try:
            messages.append(listening.recv(4096))
        except BlockingIOError:
            return messages


def test_the_service_manager_is_notified_of_start_and_stop(manager: tuple[socket.socket, str]) -> None:
    listening, address = manager
    notifier = Notifier.from_environment({"NOTIFY_SOCKET": address})

    notifier.ready("3 devices")
    notifier.stopping()
    notifier.close()

    assert received(listening) == [b"READY=1\nSTATUS=3 devices", b"STOPPING=1"]


def test_the_status_line_names_what_keeps_the_gateway_from_its_work(
    manager: tuple[socket.socket, str], snapshot: StatusSnapshot
) -> None:
    """`systemctl status` is the first thing that is looked at; it must not say that all is well."""
    listening, address = manager
    notifier = Notifier(address)
    assert snapshot.buffer is not None
    memory = replace(snapshot.buffer, state="memory", reason="its disk failed")
    line = StatusLine(notifier, replace(snapshot, buffer=memory).headline)

    line.update()
    line.update()
    notifier.close()

    assert received(listening) == [
        b"STATUS=1 of 2 devices answer; buffer memory: its disk failed; uplink refused: broker 127.0.0.1:1883 is full",
    ]


def test_without_a_service_manager_nothing_is_sent() -> None:
    notifier = Notifier.from_environment({})

    notifier.ready()
    notifier.pet()
    notifier.close()


def test_a_service_manager_that_went_away_does_not_stop_the_gateway(tmp_path: Path) -> None:
    notifier = Notifier(str(tmp_path / "gone"))

    notifier.pet()
    notifier.close()


def test_a_watchdog_meant_for_another_process_is_not_ours() -> None:
    ours = Notifier.from_environment({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())})
    other = Notifier.from_environment({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"})

    assert (ours.watchdog_ns, other.watchdog_ns) == (30 * 10**9, 0)


def test_the_watchdog_is_fed_only_while_sealing_goes_on(manager: tuple[socket.socket, str]) -> None:
    """A loop that still turns but seals nothing any more is exactly what the watchdog is for."""
    listening, address = manager
    sealed = iter((1, 2, 2, 2, 3))
    notifier = Notifier(address, watchdog_ns=10**9)
    watchdog = Watchdog(notifier, lambda: next(sealed))

    fed = []
    for _ in range(5):
        watchdog.check()
        fed.append(len(received(listening)))
    notifier.close()

    assert fed == [1, 1, 0, 0, 1]


async def test_the_watchdog_keeps_looking_until_cancelled(manager: tuple[socket.socket, str]) -> None:
    _, address = manager
    looked = asyncio.Event()
    counts = iter(range(3))

    def progress() -> int:
        count = next(counts)
        if count == 2:
            looked.set()
        return count

    notifier = Notifier(address, watchdog_ns=4 * 10**6)
    task = asyncio.create_task(Watchdog(notifier, progress).run())
    await looked.wait()
    task.cancel()
    notifier.close()

    with pytest.raises(asyncio.CancelledError):
        await task


async def test_no_watchdog_runs_where_none_was_asked_for() -> None:
    await Watchdog(Notifier(), lambda: 0).run()
