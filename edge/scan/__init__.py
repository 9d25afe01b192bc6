"""Scanning: due times, polling, stamping, report by exception."""

from edge.scan.group import Counts, Gap, Group, ScanGroup
from edge.scan.pacer import Grid, Pacer, Timer
from edge.scan.poll import Device, DeviceError, DeviceState
from edge.scan.report import Reporter
from edge.scan.sink import Sink
from edge.scan.skew import ClockWatch
from edge.scan.subscribed import SubscribedGroup

__all__ = [
    "ClockWatch",
    "Counts",
    "Device",
    "DeviceError",
    "DeviceState",
    "Gap",
    "Grid",
    "Group",
    "Pacer",
    "Reporter",
    "ScanGroup",
    "Sink",
    "SubscribedGroup",
    "Timer",
]
