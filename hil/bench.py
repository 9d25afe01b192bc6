"""The bench: a rig that is set up for one scenario, with everything that a step can act on."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import orjson

from edge.driver import DeviceSettings
from edge.health import StatusSnapshot
from hil import broker as brokers
from hil.authority import Authority
from hil.broker import Broker
from hil.clocks import TrueTime
from hil.evidence import ARCHIVE, TRUST
from hil.hosts import CommandFailed, Host, HostProcess
from hil.rig import Rig, WiredDevice
from hil.switches import Switch, SwitchFailed

GATEWAY = "line-4"
"""The gateway's name: the one that the shipped access list has."""
_TIDEGATE = (sys.executable, "-m", "edge.cli")
_BOOT_S, _SUBSCRIBED_S = 300.0, 120.0


class _Program:
    """What is the same of gateway and relay: a process, once it was started."""

    _process: HostProcess | None = None

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


class Gateway(_Program):
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
        mqtt = {"host": rig.wired.broker.address, "port": brokers.PORT, "tls": {
            "ca": "file:ca.pem", "certificate": f"file:{GATEWAY}.pem", "key": f"file:{GATEWAY}.key"}}  # fmt: skip
        self.configuration: dict[str, Any] = {
            "clock": {"require": "any"}, "buffer": {"limit": "500 MB", "free_space": 0}, "log": {"format": "json"},
            **rig.gateway_settings,
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
        """Issue a certificate for its connection to the broker, and put it in place, also under a running gateway."""
        authority.issue(GATEWAY)
        for name in ("ca.pem", f"{GATEWAY}.pem", f"{GATEWAY}.key"):
            await self.host.write(self.folder / name, (authority.folder / name).read_bytes())

    async def start(self) -> None:
        """Start it with its configuration; a machine that was switched on is waited for."""
        try:
            async with asyncio.timeout(_BOOT_S):
                while True:
                    try:
                        await self._write()
                        break
                    except CommandFailed:
                        await asyncio.sleep(2)
        except TimeoutError:
            raise CommandFailed(f"the gateway's machine could not be reached for {_BOOT_S:g} s") from None
        self._process = await self.host.start(*self._command, "run", str(self._file), log=self.log)

    @property
    def pid(self) -> int:
        """The number of its process on its machine."""
        assert self._process is not None
        return self._process.pid

    async def status(self) -> StatusSnapshot | None:
        """What it says of itself; None while it does not answer."""
        return await self.host.status(self.folder / "state/status.sock")

    @property
    def _file(self) -> PurePosixPath:
        return self.folder / "gateway.yaml"

    async def _write(self) -> None:
        await self.host.write(self._file, orjson.dumps(self.configuration, option=orjson.OPT_INDENT_2))


class Relay(_Program):
    """The relay, on the machine that runs the scenarios.

    Attributes:
        configuration: to be changed before it starts.
        archive: its archive, which goes to the evidence at the end.
    """

    def __init__(self, rig: Rig, folder: Path, place: Path, authority: Authority) -> None:
        authority.issue("relay")
        self.archive = place / ARCHIVE
        self._host, self._folder, self._log = Host(), folder, folder / "relay.log"
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
        try:
            async with asyncio.timeout(_SUBSCRIBED_S):
                while (status := await self.status()) is None or status.relay is None or status.relay.state != "up":
                    if self.has_ended:
                        raise CommandFailed(f"the relay ended with {self._process.returncode}; see {self._log}")
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise CommandFailed(f"the relay has not subscribed within {_SUBSCRIBED_S:g} s; see {self._log}") from None

    async def status(self) -> StatusSnapshot | None:
        """What it says of itself; None while it does not answer."""
        return await self._host.status(PurePosixPath(self.archive) / "status.sock")


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
        stack: what is ended with the rig.
        clock_step: sets the gateway's clock wrong with `off`, and right with `on`.
        true_time: tells the time by the reference; None where that is not known.
    """

    rig: Rig
    folder: Path
    gateway: Gateway
    relay: Relay
    broker: Broker
    devices: Mapping[str, BenchDevice]
    stack: AsyncExitStack
    clock: Switch | None = None
    clock_step: Switch | None = None
    true_time: Callable[[], Awaitable[TrueTime | None]]

    @property
    def switches(self) -> list[Switch]:
        """Every switch of the rig."""
        found = [self.gateway.power, self.gateway.network, self.gateway.uplink, self.clock,
                 self.clock_step]  # fmt: skip
        found += [switch for device in self.devices.values() for switch in (device.power, device.network)]
        return [switch for switch in found if switch is not None]

    async def restore(self) -> list[str]:
        """Turn on every switch that is off; a sentence for each that could not be turned on."""
        troubles = []
        for switch in self.switches:
            if not switch.is_on:
                try:
                    await switch.on()
                except SwitchFailed as error:
                    troubles.append(f"NOT RESTORED: {error}")
        return troubles
