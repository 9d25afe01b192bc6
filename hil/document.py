"""The document of a report: what was tested on which rig, what was found, and where the evidence is.

Plain data that is written as JSON and read again; all times are nanoseconds of UTC. It depends on no other part of the
rig, so that a report can be rendered and checked where no rig is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import orjson
from pydantic import TypeAdapter, ValidationError

from edge.errors import ConfigError

KIND = "tidegate hil 2"
POINTS_MAX = 400
"""A line of a plot has at most about this many points; the evidence has them all."""

Verdict = Literal["PASSED", "FAILED", "NOT PLAYED"]
Point = tuple[int, float | None]
"""A time and a value; None where there was no value to see."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wired:
    """Something of the rig, as its installer describes it; empty where it is not known."""

    role: Literal["gateway", "device", "broker", "relay", "clock", "switch", "signal", "witness", "other"]
    name: str
    vendor: str = ""
    model: str = ""
    firmware: str = ""
    connection: str = ""
    notes: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RigFacts:
    """The rig: its file, and what is wired."""

    name: str
    place: str
    file: str
    sha256: str
    is_simulated: bool
    wired: tuple[Wired, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """A program or library that took part, and the SHA-256 of its code or file where it was computed."""

    name: str
    version: str
    sha256: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of a plot: what was measured, what it must agree with, or the limit that it must not pass."""

    name: str
    points: tuple[Point, ...]
    kind: Literal["measured", "truth", "limit"] = "measured"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A stretch of time that a plot marks: a disturbance, from its first to its last moment."""

    from_ns: int
    to_ns: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plot:
    """A plot over time; `caption` says in a sentence what one should see in it."""

    title: str
    unit: str
    lines: tuple[Line, ...]
    spans: tuple[Span, ...] = ()
    caption: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepTaken:
    """A step as it was played; `trouble` says why it did not come to its end."""

    text: str
    started_ns: int
    ended_ns: int
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Criterion:
    """A pass criterion with its figures, whether it holds, and what was found."""

    text: str
    holds: bool
    found: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A measured number."""

    name: str
    value: float
    unit: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockSeen:
    """What the gateway said of its clock; `bound_ns` is None where it stated no bound."""

    at_ns: int
    source: str
    state: str
    bound_ns: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSeen:
    """An archive of the evidence: its folder, the key to verify it with, and the chains in it.

    Attributes:
        admit: what is to be admitted, as where a scenario makes the gateway lose records; else empty.
    """

    folder: str
    trust: str
    admit: str = ""
    identity: str
    records: int
    last_seq: int
    head_sha256: str

    def command(self, report: str = "") -> str:
        """What verifies it, beside the report or with the report in that folder."""
        admit = f" --admit {self.admit}" if self.admit else ""
        return f"tidegate verify {report}{self.folder} --trust {report}{self.trust}{admit}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ScenarioResult:
    """A scenario as it was played, or why it was not.

    Attributes:
        not_played: why it was not played; empty when it was.
        deviations: what was other than planned, in a sentence each: for a person to judge.
        configuration_sha256: digest of the gateway's configuration, as it is on record in its chain.
        times: how the gateway's times were compared with those of the rig, and the error allowed for that.
        gateway_version: what the gateway says that it is, on record in its chain.
        witnesses: the libraries that read the devices beside the gateway, with their versions.
        folder: its folder in the folder of the report, with its evidence.
    """

    name: str
    title: str
    purpose: str
    requirements: tuple[str, ...]
    started_ns: int = 0
    ended_ns: int = 0
    not_played: str = ""
    steps: tuple[StepTaken, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    figures: tuple[Figure, ...] = ()
    plots: tuple[Plot, ...] = ()
    deviations: tuple[str, ...] = ()
    configuration_sha256: str = ""
    times: str = ""
    gateway_version: str = ""
    witnesses: tuple[str, ...] = ()
    clock: ClockSeen | None = None
    archives: tuple[ArchiveSeen, ...] = ()
    folder: str = ""

    @property
    def verdict(self) -> Verdict:
        """Passed when it was played to its end and every criterion holds; without a criterion it proves nothing."""
        if self.not_played:
            return "NOT PLAYED"
        troubles = any(step.trouble for step in self.steps)
        return "PASSED" if self.criteria and not troubles and all(each.holds for each in self.criteria) else "FAILED"


@dataclass(frozen=True, slots=True, kw_only=True)
class EvidenceFile:
    """A file of the evidence: its path in the folder of the report, its size, and its SHA-256."""

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The document."""

    made_at_ns: int
    rig: RigFacts
    versions: tuple[Version, ...]
    scenarios: tuple[ScenarioResult, ...]
    files: tuple[EvidenceFile, ...] = ()
    requirements: Mapping[str, str]
    signer: str = ""

    @property
    def verdict(self) -> Verdict:
        """Failed when a scenario failed; passed when all passed."""
        verdicts = {each.verdict for each in self.scenarios}
        return "FAILED" if "FAILED" in verdicts else "PASSED" if verdicts == {"PASSED"} else "NOT PLAYED"

    def to_json(self) -> bytes:
        """The document as JSON, with the verdicts."""
        scenarios = [{"verdict": each.verdict, **asdict(each)} for each in self.scenarios]
        document = {"report": KIND, "verdict": self.verdict, **asdict(self), "scenarios": scenarios}
        return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)

    @classmethod
    def from_json(cls, data: bytes) -> Report:
        """The inverse of `to_json`. Raises ConfigError for what is no such document, or contradicts itself."""
        try:
            document: dict[str, Any] = orjson.loads(data)
            if document.pop("report") != KIND:
                raise ConfigError(f"report.json is no {KIND!r} document; use the version of hil that wrote it")
            stated = [document.pop("verdict"), *(each.pop("verdict") for each in document["scenarios"])]
            report = TypeAdapter(cls).validate_python(document)
        except (orjson.JSONDecodeError, ValidationError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError("report.json is damaged: it is no document of a report") from error
        if stated != [report.verdict, *(each.verdict for each in report.scenarios)]:
            raise ConfigError("report.json contradicts itself: a verdict is not what its criteria say")
        return report


def thinned(points: Iterable[Point]) -> tuple[Point, ...]:
    """Points for a plot, at most about `POINTS_MAX`: of each stretch the lowest and the highest, and every hole."""
    given = list(points)
    if len(given) <= POINTS_MAX:
        return tuple(given)
    size = -(-len(given) * 2 // POINTS_MAX)
    kept: list[Point] = []
    for at in range(0, len(given), size):
        known = [each for each in given[at : at + size] if each[1] is not None]
        chosen = {min(known, key=_value), max(known, key=_value)} if known else set()
        hole = next((each for each in given[at : at + size] if each[1] is None), None)
        kept += sorted(chosen | ({hole} if hole else set()), key=lambda each: each[0])
    return tuple(kept)


def _value(point: Point) -> float:
    return point[1] or 0.0
