"""Time: boot-time stamps, their mapping to UTC, and the bound of the clock's error."""

from edge.clock.chrony import ChronySource
from edge.clock.clock import Clock, SystemClock, boot_id, read_pair
from edge.clock.kernel import KernelSource
from edge.clock.ptp import PtpSource
from edge.clock.quality import TimeQuality, TimeSource, TimeState
from edge.clock.run_time import RunTime
from edge.clock.source import ClockSource, SourceReport, SourceSilent
from edge.clock.timekeeper import ClockStep, EventSink, Require, Timekeeper

__all__ = [
    "ChronySource",
    "Clock",
    "ClockSource",
    "ClockStep",
    "EventSink",
    "KernelSource",
    "PtpSource",
    "Require",
    "RunTime",
    "SourceReport",
    "SourceSilent",
    "SystemClock",
    "TimeQuality",
    "TimeSource",
    "TimeState",
    "Timekeeper",
    "boot_id",
    "read_pair",
]
