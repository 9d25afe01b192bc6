"""Scanning: due times, polling, stamping, report by exception."""

from edge.scan.device_clock import DeviceClockMonitor
from edge.scan.groups import OpenGap, PolledGroup, ScanCounts, ScanGroup, SubscribedGroup
from edge.scan.poller import DeviceError, DevicePoller, DeviceState, Sink
from edge.scan.questions import Busy, Questions
from edge.scan.report_by_exception import Reporter
from edge.scan.schedule import Grid, Scheduler, Timer
from edge.scan.stalls import LoopMonitor
from edge.scan.volleys import Polled, plan_phases

__all__ = [
    "Busy",
    "DeviceClockMonitor",
    "DeviceError",
    "DevicePoller",
    "DeviceState",
    "Grid",
    "LoopMonitor",
    "OpenGap",
    "Polled",
    "PolledGroup",
    "Questions",
    "Reporter",
    "ScanCounts",
    "ScanGroup",
    "Scheduler",
    "Sink",
    "SubscribedGroup",
    "Timer",
    "plan_phases",
]
