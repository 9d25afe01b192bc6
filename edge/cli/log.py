"""`tidegate log`: what happened, by the records of an archive or of a gateway's buffer, one sentence each."""

from __future__ import annotations

import re
import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.text import Text

from edge.cli.output import Failure, print_json, print_json_line
from edge.cli.time_range import range_options, window_of
from edge.cli.verify import is_of, stored
from edge.config.kept import unpack
from edge.config.written import document
from edge.references import TrustPath, trust_path
from edge.relay.removals import apply_statements, statements_in
from edge.seal import (
    ConfigChange,
    Garbage,
    Malformed,
    Payload,
    RecordType,
    Severity,
    decode,
    decode_frame,
    encode,
    parse,
)
from edge.seal.payloads import KeptPart
from edge.seal.record import ISSUER_PREFIX
from edge.terminal import BOLD, DIM, printable, state, wrap
from edge.verify import RangeVerdict, Report, Trust, Verdict, Verifier
from edge.verify.logbook import LOGGED, Entry, Logbook, Noted, Place
from edge.verify.sentences import CHANGES_SHOWN, Happening, TimeText, changed
from edge.verify.window import Window

_READ = LOGGED | {RecordType.CATALOG}
_SEVERITIES = {each.name.lower(): each for each in Severity}
_GAP = "  "
_DAY, _OFFSET = len("2026-01-31"), len("2026-01-31 06:00:00.0")
_NARROW, _WIDE = 60, 110  # Columns below which a sentence begins on a line of its own, and from which kinds are shown.
_MORE_CHANGES_SHOWN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class LogAnswer:
    """One thing that happened."""

    at_ns: int
    """UTC at which it happened, or began."""
    to_ns: int | None
    """UTC at which a gap ended."""
    is_open: bool
    """Whether it is a gap without an end on record."""
    severity: str
    kind: str
    gateway: str
    device: str
    """Empty where it is about the gateway as a whole."""
    scan_group: str
    text: str
    """One sentence for people; its words may change with each version."""
    epoch: str
    seq: int
    is_proven: bool
    """Whether a key was given and the record is authentic."""
    data: Mapping[str, Any]
    """What the record says besides: see docs/reference/events.md for events."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigurationAnswer:
    """A configuration that was in use."""

    digest: str
    configuration: Mapping[str, Any]
    """All files and tables in one, as written, without comments and secrets."""


LINE = LogAnswer
ANSWERS = {"--configuration": ConfigurationAnswer}


def _check_hash(_context: click.Context, _option: click.Parameter, text: str | None) -> str | None:
    if text is not None and not re.fullmatch(r"[0-9a-fA-F]{1,64}", text):
        raise click.BadParameter(f"a hash is up to 64 hexadecimal digits, got {text!r}")
    return text.lower() if text else None


@click.command(
    epilog="""\b
Examples:
  tidegate log /var/lib/tidegate-relay --trust line-4.pub.pem
  tidegate log /var/lib/tidegate-relay --from 2026-01-31T06:00 --to 2026-01-31T14:00 --zone Europe/Zurich
  tidegate log /var/lib/tidegate/buffer --device plc-1 --severity warning
  tidegate log /var/lib/tidegate-relay --kind config --kind key.new
  tidegate log /var/lib/tidegate-relay --kind device. --json | jq -r .text
  tidegate log /var/lib/tidegate-relay --configuration 3bfe0596 > line-4.yaml

