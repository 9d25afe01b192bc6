"""What a report says, as values: the members of its JSON. Times are UTC in nanoseconds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Result = Literal["complete", "not_complete", "altered", "untrusted", "nothing_held"]


@dataclass(frozen=True, slots=True, kw_only=True)
class FileAnswer:
    """A file that was read."""

    file: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedAnswer:
    """Bytes of a file that are not a record to rely on."""

    file: str
    offset: int
    size_bytes: int
    verdict: str
    """ALTERED, UNTRUSTED, FORK, UNVERIFIABLE, or GARBAGE for bytes that are no record."""
    gateway: str
    epoch: str
    seq: int | None
    reason: str
    is_inside: bool
    """Whether it lies in the range, or may: the records before and after it in the file say so."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnalteredAnswer:
    """Whether every record of the range carries a valid signature."""

    is_unaltered: bool
    records: int
    valid: int
    fingerprints: tuple[str, ...]
    """Of the identity keys that vouch for them."""
    verdicts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class MissingAnswer:
    """Records that existed and are not held."""

    epoch: str
    first_seq: int
    last_seq: int
    records: int
    from_ns: int | None
    """Time of the record before them, or the begin of the range where that is later; None: nothing is held before."""
    to_ns: int | None
    """Time of the record after them, or the end of the range where that is earlier; None: nothing is held after."""
    is_declared: bool
    """Whether the gateway says on record that it dropped them before delivery."""
    is_removed: bool
    """Whether the relay says in a signed statement that retention removed them from the archive."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GapAnswer:
    """A stretch in which a device was not read."""

    device: str
    """Empty where it is of all devices."""
    scan_groups: tuple[str, ...]
    from_ns: int
    to_ns: int | None
    """None where no end is on record."""
    is_declared: bool
    """Whether the gateway declared it as a GAP; else it is a hole in the readings that nothing on record explains."""
    is_inside: bool
    """Whether it touches the range; else it lies just outside."""
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteAnswer:
    """Whether everything that was due in the range is held."""

    is_complete: bool
    missing_records: int
    missing: tuple[MissingAnswer, ...]
    gaps: tuple[GapAnswer, ...]
    gaps_inside: int
    losses: tuple[str, ...]
    shortfalls: tuple[str, ...]
    """Why the range is not covered although no record is known to be missing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStretch:
    """A part of the range in which the clock was in one state."""

    state: str
    source: str
    from_ns: int
    to_ns: int
    worst_bound_ns: int | None
    """How far times may be off at worst; None where that is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockAnswer:
    """How far the times of the range may be off."""

    is_known: bool
    worst_bound_ns: int | None
    stretches: tuple[ClockStretch, ...]
    events: tuple[str, ...]
    """Steps of the clock, and starts with a clock that was behind the records before."""
    corrections: tuple[str, ...]
    """What the gateway learned later of times that were stamped by a clock that was not trusted."""
    bounds: tuple[tuple[int, int | None], ...]
    """For the plot: begin of an interval of time, and the worst bound in it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstTag:
    """A tag with readings that are not good."""

    device: str
    tag: str
    uncertain: int
    bad: int
    reason: str
    """The most frequent status code."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QualityAnswer:
    """The readings of the range. One counts for each tag each time it was read, stored again or not."""

    tags: int
    good: int
    uncertain: int
    bad: int
    not_counted_records: int
    """Records of which the catalogue is not held, so that their tags are not known."""
    withdrawn_records: int
    """Records that were counted, and are UNTRUSTED by a key that came later in the files."""
    affected_tags: int
    worst: tuple[WorstTag, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class InstrumentAnswer:
    """The instrument behind a tag, and its calibration, which readings of the range had."""

    device: str
    tag: str
    instrument: str
    serial: str
    certificate: str
    calibrated: str | None
    """Day of the calibration, such as 2026-03-31."""
    due: str | None
    """The last day for which it is valid."""
    tolerance: str
    from_ns: int
    """When the tag was read first and last with this calibration, in the range."""
    to_ns: int
    overdue_from_ns: int | None
    """The first time in the range at which it was read although the calibration was overdue."""

    @property
    def name(self) -> str:
        """What people call the instrument: its id, or its tag where it has none."""
        return self.instrument or f"{self.device}/{self.tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeAnswer:
    """A change of configuration or keys, or a start or stop."""

    at_ns: int
    kind: str
    text: str
    is_inside: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ContinuesAnswer:
    """Whether the chain is held just before and just after the range."""

    is_before: bool
    before: str
    is_after: bool
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TagAnswer:
    """The readings of one tag in the range."""

    device: str
    tag: str
    unit: str
    due: int | None
    """How many were due by the interval of its scan group; None where the device sends values when they change."""
    received: int
    good: int
    uncertain: int
    bad: int
    first_ns: int | None
    """When it first had a value that is not bad."""
    last_ns: int | None
    missing: dict[str, int] | None = None
    """In a report on a batch, readings that were due and were not received, by the cause: `gap` (the device was not
    read), `lost` (the records are not held), `boundary` and `unknown` (they are in the archive, and not counted to the
    batch), `not_explained`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ContextAnswer:
    """What a unit did from a change on, as the record at this place says."""

    epoch: str
    seq: int
    members: dict[str, str | None]
    """Empty texts were read and are blank; those that are None are not known."""
    from_ns: int
    to_ns: int
    """The change was after `from_ns` and not after `to_ns`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunAnswer:
    """One stretch of the batch on a unit."""

    unit: str
    began_from_ns: int
    began_to_ns: int
    """It began after `began_from_ns` and not after `began_to_ns`."""
    ended_from_ns: int | None
    ended_to_ns: int | None
    """It ended after `ended_from_ns` and not after `ended_to_ns`; None where no end is on record."""
    contexts: tuple[ContextAnswer, ...]
    blocks: int
    """Scans and notifications of the batch."""
    boundary_blocks: int
    """Those sampled while the unit changed into the batch or out of it: they are not counted."""
    unknown_blocks: int
    """Those of the unit, in the time of the batch, whose batch is not known: they are not counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchAnswer:
    """The batch that was asked for. Blocks of the batch, of its boundary, unknown and outside are all that is held."""

    batch: str
    look_alikes: tuple[str, ...]
    """Ids of other batches of the archive that people may take for it."""
    runs: tuple[RunAnswer, ...]
    outside_blocks: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DeviceAnswer:
    """One device in the range."""

    device: str
    tags: int
    due: int
    received: int
    not_read: tuple[tuple[int, int, str], ...]
    """For the plot: begin and end of stretches without readings: declared, undeclared, or missing with the records."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewAnswer:
    """A review that lies beside the records; its texts are empty where it cannot be read."""

    file: str
    gateway: str
    name: str = ""
    """Who signed it, by the file of --approvers."""
    role: str = ""
    meaning: str = ""
    """What the signature says."""
    written_by: str = ""
    """The account that wrote the text."""
    at: str = ""
    """UTC, when it was written. A signature says no time of its own."""
    begin: str = ""
    """Begin of the range, UTC."""
    end: str = ""
    answer: str = ""
    """What the report said of the range then."""
    note: str = ""
    why_not: str = ""
    """Why its signature does not count, or is not known to; empty where it does."""
    altered: str = ""
    """Why the records are no longer those that were reviewed; empty where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayAnswer:
    """What is true of the range of one gateway."""

    gateway: str
    result: Result
    text: str
    """One sentence or two for people; its words may change with each version."""
    from_ns: int | None
    """The range as asked for; where it was left open, what is held."""
    to_ns: int | None
    held_from_ns: int | None
    """What is held of this gateway in the whole archive."""
    held_to_ns: int | None
    unaltered: UnalteredAnswer
    complete: CompleteAnswer
    clock: ClockAnswer
    quality: QualityAnswer
    changes: tuple[ChangeAnswer, ...]
    key_changes: int
    """Changes of the session key in the range: routine."""
    continues: ContinuesAnswer
    devices: tuple[DeviceAnswer, ...]
    tags: tuple[TagAnswer, ...] | None
    """None unless asked for."""
    instruments: tuple[InstrumentAnswer, ...] = ()
    """Overdue ones first."""
    reviews: tuple[ReviewAnswer, ...] = ()
    """Those that lie beside the records, of any range."""
    batch: BatchAnswer | None = None
    """In a report on a batch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RangeReport:
    """The report on a range."""

    result: Result
    text: str
    from_ns: int | None
    to_ns: int | None
    zone: str
    """The time zone that times are shown in beside UTC; empty for none."""
    gateways: tuple[GatewayAnswer, ...]
    not_reported: tuple[str, ...]
    """Gateways of the archive for which no trust anchor was given."""
    refused: tuple[RefusedAnswer, ...]
    refused_inside: int
    refused_outside: int
    files: tuple[FileAnswer, ...]
    trust: tuple[FileAnswer, ...]
    version: str
    command: str
    made_at_ns: int
