"""The bench: a rig that is set up for one scenario, with everything that a step can act on.

A bench is made anew for each scenario, with a gateway, a relay and an archive of their own, and is taken down after it
whatever happens: processes are ended, and every switch that was turned off is turned on.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit

import orjson

from edge.driver import DeviceSettings
from edge.errors import TidegateError
from edge.health import StatusSnapshot
from hil import broker as brokers
from hil.authority import Authority
from hil.broker import Broker
from hil.evidence import ARCHIVE, DEVICES, TRUST
from hil.hosts import CommandFailed, Host, HostProcess, SshHost
from hil.namespaces import Ethernet, Machine
from hil.rig import Rig, WiredDevice
from hil.switches import State, Switch, SwitchFailed, command_switch

GATEWAY = "line-4"
"""The gateway's name: the one that the shipped access list has."""
_CODE = Path(__file__).parents[1]
_TIDEGATE = (sys.executable, "-m", "edge.cli")
_BOOT_S = 300.0
_BENCH, _FLOOR_GATEWAY, _DMZ_GATEWAY = "192.0.2.1", "192.0.2.2", "198.51.100.2"


class Gateway:
    """The gateway under test, as a process on its machine.

    Attributes:
        configuration: to be changed before it starts.
        folder: its folder on its machine; `state` in it is its state, `buffer` in that its buffer.
        power: its machine's; the process is to be started again after it was off.
        network: its cable to the devices.
        uplink: its connection to the broker.
        log: what it says.
    """

    def __init__(self, rig: Rig, host: Host, folder: PurePosixPath, here: Path) -> None:
        self.host, self.folder, self.log = host, folder, here / "gateway.log"
        self.power: Switch | None = None
        self.network: Switch | None = None
        self.uplink: Switch | None = None
        self._here = here
        self._command = _TIDEGATE if not rig.wired.gateway.ssh else tuple(rig.wired.gateway.command)
        self._process: HostProcess | None = None
        own = rig.wired.gateway.settings
        mqtt = {"host": rig.wired.broker.address, "port": brokers.PORT, "tls": {
            "ca": "file:ca.pem", "certificate": f"file:{GATEWAY}.pem", "key": f"file:{GATEWAY}.key"}}  # fmt: skip
        self.configuration: dict[str, Any] = {
            "clock": {"require": "any"}, "buffer": {"limit": "500 MB", "free_space": 0}, "log": {"format": "json"}, **own,
            "gateway": {"name": GATEWAY, "path": f"acme/basel/upstream/{GATEWAY}", "state": str(folder / "state")},
            "uplink": {"mqtt": mqtt}, "devices": [device.settings for device in rig.wired.devices],
        }  # fmt: skip

    async def prepare(self, authority: Authority) -> None:
        """Give it its identity, whose public key goes to the evidence, and its certificate."""
        await self._write()
        await self.install_certificate(authority)
        await self.host.run(*self._command, "keys", "identity", "create", str(self._file))
        self._here.joinpath(TRUST).write_bytes(await self.host.read(self.folder / "state/identity.pub.pem"))

    async def install_certificate(self, authority: Authority) -> None:
        """Issue a certificate for its connection to the broker, and put it in place; a running gateway takes it over."""
        authority.issue(GATEWAY)
        for name in ("ca.pem", f"{GATEWAY}.pem", f"{GATEWAY}.key"):
            await self.host.write(self.folder / name, (authority.folder / name).read_bytes())

    async def start(self) -> None:
        """Start it with its configuration; a machine that was switched on is waited for."""
        async with asyncio.timeout(_BOOT_S):
            while True:
                try:
                    await self._write()
                    break
                except CommandFailed:
                    await asyncio.sleep(2)
        self._process = await self.host.start(*self._command, "run", str(self._file), log=self.log)

    async def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            await self._process.stop()

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            await self._process.kill()

    @property
    def pid(self) -> int:
        """The number of its process on its machine."""
        assert self._process is not None
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether its process is not running."""
        return self._process is None or self._process.returncode is not None

    async def status(self) -> StatusSnapshot | None:
        """What it says of itself; None while it does not answer."""
        return await self.host.status(self.folder / "state/status.sock")

    @property
    def _file(self) -> PurePosixPath:
        return self.folder / "gateway.yaml"

    async def _write(self) -> None:
        await self.host.write(self._file, orjson.dumps(self.configuration, option=orjson.OPT_INDENT_2))


class Relay:
    """The relay, on the machine that runs the scenarios.

    Attributes:
        configuration: to be changed before it starts.
        archive: its archive, which goes to the evidence at the end.
    """

    def __init__(self, rig: Rig, folder: Path, place: Path, authority: Authority) -> None:
        authority.issue("relay")
        self.archive = place / ARCHIVE
        self._host, self._folder, self._log = Host(), folder, folder / "relay.log"
        self._process: HostProcess | None = None
        tls = {"ca": f"file:{authority.folder}/ca.pem", "certificate": f"file:{authority.folder}/relay.pem",
               "key": f"file:{authority.folder}/relay.key"}  # fmt: skip
        mqtt = {"host": rig.wired.broker.address, "port": brokers.PORT, "tls": tls}
        self.configuration: dict[str, Any] = {
            "relay": {"name": "rig", "archive": str(self.archive), "trust": [str(folder / TRUST)], "mqtt": mqtt},
            "log": {"format": "json"},
        }

    async def start(self) -> None:
        """Start it; it has subscribed on return. Raises CommandFailed."""
        file = self._folder / "relay.yaml"
        file.write_bytes(orjson.dumps(self.configuration, option=orjson.OPT_INDENT_2))
        self._process = await self._host.start(*_TIDEGATE, "relay", str(file), log=self._log)
        while (status := await self.status()) is None or status.relay is None or status.relay.state != "up":
            if self.has_ended:
                raise CommandFailed(f"the relay ended with {self._process.returncode}; see {self._log}")
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Ask it to end."""
        if self._process is not None:
            await self._process.stop()

    async def kill(self) -> None:
        """End it at once."""
        if self._process is not None:
            await self._process.kill()

    @property
    def has_ended(self) -> bool:
        """Whether its process is not running."""
        return self._process is None or self._process.returncode is not None

    async def status(self) -> StatusSnapshot | None:
        """What it says of itself; None while it does not answer."""
        return await self._host.status(self.archive / "status.sock")


