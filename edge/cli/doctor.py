"""`tidegate doctor`: what is wrong with the machine of a gateway or relay, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import click

from edge.cli.output import ExistingPath, Failure, print_json
from edge.config.settings import GatewaySettings
from edge.doctor.findings import DoctorAnswer, Finding, Severity
from edge.terminal import AMBER, BOLD, DIM, RED, printable, wrap
from edge.units import counted

if TYPE_CHECKING:
    from rich.text import Text

    from edge.doctor.examine import Patient

ANSWER = DoctorAnswer
CONFIGURATIONS = Path("/etc/tidegate")
_LABEL = len("critical  ")
_STYLES: dict[Severity, str] = {"critical": RED, "warning": AMBER, "notice": "", "unseen": DIM, "ok": DIM}


@click.command(
    epilog="""\b
Examples:
  tidegate doctor configs/line-4.yaml
  sudo tidegate doctor
  sudo tidegate doctor /etc/tidegate/line-4.yaml --json
  sudo tidegate doctor --probe 198.51.100.99:443

Exit code 0: nothing has to be done. 1: something has to."""
)
@click.argument("config", required=False, type=ExistingPath(path_type=Path, readable=False))
@click.option("--probe", "probes", multiple=True, metavar="HOST:PORT",
              help="Try to reach an address that must not be reachable from here. May be repeated.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print it as one JSON object.")
def command(config: Path | None, probes: tuple[str, ...], *, as_json: bool) -> None:
    """Look at clock, disk, certificates, broker, sinks, unit, firewall and files, and say what to do, the worst first.

    CONFIG is the configuration of a gateway or relay; by default the one in /etc/tidegate. Nothing is changed and no
    device is asked: the running gateway says how they are. As root it sees everything, as another user it says what it
    could not look at.
    """
    from edge.doctor.examine import examine

    answer = examine(patient_of(config, tuple(map(_address, probes))))
    if as_json:
        print_json(answer)
    else:
        _print(answer)
    if not answer.is_well:
        raise SystemExit(1)


def patient_of(config: Path | None, probes: tuple[tuple[str, int], ...] = ()) -> Patient:
    """What is looked at: the configuration that is named, or the one in /etc/tidegate, and who runs it."""
    from edge.cli.status import ask_status
    from edge.config.check import check
    from edge.doctor.examine import Patient

    if config is None and not CONFIGURATIONS.is_dir():
        raise click.UsageError(f"name a configuration: there is no {CONFIGURATIONS}")
    path = config or CONFIGURATIONS
    checked = check(path)
    if path.is_dir():
        if not checked.files:
            raise click.UsageError(checked.problems[0].message if checked.problems else f"{path} is empty")
        path /= checked.files[0]
    status, silence, may_ask = None, "the configuration says where to ask, and cannot be used", False
    if (settings := checked.settings) is not None:
        socket = settings.status_socket if isinstance(settings, GatewaySettings) else settings.relay.status_socket
        may_ask = True
        try:
            status = ask_status(socket)
        except Failure as failure:
            silence, may_ask = failure.message, not isinstance(failure.__cause__, PermissionError)
    return Patient(config=str(path), checked=checked, status=status, silence=silence, may_ask=may_ask,
                   version=version("tidegate"), probes=probes)  # fmt: skip


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise click.UsageError(f"--probe {text}: write HOST:PORT, such as 198.51.100.99:443")
    return host.strip("[]"), int(port)


def _print(answer: DoctorAnswer) -> None:
    from rich.text import Text

    from edge.cli.status import make_console

    screen = make_console()
    screen.print(Text("\n").join(lines(answer, screen.width)), soft_wrap=True)


def lines(answer: DoctorAnswer, width: int) -> list[Text]:
    """The screen: each finding with what to do below it."""
    from rich.text import Text

    critical, warnings = (sum(each.severity == word for each in answer.findings) for word in ("critical", "warning"))
    counts = [f"{critical:,} critical"] * bool(critical) + [counted(warnings, "warning")] * bool(warnings)
    said = ", ".join(counts) or "nothing has to be done"
    head = f"{printable(answer.name) or answer.config}   {said}   {answer.version}"
    made = [Text(line, style=BOLD, no_wrap=True) for line in wrap(head, width, 2)]
    for finding in answer.findings:
        made += _finding(finding, width)
    unseen = sum(each.severity == "unseen" for each in answer.findings)
    if unseen:
        last = f"{counted(unseen, 'thing')} could not be looked at" + ("" if answer.as_root else "; run it as root")
        made += [Text(line, style=DIM, no_wrap=True) for line in wrap(last, width, 2)]
    return made


def _finding(finding: Finding, width: int) -> Iterator[Text]:
    from rich.text import Text

    style, code = _STYLES[finding.severity], f" ({finding.code})" * bool(finding.code)
    said = wrap(f"{finding.severity:<{_LABEL - 1}} {printable(f'{finding.area}: {finding.text}')}{code}", width, _LABEL)
    for number, line in enumerate(said):
        text = Text(line, style=DIM if finding.severity == "ok" else "", no_wrap=True)
        if number == 0:
            text.stylize(style, 0, len(finding.severity))
        yield text
    if finding.remedy:
        for number, line in enumerate(wrap(printable(finding.remedy), max(width - _LABEL - 3, 10))):
            yield Text(" " * _LABEL + (" > " if number == 0 else "   ") + line, no_wrap=True)
