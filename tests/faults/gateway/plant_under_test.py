"""Devices of the other protocols for a site under test, and what records say of their tags, value by value."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from drivers.ethernetip.simulator import DINT, REAL, Controller
from edge.model import NO_TIME, Quality, quality_of, status_codes
from tests.faults.gateway.site_under_test import Told

RETRY = {"retry": "100 ms", "retry_limit": "300 ms"}
PLANT = "nsu=urn:tidegate:plant;s="


# What is on record.


@dataclass(frozen=True, slots=True)
class Report:
    """A value as it is on record; None where its status is BAD."""

    tag: str
    value: Any
    status: int
    source_ns: int | None
    sampled_at_ns: int
    is_notification: bool
    catalogue: bytes


def reports(told: Told, device: str, group: str = "") -> dict[str, list[Report]]:
    """What was reported of each tag of a device, or of one of its groups, in the order of the chain."""
    found: dict[str, list[Report]] = {}
    for number, described in enumerate(told.catalogue.groups):
        if described.device == device and group in ("", described.name):
            for report in _reports(told, number):
                found.setdefault(report.tag, []).append(report)
    return found


def notified(told: Told, device: str, group: str, tag: str) -> list[Report]:
    """What the device told by itself of one tag."""
    return [report for report in reports(told, device, group).get(tag, ()) if report.is_notification]


def _reports(told: Told, number: int) -> Iterator[Report]:
    group = told.catalogue.groups[number]
    for data, block in told.scans(number):
        count = sum(map(len, block.vectors)) if block.is_notification else len(group.tags)
        codes, begin = status_codes(block.status, count), 0
        for vector, members in enumerate(group.layout.members):
            values = block.vectors[vector].tolist()
            places = [*range(len(members))] if block.positions is None else block.positions[vector].tolist()
            times = None if block.source_times is None else block.source_times[vector].tolist()
            for at, (value, place) in enumerate(zip(values, places, strict=True)):
                tag = int(members[place])
                code = int(codes[begin + at if block.is_notification else tag])
                source_ns = None if times is None or times[at] == NO_TIME else int(times[at])
                is_bad = quality_of(code) is Quality.BAD
                yield Report(
                    group.tags[tag].name, None if is_bad else value, code, source_ns, block.sampled_at_ns,
                    block.is_notification, data.catalogue,
                )  # fmt: skip
            begin += len(values)


def statuses(told: Told, device: str, tag: str) -> list[int]:
    """The statuses a polled tag went through, reported with a value or not."""
    found: list[int] = []
    for number, group in enumerate(told.catalogue.groups):
        names = [each.name for each in group.tags]
        if group.device == device and tag in names:
            for _, block in told.scans(number):
                code = int(status_codes(block.status, len(names))[names.index(tag)])
                if found[-1:] != [code]:
                    found.append(code)
    return found


# Devices.


def opcua(name: str, url: str, *groups: dict[str, Any], **more: Any) -> dict[str, Any]:
    """An OPC UA server as it is written in a configuration."""
    limits = {"timeout": "1 s", "connect_timeout": "5 s"}
    return {"name": name, "driver": "opcua", "url": url, "security": "none", "limits": limits, **RETRY,
            "scan_groups": list(groups), **more}  # fmt: skip


def told_group(tags: Sequence[dict[str, Any]], **subscribe: Any) -> dict[str, Any]:
    """A subscribed scan group: every value of every tag, and a quick sign of life."""
    how = {"sampling": 0, "queue": 100, "keep_alive": "200 ms", **subscribe}
    return {"name": "told", "every": "50 ms", "subscribe": how, "tags": list(tags)}


def asked_group(tags: Sequence[dict[str, Any]], every: str = "50 ms") -> dict[str, Any]:
    """A polled scan group."""
    return {"name": "asked", "every": every, "tags": list(tags)}


def points(numbers: Iterable[int]) -> list[dict[str, Any]]:
    """Tags of the plant whose first value is their number: a value tells which node it is of."""
    return [{"name": f"point-{n}", "address": f"{PLANT}Point{n}", "type": "float64"} for n in numbers]


def controller(serial: int = 0x00C0FFEE) -> Controller:
    """A Logix controller whose values tell which tag they are of."""
    plc = Controller("Line4")
    plc.identity = type(plc.identity)(serial=serial)
    for number in range(8):
        plc.tag(f"Level{number}", REAL, float(number))
    plc.tag("Count", DINT, lambda elapsed_s: int(elapsed_s * 1000))
    return plc


def logix(name: str, port: int, tags: Sequence[dict[str, Any]] = (), **more: Any) -> dict[str, Any]:
    """A Logix controller as it is written in a configuration."""
    levels = [{"name": f"level-{n}", "address": f"Level{n}", "type": "REAL"} for n in range(8)]
    count = {"name": "count", "address": "Count", "type": "DINT"}
    limits = {"timeout": "500 ms", "check_changes": "200 ms"}
    return {"name": name, "driver": "ethernetip", "host": "127.0.0.1", "port": port, "limits": limits, **RETRY,
            "scan_groups": [{"every": "50 ms", "tags": list(tags) or [count, *levels]}], **more}  # fmt: skip


class Deaf:
    """Accepts connections, takes what comes, and answers what it is told to: nothing, or the same to everything."""

    def __init__(self, says: bytes = b"") -> None:
        self.port = 0
        self.calls = 0
        self._says = says
        self._writers: set[asyncio.StreamWriter] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.calls += 1
        self._writers.add(writer)
        with suppress(OSError):
            while await reader.read(4096):
                if self._says:
                    writer.write(self._says)
        self._writers.discard(writer)
        writer.transport.abort()


def scrambled(answer: bytes) -> bytes:
    """An answer of a controller whose encapsulation is whole and whose content is not."""
    return answer[:24] + bytes(byte ^ 0x5A for byte in answer[24:])


def is_ordered(numbers: Sequence[float]) -> bool:
    """Whether each is greater than the one before."""
    return bool(np.all(np.diff(np.array(numbers)) > 0))
