"""`tidegate demo`: the main job end to end on one machine, disturbances included."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path

import click

from edge.cli import EXIT_NO
from edge.demo import brokers, plant
from edge.demo.display import Display, display_here
from edge.demo.plant import Disturbance
from edge.demo.processes import ProcessExited, ProcessPair, is_drained

POLL_INTERVAL_S = 0.5
_CUT = (0.5, 0.7)
_DRAIN_S = 20.0


@click.command(
    epilog="""\b
Examples:
  tidegate demo
  tidegate demo --seconds 30
  tidegate demo --directory ./demo

Exit code 0: everything that was archived is authentic and complete. 1: it is not."""
)
@click.option("--seconds", type=click.FloatRange(min=5), help="How long; by default until Ctrl-C.")
@click.option("--directory", type=click.Path(path_type=Path), help="Keep configurations, buffer and archive here.")
@click.option("--plant", "plant_name", default="modbus", show_default=True, help="Which simulated plant.")
def command(seconds: float | None, directory: Path | None, plant_name: str) -> None:
    """Simulated devices, a broker, a gateway and a relay: watch values flow, a device stall and the broker go.

    At the end the archive is verified.
    """
    with ExitStack() as stack:
        folder = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
        folder.mkdir(parents=True, exist_ok=True)
        display = stack.enter_context(display_here())
        code = asyncio.run(_demonstrate(folder.resolve(), plant_name, seconds, display))
    if code:
        raise SystemExit(EXIT_NO)


async def _demonstrate(directory: Path, plant_name: str, seconds: float | None, display: Display) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        simulated = await stack.enter_async_context(plant.start(plant_name))
        broker = brokers.choose(directory)
        await broker.start()
        stack.push_async_callback(broker.stop)
        processes = ProcessPair(directory, broker, simulated.devices)
        await asyncio.to_thread(processes.write)
        stack.push_async_callback(processes.stop_all)
        await processes.start()
        display.say(f"{len(simulated.devices)} devices, {broker.name}, a gateway and a relay; Ctrl-C ends it")
        cut = Disturbance(text=f"{broker.name} is gone: records wait on disk",
                     text_after=f"{broker.name} is back: what it may have lost is sent again, then what waited",
                     begins=_CUT[0], ends=_CUT[1], begin=broker.stop, end=broker.start)  # fmt: skip
        try:
            await _watch(processes, display, (*simulated.disturbances, cut), seconds, stop)
            await _shut_down(processes, display)
        except ProcessExited as error:
            display.close()
            click.echo(str(error), err=True)
            return EXIT_NO
        display.close()
        return await processes.verify()


async def _watch(
    processes: ProcessPair,
    display: Display,
    disturbances: tuple[Disturbance, ...],
    seconds: float | None,
    stop: asyncio.Event,
) -> None:
    """Show both sides while disturbances begin and end; without a duration they come in the first minute."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    length_s = seconds or 60.0
    due: list[tuple[float, str, Callable[[], Awaitable[None]]]] = sorted(
        [(each.begins, each.text, each.begin) for each in disturbances]
        + [(each.ends, each.text_after, each.end) for each in disturbances],
        key=lambda step: step[0],
    )
    while not stop.is_set() and (seconds is None or loop.time() - started < seconds):
        while due and loop.time() - started >= due[0][0] * length_s:
            _, text, act = due.pop(0)
            await act()
            display.say(text)
        processes.check()
        display.show(await processes.status("gateway"), await processes.status("relay"))
        try:
            async with asyncio.timeout(POLL_INTERVAL_S):
                await stop.wait()
        except TimeoutError:
            continue
    ends = {each.end for each in disturbances}
    for _, _, act in due:
        if act in ends:
            await act()


async def _shut_down(processes: ProcessPair, display: Display) -> None:
    """Let the backlog drain, then stop the gateway before the relay, so that the last records arrive."""
    display.say("stopping: the backlog drains, then the gateway seals its STOP")
    await processes.wait_until(is_drained, _DRAIN_S, display.show)
    await processes.stop("gateway")
    await _until_quiet(processes)
    await processes.stop("relay")


async def _until_quiet(processes: ProcessPair) -> None:
    """Wait until the relay has archived what the broker still held."""
    seen = -1
    while (relay := await processes.status("relay")) and relay.relay and relay.relay.archived_records != seen:
        seen = relay.relay.archived_records
        await asyncio.sleep(POLL_INTERVAL_S)
