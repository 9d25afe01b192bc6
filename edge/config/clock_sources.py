"""What is asked about the clock of this machine."""

from __future__ import annotations

from edge.clock import Clock
from edge.clock.chrony import ChronySource
from edge.clock.kernel import KernelSource
from edge.clock.ptp import PtpSource
from edge.clock.source import ClockSource
from edge.config.settings import ClockSettings, GatewaySettings, RelaySettings
from edge.config.sockets import served_at


def smear_ns(settings: GatewaySettings | RelaySettings | None) -> int:
    """Over how long the sources smear a leap second; 0 where they do not."""
    return (settings.clock.smear or 0) if isinstance(settings, GatewaySettings) else 0


def clock_sources(settings: GatewaySettings | RelaySettings | None, clock: Clock) -> list[ClockSource]:
    """The sources that are asked about the clock, in this order; by default where no gateway names them."""
    wanted = settings.clock if isinstance(settings, GatewaySettings) else ClockSettings()
    sources: list[ClockSource] = []
    if isinstance(settings, GatewaySettings) and wanted.ptp != "off":
        own = served_at(settings.gateway.name, "ptp", settings.gateway.state / "ptp.sock")
        sources.append(
            PtpSource(
                clock, wanted.ptp, domain=wanted.ptp_domain, asymmetry_ns=wanted.ptp_asymmetry,
                boundary_clock_ns=wanted.ptp_boundary_clock, own_name=str(own), stamped_by=wanted.ptp_clock,
            )
        )  # fmt: skip
    if wanted.chrony != "off":
        sources.append(ChronySource(clock, wanted.chrony))
    return [*sources, KernelSource()]