@dataclass(slots=True)
class BenchDevice:
    """A device, with the switches that it has.

    Attributes:
        settings: as checked by its driver.
    """

    wired: WiredDevice
    settings: DeviceSettings
    power: Switch | None = None
    network: Switch | None = None

    @property
    def name(self) -> str:
        """Its name in the configuration."""
        return self.wired.name


@dataclass(slots=True, kw_only=True)
class Bench:
    """A rig that is set up.

    Attributes:
        folder: the evidence of the scenario.
        devices: by name.
        clock: switches the network of the clock's reference.
    """

    rig: Rig
    folder: Path
    gateway: Gateway
    relay: Relay
    broker: Broker
    devices: Mapping[str, BenchDevice]
    clock: Switch | None = None

    @property
    def switches(self) -> list[Switch]:
        """Every switch of the rig."""
        found = [self.gateway.power, self.gateway.network, self.gateway.uplink, self.clock]
        found += [switch for device in self.devices.values() for switch in (device.power, device.network)]
        return [switch for switch in found if switch is not None]

    async def restore(self) -> list[str]:
        """Turn on every switch that is off, and start what was stopped; what could not be restored, in a sentence each."""
        troubles = []
        for switch in self.switches:
            if not switch.is_on:
                try:
                    await switch.on()
                except SwitchFailed as error:
                    troubles.append(f"NOT RESTORED: {error}")
        return troubles


