"""The last page of the demo: what was shown, what the report says of the archive, and what to type next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import orjson
from rich.text import Text

from edge.demo.screen import Scene, account_of
from edge.terminal import BOLD, RED, age, wrap
from edge.units import format_duration

COMMANDS = ("report", "log", "verify")
"""What to ask an archive with."""

_WIDTH_MOST = 100
_GAPS_SHOWN = 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What `tidegate report` says of the archive.

    Attributes:
        is_whole: all records are unaltered, none is missing, and what was not read is on record as a gap.
        result: the report in a sentence.
        records: how many there are, in words.
        gaps: device, length and reason of each.
        values: how many are in the historian, and how many in the archive; None without a historian.
    """

    is_whole: bool
    result: str
    records: str = ""
    gaps: tuple[tuple[str, int, str], ...] = ()
    values: tuple[int, int] | None = None

    def beside(self, historian: int, archive: int) -> Answer:
        """The same, and how many values are in both."""
        return replace(self, is_whole=self.is_whole and historian == archive, values=(historian, archive))


def read_answer(code: int, output: str) -> Answer:
    """The answer in the JSON of the report; where there is none, `output` says why."""
    try:
        report: Mapping[str, Any] = orjson.loads(output)
        (gateway,) = report["gateways"]
    except (ValueError, KeyError):
        return Answer(False, " ".join(output.split()) or f"the report ended with {code}")
    unaltered, complete = gateway["unaltered"], gateway["complete"]
    missing = complete["missing_records"]
    gaps = [(gap["device"] or "all devices", (gap["to_ns"] or gateway["to_ns"]) - gap["from_ns"], gap["reason"])
            for gap in complete["gaps"]]  # fmt: skip
    is_whole = unaltered["is_unaltered"] and not missing and not complete["losses"] and not complete["shortfalls"]
    return Answer(
        is_whole and all(gap["is_declared"] for gap in complete["gaps"]),
        report["text"],
        f"{unaltered['valid']:,} of {unaltered['records']:,} carry a valid signature, {missing or 'none'} missing",
        tuple(gaps),
    )


def last_page(
    scene: Scene, answer: Answer, directory: Path | None, width: int, *, with_account: bool = True
) -> list[Text]:
    """The page as lines; `directory` is what was kept, None for nothing."""
    width = min(width, _WIDTH_MOST)
    lines = [*(Text(line) for line in wrap(_what_was_shown(scene), width)), Text()]
    if with_account:
        lines += [*account_of(scene, width), Text()]
    if answer.records:
        lines += _item("Records", answer.records, width, "" if answer.is_whole else RED)
    lines += _gaps(scene, answer, width)
    lines += _historian(scene, answer, width)
    lines += _item("Result", answer.result, width, "" if answer.is_whole else RED)
    if directory is None:
        lines += _item("Archive", "was in a temporary directory, and is deleted", width)
        return [*lines, *_item("Next", "tidegate demo --directory demo    keeps it, and says how to ask it", width)]
    archive, trust = directory / "archive", directory / "gateway" / "identity.pub.pem"
    lines += _item("Archive", str(archive), width)
    # Commands are not wrapped: they are to be copied.
    commands = [f"tidegate {name} {archive} --trust {trust}" for name in COMMANDS]
    for number, command in enumerate(commands):
        lines.append(Text().append(f"{'' if number else 'Next':11}", style=BOLD).append(command))
    return lines


def _gaps(scene: Scene, answer: Answer, width: int) -> list[Text]:
    """The longest gaps; the longest of a device that was disturbed is the one that was made on purpose."""
    lines: list[Text] = []
    faults = [entry.done for entry in scene.account.entries if entry.is_fault]
    for device, length_ns, reason in sorted(answer.gaps, key=lambda gap: -gap[1])[:_GAPS_SHOWN]:
        made = [done for done in faults if device in done][:1]
        faults = [done for done in faults if done not in made]
        words = f"{device} {format_duration(length_ns)}{', made on purpose' if made else ''}: {reason}"
        lines += _item("" if lines else "Gaps", words, width)
    return lines


def _historian(scene: Scene, answer: Answer, width: int) -> list[Text]:
    if answer.values is None:
        return []
    held, archived = answer.values
    words, style = "as many as are archived; what had not moved is in neither", ""
    if held != archived:
        words, style = f"and {archived:,} are archived", RED
    lines = _item("Historian", f"{held:,} values in PostgreSQL, {words}", width, style)
    return [*lines, Text(f"{'':11}while the demo runs: {scene.historian}")]


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
