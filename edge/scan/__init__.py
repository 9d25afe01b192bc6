"""Scanning: due times, polling, stamping, report by exception."""

from edge.scan.group import Counts, Gap, ScanGroup
from edge.scan.pacer import Grid, Pacer, Timer
from edge.scan.poll import Device, DeviceError, DeviceState
from edge.scan.report import Reporter
from edge.scan.sink import Sink

__all__ = [
    "Counts",
    "Device",
    "DeviceError",
    "DeviceState",
    "Gap",
    "Grid",
    "Pacer",
    "Reporter",
    "ScanGroup",
    "Sink",
    "Timer",
]
