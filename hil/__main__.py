"""`python -m hil`, or `tidegate-hil`: play scenarios on a rig, and render and verify their report."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import sys
import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import click
import orjson

from edge.cli import EXIT_CONFIG, EXIT_NO
from edge.errors import ConfigError
from edge.seal.signed_file import FileSigner
from edge.units import format_duration
from hil import folder as report_folder
from hil import reading, scenarios
from hil.document import Report, RigFacts, ScenarioResult, Wired
from hil.play import play, played_before, result_file
from hil.requirements import REQUIREMENTS
from hil.rig import Equipment, Rig, load_rig
from hil.scenario import Scenario
from hil.versions import scenario_version, versions

_WIDTH = 78
_INSIDE = "TIDEGATE_HIL_INSIDE"
_TOOLS = ("ip", "mount", "nsenter", "setpriv", "unshare")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Prove on a rig what Tidegate promises."""


@cli.command("list")
@click.argument("rig_file", metavar="[RIG]", required=False, type=click.Path(path_type=Path))
def list_(rig_file: Path | None) -> None:
    """List the scenarios; with a rig, also what it lacks for them."""
    rig = None if rig_file is None else load_rig(rig_file)
    for name in scenarios.names():
        scenario = scenarios.find(name)
        mark = " (destructive)" if scenario.is_destructive else ""
        click.echo(f"{name:22}{scenario.title}{mark}")
        if rig is not None and (lacks := scenario.missing(rig)):
            click.echo(f"{'':22}not on this rig, which has no {' and no '.join(lacks)}")


@cli.command(
    epilog="""\b
Examples:
  python -m hil run hil/rigs/simulated.yaml all
  python -m hil run bench.yaml commissioning broker_outage --report ./june
  python -m hil run bench.yaml all --report ./june --sign qa.pem --junit june.xml --yes-this-rig-is-mine

A scenario that has a result in the report's folder is not played again.
Exit code 0: every scenario passed. 1: one failed or was not played, or the run was broken off.
78: the rig, the key or the folder cannot be used."""
)
@click.argument("rig_file", metavar="RIG", type=click.Path(path_type=Path))
@click.argument("names", metavar="[SCENARIO]...", nargs=-1, type=click.Choice([*scenarios.names(), "all"]))
@click.option("--report", "folder", type=click.Path(path_type=Path), help="Folder for report and evidence.")
@click.option("--seconds", type=click.FloatRange(min=0.5), help="How long each disturbance lasts.")
@click.option(
    "--sign", "key_file", type=click.Path(path_type=Path), help="Sign with this private key: P-256 or Ed25519, in PEM."
)
@click.option("--junit", "junit_file", type=click.Path(path_type=Path), help="Write the result for a CI, as JUnit XML.")
@click.option("--yes-this-rig-is-mine", "is_mine", is_flag=True, help="Play destructive scenarios on hardware.")
def run(
    rig_file: Path, names: Sequence[str], folder: Path | None, seconds: float | None, key_file: Path | None,
    junit_file: Path | None, *, is_mine: bool,
) -> None:  # fmt: skip
    """Play scenarios on the rig that the file RIG describes, and write the report: all of them by default."""
    rig = load_rig(rig_file.resolve())
    signer = None if key_file is None else FileSigner.load(key_file)
    chosen = scenarios.names() if not names or "all" in names else list(dict.fromkeys(names))
    folder = _folder(folder or Path(f"report-{rig.name}"), rig)
    if rig.is_simulated and _INSIDE not in os.environ:
        _enter_namespaces()
    try:
        results = asyncio.run(_play_all(rig, chosen, folder, seconds, is_mine=is_mine or rig.is_simulated))
    except (KeyboardInterrupt, asyncio.CancelledError):
        click.echo("\nbroken off; everything is switched on again. The same command goes on from here.")
        raise SystemExit(EXIT_NO) from None
    reading.conclude(_write(rig, results, folder, signer), folder, junit_file)


