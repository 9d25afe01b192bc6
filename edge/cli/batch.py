"""`--batch` and `--unit`: which runs of an archive they mean."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from edge.cli.progress import Progress
from edge.config.messages import choices
from edge.files import named_in_errors
from edge.report.batch import BatchSlice, Contexts, Run, gateway_of, looks_like, trimmed
from edge.report.times import Times
from edge.terminal import printable
from edge.units import counted
from edge.verify import Trust
from edge.verify.window import Window

_Command = TypeVar("_Command", bound=Callable[..., Any])


def batch_options(command: _Command) -> _Command:
    """The options `batch` and `unit` of a command."""
    command = click.option("--unit", metavar="NAME", help="Only the batch on this unit.")(command)
    return click.option("--batch", metavar="ID", help="Only the readings of a batch, by the context sealed with them; "
                        "--from and --to choose where the id was used again.")(command)  # fmt: skip


def check_unit(batch: str | None, unit: str | None) -> None:
    """Raises UsageError where a unit is named, and no batch."""
    if unit is not None and batch is None:
        raise click.UsageError("--unit narrows a batch: name it with --batch ID")


def batch_slice(
    files: Sequence[Path], trust: Trust, gateway: str | None, asked: tuple[str, str | None], window: Window,
    progress: Progress,
) -> BatchSlice:  # fmt: skip
    """The runs of the batch that was asked for with --batch and --unit. Raises UsageError."""
    batch, unit = trimmed(asked[0]), asked[1]
    contexts = Contexts(trust)
    for path in files:
        progress.say(f"batches of {path.parent.name}/{path.name}")
        with named_in_errors(path):
            contexts.read(path)
    held = [run for run in contexts.runs() if gateway in (None, gateway_of(run))]
    known = list(dict.fromkeys(run.batch for run in held))
    alike = [each for each in known if looks_like(batch, each)]
    if batch not in known:
        raise click.UsageError(_unknown(batch, known, alike))
    found = [run for run in held if run.batch == batch]
    units = list(dict.fromkeys(run.unit for run in found))
    if unit is not None and unit not in units:
        raise click.UsageError(f"--unit: {shown(batch)} was not on {unit!r}; {choices(unit, units)}")
    found = [run for run in found if unit in (None, run.unit)]
    chosen = [run for run in found if _touches(run, window)]
    if not chosen:
        raise click.UsageError(f"batch {shown(batch)} was not in the range of --from and --to: {_listed(found)}")
    places = [(run.issuer, run.unit) for run in chosen]
    if not window.is_time and len(set(places)) < len(places):
        raise click.UsageError(f"the id {shown(batch)} was used {counted(len(chosen), 'time')}: {_listed(chosen)}; "
                               "choose with --from and --to, or name both ends to have all of them")  # fmt: skip
    return BatchSlice(batch, chosen, contexts.all, alike)


def shown(text: str) -> str:
    """An id in quotes, and where it has letters that look like others, their code points."""
    return f"{printable(text)!r}" + ("" if text.isascii() else f" ({text!a})")


def _touches(run: Run, window: Window) -> bool:
    is_before = window.to_ns is not None and run.from_ns > window.to_ns
    return not is_before and (window.from_ns is None or run.to_ns is None or run.to_ns >= window.from_ns)


def _unknown(batch: str, known: Sequence[str], alike: Sequence[str]) -> str:
    if not known:
        return f"--batch: there is no batch {shown(batch)}: no gateway of these files has sealed the id of a batch"
    if alike:
        return (f"--batch: there is no batch {shown(batch)}; {', '.join(map(ascii, alike))} looks like it and is "
                "another id")  # fmt: skip
    return f"--batch: there is no batch {shown(batch)}; {choices(batch, [printable(each) for each in known])}"


def _listed(runs: Sequence[Run]) -> str:
    times = Times()
    texts = []
    for run in runs[:10]:
        end = "now" if run.to_ns is None else times.moment(run.to_ns)
        texts.append(f"on {printable(run.unit)} from {times.moment(run.from_ns)} to {end}")
    return "; ".join(texts) + (f" and {len(runs) - 10} more" if len(runs) > 10 else "")
