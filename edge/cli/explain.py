"""`tidegate explain`: what the reference pages say about one code, metric, event, setting or status."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches

import click

from edge.cli.output import Failure
from edge.terminal import output_width, wrap

EXAMPLE = """\b
Examples:
  tidegate explain TG-D02
  tidegate explain BAD_ADDRESS
  tidegate explain 0x80340000
  tidegate explain TG-S04
  tidegate explain uplink.no_subscriber
  tidegate explain tidegate_buffer_ok
  tidegate explain "devices[0].scan_groups[0].every"

Exit code 0: it is explained. 1: nothing is called so; what is called alike is named."""

_SHOWN = 6
_CLOSE = 0.6
_INDEX = re.compile(r"\[\d*\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One thing that the reference explains.

    Attributes:
        name: what it is called.
        kind: what it is, and where it belongs.
        text: what the reference says of it, a line for each paragraph.
        other_names: by which it is found, too.
    """

    name: str
    kind: str
    text: str
    other_names: Sequence[str] = field(default=())


@click.command(epilog=EXAMPLE)
@click.argument("name")
def command(name: str) -> None:
    """Say what a status, code, event, metric or setting means, as the reference pages do.

    NAME is what a command, the log or a problem of `tidegate check` shows: a status such as BAD_ADDRESS, a code such as
    TG-D02 or TG-S04, an event, a metric, or the key of a setting, with or without what is above it.
    """
    entries = list(entries_of_all())
    found = matching(name, entries)
    if not found:
        alike = ", ".join(names_like(name, entries))
        raise Failure(f"nothing is called {name!r}" + (f"; did you mean {alike}?" if alike else
                      "; the names are in the reference pages: codes, events, metrics, settings, status"))  # fmt: skip
    width = output_width()
    for entry in found[:_SHOWN]:
        paragraphs = entry.text.splitlines()
        for line in (f"{entry.name}: {entry.kind}", *(f"  {paragraph}" for paragraph in paragraphs)):
            click.echo("\n".join(wrap(line, width, 2)))
    if more := found[_SHOWN:]:
        click.echo("\n".join(wrap(f"And {len(more)} more: {', '.join(entry.name for entry in more)}", width, 2)))


def matching(name: str, entries: Sequence[Entry]) -> list[Entry]:
    """The entries of this name; else those of settings that end with it."""
    wanted = _folded(name)
    exact = [entry for entry in entries if wanted in map(_folded, (entry.name, *entry.other_names))]
    return exact or [entry for entry in entries if _folded(entry.name).endswith(f".{wanted}")]


def names_like(name: str, entries: Sequence[Entry]) -> list[str]:
    """Up to three names that are like this one, or whose last part is."""
    names: dict[str, str] = {}
    for entry in entries:
        for each in (entry.name, *entry.other_names):
            names.setdefault(_folded(each), each)
            names.setdefault(_folded(each).rpartition(".")[2], each)
    return list(dict.fromkeys(names[each] for each in get_close_matches(_folded(name)[:200], names, 3, _CLOSE)))


def _folded(name: str) -> str:
    """A name without what differs between the places that show it: indices, case, quotes, how a number is written."""
    folded = _INDEX.sub("[]", name.strip(" `'\"").lower())
    return str(int(folded, 16)) if re.fullmatch(r"0x[0-9a-f]{1,8}", folded) else folded


def entries_of_all() -> Iterator[Entry]:
    """Everything that is explained, from where the reference pages are made of."""
    yield from _codes()
    yield from _statuses()
    yield from _events()
    yield from _metrics()
    yield from _settings()


def _codes() -> Iterator[Entry]:
    from edge.errors import ErrorCode

    for code in ErrorCode:
        text = f"{code.happened}\nThe data meanwhile: {code.meanwhile}\nWhat to do: {code.remedy}"
        yield Entry(name=code.id, kind="code of a failure", text=text, other_names=(code.name,))


def _statuses() -> Iterator[Entry]:
    from edge.health.render import meaning_of
    from edge.model import StatusCode, quality_of

    for code in StatusCode:
        kind = f"status 0x{code:08X}, quality {quality_of(code).name}"
        yield Entry(name=code.name, kind=kind, text=meaning_of(code), other_names=(str(int(code)),))


def _events() -> Iterator[Entry]:
    from edge.gateway.audit import EventKind
    from edge.syslog import SECURITY_EVENTS

    for kind in EventKind:
        codes = [each.id for each in SECURITY_EVENTS if kind.label in (line.name for line in each.lines)]
        also = f"; in the system's log as {' or '.join(codes)}" if codes else ""
        yield Entry(name=kind.label, kind=f"event, {kind.severity.name.lower()}{also}", text=kind.meaning)
    for each in SECURITY_EVENTS:
        lines = ", ".join(dict.fromkeys(line.name for line in each.lines))
        yield Entry(name=each.id, kind=f"security event in the system's log: {lines}", text=each.meaning)


def _metrics() -> Iterator[Entry]:
    from edge.health.families import FAMILIES

    for family in FAMILIES:
        labels = f" by {', '.join(family.labels)}" if family.labels else ""
        yield Entry(
            name=family.name, kind=f"{'counter' if family.is_counter else 'gauge'}{labels}", text=family.meaning
        )


def _settings() -> Iterator[Entry]:
    from edge.config.reference import settings_rows
    from edge.driver import installed, load

    for row in settings_rows((name, load(name)) for name in installed()):
        default = f", by default {row.default}" if row.default else ""
        kind = f"setting of {row.where}: {row.kind}{default}".replace("`", "")
        yield Entry(name=row.key, kind=kind, text=row.description.replace("**", "").replace(r"\|", "|"))
