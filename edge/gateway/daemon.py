"""The gateway as one process, or as its device side and its network side in two."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NoReturn

from edge.buffer import DirectoryLock
from edge.clock import Clock, SystemClock
from edge.config.check_process import Role, Site
from edge.config.sockets import of_role_forward, served_at
from edge.errors import ConfigError
from edge.gateway import settings_map
from edge.gateway.acquire import Acquisition, acquire
from edge.gateway.apply import Applier
from edge.gateway.audit import EventKind
from edge.gateway.configurations import require_reason
from edge.gateway.control import Answer, ControlServer
from edge.gateway.forward import Forwarding
from edge.gateway.history import History
from edge.gateway.live import LiveValues
from edge.gateway.questions import DeviceQuestions
from edge.gateway.snapshot import snapshot_of, values_of
from edge.health import Notifier, StatusLine, StatusServer, StatusSnapshot, Watchdog, serve_metrics
from edge.logs import get_logger
from edge.tasks import task_group

DRAIN_S = 3.0
"""How long a stop waits for the broker to acknowledge the last records; the others stay in the buffer."""

_SWITCH_INTERVAL_S = 0.0005

log = get_logger(__name__)


class Stopping(Exception):
    """The gateway was asked to end."""


class Daemon:
    """A gateway process.

    Attributes:
        acquisition: the device side; None in the role `forward`.
        applier: takes changed configurations into use; None in the role `forward`.
        forwarding: the network side; None in the role `acquire`, and without an uplink.
        control_socket: where commands ask the device side.
        live_socket: where current values are asked for, and nothing else.
        history: what snapshots say about the last hour.
    """

    history: History

    def __init__(self, site: Site, path: Path, role: Role = "all", *, live_tags: int = 8) -> None:
        """`site` was read from `path`; `live_tags` is how many current values of each scan group a snapshot holds."""
        settings = site.settings
        if role == "forward" and settings.uplink is None:
            raise ConfigError("uplink is missing: the role forward has nowhere to send to")
        self.settings, self.role, self.live_tags = settings, role, live_tags
        self.clock: Clock = SystemClock()
        self.started_ns = self.clock.boot_ns()
        self.acquisition: Acquisition | None = None
        self.forwarding: Forwarding | None = None
        self.applier: Applier | None = None
        self._site, self._path = site, path
        name, state = settings.gateway.name, settings.gateway.state
        self.control_socket = served_at(name, "control", state / "control.sock")
        self.live_socket = served_at(name, "live", state / "live.sock")

    async def run(self, stop: asyncio.Event, reload: asyncio.Event) -> None:
        """Run until `stop` is set. Sources end before sinks, so that the last records are still sent.

        `reload` connects to the broker anew, with password and certificates as their files are then.

        Raises:
            ConfigError: the gateway cannot start with this configuration; no device was read.
        """
        notifier = Notifier.from_environment()
        try:
            await asyncio.to_thread(settings_map.make_state_directory, self.settings)
            async with asyncio.TaskGroup() as sinks, AsyncExitStack() as stack:
                async with self._acquiring():
                    uplink = self._start_uplink(sinks, stack)
                    self.history = History(self)
                    await self._serve(stack)
                    await self._work(notifier, stop, reload)
                    notifier.stopping()
                if uplink is not None and self.forwarding is not None:
                    await self.forwarding.drain(DRAIN_S)
                    uplink.cancel()
        finally:
            notifier.close()

    def snapshot(self) -> StatusSnapshot:
        """The state of the gateway, with current values."""
        return snapshot_of(self, self.live_tags)

    @asynccontextmanager
    async def _acquiring(self) -> AsyncIterator[None]:
        if self.role == "forward":
            yield
            return
        site = self._site
        approval = await asyncio.to_thread(require_reason, site, self.clock.utc_ns())
        async with acquire(self.settings, site.digest, self.clock, site.kept, approval) as self.acquisition:
            self.applier = Applier(self.acquisition, site, self._path)
            yield

    def _start_uplink(self, sinks: asyncio.TaskGroup, stack: AsyncExitStack) -> asyncio.Task[None] | None:
        if self.role == "acquire" or self.settings.uplink is None:
            return None
        stack.enter_context(DirectoryLock(self.settings.buffer_directory, "forward"))
        acquisition = self.acquisition
        if acquisition is None:
            self.forwarding = Forwarding(self.settings, self.clock, _log_event)
        else:
            report = acquisition.sink.record_uplink_event
            self.forwarding = Forwarding(self.settings, self.clock, report, acquisition.store.pending)
            acquisition.recorder.on_stored = self.forwarding.wake
        return sinks.create_task(self.forwarding.run(), name="uplink")

    async def _serve(self, stack: AsyncExitStack) -> None:
        await stack.enter_async_context(StatusServer(self._status_socket(), self.snapshot))
        if (acquisition := self.acquisition) is not None and (applier := self.applier) is not None:
            questions = DeviceQuestions(acquisition)
            answers: dict[str, Answer] = {
                "read": questions.read,
                "browse": questions.browse,
                "apply": applier.ask,
                "progress": applier.ask_progress,
                "configuration": applier.ask_configuration,
            }
            server = ControlServer(self.control_socket, answers, owner_only={"apply", "configuration"})
            await stack.enter_async_context(server)
            live = LiveValues(lambda request: values_of(self, acquisition, request.device, request.tags))
            await stack.enter_async_context(ControlServer(self.live_socket, {"values": live.answer}, "live socket"))
        if (address := self._metrics_address()) is not None:
            await stack.enter_async_context(
                serve_metrics(address, lambda: snapshot_of(self), self.settings.status.metrics_files)
            )

    def _status_socket(self) -> Path:
        named, gateway = self.settings.status.socket, self.settings.gateway
        path = named or gateway.state / "status.sock"
        path = of_role_forward(path) if self.role == "forward" else path
        return path if named else served_at(gateway.name, "status", path)

    def _metrics_address(self) -> str | None:
        """The role forward uses the next port: both processes of a gateway read the same file."""
        address = self.settings.status.metrics
        if address is None or self.role != "forward" or address.endswith(":0"):
            return address
        host, _, port = address.rpartition(":")
        return f"{host}:{int(port) + 1}"

    async def _work(self, notifier: Notifier, stop: asyncio.Event, reload: asyncio.Event) -> None:
        # The garbage collector need not scan again what lives as long as the process.
        gc.freeze()
        gc.enable()
        # The thread that waits for the disk must not also wait for the event loop: Python's default interval is 5 ms.
        sys.setswitchinterval(_SWITCH_INTERVAL_S)
        try:
            async with task_group() as sources:
                sources.create_task(Watchdog(notifier, self._progress).run(), name="watchdog")
                status_line = StatusLine(notifier, lambda: snapshot_of(self).headline())
                sources.create_task(status_line.run(), name="status line")
                if self.acquisition is not None:
                    sources.create_task(self.acquisition.run(), name="acquisition")
                if self.applier is not None:
                    sources.create_task(self.applier.run(), name="configuration")
                sources.create_task(self.history.run(), name="history")
                sources.create_task(self._reload_when(reload), name="reload")
                sources.create_task(_raise_when(stop), name="stop")
                notifier.ready(f"reading {len(self.settings.devices)} devices" if self.acquisition else "sending")
                log.info("running", gateway=self.settings.gateway.name, role=self.role)
        except* Stopping:
            log.info("stopping", gateway=self.settings.gateway.name)

    async def _reload_when(self, reload: asyncio.Event) -> NoReturn:
        while True:
            await reload.wait()
            reload.clear()
            if self.acquisition is not None:
                self.acquisition.audit.event(EventKind.SIGNAL, "SIGHUP")
            try:
                if self.forwarding is not None:
                    await self.forwarding.reload()
            except ConfigError as error:
                log.error("not reloaded", reason=str(error))  # noqa: TRY400 - The sentence says it all.
            else:
                log.info("reloaded", gateway=self.settings.gateway.name)

    def _progress(self) -> int:
        """Changes with every sealed record; in the role forward, with every turn of the event loop."""
        if self.acquisition is not None:
            return self.acquisition.recorder.counts.records
        return self.clock.boot_ns()


async def _raise_when(stop: asyncio.Event) -> NoReturn:
    await stop.wait()
    raise Stopping


def _log_event(kind: str, severity: str, data: Mapping[str, str | int]) -> None:
    """Log an event of a process that does not own the chain."""
    {"info": log.info, "warning": log.warning, "error": log.error}[severity](kind, **data)
