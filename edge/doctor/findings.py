"""What was found on a machine, the worst first."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from edge.errors import ErrorCode

Severity = Literal["critical", "warning", "notice", "unseen", "ok"]
"""critical: data is lost, or a secret is open. unseen: it could not be looked at, and the text says why."""
Area = Literal[
    "configuration", "running", "clock", "disk", "certificates", "files", "broker", "sinks", "unit", "firewall"
]  # fmt: skip
_CODES: dict[Area, ErrorCode] = {
    "configuration": ErrorCode.CONFIGURATION, "running": ErrorCode.NOT_RUNNING, "clock": ErrorCode.CLOCK_NOT_KEPT,
    "disk": ErrorCode.BUFFER_DISK, "certificates": ErrorCode.CERTIFICATE_ENDS, "files": ErrorCode.FILE_MODES,
    "broker": ErrorCode.BROKER_UNREACHABLE, "sinks": ErrorCode.SINK_BEHIND, "unit": ErrorCode.UNIT,
    "firewall": ErrorCode.FIREWALL,
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was looked at.

    Attributes:
        text: what was found.
        remedy: what to do; empty where nothing has to be done.
        code: what `tidegate explain` calls it: that of its area, unless another is given; empty where all is well.
    """

    severity: Severity
    area: Area
    text: str
    remedy: str = ""
    code: str = ""

    def __post_init__(self) -> None:
        if not self.code and self.severity != "ok":
            object.__setattr__(self, "code", _CODES[self.area].id)


@dataclass(frozen=True, slots=True, kw_only=True)
class DoctorAnswer:
    """What `tidegate doctor` found.

    Attributes:
        name: of the gateway or relay; empty where the configuration does not say it.
        kind: whose configuration it is: gateway or relay.
        config: the file.
        version: of this command.
        as_root: whether everything could be looked at.
        findings: the worst first.
    """

    name: str
    kind: Literal["gateway", "relay"]
    config: str
    version: str
    as_root: bool
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing has to be done."""
        return not any(finding.severity in ("critical", "warning") for finding in self.findings)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The worst first, each once."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda each: get_args(Severity).index(each.severity)))
