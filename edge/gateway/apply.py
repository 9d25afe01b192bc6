"""A changed configuration taken into use while the gateway runs: what `tidegate apply` asks for.

An apply is a task of the gateway, so that it ends as it should when the command that asked for it goes away:

- The files are checked in a process of their own, and must be those that the command has shown.
- Where a second person has to approve it, the approval is verified here, whatever the command has said of it.
- Devices with the same settings are left alone. The others are planned beside the running ones.
- Who asked for it and why is left for the next start first: one that comes in the middle knows it too.
- The CONFIG record with who and why is stored before anything changes. Where it cannot be, nothing changes.
- Sessions that go end, new ones begin, and blocks refer to a new catalogue.
- Where a device that is new, or has other settings, does not come up in time, the configuration before returns in the
  same way. Its files stay as they are: that they differ from what runs is an event, and stands in the status.

What is neither a device nor a context, such as clock or uplink, is taken into use by a start, and so is all that was
changed with it.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
from base64 import b64encode
from collections.abc import Awaitable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, NoReturn, TypeVar

import orjson

from edge.accounts import account_name, claimed_account, seen
from edge.approval.sshsig import Refused
from edge.config.check_process import Site, check_again
from edge.config.kept import (
    KeptConfiguration,
    Pending,
    digest_of,
    drop_pending,
    file_of,
    held,
    part_names,
    set_pending,
)
from edge.config.settings import TAKEN_WHILE_IT_RUNS, GatewaySettings
from edge.errors import BufferFull, ConfigError
from edge.gateway.acquire import Acquisition
from edge.gateway.approvals import ApproverList, approved, list_of
from edge.gateway.audit import EventKind
from edge.gateway.calibrations import is_same_but_for_calibration
from edge.gateway.configurations import Author, check_reason
from edge.gateway.control import GatewayRefuses, Request
from edge.gateway.devices import PlannedSite, plan_site
from edge.logs import get_logger
from edge.scan import DeviceState

WITHIN_S_MAX = 600.0
"""How long changed devices may be waited for at most."""
LOOK_EVERY_S = 5.0
"""How often the files are compared with what runs."""
_WAIT_LOOK_S = 0.1

T = TypeVar("T")

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far the last apply is.

    Attributes:
        state: none was asked for; running; what came of it otherwise.
        text: what is done, or what came of it, as a sentence.
        account: who asked.
        waiting_for: devices that have not come up yet.
        restart: sections that a start takes into use.
        problems: of the files.
    """

    state: Literal["none", "running", "applied", "unchanged", "restart", "refused", "rolled_back"] = "none"
    text: str = ""
    account: str = ""
    waiting_for: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    problems: tuple[str, ...] = ()