Exit code 0: the records were read. 2: usage. 78: a trust anchor cannot be used."""
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path, exists=True))
@click.option("--trust", "anchors", multiple=True, type=trust_path, metavar="[GATEWAY=]PATH",
              help="Show only what is proven, by these keys, as with `tidegate verify`; may be repeated.")  # fmt: skip
@range_options()
@click.option("--gateway", help="Only this gateway.")
@click.option("--device", "devices", multiple=True, metavar="NAME", help="Only this device; may be repeated.")
@click.option("--kind", "kinds", multiple=True, metavar="KIND",
              help="Only this kind, or all that begin so: device. or gap; may be repeated.")  # fmt: skip
@click.option("--severity", type=click.Choice(list(_SEVERITIES)), default="info", show_default=True,
              help="Only what is at least so urgent.")  # fmt: skip
@click.option("--configuration", "wanted_hash", metavar="HASH", callback=_check_hash,
              help="Print the configuration of this hash, or of its first digits, instead.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, for scripts.")
def command(
    paths: tuple[Path, ...], *, anchors: tuple[TrustPath, ...], start: str | None, end: str | None,
    zone: tzinfo | None, gateway: str | None, devices: tuple[str, ...], kinds: tuple[str, ...], severity: str,
    wanted_hash: str | None, as_json: bool,
) -> None:  # fmt: skip
    """Tell what happened, one sentence each, by time.

    PATHS are an archive, one gateway's folder in it, record files, or the buffer of a gateway, which may be running:
    events, gaps with begin and end, losses, steps of the clock, changes of configuration and keys, starts and stops.

    Changes of the session key, every 15 minutes, are shown with --kind key.
    """
    wanted = _Wanted(window_of(start, end, zone), frozenset(devices), kinds, _SEVERITIES[severity])
    logbook, configurations = Logbook(_time_text(zone)), _Configurations(wanted_hash)
    with closing(_Sorted()) as found:
        reading = _Reading(logbook, found, configurations, gateway)
        records = (each.data for each in stored(paths, gateway))
        if anchors:
            remark = reading.proven(records, Trust.load(anchors), statements_in(paths, gateway))
        else:
            remark = reading.unproven(records)
        if wanted_hash is not None:
            click.echo(remark, err=True)
            configurations.show(as_json=as_json)
            return
        for noted in logbook.still_open():
            found.add(noted)
        entries = (entry for noted in found if wanted.has(entry := logbook.entry(noted)))
        if as_json:
            click.echo(remark, err=True)
            for entry in entries:
                print_json_line(_answer(entry, is_proven=bool(anchors)))
        else:
            _show(remark, entries, _time_text(zone), has_several=found.has_several())


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What was asked for."""

    window: Window
    devices: frozenset[str]
    kinds: tuple[str, ...]
    severity: Severity

    def has(self, entry: Entry) -> bool:
        until_ns = entry.to_ns if entry.to_ns is not None else 2**63 - 1 if entry.is_open else entry.at_ns
        is_of_kind = entry.kind.startswith(self.kinds) if self.kinds else not entry.is_routine
        return (
            is_of_kind
            and entry.severity >= self.severity
            and (not self.devices or entry.device in self.devices)
            and self.window.side(0, entry.at_ns, until_ns) == 0
        )


class _Sorted:
    """What was found, by time; it takes disk and no memory, for an archive may hold years."""

    def __init__(self) -> None:
        self._database = sqlite3.connect("")  # A temporary file that has no name.
        self._database.execute(
            "CREATE TABLE found (at_ns, issuer, epoch, seq, type, payload, PRIMARY KEY (issuer, epoch, seq))"
        )

    def add(self, noted: Noted) -> None:
        """Keep it."""
        row = (noted.at_ns, *noted.place, int(noted.content.type), encode(noted.content))
        self._database.execute("INSERT OR REPLACE INTO found VALUES (?, ?, ?, ?, ?, ?)", row)

    def withdraw(self, place: Place) -> None:
        """Forget what a record said."""
        self._database.execute("DELETE FROM found WHERE issuer = ? AND epoch = ? AND seq = ?", place)

    def has_several(self) -> bool:
        """Whether they are of several gateways."""
        [(count,)] = self._database.execute("SELECT count(DISTINCT issuer) FROM found")
        return bool(count > 1)

    def __iter__(self) -> Iterator[Noted]:
        for at_ns, issuer, epoch, seq, kind, payload in self._database.execute(
            "SELECT * FROM found ORDER BY at_ns, issuer, epoch, seq"
        ):
            content = decode(RecordType(kind), payload)
            assert isinstance(content, Happening)
            yield Noted(at_ns, Place(issuer, epoch, seq), content)

    def close(self) -> None:
        """Give the disk back."""
        self._database.close()


