"""Time: boot-time stamps, their mapping to UTC, and what is known about the clock's error."""

from edge.clock.clock import Clock, SystemClock
from edge.clock.quality import TimeQuality, TimeSource, TimeState

__all__ = ["Clock", "SystemClock", "TimeQuality", "TimeSource", "TimeState"]
