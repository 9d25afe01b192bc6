"""Sets a rig up for one scenario, and takes it down whatever happens.

Each scenario has a gateway, a relay and an archive of its own. When it ends, also by an error or Ctrl-C, its processes
are ended, and every switch that was turned off is turned on.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from edge.driver import DeviceSettings
from edge.errors import TidegateError
from hil import clocks
from hil.authority import Authority
from hil.bench import Bench, BenchDevice, Gateway, Relay
from hil.broker import Broker
from hil.clocks import SimulatedClocks, TrueTime
from hil.evidence import ARCHIVE, DEVICES
from hil.hosts import CommandFailed, Host, HostProcess, SshHost
from hil.namespaces import Ethernet, Machine
from hil.rig import Rig, WiredDevice
from hil.switches import State, Switch, command_switch

_READY_S = 120.0
_CODE = Path(__file__).parents[1]
_BENCH, _FLOOR_GATEWAY, _DMZ_BENCH, _DMZ_GATEWAY = "192.0.2.1", "192.0.2.2", "198.51.100.1", "198.51.100.2"


@asynccontextmanager
async def set_up(rig: Rig, folder: Path) -> AsyncIterator[Bench]:
    """A rig, set up with its evidence in a folder; it is as before when the block ends, also by an error.

    Raises:
        TidegateError: something of the rig does not work; the message says what.
    """
    async with AsyncExitStack() as stack:
        place = stack.enter_context(_places(folder))
        authority = Authority(place / "authority")
        make = _simulated if rig.is_simulated else _wired
        bench = await make(rig, folder, place, authority, stack)
        stack.push_async_callback(_restored, bench)
        stack.callback(_keep_archive, bench)
        stack.push_async_callback(bench.broker.stop)
        stack.push_async_callback(bench.relay.stop)
        stack.push_async_callback(bench.gateway.stop)
        await bench.broker.start()
        await bench.gateway.prepare(authority)
        yield bench


@contextmanager
def _places(folder: Path) -> Iterator[Path]:
    """A folder for keys, sockets and the broker's files, which are no evidence; its path is short, as sockets need."""
    (folder / DEVICES).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tidegate-hil-") as name:
        place = Path(name)
        place.chmod(0o755)  # The broker runs as a user of its own.
        (place / "authority").mkdir()
        yield place


def _keep_archive(bench: Bench) -> None:
    if bench.relay.archive.exists():
        ours = shutil.ignore_patterns(".lock", "*.sock")
        shutil.copytree(bench.relay.archive, bench.folder / ARCHIVE, ignore=ours, dirs_exist_ok=True)


async def _restored(bench: Bench) -> None:
    troubles = await bench.restore()
    if troubles:
        raise TidegateError("; ".join(troubles))


async def _wired(rig: Rig, folder: Path, place: Path, authority: Authority, stack: AsyncExitStack) -> Bench:
    """Hardware: switches are commands; broker and relay are on this machine, the gateway where the rig says."""
    wired = rig.wired
    broker = Broker(place / "dmz", wired.broker.address, authority, has_own_network=False)
    stack.enter_context(broker)
    host, there = Host(), PurePosixPath(place / "gateway")
    if wired.gateway.ssh:
        host, there = SshHost(wired.gateway.ssh, place), PurePosixPath(wired.gateway.folder) / place.name
        stack.push_async_callback(host.close)
        stack.push_async_callback(host.run, "rm", "-rf", str(there))
    gateway = Gateway(rig, host, there, folder)
    gateway.power = _switch(rig, "gateway power", wired.gateway.power)
    gateway.network = _switch(rig, "gateway network", wired.gateway.network)
    gateway.uplink = _switch(rig, "gateway uplink", wired.gateway.uplink)
    devices = {
        device.name: BenchDevice(device, settings, _switch(rig, f"{device.name} power", device.power),
                                 _switch(rig, f"{device.name} network", device.network))
        for device, settings in zip(wired.devices, rig.checked, strict=True)
    }  # fmt: skip
    return Bench(
        rig=rig, folder=folder, gateway=gateway, relay=Relay(rig, folder, place, authority), devices=devices,
        broker=broker, stack=stack, clock=_switch(rig, "clock network", wired.clock.network),
        clock_step=_switch(rig, "gateway clock", wired.clock.step), true_time=_this_clock(rig, gateway),
    )  # fmt: skip


def _switch(rig: Rig, name: str, command: Sequence[str] | None) -> Switch | None:
    return command_switch(name, command, rig.file.parent) if command else None


