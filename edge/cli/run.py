"""`tidegate run`: the gateway."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, get_args

import click

from edge.config.apart import begin_check
from edge.config.settings import Role
from edge.errors import ConfigError


@click.command(
    epilog="""\b
Examples:
  tidegate run configs/line-4.yaml
  tidegate run configs/line-4.yaml --role acquire
  tidegate run configs/line-4.yaml --role forward

Exit code 0: it was asked to stop. 78: the configuration cannot be used, and nothing was read."""
)
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--role", type=click.Choice(get_args(Role)), default="all", show_default=True,
              help="Only the device side, or only the network side; they meet at the buffer directory.")  # fmt: skip
def command(path: Path, role: Role) -> None:
    """Read devices, seal what they say, keep it, and send it one way, until SIGTERM or Ctrl-C."""
    checked = begin_check(path, role)
    # The child reads the configuration meanwhile.
    import structlog

    from edge import logs
    from edge.daemon import Daemon

    site = checked()
    logs.configure(site.settings.log.level, site.settings.log.format)
    log = structlog.get_logger(__name__)
    for warning in site.warnings:
        log.warning("configuration", problem=str(warning))
    run_until_stopped(Daemon(site.settings, site.digest, role).run)


def run_until_stopped(work: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> None:
    """Run `work(stop)` on uvloop where it is installed; SIGTERM and SIGINT set `stop`."""

    async def main() -> None:
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await work(stop)

    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(main())
    except BaseExceptionGroup as group:
        refused = group.subgroup(ConfigError)
        if refused is None:
            raise
        raise _first(refused) from None


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _first(group: BaseExceptionGroup[ConfigError]) -> ConfigError:
    error = group.exceptions[0]
    return _first(error) if isinstance(error, BaseExceptionGroup) else error
