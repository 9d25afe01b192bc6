"""Everything that is looked at, of one configuration."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edge.config.check import Checked
from edge.config.settings import BrokerSettings, GatewaySettings, RelaySettings
from edge.doctor import broker, files, firewall, machine, service, sinks
from edge.doctor.findings import Area, DoctorAnswer, Finding, Severity, by_severity
from edge.errors import ErrorCode
from edge.health.problems import StatusAnswer

_AREAS: dict[str, Area] = {"clock": "clock", "buffer": "disk", "archive": "disk", "uplink": "broker",
                           "broker": "broker", "view": "broker", "sink": "sinks"}  # fmt: skip
_SEVERITIES: dict[str, Severity] = {"DOWN": "critical", "DEGRADED": "warning", "NOTICE": "notice"}


@dataclass(frozen=True, kw_only=True)
class Patient:
    """What is looked at.

    Attributes:
        status: what the running process says; None where it does not answer, and `silence` says why.
        may_ask: whether this user may ask it.
        probes: HOST:PORT of addresses that must not be reachable.
    """

    config: str
    checked: Checked
    status: StatusAnswer | None
    silence: str
    may_ask: bool
    version: str
    probes: Sequence[tuple[str, int]] = ()

    @property
    def settings(self) -> GatewaySettings | RelaySettings | None:
        """Those of the configuration; None where it has problems."""
        return self.checked.settings


def examine(patient: Patient) -> DoctorAnswer:
    """Look at everything."""
    checked = patient.checked
    return DoctorAnswer(
        name=checked.name, kind=checked.kind, config=patient.config, version=patient.version,
        as_root=os.geteuid() == 0, findings=by_severity(_findings(patient)),
    )  # fmt: skip


def _findings(patient: Patient) -> Iterator[Finding]:
    settings, status = patient.settings, patient.status
    yield from _configuration(patient)
    yield from _running(patient)
    yield from machine.clock(settings, status)
    if settings is not None:
        yield from machine.disks(settings)
        yield from files.certificates(settings, {each.name for each in status.certificates} if status else set())
        for place, mqtt in _brokers(settings):
            yield from broker.examine(mqtt, place, is_running=status is not None)
        if isinstance(settings, RelaySettings):
            yield from sinks.examine(settings.relay.sinks, settings.relay.archive)
    yield from files.permissions(patient.config, checked=patient.checked)
    units = service.units_of(patient.config, patient.checked.kind, status.gateway.pid if status else None)
    yield from service.examine(units, settings, is_running=status is not None)
    yield from firewall.examine(is_limited_by_unit=bool(units) and all(unit.is_limited for unit in units))
    for host, port in patient.probes:
        yield firewall.probe(host, port)


def _configuration(patient: Patient) -> Iterator[Finding]:
    if not os.access(patient.config, os.R_OK, effective_ids=True):
        yield Finding(severity="unseen", area="configuration", text=f"{patient.config} may not be read by this user",
                      remedy="run it as root; what is named in it is not looked at")  # fmt: skip
        return
    for problem in patient.checked.problems:
        is_error, text = problem.severity == "error", str(replace(problem, severity="error"))
        yield Finding(severity="critical" if is_error else "warning", area="configuration", text=text,
                      remedy="correct it, and look with tidegate check" if is_error else "")  # fmt: skip
    if not patient.checked.problems:
        yield Finding(severity="ok", area="configuration", text=f"{patient.config} has no problems")


def _running(patient: Patient) -> Iterator[Finding]:
    """What the process itself says: it knows the devices, the broker and what the access list refuses."""
    status, kind = patient.status, patient.checked.kind
    if status is None:
        if patient.may_ask:
            yield Finding(severity="critical", area="running", text=patient.silence,
                          remedy=f"start the {kind}, and see its log for why it ended")  # fmt: skip
        else:
            yield Finding(severity="unseen", area="running", text=patient.silence,
                          code=ErrorCode.MAY_NOT_ASK.id,
                          remedy="run it as root, or as a member of the group that may ask")  # fmt: skip
        return
    for problem in status.problems:
        area = _AREAS.get(problem.subject.partition(" ")[0], "running")
        text = problem.text if area == problem.subject else f"{problem.subject}: {problem.text}"
        yield Finding(severity=_SEVERITIES[problem.state], area=area, text=text, remedy=problem.remedy,
                      code=problem.code)  # fmt: skip
    up = sum(device.state == "up" for device in status.devices)
    answering = f": {up} of {len(status.devices)} devices answer" if status.devices else ""
    yield Finding(severity="ok", area="running", text=f"the {kind} {status.gateway.name} runs{answering}")
    if status.uplink is not None and status.uplink.state == "up":
        yield Finding(severity="ok", area="broker", text="the broker takes every topic of the running gateway")


def _brokers(settings: GatewaySettings | RelaySettings) -> Iterator[tuple[str, BrokerSettings]]:
    if isinstance(settings, GatewaySettings):
        if settings.uplink is not None:
            yield "uplink.mqtt", settings.uplink.mqtt
        return
    if settings.relay.mqtt is not None:
        yield "relay.mqtt", settings.relay.mqtt
    view = settings.relay.views.unified_namespace
    if view is not None and view.mqtt is not None:
        yield "relay.views.unified_namespace.mqtt", view.mqtt