async def _simulated(rig: Rig, folder: Path, place: Path, authority: Authority, stack: AsyncExitStack) -> Bench:
    """Namespaces: the floor is one network, with the gateway, this machine and each device; the DMZ is another."""
    made = stack.enter_context(ExitStack())
    floor = made.enter_context(Ethernet("floor", _BENCH))
    dmz = made.enter_context(Ethernet("dmz", _DMZ_BENCH))
    broker = made.enter_context(Broker(place / "dmz", rig.wired.broker.address, authority))
    dmz.plug_in(broker.machine, broker.address, "broker network")
    under_test = made.enter_context(Machine(place / "gateway"))
    simulated = SimulatedClocks(place)
    host = Host((*under_test.enter, *simulated.gateway.words))
    gateway = Gateway(rig, host, PurePosixPath(place / "gateway"), folder)
    gateway.network = floor.plug_in(under_test, _FLOOR_GATEWAY, "gateway network")
    gateway.uplink = dmz.plug_in(under_test, _DMZ_GATEWAY, "gateway uplink")
    clock = await _clock(rig, simulated, under_test, place, floor, made, stack)
    gateway.power = _power_of("gateway power", [gateway.network, gateway.uplink], gateway.kill, _nothing)
    devices = await asyncio.gather(*(
        _simulated_device(rig, device, settings, folder, place, floor, made, stack)
        for device, settings in zip(rig.wired.devices, rig.checked, strict=True)
    ))  # fmt: skip
    return Bench(
        rig=rig, folder=folder, gateway=gateway, relay=Relay(rig, folder, place, authority),
        devices={device.name: device for device in devices},
        broker=broker, stack=stack, clock=clock, clock_step=simulated.step, true_time=_of(simulated),
    )  # fmt: skip


def _of(simulated: SimulatedClocks) -> Callable[[], Awaitable[TrueTime | None]]:
    async def true_time() -> TrueTime:
        return simulated.true_time()

    return true_time


def _this_clock(rig: Rig, gateway: Gateway) -> Callable[[], Awaitable[TrueTime | None]]:
    """The time by this machine's clock, where the rig says how far that may be off the reference."""
    error_ns = rig.wired.clock.time_error

    async def true_time() -> TrueTime | None:
        asked_ns, status, answered_ns = time.time_ns(), await gateway.status(), time.time_ns()
        if error_ns is None or status is None or status.clock is None:
            return None
        return TrueTime(None, status.clock.utc_ns, asked_ns - error_ns, answered_ns + error_ns)

    return true_time


async def _clock(
    rig: Rig, simulated: SimulatedClocks, under_test: Machine, place: Path, floor: Ethernet, made: ExitStack,
    stack: AsyncExitStack,
) -> Switch | None:  # fmt: skip
    """The reference of time as a machine, and what pulls its cable; None for a rig without one."""
    if rig.wired.clock.source == "none":
        return None
    machine = made.enter_context(Machine(place / "clock"))
    network = floor.plug_in(machine, clocks.SERVER, "clock network")
    for process in await simulated.start(rig, machine, under_test, floor.name):
        stack.push_async_callback(process.kill)
    return network


async def _simulated_device(
    rig: Rig, wired: WiredDevice, settings: DeviceSettings, folder: Path, place: Path, floor: Ethernet,
    made: ExitStack, stack: AsyncExitStack,
) -> BenchDevice:  # fmt: skip
    address = _address(wired)
    machine = made.enter_context(Machine(place / wired.name))
    host = Host(machine.enter)
    process: HostProcess | None = None

    async def switch_on() -> None:
        nonlocal process
        said = place / f"{wired.name}.out"
        said.unlink(missing_ok=True)
        process = await host.start("env", f"PYTHONPATH={_CODE}", sys.executable, "-m", "hil.devices", str(rig.file),
                                   wired.name, str(folder / DEVICES / f"{wired.name}.log"), log=said)  # fmt: skip
        ends_s = time.monotonic() + _READY_S
        while "ready\n" not in said.read_text():
            if process.returncode is not None or time.monotonic() > ends_s:
                why = "is not ready" if process.returncode is None else "ended by itself"
                raise CommandFailed(f"the simulated {wired.name} {why}: {said.read_text()[-500:]}")
            await asyncio.sleep(0.02)

    async def switch_off() -> None:
        if process is not None:
            await process.kill()

    async def turn_line(state: State) -> None:
        if process is not None:
            await process.signal("CONT" if state == "on" else "STOP")

    network = floor.plug_in(machine, address, f"{wired.name} network") if address else None
    network = network or Switch(f"{wired.name} network", turn_line)
    stack.push_async_callback(switch_off)
    await switch_on()
    power = _power_of(f"{wired.name} power", [network] if address else [], switch_off, switch_on)
    return BenchDevice(wired, settings, power, network)


def _power_of(
    name: str, cables: Sequence[Switch], switch_off: Callable[[], Awaitable[None]],
    switch_on: Callable[[], Awaitable[None]],
) -> Switch:  # fmt: skip
    """The power of something simulated: it falls silent before it ends, so that no connection is closed."""

    async def turn(state: State) -> None:
        if state == "on":
            await switch_on()
            for cable in cables:
                await cable.on()
        else:
            for cable in cables:
                await cable.off()
            await switch_off()

    return Switch(name, turn)


async def _nothing() -> None:
    pass


def _address(wired: WiredDevice) -> str:
    """The address of a simulated device; empty for one on a serial line."""
    host = str(wired.settings.get("host", ""))
    return host or (urlsplit(str(wired.settings["url"])).hostname or "" if "url" in wired.settings else "")