class _Configurations:
    """The parts of the configuration that was asked for."""

    def __init__(self, wanted_hash: str | None) -> None:
        self._wanted = wanted_hash
        self._parts: defaultdict[tuple[str, bytes], dict[int, tuple[Place, KeptPart]]] = defaultdict(dict)

    def note(self, place: Place, content: Payload) -> None:
        """Take a record."""
        if self._wanted is None or not isinstance(content, ConfigChange) or content.kept is None:
            return
        if content.new_hash.hex().startswith(self._wanted):
            self._parts[place.issuer, content.new_hash][content.kept.part] = place, content.kept

    def withdraw(self, place: Place) -> None:
        """Forget what a record said."""
        for parts in self._parts.values():
            for number in [each for each, (at, _) in parts.items() if at == place]:
                del parts[number]

    def show(self, *, as_json: bool) -> None:
        """Print it as YAML, or as JSON."""
        found = {digest: parts for (_, digest), parts in self._parts.items() if parts}
        if not found:
            raise Failure(f"no configuration {self._wanted} is on record here; --kind config names those that are")
        if len(found) > 1:
            names = ", ".join(digest.hex() for digest in found)
            raise click.UsageError(f"--configuration {self._wanted} can be several, write more of it: {names}")
        [(digest, parts)] = found.items()
        needed = next(iter(parts.values()))[1].parts
        if len(parts) < needed:
            raise Failure(f"configuration {digest.hex()}: {len(parts)} of its {needed} parts are held")
        try:
            value = unpack(b"".join(parts[number][1].packed for number in range(needed)))
        except (ValueError, KeyError) as error:
            raise Failure(f"configuration {digest.hex()}: what is on record of it cannot be read: {error}") from None
        if as_json:
            print_json(ConfigurationAnswer(digest=digest.hex(), configuration=value))
            return
        click.echo(f"# Configuration {digest.hex()}, all files in one, without comments.")
        for line in document(value):
            click.echo(line)


@dataclass(frozen=True, slots=True)
class _Reading:
    """Notes what records say."""

    logbook: Logbook
    found: _Sorted
    configurations: _Configurations
    gateway: str | None

    def _note(self, place: Place, content: Payload) -> None:
        self.configurations.note(place, content)
        for noted in self.logbook.note(place, content):
            self.found.add(noted)

    def unproven(self, records: Iterator[bytes | None]) -> str:
        """Of all that can be read; returns what is to be said of that."""
        damaged = 0
        for data in records:
            try:
                frame = parse(data or b"")
                if frame.type not in _READ or self.gateway not in (None, frame.issuer.removeprefix(ISSUER_PREFIX)):
                    continue
                self._note(Place(frame.issuer, frame.epoch, frame.seq), decode_frame(frame))
            except (Garbage, Malformed):
                damaged += 1
        bad = f"; {damaged:,} piece{'s' * (damaged > 1)} cannot be read" if damaged else ""
        return f"Nothing was verified: --trust KEY shows only what is proven{bad}"

    def proven(self, records: Iterator[bytes | None], trust: Trust, statements: Iterator[Path]) -> str:
        """Of authentic records; returns what is to be said of the others, and of `statements` of what was removed."""
        verifier, damaged = Verifier(trust), 0
        for data in records:
            if data is None:
                damaged += 1
                continue
            if self.gateway is not None and not is_of(data, self.gateway):
                continue
            for judgement in verifier.add(data):
                place = Place(judgement.issuer, judgement.epoch, judgement.seq)
                if judgement.verdict is Verdict.AUTHENTIC and judgement.content is not None:
                    self._note(place, judgement.content)
                elif judgement.type is None:  # It had been accepted.
                    self.logbook.withdraw(place)
                    self.found.withdraw(place)
                    self.configurations.withdraw(place)
        apply_statements(verifier, trust, statements)
        return _unproven(verifier.report(), damaged)


