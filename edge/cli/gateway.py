"""The process of a gateway: loaded while its configuration is checked, then run until a signal stops it."""

from __future__ import annotations

import asyncio
import ctypes
import signal
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from edge import logs
from edge.config.check_process import Role, Site
from edge.errors import ConfigError
from edge.gateway.daemon import Daemon
from edge.syslog import Syslog

_M_MMAP_THRESHOLD = -3  # Of malloc.h; once set, glibc no longer raises it as blocks are freed.
_LARGE_BYTES = 128 << 10

_loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None
with suppress(ImportError):
    from uvloop import new_event_loop as _loop_factory


def run_until_stopped(checked: Callable[[], Site], path: Path, role: Role) -> None:
    """Run the gateway with the settings that `checked` returns, read from `path`, until SIGTERM or SIGINT.

    Raises:
        ConfigError: the settings cannot be used, or not on this machine.
    """
    _keep_memory_small()
    site = checked()
    wanted = site.settings.log
    syslog = None if wanted.syslog == "off" else Syslog(wanted.syslog, site.settings.gateway.name, _sentence)
    logs.configure(wanted.level, wanted.format, say=_sentence, send=syslog.take if syslog else None)
    log = logs.get_logger(__name__)
    for warning in site.warnings:
        log.warning("configuration", problem=str(warning))
    daemon = Daemon(site, path, role)
    try:
        with asyncio.Runner(loop_factory=_loop_factory) as runner:
            runner.run(_run(daemon))
    except BaseExceptionGroup as group:
        refused = group.subgroup(ConfigError)
        if refused is None:
            raise
        raise _first(refused) from None


def _sentence(event: str, data: Mapping[str, Any]) -> str:
    from edge.cli.log_sentences import log_sentence  # A service logs JSON and does without.

    return log_sentence(event, data)


def _keep_memory_small() -> None:
    """Have glibc return freed memory: by default it keeps ever larger blocks, in every thread."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none, and keeps less memory.
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


async def _run(daemon: Daemon) -> None:
    stop, reload = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, reload.set)
    await daemon.run(stop, reload)


def _first(group: BaseExceptionGroup[ConfigError]) -> ConfigError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
