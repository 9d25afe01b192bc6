"""The time of the simulated rig: a chronyd that serves, and one beside the gateway that asks it.

Both have `-x`: they leave the kernel's clock alone, which all namespaces share. So the reference is the gateway's own
clock, and what a scenario sees is how the gateway judges its source, and not how well chronyd disciplines a clock.
"""

from __future__ import annotations

import shutil
from pathlib import Path

from edge.errors import ConfigError
from hil.hosts import Host, HostProcess

SERVER = "192.0.2.5"
_COMMON = "pidfile {folder}/{name}.pid\nbindcmdaddress /\n"
_SERVES = "local stratum 3\nallow 192.0.2.0/24\ncmdport 0\n"
_ASKS = f"server {SERVER} iburst minpoll 0 maxpoll 0\nport 0\ncmdport 323\n"


async def start_server(host: Host, folder: Path) -> HostProcess:
    """Serve the kernel's time. Raises ConfigError without chrony."""
    return await _start(host, folder, "chrony-server", _SERVES)


async def start_client(host: Host, folder: Path) -> HostProcess:
    """Ask the server each second, and answer a gateway at 127.0.0.1:323. Raises ConfigError without chrony."""
    return await _start(host, folder, "chrony-client", _ASKS)


async def _start(host: Host, folder: Path, name: str, lines: str) -> HostProcess:
    program = shutil.which("chronyd", path="/usr/sbin:/usr/local/sbin:/usr/bin")
    if program is None:
        raise ConfigError("the clock of the simulated rig is chrony, which is not installed: apt-get install chrony")
    file = folder / f"{name}.conf"
    file.write_text(_COMMON.format(folder=folder, name=name) + lines)
    return await host.start(program, "-x", "-d", "-u", "root", "-f", str(file), log=folder / f"{name}.log")
