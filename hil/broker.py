"""The broker of a rig: mosquitto with the files that are shipped in configs/dmz, TLS and access list included."""

from __future__ import annotations

import asyncio
import shutil
from pathlib import Path
from typing import Self

from edge.errors import ConfigError
from hil.authority import Authority
from hil.hosts import CommandFailed, Host, HostProcess
from hil.namespaces import Machine

PORT = 8883
SHIPPED = Path(__file__).parent / "dmz"
"""A link to configs/dmz; in the distribution a copy."""

# The paths in the shipped files are those of Debian's package: this machine's own are hidden by the rig's.
_LAY_OUT = """
mount --bind "$1/etc" /etc/mosquitto
mount --bind "$1/lib" /var/lib/mosquitto
mount --bind "$1/hosts" /etc/hosts
chown -R mosquitto "$1/lib" "$1/etc"
echo ready
exec sleep infinity
"""
# It would change its user itself, and then outlive this process: the kernel forgets at that what ends it.
_AS_MOSQUITTO = (
    "setpriv", "--reuid", "mosquitto", "--regid", "mosquitto", "--clear-groups", "--pdeathsig", "KILL",
)  # fmt: skip
_LISTENING = 'exec 2>/dev/null 3<"/dev/tcp/$0/$1"'
_START_S = 20.0


class Broker:
    """The broker, which can be stopped and started again; a restart forgets what it has not saved, as a power cut does.

    Attributes:
        authority: issues the certificates of everything that connects to it.
        log: what it says.
    """

    def __init__(self, folder: Path, address: str, authority: Authority, *, has_own_network: bool = True) -> None:
        self.machine = Machine(folder, _LAY_OUT, has_own_network=has_own_network)
        self.address, self.authority, self.log = address, authority, folder / "broker.log"
        self._process: HostProcess | None = None

    def __enter__(self) -> Self:
        """Lay its machine out. Raises ConfigError without mosquitto."""
        _mosquitto()
        folder = self.machine.folder
        for name in ("lib", "etc/tidegate", "etc/conf.d"):
            (folder / name).mkdir(parents=True)
        self.renew()
        (folder / "etc/tidegate/acl").write_bytes((SHIPPED / "acl").read_bytes())
        (folder / "etc/conf.d/tidegate.conf").write_bytes((SHIPPED / "mosquitto.conf").read_bytes())
        # As Debian's own file, but for its log file.
        own = "persistence_location /var/lib/mosquitto/\ninclude_dir /etc/mosquitto/conf.d\n"
        (folder / "etc/mosquitto.conf").write_text(own)
        self.machine.__enter__()
        self._host = Host(self.machine.enter)
        return self

    def __exit__(self, *_: object) -> None:
        self.machine.__exit__()

    async def start(self) -> None:
        """Start it; it accepts connections on return. Raises CommandFailed."""
        self._process = await self._host.start(*_AS_MOSQUITTO, _mosquitto(), "-c", "/etc/mosquitto/mosquitto.conf",
                                               log=self.log)  # fmt: skip
        try:
            async with asyncio.timeout(_START_S):
                while not await self._is_listening():
                    if self._process.returncode is not None:
                        raise CommandFailed(f"the broker ended by itself; see {self.log}")
                    await asyncio.sleep(0.05)
        except TimeoutError:
            raise CommandFailed(f"the broker does not listen after {_START_S:g} s; see {self.log}") from None

    async def stop(self, *, at_once: bool = False) -> None:
        """End it: as its unit does, or at once, so that it saves nothing."""
        if self._process is not None:
            await (self._process.kill() if at_once else self._process.stop())
            self._process = None  # Not before: a stop that is broken off is made good when the rig is taken down.

    def renew(self) -> None:
        """Give it a new certificate of its authority, which it uses from its next start on."""
        self.authority.issue("broker", ("dmz-broker.example", self.address))
        for name in ("ca.pem", "broker.pem", "broker.key"):
            installed = self.machine.folder / "etc/tidegate" / name
            shutil.copy(self.authority.folder / name, installed)
            shutil.chown(installed, "mosquitto")

    async def _is_listening(self) -> bool:
        try:
            await self._host.run("bash", "-c", _LISTENING, self.address, str(PORT))
        except CommandFailed:
            return False
        return True


def _mosquitto() -> str:
    found = shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin:/usr/bin:/usr/local/bin")
    if found is None:
        raise ConfigError("the broker of a rig is mosquitto, which is not installed: apt-get install mosquitto")
    return found
