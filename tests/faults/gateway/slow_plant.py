"""One counting device of each protocol, in this process, that answers some questions at random around the time limit.

A value counts from the instant in which its question arrived: a question that was given up lies in the gap, and its
answer may come when others have long been answered.
"""

from __future__ import annotations

import random
from contextvars import ContextVar

from drivers.ethernetip.simulator import DINT, Controller, LogixServer
from drivers.modbus.simulator import Signal, SimulatedDevice, SimulatedUnit
from edge.clock import SystemClock
from tests.faults.gateway.plant_under_test import RETRY, opcua
from tests.faults.gateway.site_under_test import Account, Site, Told
from tests.support.opcua.counting import CountingServer

TIMEOUT_S = 0.2
_boot_ns = SystemClock().boot_ns
_arrived_ns: ContextVar[int] = ContextVar("arrived_ns")  # Of the question that this task, or this timer, answers.


class Counting:
    """Counts its answers.

    Attributes:
        slow: the share of questions that wait before they are answered, up to twice the time limit.
        served: (boot time at which the question arrived, count) of each value that was given.
        overdue: how many questions were to wait for longer than the time limit.
        late: how many values were given after their time limit; few where a client that gives up hangs up too.
    """

    def __init__(self, seed: int) -> None:
        self.slow = 0.0
        self.served: list[tuple[int, int]] = []
        self.overdue = self.late = 0
        self._dice = random.Random(seed)

    def arrive(self) -> float:
        """Note that a question has arrived; how long it waits."""
        _arrived_ns.set(_boot_ns())
        waits_s = self._dice.uniform(0, 2 * TIMEOUT_S) if self._dice.random() < self.slow else 0.0
        self.overdue += waits_s > TIMEOUT_S
        return waits_s

    def value(self, *_: object) -> int:
        """The next count, in answer to the question that arrived in this context."""
        arrived_ns, count = _arrived_ns.get(), len(self.served) + 1
        self.late += _boot_ns() - arrived_ns > TIMEOUT_S * 1e9
        self.served.append((arrived_ns, count))
        return count


class _SlowDevice(SimulatedDevice):
    counting: Counting

    @property
    def latency_s(self) -> float:
        """Asked once for each request that has arrived."""
        return self.counting.arrive()

    @latency_s.setter
    def latency_s(self, value: float) -> None: ...


class _SlowController(Controller):
    counting: Counting

    @property
    def answer_late_s(self) -> float:
        """Asked once for each request that has arrived."""
        return self.counting.arrive()

    @answer_late_s.setter
    def answer_late_s(self, value: float) -> None: ...


class SlowPlant:
    """The devices, by name, and what became of what each served."""

    def __init__(self, site: Site, seed: int, every: str) -> None:
        self._site = site
        self.devices = {name: Counting(seed + at) for at, name in enumerate(("modbus", "ethernetip", "opcua"))}
        device = _SlowDevice({1: SimulatedUnit([Signal("holding 0", "uint32", self.devices["modbus"].value)])})
        device.counting = self.devices["modbus"]
        site.add_device("modbus", site.plant.enter(device), every)
        plc = _SlowController()
        plc.counting = self.devices["ethernetip"]
        plc.tag("Count", DINT, self.devices["ethernetip"].value)
        url = site.plant.enter(CountingServer(self.devices["opcua"].arrive, self.devices["opcua"].value))
        limits = {"timeout": f"{TIMEOUT_S * 1000:g} ms"}
        site.settings["devices"] += [
            {"name": "ethernetip", "driver": "ethernetip", "host": "127.0.0.1",
             "port": site.plant.enter(LogixServer(plc)).port, "limits": limits, **RETRY,
             "scan_groups": [{"every": every, "tags": [{"name": "count", "address": "Count", "type": "DINT"}]}]},
            opcua("opcua", url, {"every": every, "tags": [
                {"name": "count", "address": "nsu=urn:tidegate:counting;s=Count", "type": "uint32"}]},
                limits={**limits, "connect_timeout": "5 s"}),
        ]  # fmt: skip

    def slow(self, share: float) -> None:
        """Let such a share of the questions wait."""
        for device in self.devices.values():
            device.slow = share

    def wait_for_values(self, more: int) -> None:
        """Until each has given so many more."""
        wanted = {name: len(device.served) + more for name, device in self.devices.items()}
        self._site.wait(
            lambda: all(len(self.devices[name].served) >= count for name, count in wanted.items()), "more values"
        )

    def wait_for_late_values(self, count: int) -> None:
        """Until so many were given after their time limit, and each device had a question for too long."""
        devices = self.devices.values()
        self._site.wait(
            lambda: all(each.overdue for each in devices) and sum(each.late for each in devices) >= count, "late values"
        )

    def accounts(self, told: Told) -> dict[str, Account]:
        """What became of each value."""
        return {name: self._site.account(told, name, device.served) for name, device in self.devices.items()}
