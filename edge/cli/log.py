"""`tidegate log`: what happened, by the records of an archive or of a gateway's buffer, one sentence each."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from datetime import tzinfo
from pathlib import Path
from typing import Any

import click
from rich.text import Text

from edge.cli.output import ExistingPath, Failure, print_json, print_json_line
from edge.cli.records import Records
from edge.cli.time_range import range_options, window_of
from edge.cli.timed_lines import Said, few, show, time_text, timed_lines
from edge.config.kept import unpack
from edge.config.written import document
from edge.references import TrustPath, trust_path
from edge.seal import RecordType, Severity, decode, encode
from edge.sentences import CHANGES_SHOWN, Happening, TimeText, changed
from edge.terminal import state
from edge.verify.configurations import KeptConfigurations
from edge.verify.logbook import LOGGED, Entry, Logbook, Noted, Place
from edge.verify.window import Window

_READ = LOGGED | {RecordType.CATALOG}
_SEVERITIES = {each.name.lower(): each for each in Severity}


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
@click.argument("paths", nargs=-1, required=True, type=ExistingPath(path_type=Path))
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
    logbook, configurations = Logbook(time_text(zone)), KeptConfigurations() if wanted_hash is not None else None
    records = Records(paths, gateway, anchors, _READ)
    with closing(_Sorted()) as found:
        _note(records, logbook, found, configurations)
        if configurations is not None and wanted_hash is not None:
            click.echo(records.remark, err=True)
            _print_configuration(configurations, wanted_hash, as_json=as_json)
            return
        for noted in logbook.still_open():
            found.add(noted)
        entries = (entry for noted in found if wanted.has(entry := logbook.entry(noted)))
        if as_json:
            click.echo(records.remark, err=True)
            for entry in entries:
                print_json_line(_answer(entry, is_proven=bool(anchors)))
        else:
            several = found.has_several()
            show(lambda width: log_lines(records.remark, entries, time_text(zone), width, has_several=several))


def _note(records: Records, logbook: Logbook, found: _Sorted, configurations: KeptConfigurations | None) -> None:
    """Take what the records say, and what a later record took back."""
    for place, content, judgement in records:
        if content is not None:
            for noted in logbook.note(place, content):
                found.add(noted)
            if configurations is not None:
                configurations.note(place, content)
        elif judgement is not None and judgement.type is None:
            logbook.withdraw(place)
            found.withdraw(place)
            if configurations is not None:
                configurations.withdraw(place)


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


def _print_configuration(held: KeptConfigurations, wanted: str, *, as_json: bool) -> None:
    """Print the configuration of this hash as YAML, or as JSON."""
    digests = held.digests(wanted)
    if not digests:
        raise Failure(f"no configuration {wanted} is on record here; --kind config names those that are")
    if len(digests) > 1:
        names = ", ".join(each.hex() for each in digests)
        raise click.UsageError(f"--configuration {wanted} can be several, write more of it: {names}")
    [digest] = digests
    packed = held.packed(digest)
    if packed is None:
        parts, needed = held.held(digest)
        raise Failure(f"configuration {digest.hex()}: {parts} of its {needed} parts are held")
    try:
        value = unpack(packed)
    except ValueError as error:
        raise Failure(f"configuration {digest.hex()}: what is on record of it cannot be read: {error}") from None
    if as_json:
        print_json(ConfigurationAnswer(digest=digest.hex(), configuration=value))
        return
    click.echo(f"# Configuration {digest.hex()}, all files in one, without comments.")
    for line in document(value):
        click.echo(line)


def log_lines(
    remark: str, entries: Iterator[Entry], times: TimeText, width: int | None, *, has_several: bool
) -> Iterator[Text]:
    """Remark and entries as lines, which name the gateway where there are several."""
    said = (_said(entry, has_several=has_several) for entry in entries)
    return timed_lines(remark, said, times, width, len("warning"))


def _said(entry: Entry, *, has_several: bool) -> Said:
    changes = [changed(**each) for each in entry.data.get("changes", [])[CHANGES_SHOWN:]]
    more = few(changes, "which --json has")
    text = f"{entry.gateway}: {entry.text}" if has_several else entry.text
    return Said(entry.at_ns, state(entry.severity.name.lower()), entry.kind, text, more)


def _answer(entry: Entry, *, is_proven: bool) -> LogAnswer:
    return LogAnswer(
        at_ns=entry.at_ns, to_ns=entry.to_ns, is_open=entry.is_open, severity=entry.severity.name.lower(),
        kind=entry.kind, gateway=entry.gateway, device=entry.device, scan_group=entry.group, text=entry.text,
        epoch=entry.place.epoch.hex(), seq=entry.place.seq, is_proven=is_proven, data=entry.data,
    )  # fmt: skip
