"""What a snapshot says of the time before it: scans missed and bytes stored in an hour, and how long records wait."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from typing import TYPE_CHECKING, NoReturn

from edge.health import SAMPLE_EVERY_S, LastHour, disk_written_bytes

if TYPE_CHECKING:
    from edge.gateway.daemon import Daemon
    from edge.scan import DevicePoller

_MARK_EVERY_S = 1.0
_MARKS_LIMIT = 4096


class StorageTimes:
    """When records became durable, to a second, and less exact the longer the broker takes nothing."""

    def __init__(self, now_ns: int, durable_end: int) -> None:
        self._started_ns = now_ns
        self._ends, self._times_ns = [durable_end], [now_ns]

    def note(self, now_ns: int, durable_end: int, oldest_waiting: int | None) -> None:
        """All records below `durable_end` are durable now; those before the oldest that waits do not matter."""
        if durable_end > self._ends[-1]:
            self._ends.append(durable_end)
            self._times_ns.append(now_ns)
        done = bisect_right(self._ends, durable_end if oldest_waiting is None else oldest_waiting) - 1
        if done > 0:
            del self._ends[:done], self._times_ns[:done]
        if len(self._ends) > _MARKS_LIMIT:
            del self._ends[2::2], self._times_ns[2::2]  # The first two say when the oldest that waits was stored.

    def age_ns(self, number: int, now_ns: int) -> tuple[int, bool]:
        """For how long a record is stored; True where it is at least that long: it was there before the process."""
        at = bisect_right(self._ends, number)
        if at == 0:
            return now_ns - self._started_ns, self._times_ns[0] == self._started_ns
        return (now_ns - self._times_ns[at] if at < len(self._ends) else 0), False


class History:
    """Samples of the counters of one gateway process, taken by a timer and never by a scan."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        now_ns = daemon.clock.boot_ns()
        self.last_hour = LastHour(now_ns, {})
        self.storage_times: StorageTimes | None = None
        if daemon.forwarding is not None:
            ours = daemon.acquisition.recorder.counts.records if daemon.acquisition else 0
            self.storage_times = StorageTimes(now_ns, daemon.forwarding.durable_end() - ours)

    async def run(self) -> NoReturn:
        """Sample until cancelled."""
        await asyncio.sleep(_MARK_EVERY_S)
        # What was due before the first sessions were open was not missed.
        sampled_ns = self._daemon.clock.boot_ns()
        self.last_hour = LastHour(sampled_ns, self._counters())
        while True:
            await asyncio.sleep(_MARK_EVERY_S)
            now_ns = self._daemon.clock.boot_ns()
            if self.storage_times is not None and (forwarding := self._daemon.forwarding) is not None:
                self.storage_times.note(now_ns, forwarding.durable_end(), forwarding.oldest_waiting())
            if now_ns - sampled_ns >= SAMPLE_EVERY_S * 1e9:
                sampled_ns = now_ns
                self.last_hour.note(now_ns, self._counters())

    def _counters(self) -> dict[str, int]:
        counters = {"disk": disk_written_bytes() or 0}
        if (acquisition := self._daemon.acquisition) is not None:
            counters |= {f"missed {device.poller.name}": missed_scans(device.poller) for device in acquisition.devices}
            counters["bytes"] = acquisition.recorder.counts.record_bytes
            counters["dropped"] = acquisition.dropped_records
        if (forwarding := self._daemon.forwarding) is not None:
            counters["no subscriber"] = forwarding.snapshot().reason_codes.get(0x10, 0)
        return counters


def missed_scans(poller: DevicePoller) -> int:
    """Scans of a device that were skipped or failed since the start."""
    counts = poller.counts()
    return counts.skipped + counts.failed
