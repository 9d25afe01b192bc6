"""`tidegate demo`: the main job end to end on one machine, mishaps included."""

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
from edge.demo.stage import ProcessExited, ProcessPair, is_drained

LOOK_EVERY_S = 0.5
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
        place = directory or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-demo-")))
        place.mkdir(parents=True, exist_ok=True)
        display = stack.enter_context(display_here())
        code = asyncio.run(_demonstrate(place.resolve(), plant_name, seconds, display))
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
        stage = ProcessPair(directory, broker, simulated.devices)
        await asyncio.to_thread(stage.write)
        stack.push_async_callback(stage.stop_all)
        await stage.start()
        display.say(f"{len(simulated.devices)} devices, {broker.name}, a gateway and a relay; Ctrl-C ends it")
        cut = Disturbance(text=f"{broker.name} is gone: records wait on disk",
                     text_after=f"{broker.name} is back: what it may have lost is sent again, then what waited",
                     begins=_CUT[0], ends=_CUT[1], begin=broker.stop, end=broker.start)  # fmt: skip
        try:
            await _watch(stage, display, (*simulated.mishaps, cut), seconds, stop)
            await _wind_down(stage, display)
        except ProcessExited as error:
            display.close()
            click.echo(str(error), err=True)
            return EXIT_NO
        display.close()
        return await stage.verify()


async def _watch(
    stage: ProcessPair, display: Display, mishaps: tuple[Disturbance, ...], seconds: float | None, stop: asyncio.Event
) -> None:
    """Look at both sides while the mishaps take their course; without an end they come in the first minute."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    length_s = seconds or 60.0
    due: list[tuple[float, str, Callable[[], Awaitable[None]]]] = sorted(
        [(m.begins, m.text, m.begin) for m in mishaps] + [(m.ends, m.text_after, m.end) for m in mishaps],
        key=lambda step: step[0],
    )
    while not stop.is_set() and (seconds is None or loop.time() - started < seconds):
        while due and loop.time() - started >= due[0][0] * length_s:
            _, text, act = due.pop(0)
            await act()
            display.say(text)
        stage.check()
        display.show(await stage.status("gateway"), await stage.status("relay"))
        try:
            async with asyncio.timeout(LOOK_EVERY_S):
                await stop.wait()
        except TimeoutError:
            continue
    ends = {m.end for m in mishaps}
    for _, _, act in due:
        if act in ends:
            await act()


async def _wind_down(stage: ProcessPair, display: Display) -> None:
    """Let the backlog drain, then stop the gateway before the relay, so that the last records arrive."""
    display.say("stopping: the backlog drains, then the gateway seals its STOP")
    await stage.until(is_drained, _DRAIN_S, display.show)
    await stage.stop("gateway")
    await _until_quiet(stage)
    await stage.stop("relay")


async def _until_quiet(stage: ProcessPair) -> None:
    """Until the relay has archived what the broker still held."""
    seen = -1
    while (relay := await stage.status("relay")) and relay.relay and relay.relay.archived_records != seen:
        seen = relay.relay.archived_records
        await asyncio.sleep(LOOK_EVERY_S)