async def _play_all(
    rig: Rig, names: Sequence[str], folder: Path, seconds: float | None, *, is_mine: bool
) -> list[ScenarioResult]:
    """Play what has no result yet; SIGTERM, as Ctrl-C, ends it, and the rig is restored."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    results = []
    for name in names:
        scenario = scenarios.find(name)
        click.echo(f"{name}: {scenario.title}")
        result = played_before(folder / name)
        if result is not None:
            click.echo("  played before\n")
        else:
            result = await _play(name, scenario, rig, folder, seconds, is_mine=is_mine)
        results.append(result)
    return results


async def _play(
    name: str, scenario: Scenario, rig: Rig, folder: Path, seconds: float | None, *, is_mine: bool
) -> ScenarioResult:
    why_not = ""
    if lacks := scenario.missing(rig):
        why_not = f"this rig has no {' and no '.join(lacks)}"
    elif scenario.is_destructive and not is_mine:
        why_not = "it can harm what is wired, and is played with --yes-this-rig-is-mine only"
    if why_not:
        click.echo(f"  not played: {why_not}\n")
        return ScenarioResult(name=name, title=scenario.title, purpose=scenario.purpose,
                              requirements=tuple(scenario.requirements), not_played=why_not)  # fmt: skip
    shutil.rmtree(folder / name, ignore_errors=True)  # What a run that was broken off has left.
    started_s = time.monotonic()
    result = await play(name, scenario, rig, folder / name, seconds or scenario.seconds, _show_step)
    for step in result.steps:
        if step.trouble:
            click.echo(_wrapped(f"FAILED: {step.trouble}", "        "))
    for each in result.criteria:
        click.echo(_wrapped(f"{'holds ' if each.holds else 'FAILS '} {each.text}", "  ", "         "))
        if not each.holds:
            click.echo(_wrapped(each.found, "         "))
    result_file(folder / name).write_bytes(orjson.dumps(result))
    took_ns = round(time.monotonic() - started_s) * 10**9
    click.echo(f"  {result.verdict} after {format_duration(took_ns)}\n")
    return result


def _show_step(number: int, count: int, text: str) -> None:
    click.echo(_wrapped(f"{number}/{count}    {text}", "  ", "         "))


def _wrapped(text: str, first: str, rest: str | None = None) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=first if rest is None else rest)


def _folder(folder: Path, rig: Rig) -> Path:
    """The folder of a report, made where it is missing. Raises ConfigError where it is of another rig file."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        kept = folder / "rig.yaml"
        if not kept.exists():
            if any(folder.iterdir()):
                raise ConfigError(f"report folder {folder} is not empty, and no report on a rig; name another")
            kept.write_bytes(rig.file.read_bytes())
        elif kept.read_bytes() != rig.file.read_bytes():
            raise ConfigError(f"report folder {folder} is of another rig, or of another version of it; name another")
    except OSError as error:
        raise ConfigError(f"report folder {folder} cannot be used: {error.strerror}") from error
    return folder.resolve()


def _write(rig: Rig, results: Sequence[ScenarioResult], folder: Path, signer: FileSigner | None) -> Report:
    known = {result.name: result for result in results}
    for name in scenarios.names():  # What was played in an earlier run belongs to the report.
        if name not in known and (before := played_before(folder / name)) is not None:
            known[name] = before
    report = Report(
        made_at_ns=time.time_ns(), rig=_facts(rig), scenarios=tuple(known.values()),
        versions=(*versions(known.values()), *map(scenario_version, known)),
        requirements={key: REQUIREMENTS[key] for each in known.values() for key in each.requirements},
    )  # fmt: skip
    return report_folder.write(folder, report, signer)


def _facts(rig: Rig) -> RigFacts:
    wired = rig.wired
    return RigFacts(
        name=rig.name, place=wired.rig.place, file=rig.file.name, sha256=rig.digest, is_simulated=rig.is_simulated,
        wired=(_wired("gateway", "gateway", wired.gateway), _wired("broker", "broker", wired.broker),
               _wired("clock", "clock", wired.clock),
               *(_wired("device", device.name, device) for device in wired.devices)),
    )  # fmt: skip


def _wired(role: Literal["gateway", "broker", "clock", "device"], name: str, part: Equipment) -> Wired:
    return Wired(role=role, name=name, vendor=part.vendor, model=part.model, firmware=part.firmware,
                 connection=part.wiring, notes=part.notes)  # fmt: skip


def _enter_namespaces() -> None:
    """Begin again in a network and with mounts of our own, which are gone with this process, however it ends."""
    if os.geteuid() != 0:
        raise ConfigError("the simulated rig makes network namespaces, which only root may: run it with sudo")
    if missing := [tool for tool in _TOOLS if shutil.which(tool) is None]:
        raise ConfigError(f"the simulated rig needs {', '.join(missing)}: apt-get install iproute2 util-linux")
    os.environ[_INSIDE] = "yes"
    script = 'ip link set lo up; mount -t tmpfs rig /run; exec "$@"'
    words = ["unshare", "--net", "--mount", "--", "sh", "-euc", script, "rig", sys.executable, "-m", "hil"]
    sys.stdout.flush()
    os.execvp(words[0], [*words, *sys.argv[1:]])


cli.add_command(reading.report)
cli.add_command(reading.verify)


def main() -> None:
    """Run a command; a ConfigError ends it with exit code 78."""
    try:
        cli(prog_name="tidegate-hil" if Path(sys.argv[0]).name == "tidegate-hil" else "python -m hil")
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(EXIT_CONFIG) from None


if __name__ == "__main__":
    main()
