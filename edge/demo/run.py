"""The demo from its start to its verified archive."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

from edge.demo import brokers, plant
from edge.demo.account import BrokerOutage, DeviceOutage, Observe
from edge.demo.brokers import BrokerKind, DemoBroker
from edge.demo.display import Display
from edge.demo.historian import DemoHistorian
from edge.demo.last_page import Answer, read_answer
from edge.demo.plant import Disturbance
from edge.demo.processes import ProcessPair, SnapshotCallback, has_archived, is_drained
from edge.demo.screen import Scene
from edge.demo.stop import Stop
from edge.health import StatusSnapshot

_POLL_INTERVAL_S = 0.4
_DRAIN_S = 20.0
_CUT = (0.5, 0.7)
_LENGTH_S = 60.0
"""Within this time the disturbances come where no end is given."""

_Act = Callable[[], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """What was asked for; `kept` is the directory as the person wrote it, None for a temporary one."""

    directory: Path
    plant: str = "modbus"
    broker: BrokerKind | None = None
    seconds: float | None = None
    kept: Path | None = None
    with_historian: bool = False


@dataclass(frozen=True, slots=True)
class _Step:
    """Something that is done to the plant; a fault is what `undo` ends."""

    at: float
    text: str
    act: _Act
    observe: Observe
    undo: _Act | None = None


class Demo:
    """One run of the demo."""

    def __init__(self, plan: DemoPlan, display: Display, stop: Stop) -> None:
        self._plan, self._display, self._stop = plan, display, stop
        self._broker: DemoBroker | None = None
        self._processes: ProcessPair | None = None
        self._historian: DemoHistorian | None = None
        self.scene = Scene(broker="")

    async def run(self) -> Answer | None:
        """Run it until it is to end, and have the archive verified; None where it was to end before it began.

        Raises:
            TidegateError: the broker or the historian cannot be started, or a process ended by itself.
        """
        task = asyncio.current_task()
        assert task is not None

        def end_at_once() -> None:
            self._kill()
            task.cancel()

        self._stop.attach(end_at_once)
        self._started_s = asyncio.get_running_loop().time()
        if self._plan.with_historian:
            historian = self._historian = await asyncio.to_thread(DemoHistorian, self._plan.directory)
            self.scene.historian = historian.command
        async with AsyncExitStack() as stack:
            simulated = await stack.enter_async_context(plant.start(self._plan.plant))
            broker = self._broker = brokers.choose(self._plan.directory, self._plan.broker)
            self.scene.broker = broker.name
            self._display.show(self.scene)
            stack.push_async_callback(broker.stop)
            await broker.start()
            if self._historian is not None:
                stack.push_async_callback(self._historian.stop)
                await self._historian.start()
            sinks = {} if self._historian is None else {"historian": self._historian.settings}
            processes = self._processes = ProcessPair(self._plan.directory, broker, simulated.devices, sinks=sinks)
            await asyncio.to_thread(processes.write)
            if self._stop.is_asked:
                return None
            stack.push_async_callback(processes.stop_all)
            await processes.start()
            # The time counts from the first values: a start takes longer on a small machine.
            await self._wait_until(processes, lambda *sides: self._stop.is_asked or _are_up(*sides))
            self._started_s = asyncio.get_running_loop().time()
            started = f"{len(simulated.devices)} PLCs, {broker.name}, a gateway and a relay are started"
            if self._plan.kept is not None:
                started += f"; in another terminal: tidegate status {self._plan.kept / 'gateway.yaml'}"
            self.scene.account.add(0.0, started)
            if self._historian is not None:
                self.scene.account.add(0.0, f"SQL: {self._historian.command}")
            await self._watch(processes, self._steps(simulated.disturbances, broker))
            values = await self._end(processes)
            code, output = await processes.ask(
                "report", str(processes.archive), "--trust", str(processes.trust), "--json"
            )
            answer = read_answer(code, output)
            return answer if values is None else answer.beside(*values)

    def _kill(self) -> None:
        if self._processes is not None:
            self._processes.kill()
        if self._broker is not None:
            self._broker.kill()
        if self._historian is not None:
            self._historian.kill()

    def _steps(self, disturbances: Sequence[Disturbance], broker: DemoBroker) -> list[_Step]:
        async def stop_broker() -> None:
            self.scene.is_broker_running = False
            await broker.stop()

        async def start_broker() -> None:
            await broker.start()
            self.scene.is_broker_running = True

        cut, steps = BrokerOutage(), []
        for each in disturbances:
            outage = DeviceOutage(each.device)
            steps.append(_Step(each.begins, each.text, each.begin, outage.during, each.end))
            steps.append(_Step(each.ends, each.text_after, each.end, outage.after))
        steps.append(_Step(_CUT[0], "broker stopped", stop_broker, cut.during, start_broker))
        steps.append(_Step(_CUT[1], "broker back", start_broker, cut.after))
        return sorted(steps, key=lambda step: step.at)

    async def _watch(self, processes: ProcessPair, due: list[_Step]) -> None:
        """Show both sides while the plant is disturbed; whatever lasts when the end is asked for is undone."""
        seconds = self._plan.seconds
        undo: list[_Act] = []
        length_s = seconds or _LENGTH_S
        while not self._stop.is_asked and (seconds is None or self._elapsed_s() < seconds):
            while due and self._elapsed_s() >= due[0].at * length_s:
                step = due.pop(0)
                # What it was before is seen to the end first: the next step would hide it.
                await self._show(processes)
                self.scene.account.add(self._elapsed_s(), step.text, step.observe, is_fault=step.undo is not None)
                await step.act()
                undo = [*undo, step.undo] if step.undo is not None else [each for each in undo if each != step.act]
            await self._show(processes)
            await self._stop.wait(_POLL_INTERVAL_S)
        for act in undo:
            await act()

    async def _end(self, processes: ProcessPair) -> tuple[int, int] | None:
        """Stop the gateway once the broker has what it stored, and the relay once it has archived that.

        With a historian the relay also writes that there: returned is how many values it has, and how many the archive.
        """
        self.scene.is_ending = True
        self.scene.account.add(self._elapsed_s(), "the end: the broker gets what still waits, the relay archives it")
        await self._wait_until(processes, is_drained)
        await processes.stop("gateway")
        last = await asyncio.to_thread(processes.last_stored)
        if last is not None:
            await self._wait_until(processes, lambda _, relay: has_archived(relay, *last))
        values = None if self._historian is None else await self._compare(self._historian, processes)
        await processes.stop("relay")
        self.scene.account.settle()
        self._display.show(self.scene)
        return values

    async def _compare(self, historian: DemoHistorian, processes: ProcessPair) -> tuple[int, int]:
        archived = await processes.archived_values()
        deadline_s = self._elapsed_s() + _DRAIN_S
        while (found := await historian.values()) < archived and self._elapsed_s() < deadline_s:
            await self._show(processes)
            await asyncio.sleep(_POLL_INTERVAL_S)
        return found, archived

    async def _wait_until(self, processes: ProcessPair, condition: SnapshotCallback) -> None:
        await processes.wait_until(condition, _DRAIN_S, self._note)

    async def _show(self, processes: ProcessPair) -> None:
        processes.check()
        self._note(await processes.status("gateway"), await processes.status("relay"))

    def _note(self, gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> None:
        scene = self.scene
        scene.elapsed_s = self._elapsed_s()
        if gateway is not None:
            scene.trends.note(scene.elapsed_s, gateway)
        scene.account.observe(scene.elapsed_s, (gateway, relay))
        scene.sides = gateway or scene.sides[0], relay or scene.sides[1]
        self._display.show(scene)
        if self._display.is_gone:
            self._stop.ask()

    def _elapsed_s(self) -> float:
        return asyncio.get_running_loop().time() - self._started_s


def _are_up(gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> bool:
    if gateway is None or relay is None or relay.relay is None:
        return False
    return all(device.state == "up" for device in gateway.devices) and bool(relay.relay.issuers)
