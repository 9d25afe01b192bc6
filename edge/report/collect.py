"""One pass over the files of an archive, and what is true of the range that was asked about."""

from __future__ import annotations

import hashlib
import io
from bisect import bisect_left, bisect_right
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edge.intervals import Interval, IntervalSet
from edge.relay.record_stream import split
from edge.relay.removals import RefusedStatement, apply_statements
from edge.report.batch import BatchSlice
from edge.report.clock import ClockStates
from edge.report.facts import FileAnswer, RefusedAnswer
from edge.report.readings import Readings
from edge.seal import (
    Calibrations,
    CataloguePart,
    ConfigChange,
    Data,
    Epoch,
    Event,
    Gap,
    KeyChange,
    Loss,
    Stop,
    TimeChange,
)
from edge.seal.record import ISSUER_PREFIX
from edge.sentences import Happening, TimeText, stretch_of, utc_text
from edge.verify import Coverage, Judgement, Report, Trust, Verdict, Verifier
from edge.verify.calibrations import CalibrationHistory
from edge.verify.chain_state import stated_ns
from edge.verify.logbook import Logbook, Noted, Place
from edge.verify.verdicts import REFUSED
from edge.verify.window import EVERYTHING, Window

HOLES_SHOWN = 4096
_REFUSED_KEPT = 10_000
_NOTED_KEPT = 50_000
_DAMAGE_BYTES = 64
_CHANGES = (ConfigChange, Epoch, Stop, KeyChange)
_CHANGING_EVENTS = ("start", "key.new", "key.rotated")
_CLOCK_EVENTS = ("time.step", "time.behind")


