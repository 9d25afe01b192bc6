"""The disks of a running gateway and relay fail in every way, one after the other, and heal; neither starts again.

What must hold each time: the disk has refused something, devices are read on, records are on disk and in the archive
again by themselves once it heals, and at the end every value is accounted for.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from edge.health import read_status
from tests.faults.gateway.site_under_test import Account, Process, Site, Told
from tests.support.forgetful_disk import ForgetfulDisk, forgetful_disk

DEVICE = "mixer"
FAULTS: dict[str, Callable[[ForgetfulDisk], None]] = {
    "full": ForgetfulDisk.fill,
    "read-only": ForgetfulDisk.make_read_only,
    "EIO on write": lambda disk: disk.fail("write", error=errno.EIO),
    "EIO on sync": lambda disk: disk.fail("sync", error=errno.EIO),
    "short write": lambda disk: disk.fail("short write", error=errno.ENOSPC),
    "no inodes": lambda disk: disk.fail("create", "mkdir", error=errno.ENOSPC),
}
_NEEDS_A_NEW_FILE = ("full", "no inodes")
"""What is refused to the gateway then are only the files that it replaces: its segment has room."""


@dataclass(kw_only=True)
class Outcome:
    """Seconds from the healing until gateway and relay said that their disk is used again, by fault."""

    recovered_s: dict[str, tuple[float, float]] = field(default_factory=dict)
    account: Account | None = None
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The outcome for people."""
        lines = [f"{name:13} gateway on disk again after {gateway:.1f} s, relay after {relay:.1f} s"
                 for name, (gateway, relay) in self.recovered_s.items()]  # fmt: skip
        return "\n".join([*lines, *(f"FOUND {each}" for each in self.findings or ["nothing"])])


class DiskFaults:
    """A site whose disks fail."""

    def __init__(self, site: Site) -> None:
        self._site, self.outcome = site, Outcome()

    def run(self) -> Outcome:
        """All faults once, on the same processes."""
        site = self._site
        with ExitStack() as stack:
            ours, theirs = (stack.enter_context(forgetful_disk(site.directory / name)) for name in ("gw", "it"))
            stack.callback(site.close)
            site.state, site.buffer, site.archive = ours.path / "state", ours.path / "buffer", theirs.path / "archive"
            site.settings["gateway"]["state"] = str(site.state)
            site.settings["buffer"]["directory"] = str(site.buffer)
            site.settings["uplink"]["mqtt"]["resend_window"] = "0 s"
            site.settings["seal"] = {"checkpoint": "1 s", "key_records": 50}
            site.add_counter(DEVICE, limits={"timeout": "5 s"})  # A busy machine is no device that does not answer.
            site.mosquitto()
            relay, gateway = site.relay(), site.gateway()
            site.wait_for_scans()
            for name in FAULTS:
                self._fail(name, ours, theirs)
            told = site.stop_and_archive(gateway)
            code = relay.stop()
            self._account(told, [gateway, relay], code)
        return self.outcome

    def _fail(self, name: str, *disks: ForgetfulDisk) -> None:
        site = self._site
        for disk in disks:
            disk.refused()
            FAULTS[name](disk)
        refused = [0, 0]

        def has_refused() -> bool:
            for at, disk in enumerate(disks):
                refused[at] += disk.refused()
            # A relay needs a new file once a day.
            return bool(refused[0]) if name == "no inodes" else all(refused)

        site.wait(has_refused, f"the disks to refuse something: {name}")
        if name not in _NEEDS_A_NEW_FILE:
            site.wait(lambda: self._is_buffer("memory"), f"the gateway to say so: {name}")
        site.wait_for_scans()
        healed_s = time.monotonic()
        for disk in disks:
            disk.heal()
        site.wait(lambda: self._is_buffer("ok"), f"the gateway's disk to be used: {name}")
        gateway_s = time.monotonic() - healed_s
        site.wait(self._is_archive_written, f"the relay's disk to be used: {name}")
        self.outcome.recovered_s[name] = (gateway_s, time.monotonic() - healed_s)
        site.wait_for_scans()

    def _is_buffer(self, state: str) -> bool:
        status = self._site.status()
        return status is not None and status.buffer is not None and status.buffer.state == state

    def _is_archive_written(self) -> bool:
        relay = read_status(self._site.archive / "status.sock").relay
        return relay is not None and relay.unwritable_since_ns is None

    def _account(self, told: Told, processes: list[Process], code: int) -> None:
        site, outcome = self._site, self.outcome
        outcome.findings += [
            f"{each.name} raised: {each.log()[-800:]}" for each in processes if "Traceback" in each.log()
        ]
        if code:
            outcome.findings.append(f"the relay stopped with {code}")
        outcome.account = site.account(told, DEVICE)
        outcome.findings += outcome.account.findings()
        if outcome.account.in_gaps:
            outcome.findings.append(f"{outcome.account.in_gaps} values are missing although memory had room")
        report = site.verify(site.archive)
        if len(report["epochs"]) != 1 or report["epochs"][0]["tail"] != "CLOSED":
            outcome.findings.append(f"{len(report['epochs'])} chains, the last is {report['epochs'][-1]['tail']}")
