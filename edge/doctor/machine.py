"""The clock and the disks of this machine."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from edge.clock import Require, SystemClock
from edge.clock.ptp import READ_ONLY_ADDRESS
from edge.config.clock_sources import clock_sources, smear_ns
from edge.config.settings import GatewaySettings, RelaySettings
from edge.doctor.findings import Finding
from edge.health.clock import ask_clock
from edge.health.problems import StatusAnswer
from edge.health.snapshot import ClockStatus
from edge.units import format_size, format_utc

_AHEAD_S = 60
_FREE_SHARE, _FREE_SHARE_CRITICAL = 0.05, 0.01
_IN_MEMORY = ("tmpfs", "ramfs")
_PTP4L = (Path(READ_ONLY_ADDRESS), Path("/run/ptp4l"))


def clock(settings: GatewaySettings | RelaySettings | None, status: StatusAnswer | None) -> Iterator[Finding]:
    """Whether the clock can be right, and who says so."""
    now_s = time.time()
    # Nothing was installed or written in the future. A day: whoever packed the program has another clock.
    behind = [(Path(__file__).stat().st_mtime - 86_400, "the program was installed")]
    behind += [(newest - _AHEAD_S, "the newest file of its data was written") for newest in _newest(settings)]
    for least_s, what in behind:
        if now_s < least_s:
            yield Finding(severity="critical", area="clock", remedy="set it, and let chrony keep it",
                          text=f"the clock says {format_utc(time.time_ns())}, which is before {what}")  # fmt: skip
    if not any(Path("/dev").glob("rtc*")):
        yield Finding(
            severity="notice", area="clock", text="this machine has no clock with a battery (no /dev/rtc0)",
            remedy="after a power cut the time is wrong until the time server answers; fit one, or start after chrony",
        )  # fmt: skip
    if isinstance(settings, GatewaySettings) and settings.clock.ptp == "off" and (path := _served_by_ptp4l()):
        yield Finding(severity="notice", area="clock", text="ptp4l runs here, and the gateway does not ask it",
                      remedy=f"write ptp: {path} below clock:, for the bound of PTP; docs/how-to/ptp.md")  # fmt: skip
    if status is not None and status.clock is not None:
        if status.clock.bound_ns is not None:
            yield _judged(status.clock)
        return  # What is wrong the process says itself.
    own = SystemClock()
    yield _judged(asyncio.run(ask_clock(clock_sources(settings, own), own, Require.ANY, smear_ns(settings))))


def _served_by_ptp4l() -> Path | None:
    """The socket of a ptp4l that runs."""
    for path in _PTP4L:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect(str(path))
            except PermissionError:  # It is root's.
                return path
            except OSError:  # There is none, or one that was killed left its socket behind.
                continue
            return path
    return None


def _judged(clock: ClockStatus) -> Finding:
    if not clock.remedy:
        return Finding(severity="ok", area="clock", text=f"within {clock.within} of UTC, says {clock.source}")
    why = f" ({clock.reason})" if clock.reason else ""
    is_kept = clock.state == "SYNCHRONIZED"
    return Finding(severity="notice" if is_kept else "warning", area="clock", text=f"{clock.words}{why}",
                   remedy=clock.remedy)  # fmt: skip


def _newest(settings: GatewaySettings | RelaySettings | None) -> Iterator[float]:
    for directory in directories(settings) if settings else ():
        try:
            yield max((each.stat().st_mtime for each in os.scandir(directory)), default=0)
        except OSError:
            continue  # This user may not look, or nothing was written yet.


def directories(settings: GatewaySettings | RelaySettings) -> tuple[Path, ...]:
    """Where the gateway or relay writes."""
    if isinstance(settings, GatewaySettings):
        return settings.gateway.state, settings.buffer_directory
    relay = settings.relay
    lake = relay.sinks.lake.directory if relay.sinks.lake else None
    return tuple(each for each in (relay.archive, relay.quarantine, lake) if each is not None)


def disks(settings: GatewaySettings | RelaySettings) -> Iterator[Finding]:
    """Whether what is written stays, and has room."""
    seen = set()
    for directory in directories(settings):
        try:
            held = next(each for each in (directory.absolute(), *directory.absolute().parents) if each.exists())
            disk, device = os.statvfs(held), held.stat().st_dev
        except OSError as error:
            yield Finding(
                severity="unseen", area="disk", text=f"{directory}: {error.strerror}", remedy="run it as root"
            )
            continue
        if device not in seen:
            seen.add(device)
            yield from _disk(held, disk)


def _disk(held: Path, disk: os.statvfs_result) -> Iterator[Finding]:
    share, free_bytes = disk.f_bavail / max(disk.f_blocks, 1), disk.f_bavail * disk.f_frsize
    if disk.f_flag & os.ST_RDONLY:
        yield Finding(severity="critical", area="disk", text=f"the disk of {held} is mounted read-only",
                      remedy="see dmesg: the disk may be failing; mount it for writing")  # fmt: skip
    if (kind := _file_system(held)) in _IN_MEMORY:
        yield Finding(severity="critical", area="disk", remedy="use a directory on a disk",
                      text=f"{held} is in memory ({kind}): its data is lost with the power")  # fmt: skip
    if disk.f_files and disk.f_favail / disk.f_files < _FREE_SHARE:
        yield Finding(severity="warning", area="disk", remedy="remove small files, or make a new file system",
                      text=f"the disk of {held} has room for {disk.f_favail:,} more files only")  # fmt: skip
    if share < _FREE_SHARE:
        yield Finding(severity="critical" if share < _FREE_SHARE_CRITICAL else "warning", area="disk",
                      text=f"the disk of {held} is nearly full: {format_size(free_bytes)} free, {share:.1%}",
                      remedy="make room on it: du -xh / | sort -h | tail names the largest directories")  # fmt: skip
    else:
        yield Finding(severity="ok", area="disk", text=f"the disk of {held} has {format_size(free_bytes)} free")


def _file_system(path: Path) -> str:
    """The kind of file system that a path is on."""
    try:
        mounts = [line.split(" ") for line in Path("/proc/mounts").read_text("utf-8", "replace").splitlines()]
    except OSError:
        return ""
    below = [(mount[1], mount[2]) for mount in mounts if path.resolve().is_relative_to(mount[1].replace("\\040", " "))]
    return max(below, key=lambda each: len(each[0]), default=("", ""))[1]