class Applier:
    """Applies configurations, one at a time, and watches whether the files are those of the one that runs.

    Attributes:
        progress: of the last apply.
        path: of the configuration, a file or a directory.
        differs_since_ns: boot time since when the files are others; None while they are not.
    """

    def __init__(self, acquisition: Acquisition, site: Site, path: Path) -> None:
        self.progress = Progress()
        self.differs_since_ns: int | None = None
        self.path = path
        self._acquisition, self._site = acquisition, site
        self._tasks: asyncio.TaskGroup | None = None
        self._seen: tuple[object, ...] = ()
        self._names_held: list[str] = []
        self._approvers = ApproverList(site.settings.gateway.state)

    @property
    def digest(self) -> bytes:
        """Of the files of the configuration that runs."""
        return self._site.digest

    @property
    def why_not(self) -> str:
        """What the last apply left to do, or does, as a sentence; empty where it left nothing."""
        now = self.progress
        match now.state:
            case "running":
                waiting = f", waiting for {', '.join(now.waiting_for)}" if now.waiting_for else ""
                return seen(f"{now.account} applies it, {now.text}{waiting}")
            case "refused" | "rolled_back" if self.differs_since_ns is not None:
                done = "was refused" if now.state == "refused" else "was taken back"
                return seen(f"what {now.account} applied {done}: {'; '.join((now.text, *now.problems[:1]))}")
        return ""

    @property
    def waits_for_start(self) -> tuple[str, ...]:
        """Sections that differ since the last apply, and that only a start takes into use."""
        return self.progress.restart if self.differs_since_ns is not None else ()

    # What commands ask

    async def ask(self, request: Request) -> bytes:
        """Begin to apply the files; how it goes on is asked with `ask_progress`. Raises GatewayRefuses."""
        within_s = float(request.within)
        if not 0 <= within_s <= WITHIN_S_MAX:
            raise GatewayRefuses(f"devices are waited for up to {WITHIN_S_MAX:g} s, got {request.within} s")
        try:
            check_reason(request.why, is_regulated=self._site.settings.gateway.regulated)
        except ConfigError as error:
            raise GatewayRefuses(str(error)) from error
        # The kernel knows no more of one who became root than that.
        vouched = await asyncio.to_thread(account_name, request.user)
        author = Author(account=claimed_account(vouched, seen(request.claimed)), role="apply", why=request.why)
        if self.progress.state == "running" or self._tasks is None:
            raise GatewayRefuses(f"another apply is under way, asked for by {self.progress.account}; wait for its end")
        self._report("running", "the files are checked", author)
        asked = Pending(digest=request.digest, account=author.account, why=author.why, change=request.change,
                        sha256=request.sha256, signature=request.signature)  # fmt: skip
        self._tasks.create_task(self._apply(author, asked, within_s), name="apply")
        return b"{}"

    async def ask_progress(self, _: Request) -> bytes:
        """How far the last apply is."""
        return orjson.dumps(self.progress)

    async def ask_configuration(self, request: Request) -> bytes:
        """A configuration with its files: the running one, or, with its number in `path`, an earlier one.

        Raises:
            LookupError: it is not kept.
        """
        return await asyncio.to_thread(self._kept, int(request.path or 0))

    def _kept(self, number: int) -> bytes:
        try:
            digest, packed, files = held(self._site.settings.gateway.state, self._site.digest, number)
        except OSError as error:
            raise LookupError(f"that configuration is not kept: {error}") from error
        return orjson.dumps({"digest": digest.hex(), "packed": b64encode(packed).decode(),
                             "files": b64encode(files).decode()})  # fmt: skip

    # The work

    async def run(self) -> NoReturn:
        """Watch the files, and apply them when asked, until cancelled."""
        async with asyncio.TaskGroup() as self._tasks:
            self._names_held = await asyncio.to_thread(self._names)
            await self._look_at_approvers()
            while True:
                await asyncio.sleep(LOOK_EVERY_S)
                if self.progress.state != "running":
                    await self._look()
                    await self._look_at_approvers()
        raise AssertionError("it is only left by its cancellation")

    def _report(self, state: Any, text: str, author: Author, **more: Any) -> None:
        self.progress = Progress(state=state, text=text, account=author.account, **more)

    async def _apply(self, author: Author, asked: Pending, within_s: float) -> None:
        state = self._site.settings.gateway.state
        await self._attempt(author, asked, within_s, state)
        if self.progress.state in ("refused", "unchanged"):
            await asyncio.to_thread(drop_pending, state)

    async def _attempt(self, author: Author, asked: Pending, within_s: float, state: Path) -> None:
        before = self._site
        try:
            await asyncio.to_thread(set_pending, state, asked)
            self._require_disk()
            site = await _without_bugs(check_again(self.path, "acquire"))
            if site.digest.hex() != asked.digest and not asked.change:
                self._report("refused", "the files have changed since they were shown; look at them again", author)
                return
            if site.digest == before.digest:
                self._report("unchanged", "this configuration runs already", author)
                return
            check_reason(author.why, is_regulated=site.settings.gateway.regulated)
            author = replace(author, approval=await self._approval(asked, site))
            if others := _other_sections(before.settings, site.settings):
                self._report("restart", "taken into use by the next start of the gateway", author, restart=others)
                return
            changed = await self._take(site, author, "the devices that change are planned")
        except ConfigError as error:
            self._report("refused", "nothing was changed", author, problems=tuple(map(str, error.problems)))
        except Refused as error:
            reason = seen(str(error))
            told = {"account": author.account, "name": error.reason, "reason": reason, "configuration": asked.digest}
            self._acquisition.audit.event(EventKind.APPROVAL_REFUSED, self.path.name, **told)
            self._report("refused", "nothing was changed", author, problems=(reason,))
        except (OSError, BufferFull) as error:
            self._report("refused", f"the change cannot be put on record, and nothing was changed: {error}", author)
        else:
            await self._wait(before, changed, author, within_s)

    async def _approval(self, asked: Pending, site: Site) -> bytes | None:
        """The approval of a configuration, by what the running one asks for. Raises Refused."""
        await self._look_at_approvers()  # By the list that goes on record, also where it is put back at once.
        running = self._site.settings
        return await asyncio.to_thread(
            approved, asked, site, self._site.digest, list_of(running), self._acquisition.utc_ns(),
            is_regulated=running.gateway.regulated,
        )  # fmt: skip

    def _require_disk(self) -> None:
        """Raise OSError while a record would be lost with the power."""
        if (usage := self._acquisition.recorder.usage) is not None and usage.is_in_memory:
            raise OSError(f"records are in memory only: {usage.failure or 'the disk of the buffer has no room'}")

    async def _take(self, site: Site, author: Author, text: str) -> Sequence[str]:
        """Take a configuration into use; the devices that are new or have other settings."""
        self._report("running", text, author)
        acquisition, before = self._acquisition, self._site
        positions = {device.poller.name: at for at, device in enumerate(acquisition.devices)}
        old = acquisition.settings.devices

        def same() -> set[str]:
            both = (each for each in site.settings.devices if each.name in positions)
            return {each.name for each in both if is_same_but_for_calibration(old[positions[each.name]], each)}

        def plan() -> PlannedSite:
            return plan_site(site.settings, acquisition.clock, same())

        with _without_collector():
            planned = await _without_bugs(asyncio.to_thread(plan))
            await acquisition.configurations.record(site.digest, before.digest, site.kept, author)
            await acquisition.change(site.settings, site.digest, planned)
        self._site, self.differs_since_ns, self._seen = site, None, ()
        self._names_held = await asyncio.to_thread(self._names)
        return [each.settings.name for each in planned.devices if each.driver is not None]

    async def _wait(self, before: Site, changed: Sequence[str], author: Author, within_s: float) -> None:
        """Wait for the devices that changed, and go back to the configuration before where one does not come up."""
        pollers = {device.poller.name: device.poller for device in self._acquisition.devices}
        missing = [pollers[name] for name in changed]
        until_s = asyncio.get_running_loop().time() + within_s
        while within_s and missing:
            missing = [poller for poller in missing if poller.state is not DeviceState.UP]
            left_s = until_s - asyncio.get_running_loop().time()
            if left_s <= 0:
                break
            waiting_for = tuple(poller.name for poller in missing)
            self._report("running", f"{left_s:.0f} s left for devices to come up", author, waiting_for=waiting_for)
            await asyncio.sleep(_WAIT_LOOK_S)
        if not missing or not within_s:
            self._report("applied", "applied", author)
            return
        reasons = "; ".join(f"{each.name} did not come up within {within_s:g} s: {each.reason or each.state}"
                            for each in missing)  # fmt: skip
        kept = await asyncio.to_thread(self._backwards, before)
        why = seen(reasons)
        back = Author(account=await asyncio.to_thread(account_name, os.getuid()), role="roll back", why=why)
        try:
            await self._take(replace(before, kept=kept), back, "the configuration before is taken into use again")
        except (ConfigError, OSError, BufferFull) as error:
            self._report("refused", f"{why}; and the configuration before cannot return: {error}", author)
            return
        self._acquisition.audit.event(EventKind.CONFIG_ROLLED_BACK, self.path.name, reason=why)
        self._report("rolled_back", why, author)

    def _backwards(self, before: Site) -> KeptConfiguration | None:
        """What is kept of the configuration before, with the changes of the one that runs undone."""
        with suppress(OSError):
            packed = file_of(before.settings.gateway.state, before.digest).read_bytes()
            done = self._site.kept or KeptConfiguration(packed=b"")
            undone = tuple((path, new, old) for path, old, new in done.changes)
            return KeptConfiguration(packed=packed, changes=undone, count=done.count)
        return None

    # The files

    async def _look(self) -> None:
        signature = await asyncio.to_thread(self._signature)
        if signature == self._seen:
            return
        self._seen = signature
        if await self._digest_of_files() == self._site.digest:
            self.differs_since_ns = None
        elif self.differs_since_ns is None:
            self.differs_since_ns = self._acquisition.clock.boot_ns()
            self._acquisition.audit.event(
                EventKind.CONFIG_DIFFERS, self.path.name, configuration=self._site.digest.hex()
            )

    async def _look_at_approvers(self) -> None:
        file = list_of(self._site.settings)
        if (found := await asyncio.to_thread(self._approvers.changed, file)) is None:
            return
        subject = "" if file is None else file.name
        self._acquisition.audit.event(EventKind.APPROVERS_CHANGED, subject, old=found[0], new=found[1])
        with suppress(OSError):  # The next start puts it on record again.
            await asyncio.to_thread(self._approvers.note)

    def _signature(self) -> tuple[object, ...]:
        """What is another whenever a file may be; without its content."""
        found: list[object] = []
        for path in [self._site.folder / name for name in self._site.files]:
            try:
                about = path.stat()
                found.append((about.st_mtime_ns, about.st_size, about.st_ino))
            except OSError as error:
                found.append(error.errno)
        return *found, *self._names()

    def _names(self) -> list[str]:
        """The names of all files that could be a part of the configuration."""
        return part_names(self.path) if self.path.is_dir() else []

    async def _digest_of_files(self) -> bytes:
        """The digest of the files as they are now; empty where they are no configuration."""
        names = await asyncio.to_thread(self._names)
        if names == self._names_held:
            return await asyncio.to_thread(self._read_again)
        try:  # One that has come may belong to it, or to another program.
            digest = (await _without_bugs(check_again(self.path, "acquire"))).digest
        except ConfigError:
            return b""
        if digest == self._site.digest:
            self._names_held = names
        return digest

    def _read_again(self) -> bytes:
        """The digest of the same files as they are now; empty where one is gone."""
        digests = {}
        for name in self._site.files:
            try:
                digests[name] = hashlib.sha256((self._site.folder / name).read_bytes()).hexdigest()
            except OSError:
                return b""
        return digest_of(digests)


@contextmanager
def _without_collector() -> Iterator[None]:
    """Without the garbage collector, which looks at everything that is planned while no scan can begin."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _without_bugs(work: Awaitable[T]) -> T:
    """What it gives: a driver that fails over a configuration must not end a gateway at work. Raises ConfigError."""
    try:
        return await work
    except ConfigError:
        raise
    except Exception as error:
        log.exception("configuration not applied")
        raise ConfigError(f"it cannot be used: {type(error).__name__}: {error}") from error


def _other_sections(old: GatewaySettings, new: GatewaySettings) -> tuple[str, ...]:
    """The sections that differ and wait for a start."""
    names = [each.name for each in fields(old) if each.name not in TAKEN_WHILE_IT_RUNS]
    return tuple(name for name in names if getattr(old, name) != getattr(new, name))
