"""`python -m hil`: play a scenario on a rig, and verify a signed report."""

from __future__ import annotations

import asyncio
import shutil
import signal
import tempfile
import time
from pathlib import Path
from typing import Any

import click
import orjson

from edge.cli import EXIT_CONFIG, EXIT_NO
from edge.demo import brokers
from edge.demo.processes import ProcessPair
from edge.errors import ConfigError
from edge.seal import IdentityKey, MemoryCounter, load_identity_file
from hil import scenarios
from hil.evidence import gather
from hil.report import Run, broker_version, document, sign, signer, text
from hil.rig import Rig, load_rig
from hil.scenario import Scenario, play
from hil.simulation import Witness

_REPORT, _PAGE, _SIGNATURE, _WITNESS = "report.json", "report.md", "report.sig", "witness.json"
_ARCHIVE, _GATEWAY = "archive", "gateway.pub.pem"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def cli() -> None:
    """Prove on a rig what Tidegate promises."""


@cli.command(
    epilog="""\b
Examples:
  python -m hil run hil/rigs/simulated.yaml broker_outage
  python -m hil run hil/rigs/simulated.yaml broker_outage --seconds 60 --report ./outage --sign qa.pem

Exit code 0: every claim holds. 1: one does not. 78: the rig or the key cannot be used."""
)
@click.argument("rig_file", metavar="RIG", type=click.Path(path_type=Path))
@click.argument("scenario_name", metavar="SCENARIO", type=click.Choice(scenarios.names()))
@click.option("--seconds", type=click.FloatRange(min=0.5), default=10.0, show_default=True, help="The disturbance.")
@click.option("--report", "folder", type=click.Path(path_type=Path), help="Keep report and evidence in this folder.")
@click.option("--sign", "key_file", type=click.Path(path_type=Path), help="Sign the report with this P-256 key.")
def run(rig_file: Path, scenario_name: str, seconds: float, folder: Path | None, key_file: Path | None) -> None:
    """Play SCENARIO on the rig that the file RIG describes, and say which of its claims hold."""
    rig, scenario = load_rig(rig_file), scenarios.find(scenario_name)
    key = None if key_file is None else load_identity_file(key_file, counter=MemoryCounter())
    if folder is not None:
        _make_empty(folder)
    with tempfile.TemporaryDirectory(prefix="tidegate-hil-") as directory:
        started_ns = time.time_ns()
        witness, processes = asyncio.run(_played(scenario, rig, Path(directory), seconds))
        evidence = gather(witness, processes.archive, processes.trust)
        played = Run(
            scenario_name=scenario_name, scenario=scenario, rig=rig, seconds=seconds, started_ns=started_ns,
            ended_ns=time.time_ns(), broker=broker_version(brokers.choose(Path(directory)).name),
            signer=key.fingerprint if key else "",
        )  # fmt: skip
        report = document(played, evidence, scenario.judge(evidence))
        if folder is not None:
            shutil.copytree(processes.archive, folder / _ARCHIVE, ignore=shutil.ignore_patterns(".lock", "*.sock"))
            shutil.copy(processes.trust, folder / _GATEWAY)
            (folder / _WITNESS).write_bytes(witness.to_json())
            _write(folder, report, key)
    click.echo(text(report))
    if report["verdict"] != "PASSED":
        raise SystemExit(EXIT_NO)


@cli.command(
    epilog="""\b
Example:
  python -m hil verify ./outage --trust qa.pub.pem

Exit code 0: the report is the one that was signed. 1: it is not. 78: the trust anchor cannot be used."""
)
@click.argument("folder", metavar="REPORT", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--trust", "anchor", required=True, type=click.Path(path_type=Path), help="Public key in PEM.")
def verify(folder: Path, anchor: Path) -> None:
    """Say who signed the report in the folder REPORT, and whether its page says what was signed."""
    try:
        signed, signature, page = ((folder / name).read_bytes() for name in (_REPORT, _SIGNATURE, _PAGE))
    except OSError as error:
        click.echo(f"not signed: {error.filename} cannot be read: {error.strerror}")
        raise SystemExit(EXIT_NO) from None
    fingerprint = signer(anchor, signed, signature)
    if not fingerprint:
        click.echo(f"not signed by {anchor}, or changed since")
        raise SystemExit(EXIT_NO)
    report = orjson.loads(signed)
    if text(report).encode() != page:
        click.echo(f"{_PAGE} does not say what {_REPORT} says, which is signed by {fingerprint}")
        raise SystemExit(EXIT_NO)
    click.echo(f"{report['scenario']} on rig {report['rig']['name']}: {report['verdict']}, signed by {fingerprint}")


async def _played(scenario: Scenario, rig: Rig, directory: Path, seconds: float) -> tuple[Witness, ProcessPair]:
    """Play a scenario; SIGTERM and Ctrl-C also stop the gateway and the relay."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await play(scenario, rig, directory, seconds)
    except asyncio.CancelledError:
        raise click.Abort from None


def _make_empty(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise ConfigError(f"report folder {folder} is not empty; each run has one of its own")
    except OSError as error:
        raise ConfigError(f"report folder {folder} cannot be used: {error.strerror}") from error


def _write(folder: Path, report: dict[str, Any], key: IdentityKey | None) -> None:
    signed = orjson.dumps(report, option=orjson.OPT_INDENT_2)
    (folder / _REPORT).write_bytes(signed)
    (folder / _PAGE).write_text(text(report), "utf-8")
    if key is not None:
        (folder / _SIGNATURE).write_bytes(sign(key, signed))


def main() -> None:
    """Run a command; a ConfigError ends it with exit code 78."""
    try:
        cli(prog_name="python -m hil")
    except ConfigError as error:
        click.echo(str(error), err=True)
        raise SystemExit(EXIT_CONFIG) from None


if __name__ == "__main__":
    main()