@asynccontextmanager
async def set_up(rig: Rig, folder: Path) -> AsyncIterator[Bench]:
    """A rig, set up with its evidence in a folder; it is as before when the block ends, also by an error.

    Raises:
        TidegateError: something of the rig does not work; the message says what.
    """
    (folder / DEVICES).mkdir(parents=True, exist_ok=True)
    async with AsyncExitStack() as stack:
        # Keys, sockets and the broker's files are no evidence, and the path of a socket must be short.
        place = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tidegate-hil-")))
        place.chmod(0o755)
        (place / "authority").mkdir()
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
    wired, machine = rig.wired, Machine(place / "dmz", brokers.LAY_OUT, has_own_network=False)
    machine.folder.mkdir()
    brokers.lay_out(machine.folder, authority, wired.broker.address)
    stack.enter_context(machine)
    host, there = Host(), PurePosixPath(place / "gateway")
    if wired.gateway.ssh:
        host, there = SshHost(wired.gateway.ssh, place), PurePosixPath(wired.gateway.folder) / place.name
        stack.push_async_callback(host.close)
        stack.push_async_callback(host.run, "rm", "-rf", str(there))
    gateway = Gateway(rig, host, there, folder)
    gateway.power = _switch("gateway power", wired.gateway.power)
    gateway.network = _switch("gateway network", wired.gateway.network)
    gateway.uplink = _switch("gateway uplink", wired.gateway.uplink)
    devices = {
        device.name: BenchDevice(device, settings, _switch(f"{device.name} power", device.power),
                                 _switch(f"{device.name} network", device.network))
        for device, settings in zip(wired.devices, rig.checked, strict=True)
    }  # fmt: skip
    return Bench(
        rig=rig, folder=folder, gateway=gateway, relay=Relay(rig, folder, place, authority), devices=devices,
        broker=Broker(machine, wired.broker.address, authority), clock=_switch("clock network", wired.clock.network),
    )  # fmt: skip


def _switch(name: str, command: Any) -> Switch | None:
    return command_switch(name, command) if command else None


async def _simulated(rig: Rig, folder: Path, place: Path, authority: Authority, stack: AsyncExitStack) -> Bench:
    """Namespaces: the floor is one network, with the gateway, this machine and each device; the DMZ is another."""
    made = stack.enter_context(ExitStack())
    floor = made.enter_context(Ethernet("floor", _BENCH))
    dmz = made.enter_context(Ethernet("dmz", "198.51.100.1"))
    machine = Machine(place / "dmz", brokers.LAY_OUT)
    machine.folder.mkdir()
    brokers.lay_out(machine.folder, authority, rig.wired.broker.address)
    made.enter_context(machine)
    dmz.plug_in(machine, rig.wired.broker.address, "broker network")
    place.joinpath("gateway").mkdir()
    under_test = made.enter_context(Machine(place / "gateway"))
    gateway = Gateway(rig, Host(under_test.enter), PurePosixPath(place / "gateway"), folder)
    gateway.network = floor.plug_in(under_test, _FLOOR_GATEWAY, "gateway network")
    gateway.uplink = dmz.plug_in(under_test, _DMZ_GATEWAY, "gateway uplink")
    gateway.power = _power_of("gateway power", [gateway.network, gateway.uplink], gateway.kill, _nothing)
    devices = await asyncio.gather(*(
        _simulated_device(rig, device, settings, folder, place, floor, made, stack)
        for device, settings in zip(rig.wired.devices, rig.checked, strict=True)
    ))  # fmt: skip
    return Bench(
        rig=rig, folder=folder, gateway=gateway, relay=Relay(rig, folder, place, authority),
        devices={device.name: device for device in devices},
        broker=Broker(machine, rig.wired.broker.address, authority),
    )  # fmt: skip


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
        while "ready\n" not in said.read_text():
            if process.returncode is not None:
                raise CommandFailed(f"the simulated {wired.name} ended by itself: {said.read_text()[-500:]}")
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
