"""What is asked about the clock of this machine."""

from __future__ import annotations

from edge.clock import Clock
from edge.clock.chrony import ChronySource
from edge.clock.kernel import KernelSource
from edge.clock.ptp import PtpSource
from edge.clock.source import ClockSource
from edge.config.settings import ClockSettings, GatewaySettings, RelaySettings
from edge.config.sockets import served_at


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
