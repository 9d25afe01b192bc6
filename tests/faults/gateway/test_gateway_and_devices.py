"""Devices that are off, stall, lie or hang up cost nobody else a scan, and nothing they did is made to look fresh."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from drivers.modbus.codec import READ_DEVICE_IDENTIFICATION
from drivers.modbus.simulator import SimulatedDevice
from edge.health import GroupStatus, StatusSnapshot
from edge.model import StatusCode
from tests.faults.gateway.site_under_test import Site
from tests.support.machine import run_delay_ns

_READ_HOLDING_REGISTERS = 3


class Server:
    """A device that is none."""

    def __init__(self) -> None:
        self.port = 0
        self.calls = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.calls += 1
        try:
            await self.answer(reader, writer)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Close after accepting."""


class Babbler(Server):
    """Answers everything with something else."""

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.read(300):
            writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")


class Shy(SimulatedDevice):
    """Hangs up when it is asked what it is, and is a good device otherwise."""

    def _answer(self, unit_number: int, pdu: bytes) -> bytes | None:
        if pdu[0] == READ_DEVICE_IDENTIFICATION:
            self.cut()
            return None
        return super()._answer(unit_number, pdu)


class Ignoring(SimulatedDevice):
    """Never answers what it is, and is a good device otherwise; keeps the functions of what it was asked."""

    def __init__(self, *arguments: Any, **more: Any) -> None:
        super().__init__(*arguments, **more)
        self.asked: list[int] = []

    def _answer(self, unit_number: int, pdu: bytes) -> bytes | None:
        self.asked.append(pdu[0])
        return None if pdu[0] == READ_DEVICE_IDENTIFICATION else super()._answer(unit_number, pdu)


def group_of(status: StatusSnapshot, name: str) -> GroupStatus:
    return next(device.scan_groups[0] for device in status.devices if device.name == name)


def names(status: StatusSnapshot, *states: str) -> set[str]:
    return {device.name for device in status.devices if device.state in states}


BAD = {"off", "stalling", "late", "rude", "babbler"}


@pytest.mark.requirement("REQ-READ-02", "REQ-READ-03")
def test_bad_devices_cost_the_good_one_nothing_and_their_data_say_what_happened(site: Site) -> None:
    # On a busy machine an answer may take a while: the good device is not lost for that.
    site.add_counter("good", limits={"timeout": "10 s"})
    off, stalling, late = (site.add_counter(name) for name in ("off", "stalling", "late"))
    site.add_counter("shy", kind=Shy)
    rude: Any = site.plant.enter(Server())
    babbler: Any = site.plant.enter(Babbler())
    site.add_device("rude", rude)
    site.add_device("babbler", babbler)
    site.plant.do(off.stop())
    late.latency_s = 0.3
    del site.settings["uplink"]

    gateway = site.gateway()
    start = group_of(site.wait_for_status(lambda status: group_of(status, "good").scans, "the first scan"), "good")
    site.wait(lambda: len(site.served("stalling")) > 20 and len(site.served("shy")) > 20, "scans")
    site.plant.call(stalling.stall)
    site.wait_for_status(lambda status: names(status, "down", "resting") == BAD, "the devices to be down")
    site.wait(lambda: rude.calls > 3 and babbler.calls > 3, "several attempts")
    ill = site.wait_for_status(lambda status: group_of(status, "good").scans > 200, "scans of the good one")
    delay_ns = run_delay_ns(gateway.pid) + site.plant.run_delay_ns()
    site.plant.call(stalling.resume)
    site.plant.do(off.start())
    late.latency_s = 0.0
    site.wait_for_status(lambda status: names(status, "up") == set(site.devices), "recovery")
    site.wait_for_scans()
    assert gateway.stop() == 0

    told = site.told(site.buffered())
    for name in site.devices:
        site.assert_times_are_true(told, name)
    for name in ("good", "off", "shy"):  # The others answered some requests when nobody waited any more.
        site.assert_accounted_for(told, name)
    good = group_of(ill, "good")
    assert not told.outages("good")
    assert told.codes("good") == {StatusCode.GOOD}
    assert good.failed_scans == start.failed_scans
    assert good.scans > 5 * (good.skipped_scans - delay_ns // good.every_ns)
    for name in ("off", "stalling", "late"):
        assert len(told.outages(name)) == len(told.outages(name, is_open=True)) == 1
        assert told.codes(name) == {StatusCode.GOOD, StatusCode.BAD_NO_COMMUNICATION}
    for name in ("rude", "babbler"):
        assert told.values(name) == []
        assert told.gaps(name, is_open=True)
        assert {event.subject for event in told.events("device.down")} >= {name}
    assert [event.data["field"] for event in told.events("device.protocol") if event.subject == "babbler"][:1]
    assert group_of(ill, "shy").scans > 20
    assert {event.subject for event in told.events("device.up")} == {"good", "off", "stalling", "late", "shy"}


def test_no_first_value_waits_for_what_a_device_is(site: Site) -> None:
    """The time-out is so long that the test would end at any value that waits for one."""
    devices = [site.add_counter(f"d{number}", kind=Ignoring, limits={"timeout": "10 min"}) for number in range(100)]
    del site.settings["uplink"]

    gateway = site.gateway()
    site.wait(lambda: all(len(device.asked) > 1 for device in devices), "every device to be asked what it is")
    status = site.wait_for_status(lambda status: names(status, "up") == set(site.devices), "every device")
    assert gateway.stop() == 0

    first_scan_and_question = [_READ_HOLDING_REGISTERS, READ_DEVICE_IDENTIFICATION]
    assert [device.asked for device in devices] == [first_scan_and_question] * len(devices)
    assert {group_of(status, name).scans for name in site.devices} == {1}
    told = site.told(site.buffered())
    assert {name: told.values(name) for name in site.devices} == {name: [1] for name in site.devices}
