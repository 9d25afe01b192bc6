"""`tidegate page`: a read-only web page of gateways and relays on this machine."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections.abc import Callable, Container
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractAsyncContextManager
from pathlib import Path

import click

from edge import http, logs
from edge.config.sockets import of_role_forward, status_sockets
from edge.health import Notifier
from edge.page.server import SERVICE, PageServer
from edge.page.source import Source
from edge.tls import TlsFiles

_LOOK_EVERY_S = 5.0
_SOURCES_LIMIT = 32

log = logs.get_logger(__name__)


@click.command(
    epilog="""\b
Examples:
  tidegate page
  tidegate page configs/line-4.yaml
  tidegate page --socket /var/lib/tidegate/status.sock --listen 127.0.0.1:9480

It runs until SIGTERM or Ctrl-C. Exit code 78: the address or a file cannot be used."""
)
@click.argument("configs", nargs=-1, type=click.Path(path_type=Path, exists=True))
@click.option("--socket", "paths", multiple=True, type=click.Path(path_type=Path),
              help="Status socket of a gateway or relay. May be repeated.")  # fmt: skip
@click.option("--listen", "address", default="127.0.0.1:9480", show_default=True, metavar="ADDRESS:PORT",
              help="Where browsers find it; other machines only with --certificate, --key and --ca.")  # fmt: skip
@click.option("--name", "names", multiple=True, metavar="HOST",
              help="A name under which browsers reach it, besides localhost and addresses. Repeatable.")  # fmt: skip
@click.option("--certificate", type=click.Path(path_type=Path), help="Certificate of this page, in PEM.")
@click.option("--key", type=click.Path(path_type=Path), help="Its key.")
@click.option("--ca", type=click.Path(path_type=Path), help="Authority of the certificates that browsers must have.")
@click.option("--log", "log_format", type=click.Choice(["auto", "json", "console"]), default="auto",
              help="How log lines look.")  # fmt: skip
def command(
    configs: tuple[Path, ...], paths: tuple[Path, ...], *, address: str, names: tuple[str, ...],
    certificate: Path | None, key: Path | None, ca: Path | None, log_format: logs.Format,
) -> None:  # fmt: skip
    """Serve a web page that shows how gateways and relays are, live, and can change nothing.

    Name them by their configuration files CONFIGS or their sockets; without either it shows all services of this
    machine.
    """
    given = (certificate, key, ca)
    if any(given) and not all(given):
        raise click.UsageError("--certificate, --key and --ca belong together: give all three")
    tls = None
    if ca is not None:
        tls = TlsFiles(ca=ca, certificate=certificate, key=key, settings="--ca, --certificate, --key")
    named = [*paths, *(_socket_of(config) for config in configs)]
    logs.configure(form=log_format)
    sources: dict[str, Source] = {}
    server = PageServer(sources, names)
    with asyncio.Runner() as runner:
        runner.run(_run(lambda: named or status_sockets(), sources, http.serve(address, server.answer, SERVICE, tls)))


def _socket_of(config: Path) -> Path:
    """Found by another process: checking a configuration loads drivers, which this one never does."""
    from edge.cli.status import configured_socket

    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
        return other.submit(configured_socket, config).result()


_Serving = AbstractAsyncContextManager[tuple[str, int]]


async def _run(find: Callable[[], list[Path]], sources: dict[str, Source], serving: _Serving) -> None:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        await _serve(find, sources, serving)
    except asyncio.CancelledError:
        task.uncancel()


async def _serve(find: Callable[[], list[Path]], sources: dict[str, Source], serving: _Serving) -> None:
    notifier = Notifier.from_environment()
    known: set[Path] = set()
    try:
        async with serving as (host, port), asyncio.TaskGroup() as tasks:
            log.info("page served", address=f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            notifier.ready("serving")
            while True:
                for path in (await asyncio.to_thread(find))[:_SOURCES_LIMIT]:
                    if path not in known:
                        known.add(path)
                        key = _key(path, sources)
                        sources[key] = Source(key, path, of_role_forward(path))
                        tasks.create_task(sources[key].run(), name=key)
                await asyncio.sleep(_LOOK_EVERY_S)
    finally:
        notifier.close()


def _key(path: Path, taken: Container[str]) -> str:
    """What tells a source from others in an address: gateway/line-4, or the end of the path of its socket."""
    key = f"{path.parent.name}/{path.name.removesuffix('.status.sock').removesuffix('.sock')}"
    return next(each for each in (key, *(f"{key}-{number}" for number in range(2, 100))) if each not in taken)
