"""The last page of the demo: what was shown, what the verifier says of it, and what to type next."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from rich.text import Text

from edge.demo.screen import Scene, account_of
from edge.terminal import BOLD, RED, age, wrap
from edge.units import format_duration

_WIDTH_MOST = 100


@dataclass(frozen=True, slots=True)
class Answer:
    """What the verifier says: whether all is authentic, in words, and the time in gaps of each device."""

    is_authentic: bool
    words: str
    gaps: Mapping[str, int] = field(default_factory=dict)


def read_answer(code: int, output: str) -> Answer:
    """The verifier's report in few words; `output` is its JSON, or why there is none."""
    try:
        report: Mapping[str, Any] = orjson.loads(output)
        epochs = report["epochs"]
    except (ValueError, KeyError):
        return Answer(False, " ".join(output.split()) or f"the verifier ended with {code}")
    records = sum(sum(epoch["verdicts"].values()) for epoch in epochs)
    authentic = sum(epoch["verdicts"]["AUTHENTIC"] for epoch in epochs)
    missing = sum(last - first + 1 for epoch in epochs for _, first, last in epoch["absent"])
    words = f"{authentic:,} of {records:,} records are authentic, {missing or 'none'} missing"
    if report["shortfalls"]:
        words += "; " + "; ".join(report["shortfalls"])
    gaps: Counter[str] = Counter()
    for gap in (gap for epoch in epochs for gap in epoch["gaps"]):
        gaps[gap["name"].split()[0]] += gap["silent_ns"]
    return Answer(code == 0, words, gaps)


def last_page(
    scene: Scene, answer: Answer, directory: Path | None, width: int, *, with_account: bool = True
) -> list[Text]:
    """The page as lines; `directory` is what was kept, None for nothing."""
    width = min(width, _WIDTH_MOST)
    lines = [Text(), *(Text(line) for line in wrap(_what_was_shown(scene), width)), Text()]
    if with_account:
        lines += [*account_of(scene, width), Text()]
    style = "" if answer.is_authentic else RED
    lines += _item("Authentic", ("yes: " if answer.is_authentic else "NO: ") + answer.words, width, style)
    lines += _item("Gaps", "; ".join(_gaps(scene, answer)) or "none", width)
    if directory is None:
        lines += _item("Archive", "was in a temporary directory, and is deleted", width)
        return [*lines, *_item("Next", "tidegate demo --directory demo    keeps it, and says how to ask it", width)]
    archive, trust = directory / "archive", directory / "gateway" / "identity.pub.pem"
    lines += _item("Archive", str(archive), width)
    # Commands are not wrapped: they are to be copied.
    commands = [f"tidegate {name} {archive} --trust {trust}" for name in ("log", "verify")]
    for name, command in zip(("Next", ""), commands, strict=True):
        lines.append(Text().append(f"{name:11}", style=BOLD).append(command))
    return lines


def _gaps(scene: Scene, answer: Answer) -> Iterator[str]:
    for device, length_ns in sorted(answer.gaps.items(), key=lambda gap: -gap[1]):
        is_made = any(entry.is_fault and device in entry.done for entry in scene.account.entries)
        yield f"{device} {format_duration(length_ns)}" + (", made on purpose" if is_made else "")


def _item(name: str, words: str, width: int, style: str = "") -> list[Text]:
    lines = [Text(line, style=style) for line in wrap(f"{name:10} {words}", width, indent=11)]
    lines[0].stylize(BOLD, 0, 10)
    return lines


def _what_was_shown(scene: Scene) -> str:
    devices = len(scene.sides[0].devices) if scene.sides[0] is not None else 0
    faults = sum(entry.is_fault for entry in scene.account.entries)
    first = (
        f"{devices} simulated PLCs were read for {age(round(scene.elapsed_s * 1e9))}, and every reading was signed "
        "before it was stored, sent and archived."
    )
    if faults < 2:
        return f"{first} Let it run for a minute to see a PLC that does not answer and a broker that is stopped."
    return (
        f"{first} While a PLC did not answer, its tags were BAD and the time is on record as a gap; while the broker "
        "was stopped, records waited on disk."
    )
