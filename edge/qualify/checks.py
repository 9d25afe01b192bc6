"""What a qualification is made of: checks, each with what was done, what was expected, and what was found."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

Verdict = Literal["held", "failed", "not_applicable"]
"""not_applicable: it cannot be done on this machine, or was not asked for, and `found` says why."""
RAW = "raw"
"""The folder of the raw records in a pack."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One check of a qualification."""

    id: str
    """IQ, OQ or PQ, and a number."""
    title: str
    requirements: tuple[str, ...]
    """Those of docs/requirements.md that it shows."""
    done: str
    """What was done."""
    expected: str
    found: str
    verdict: Verdict
    took_ns: int
    record: str
    """The file of its raw record in the pack; empty where it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Qualification:
    """What `tidegate qualify` found."""

    result: Verdict
    """held: no check failed."""
    text: str
    """One sentence for people; its words may change with each version."""
    name: str
    """Of the gateway or relay; empty where the configuration does not say it."""
    kind: Literal["gateway", "relay"]
    host: str
    config: str
    configuration: str
    """SHA-256 of the configuration."""
    version: str
    build: str
    """SHA-256 of the list of files that was installed: it names the build."""
    made_by: str
    """The account, as whom and by whom it was run."""
    made_at_ns: int
    took_ns: int
    signer: str
    """Fingerprint of the key that signs the pack; empty where it is not signed."""
    checks: tuple[Check, ...]

    @property
    def deviations(self) -> list[Check]:
        """The checks that failed."""
        return [each for each in self.checks if each.verdict == "failed"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a check found; `held` is None where it is not applicable. `raw` is its raw record, a text or bytes."""

    found: str
    held: bool | None
    raw: str | bytes = ""
    suffix: str = "txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """A check that is to be done."""

    id: str
    title: str
    requirements: tuple[str, ...] = ()
    done: str
    expected: str
    look: Callable[[], Outcome] = field(default=lambda: Outcome("nothing was done", held=False))


_NAMED = 5
_VERDICTS: dict[bool | None, Verdict] = {True: "held", False: "failed", None: "not_applicable"}


def perform(task: Task, folder: Path) -> Check:
    """Do it; one that breaks has failed, and says why."""
    began_ns = time.monotonic_ns()
    try:
        outcome = task.look()
    except Exception as error:  # noqa: BLE001 - whatever it is, the other checks are done
        outcome = broken(error)
    return judged(task, outcome, time.monotonic_ns() - began_ns, folder)


def broken(error: BaseException) -> Outcome:
    """The outcome of a check that could not be done to its end."""
    return Outcome(f"the check ended with {type(error).__name__}: {error}", held=False)


def judged(task: Task, outcome: Outcome, took_ns: int, folder: Path) -> Check:
    """The check with its outcome, and its raw record written into the folder of the pack. Raises OSError."""
    record = ""
    if outcome.raw:
        record = f"{RAW}/{task.id}.{outcome.suffix}"
        raw = outcome.raw if isinstance(outcome.raw, bytes) else outcome.raw.encode("utf-8", "replace")
        (folder / record).write_bytes(raw)
    return Check(
        id=task.id, title=task.title, requirements=task.requirements, done=task.done, expected=task.expected,
        found=outcome.found, verdict=_VERDICTS[outcome.held], took_ns=took_ns, record=record,
    )  # fmt: skip


def named(texts: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    more = f", and {len(texts) - _NAMED} more in the record" if len(texts) > _NAMED else ""
    return "; ".join(texts[:_NAMED]) + more


def summary(checks: tuple[Check, ...]) -> str:
    """How the checks ended, in a sentence."""
    counts = Counter(each.verdict for each in checks)
    failed = ", ".join(each.id for each in checks if each.verdict == "failed")
    said = f"{counts['held']} of {len(checks)} checks held"
    said += f", {counts['failed']} failed ({failed})" if failed else ""
    return said + (f", {counts['not_applicable']} not applicable" if counts["not_applicable"] else "")