def _unproven(report: Report, damaged: int) -> str:
    counts = Counter(report.unattributed)
    missing = removed = 0
    for epoch in report.epochs:
        counts.update(epoch.verdicts)
        for verdict, first, last in epoch.absent:
            if verdict == RangeVerdict.REMOVED:
                removed += last - first + 1
            else:
                missing += last - first + 1
    proven = counts.pop(Verdict.AUTHENTIC, 0)
    del counts[Verdict.DUPLICATE]
    counts[Verdict.GARBAGE] += damaged
    rest = [f"{count:,} {verdict}" for verdict, count in counts.items() if count]
    rest += [f"{missing:,} missing"] if missing else []
    rest += [f"{removed:,} removed by retention"] if removed else []
    left_out = f"left out: {', '.join(rest)}" if rest else "nothing is left out"
    return f"{proven:,} records are proven, and what they say is shown; {left_out}"


def _time_text(zone: tzinfo | None) -> TimeText:
    """Times with a tenth of a second and their zone."""

    def text(utc_ns: int) -> str:
        try:
            at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=utc_ns // 1000)
            at = at.astimezone(zone or UTC)
        except OverflowError:
            return f"{utc_ns} ns"
        offset = "Z" if at.utcoffset() == timedelta(0) else at.isoformat()[-6:]
        return f"{at:%Y-%m-%d %H:%M:%S}.{at.microsecond // 100_000}{offset}"

    return text


def _show(remark: str, entries: Iterator[Entry], time_text: TimeText, *, has_several: bool) -> None:
    console = Console(highlight=False)
    width = console.width if console.is_terminal else None
    for line in log_lines(remark, entries, time_text, width, has_several=has_several):
        if console.is_terminal:
            console.print(line, no_wrap=True, overflow="ignore", crop=False)
        else:
            click.echo(line.plain)


def log_lines(
    remark: str, entries: Iterator[Entry], time_text: TimeText, width: int | None, *, has_several: bool
) -> Iterator[Text]:
    """Remark and entries as lines: one each without a width, with the kind where there is room for it.

    With a width a heading tells the day and the zone, so that more room is left for the sentences.
    """
    yield from _wrapped(Text(), remark, width)
    entry, heading = None, ""
    for entry in entries:
        time = time_text(entry.at_ns)
        if width is not None:
            day, time, offset = time[:_DAY], time[_DAY:_OFFSET].strip(), time[_OFFSET:]
            if heading != (heading := f"{day} {'UTC' if offset == 'Z' else f'UTC{offset}'}"):
                yield Text(heading, BOLD)
        head = Text.assemble(time, _GAP, state(entry.severity.name.lower()))
        head.pad_right(len("warning") - len(entry.severity.name))
        if width is None or width >= _WIDE:
            head.append(f"{_GAP}{printable(entry.kind):16}", DIM)
        yield from _wrapped(head, f"{entry.gateway}: {entry.text}" if has_several else entry.text, width)
        changes = entry.data.get("changes", [])[CHANGES_SHOWN:]
        yield from (line for each in changes[:_MORE_CHANGES_SHOWN]
                    for line in _wrapped(Text(" " * len(head)), changed(**each), width))  # fmt: skip
        if len(changes) > _MORE_CHANGES_SHOWN:
            rest = f"and {len(changes) - _MORE_CHANGES_SHOWN:,} more, which --json has"
            yield from _wrapped(Text(" " * len(head)), rest, width)
    if entry is None:
        yield from _wrapped(Text(), "nothing of what was asked for is on record", width)


def _wrapped(head: Text, text: str, width: int | None) -> Iterator[Text]:
    """A sentence behind what stands before it, or below that where the width is small."""
    text = printable(text)  # Names and kinds of records that were not verified may hold anything.
    if head:
        head = head + _GAP
    if width is None:
        yield head + text
    elif width < _NARROW and head:
        if head.plain.strip():
            yield head
        yield from (Text(f"{_GAP}{line}") for line in wrap(text, width - len(_GAP)))
    else:
        for line in wrap(text, width - len(head)):
            yield head + line
            head = Text(" " * len(head))


def _answer(entry: Entry, *, is_proven: bool) -> LogAnswer:
    return LogAnswer(
        at_ns=entry.at_ns, to_ns=entry.to_ns, is_open=entry.is_open, severity=entry.severity.name.lower(),
        kind=entry.kind, gateway=entry.gateway, device=entry.device, scan_group=entry.group, text=entry.text,
        epoch=entry.place.epoch.hex(), seq=entry.place.seq, is_proven=is_proven, data=entry.data,
    )  # fmt: skip
