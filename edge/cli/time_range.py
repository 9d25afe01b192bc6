"""The range that a command is asked about: `--from`, `--to` and `--zone`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

import click

from edge.verify.window import EVERYTHING, Window

_Command = TypeVar("_Command", bound=Callable[..., Any])

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class _ZoneName(click.ParamType[tzinfo]):
    """The name of a time zone."""

    name = "zone"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tzinfo:
        if isinstance(value, tzinfo):
            return value
        try:
            return UTC if value == "UTC" else ZoneInfo(value)
        except (ValueError, OSError):  # ZoneInfoNotFoundError is a KeyError.
            self.fail(f"{value!r} is not the name of a time zone", param, ctx)
        except KeyError:
            self.fail(f"this machine knows no time zone {value!r}; names are those of the tz database, such as "
                      "Europe/Zurich", param, ctx)  # fmt: skip


def range_options(*, takes_seqs: bool = False) -> Callable[[_Command], _Command]:
    """The options `start`, `end` and `zone` of a command; `window_of` makes a range of them."""
    time = "a time: 2026-01-31T06:00:00Z, or without a zone with --zone"
    first, last = (f"first seq, or {time}", "last seq, or a time") if takes_seqs else (time, "a time; it is included")

    def add(command: _Command) -> _Command:
        for option in (
            click.option("--zone", type=_ZoneName(), metavar="NAME", help="Time zone of times without one, such as "
                         "Europe/Zurich."),
            click.option("--to", "end", metavar="END", help=f"End of the range: {last}."),
            click.option("--from", "start", metavar="START", help=f"Begin of the range: {first}."),
        ):  # fmt: skip
            command = option(command)
        return command

    return add


def window_of(start: str | None, end: str | None, zone: tzinfo | None = None, *, takes_seqs: bool = False) -> Window:
    """The range that was asked for, both ends included. Raises UsageError."""
    first, last = _bound(start, "--from", zone, takes_seqs), _bound(end, "--to", zone, takes_seqs)
    if any(isinstance(each, datetime) for each in (first, last)):
        if isinstance(first, int) or isinstance(last, int):
            raise click.UsageError("--from and --to are both a seq, or both a time")
        window = Window(from_ns=_ns(first), to_ns=_ns(last))
        _check_order(window.from_ns, window.to_ns)
        if window.from_ns is not None and window.from_ns == window.to_ns:
            raise click.UsageError(f"the range is empty: --from and --to are the same time, {start}")
        return window
    assert not isinstance(first, datetime) and not isinstance(last, datetime)  # noqa: PT018
    _check_order(first, last)
    window = Window(first or 0, last)
    return EVERYTHING if window == EVERYTHING else window


def _check_order(first: int | None, last: int | None) -> None:
    if first is not None and last is not None and first > last:
        raise click.UsageError("--to lies before --from")


def _bound(text: str | None, option: str, zone: tzinfo | None, takes_seqs: bool) -> int | datetime | None:
    if text is None:
        return None
    if takes_seqs and text.isdecimal():
        return int(text)
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        kinds = "a seq or a time" if takes_seqs else "a time"
        raise click.UsageError(f"{option} is {kinds} such as 2026-01-31T06:00:00Z, got {text!r}") from None
    if at.tzinfo is not None:
        return at
    if zone is None:
        raise click.UsageError(f"{option} needs a zone: {text}Z for UTC, an offset such as {text}+01:00, or --zone "
                               "Europe/Zurich")  # fmt: skip
    return _in_zone(at, text, option, zone)


def _in_zone(at: datetime, text: str, option: str, zone: tzinfo) -> datetime:
    """A local time in a zone, which has none of some and two of others on days when its clocks are changed."""
    early, late = at.replace(tzinfo=zone), at.replace(tzinfo=zone, fold=1)
    offsets = [early.utcoffset(), late.utcoffset()]
    if offsets[0] == offsets[1]:
        return early
    if early.astimezone(UTC).astimezone(zone).replace(tzinfo=None) != at:
        raise click.UsageError(f"{option} {text} does not exist in {zone}: the clocks are put forward over it")
    raise click.UsageError(f"{option} {text} is twice in {zone}, because the clocks are put back; write "
                           f"{early.isoformat()} or {late.isoformat()}")  # fmt: skip


def _ns(at: datetime | int | None) -> int | None:
    return (at - _EPOCH) // timedelta(microseconds=1) * 1000 if isinstance(at, datetime) else None
