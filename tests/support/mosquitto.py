"""A mosquitto of one test, with an access list."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.ports import free_port


@contextmanager
def running_mosquitto(folder: Path, access_list: str, settings: str = "", port: int = 0) -> Iterator[int]:
    """A mosquitto that lets much wait, as in configs/dmz, and keeps nothing on disk; its port on loopback."""
    port = port or free_port()
    acl, file = folder / "acl", folder / "mosquitto.conf"
    acl.write_text(access_list)
    file.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 1000000\npersistence false\n"
        f"log_dest stderr\nacl_file {acl}\nuser {getpass.getuser()}\n{settings}"
    )
    program = shutil.which("mosquitto") or "/usr/sbin/mosquitto"
    with subprocess.Popen([program, "-c", file], stderr=subprocess.PIPE, text=True) as broker:
        try:
            assert broker.stderr is not None
            assert any(" running" in line for line in broker.stderr), "mosquitto did not start"
            yield port
        finally:
            broker.kill()