class HashedFile(io.FileIO):
    """A file that is hashed as it is read."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """The next bytes."""
        data = super().read(-1 if size is None else size) or b""
        self.sha256.update(data)
        self.size_bytes += len(data)
        return data


@dataclass(slots=True)
class _Places:
    """Which records of a chain are accepted, and the times of those at the ends of what is held without a break."""

    held: IntervalSet = field(default_factory=IntervalSet)
    times: dict[int, tuple[int, int]] = field(default_factory=dict)
    newest_ns: int = 0  # Of the last one that came; records without a time of their own follow it.
    until_ns: int = 0
    epoch: Epoch | None = None
    stop_seq: int = -1

    def note(self, seq: int, span: tuple[int, int] | None) -> None:
        """Count a record with the times of its first and last reading, or None where it has none of its own."""
        if span is not None:
            self.newest_ns, self.until_ns = span[1], max(self.until_ns, span[1])
        self.held.add(seq, seq)
        self.times[seq] = span or (self.newest_ns, self.newest_ns)
        for each in (seq - 1, seq, seq + 1):
            if each - 1 in self.held and each in self.held and each + 1 in self.held:
                self.times.pop(each, None)

    def times_around(self, absent: Iterable[Interval]) -> Iterator[tuple[int | None, int | None]]:
        """For each range of places, UTC of the reading held before it and of the one held after it."""
        ends = sorted(self.times)
        for first, last in absent:
            at, after = bisect_left(ends, first), bisect_right(ends, last)
            before_ns = self.times[ends[at - 1]][1] if at else None
            after_ns = self.times[ends[after]][0] if after < len(ends) else None
            yield before_ns or None, after_ns or None


class GatewayRecords:
    """What the records of one gateway say."""

    def __init__(self, window: Window, batch: BatchSlice | None = None) -> None:
        self._window, self._batch = window, batch
        self.readings = Readings(window if batch is None else EVERYTHING)
        self.clock = ClockStates()
        self.calibrations = CalibrationHistory()
        self.places: defaultdict[str, _Places] = defaultdict(_Places)
        self.held_from_ns: int | None = None
        self.held_to_ns: int | None = None
        self.inside: list[Noted] = []
        self.near: dict[tuple[str, str, int], Noted] = {}  # The last before and the first after the range, of a kind.
        self.not_kept = 0
        self.withdrawn = 0
        self.key_changes = 0

    def note(self, judgement: Judgement) -> tuple[int, int] | None:
        """Take an authentic record; returns the times of its first and last reading, if it has any."""
        content = judgement.content
        span: tuple[int, int] | None = None
        if isinstance(content, Data):
            span = content.utc_ns, content.until_ns
            self._note_data(content, span, judgement)
        elif isinstance(content, CataloguePart):
            self.readings.note_catalogue(content)
        elif isinstance(content, Calibrations):
            self.calibrations.note((judgement.epoch, judgement.seq), content)
        elif content is not None and not isinstance(content, Gap) and (stated := stated_ns(content)) is not None:
            span = stated, stated
        places = self.places[judgement.epoch.hex()]
        places.note(judgement.seq, span)
        if isinstance(content, Epoch):
            places.epoch = content
        elif isinstance(content, Stop):
            places.stop_seq = max(places.stop_seq, judgement.seq)
        return span if isinstance(content, Data) else None

    def _note_data(self, data: Data, span: tuple[int, int], judgement: Judgement) -> None:
        first, last = span
        self.held_from_ns = first if self.held_from_ns is None else min(self.held_from_ns, first)
        self.held_to_ns = last if self.held_to_ns is None else max(self.held_to_ns, last)
        own = data if self._batch is None else self._batch.take(judgement.issuer, judgement.epoch, data)
        self.readings.note_data(own, len(judgement.payload or b""))
        if self._window.side(0, first, last) == 0:
            self.clock.note(first, data.boot_ns, data.time)

    def withdraw(self, judgement: Judgement) -> None:
        """A record is no longer accepted: a key that came later shows that it was not allowed at its place."""
        self.places[judgement.epoch.hex()].held.discard(judgement.seq, judgement.seq)
        place = Place(judgement.issuer, judgement.epoch, judgement.seq)
        self.inside = [each for each in self.inside if each.place != place]
        self.near = {key: each for key, each in self.near.items() if each.place != place}
        self.calibrations.withdraw((judgement.epoch, judgement.seq))
        self.withdrawn += 1

    def _is_about_range(self, content: object) -> bool:
        """Whether it corrects times of the range, stamped or right, or is a loss at a time that is not known."""
        if isinstance(content, Loss):
            return content.from_ns is None
        if not isinstance(content, TimeChange) or (stretch := stretch_of(content)) is None:
            return False
        moves_ns = (0, stretch.correction_ns)
        return any(self._window.side(0, stretch.from_ns + by, stretch.to_ns + by) == 0 for by in moves_ns)

    def note_happening(self, noted: Noted) -> None:
        """Keep what happened in the range, and of each kind the nearest on both sides of it."""
        content = noted.content
        if not _is_reported(content):
            return
        until_ns, kind = noted.at_ns, type(content).__name__
        if isinstance(content, Gap):
            until_ns = 2**63 if content.to_ns is None else content.to_ns
            kind = f"Gap {noted.place.epoch.hex()} {content.group}"
        elif isinstance(content, Loss):
            until_ns = max(noted.at_ns, content.to_ns or 0)
        side = 0 if self._is_about_range(content) else self._window.side(0, noted.at_ns, until_ns)
        if side == 0 and isinstance(content, KeyChange):
            self.key_changes += 1
        elif side == 0 and len(self.inside) < _NOTED_KEPT:
            self.inside.append(noted)
        elif side == 0:
            self.not_kept += 1
        elif isinstance(content, (Gap, ConfigChange)):
            key = kind, noted.place.issuer, side
            known = self.near.get(key)
            if known is None or (noted.at_ns > known.at_ns if side < 0 else noted.at_ns < known.at_ns):
                self.near[key] = noted


def _is_reported(content: Happening) -> bool:
    if isinstance(content, Event):
        return content.kind in (*_CHANGING_EVENTS, *_CLOCK_EVENTS)
    return isinstance(content, (*_CHANGES, Gap, Loss, TimeChange))


class _Refused(NamedTuple):
    """A stretch of a file that is not a record to rely on; `side` is that of the record before it in the files."""

    path: Path
    offset: int
    size_bytes: int
    judgement: Judgement
    side: int | None
    issuer: str


class Collector:
    """Takes the files of an archive in their order, and gathers what a report is made of. Memory is bounded.

    Args:
        trust: the trust anchors.
        window: the range.
        gateway: the only gateway that is asked about; None for all.
        time_text: how times within sentences are written.
        batch: the blocks that readings are counted of; without it those of the window are.
        follower: is told the verdicts on each record that is about the gateway: on the one at this offset of a file,
            of so many bytes, and then on those that it changed.
    """

    def __init__(
        self, trust: Trust, window: Window, *, gateway: str | None = None, time_text: TimeText = utc_text,
        batch: BatchSlice | None = None,
        follower: Callable[[Path, int, int, list[Judgement]], None] | None = None,
    ) -> None:  # fmt: skip
        self.window, self.batch = window, batch
        self._follower = follower
        self._issuer = None if gateway is None else ISSUER_PREFIX + gateway
        self._verifier = Verifier(trust, window=window)
        self._coverage = Coverage(window, shown=HOLES_SHOWN)
        self.time_text = time_text
        self.logbook = Logbook(time_text)
        self.gateways: dict[str, GatewayRecords] = {}
        self.first_verdicts: defaultdict[str, Counter[Verdict]] = defaultdict(Counter)
        self.files: list[FileAnswer] = []
        self.refused: list[RefusedAnswer] = []
        self.refused_not_kept = 0
        self.refused_statements: list[RefusedStatement] = []
        self._undecided: list[_Refused] = []
        self._folder: Path | None = None
        self._side: int | None = None  # Of the last record held in this folder.
        self._stream_issuer = ""

    @property
    def begin_ns(self) -> int:
        """The begin of the range; that of what is held where it was left open."""
        if self.window.from_ns is not None:
            return self.window.from_ns
        return min((each.held_from_ns or 0 for each in self.gateways.values()), default=0)

    def read(self, path: Path, progress: Callable[[int], None] | None = None) -> None:
        """Read a file of records; `progress` is called with the offset reached."""
        if path.parent != self._folder:
            self._decide(None)
            self._folder, self._side, self._stream_issuer = path.parent, None, ""
        with HashedFile(path) as file:
            for number, piece in enumerate(split(file)):
                if piece.data is None:
                    self._refuse(path, piece.offset, piece.length, self._garbage(path, piece.offset, piece.length))
                else:
                    self._take(path, piece.offset, piece.data)
                if progress is not None and not number % 512:
                    progress(piece.offset)
            size_bytes, digest = file.size_bytes, file.sha256.hexdigest()
        self.files.append(FileAnswer(file=str(path), size_bytes=size_bytes, sha256=digest))

    def take(self, place: Path, number: int, data: bytes) -> None:
        """Take a record that lies in no file of an archive: that of a buffer, with its number there."""
        self._take(place, number, data)

    def _garbage(self, path: Path, offset: int, length: int) -> Judgement:
        with path.open("rb") as file:
            file.seek(offset)
            return self._verifier.add(file.read(min(length, _DAMAGE_BYTES)))[0]

    def _take(self, path: Path, offset: int, data: bytes) -> None:
        judgements = self._coverage.note(self._verifier.add(data))
        first = judgements[0]
        if self._issuer is not None and first.issuer not in (self._issuer, ""):
            return
        self.first_verdicts[first.issuer][first.verdict] += 1
        if self._follower is not None:
            self._follower(path, offset, len(data), judgements)
        if first.verdict in REFUSED or (first.verdict is Verdict.UNVERIFIABLE and self._has_room):
            self._refuse(path, offset, len(data), first)  # One whose key comes later is taken out again at the end.
        for each in judgements:
            if each.verdict is Verdict.AUTHENTIC and each.content is not None:
                self._accept(each)
            elif each.type is None and each.issuer in self.gateways:  # It had been accepted.
                self.logbook.withdraw(Place(each.issuer, each.epoch, each.seq))
                self.gateways[each.issuer].withdraw(each)

    def _accept(self, judgement: Judgement) -> None:
        issuer = judgement.issuer
        gateway = self.gateways.get(issuer)
        if gateway is None:
            gateway = self.gateways[issuer] = GatewayRecords(self.window, self.batch)
        span = gateway.note(judgement)
        content = judgement.content
        if span is not None:
            self._stream_issuer = issuer
            self._side = self.window.side(0, *span)
            if self._undecided:
                self._decide(self._side)
        elif content is not None:
            for noted in self.logbook.note(Place(issuer, judgement.epoch, judgement.seq), content):
                gateway.note_happening(noted)

    # Bytes that are not a record to rely on lie where the records around them in the files lie.

    @property
    def _has_room(self) -> bool:
        return len(self.refused) + len(self._undecided) < _REFUSED_KEPT

    def _refuse(self, path: Path, offset: int, size_bytes: int, judgement: Judgement) -> None:
        if self._has_room:
            self._undecided.append(_Refused(path, offset, size_bytes, judgement, self._side, self._stream_issuer))
        else:
            self.refused_not_kept += 1

    def _decide(self, side: int | None) -> None:
        for each in self._undecided:
            before, after = -1 if each.side is None else each.side, 1 if side is None else side
            garbage = each.judgement.verdict is Verdict.GARBAGE
            issuer = each.judgement.issuer or each.issuer or self._stream_issuer
            self.refused.append(RefusedAnswer(
                file=str(each.path), offset=each.offset, size_bytes=each.size_bytes,
                verdict=str(each.judgement.verdict), gateway=issuer.removeprefix(ISSUER_PREFIX),
                epoch=each.judgement.epoch.hex(), seq=None if garbage else each.judgement.seq,
                reason=each.judgement.reason, is_inside=before != after or before == 0,
            ))  # fmt: skip
        self._undecided.clear()

    def _is_verified_since(self, answer: RefusedAnswer) -> bool:
        gateway = self.gateways.get(ISSUER_PREFIX + answer.gateway)
        is_held = gateway is not None and answer.epoch in gateway.places
        return answer.verdict == Verdict.UNVERIFIABLE and is_held

    def note_removals(self, trust: Trust, statements: Iterable[Path]) -> None:
        """After the files: what retention removed is known as that; says which statements do not count."""
        _, self.refused_statements = apply_statements(self._verifier, trust, statements)

    def close(self) -> Report:
        """No file follows. The verdicts on the range."""
        self._decide(None)
        for noted in self.logbook.still_open():
            self.gateways[noted.place.issuer].note_happening(noted)
        self.refused = [each for each in self.refused if not self._is_verified_since(each)]
        for gateway in self.gateways.values():
            gateway.readings.close()
        return self._coverage.add_to(self._verifier.report())
