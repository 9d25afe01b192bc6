"""Times of a report as people read them: UTC, the day only where it is another than that of the range."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, tzinfo

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class Times:
    """Writes times."""

    def __init__(self, zone: tzinfo | None = None) -> None:
        self._zone = zone
        self._day: datetime | None = None

    def begin_with(self, utc_ns: int) -> None:
        """The day of this time goes without saying."""
        self._day = _at(utc_ns, UTC)

    def short(self, utc_ns: int) -> str:
        """To a tenth of a second, in UTC."""
        at = _at(utc_ns, UTC)
        if at is None:
            return f"{utc_ns} ns"
        is_that_day = self._day is not None and at.date() == self._day.date()
        return f"{'' if is_that_day else f'{at:%Y-%m-%d} '}{at:%H:%M:%S}.{at.microsecond // 100_000}"

    def span(self, first_ns: int, last_ns: int) -> str:
        """From a time to another one."""
        return f"{self.short(first_ns)} to {self.short(last_ns)}"

    def whole(self, first_ns: int, last_ns: int) -> str:
        """The range with its days, in UTC, and beside it in the zone that was asked for."""
        text = f"{_range(first_ns, last_ns, UTC)} UTC"
        return text if self._zone in (None, UTC) else f"{text} ({_range(first_ns, last_ns, self._zone)} {self._zone})"

    def moment(self, utc_ns: int) -> str:
        """One time with its day, in UTC and in the zone."""
        text = f"{_text(utc_ns, UTC)} UTC"
        return text if self._zone in (None, UTC) else f"{text} ({_text(utc_ns, self._zone)} {self._zone})"

    def tick(self, utc_ns: int, step_ns: int) -> str:
        """A time on an axis, as short as its step allows."""
        at = _at(utc_ns, UTC)
        if at is None:
            return ""
        if step_ns >= 86_400 * 10**9:
            return f"{at:%Y-%m-%d}"
        is_midnight = (at.hour, at.minute, at.second) == (0, 0, 0)
        return f"{at:%m-%d}" if is_midnight else f"{at:%H:%M}" if step_ns >= 60 * 10**9 else f"{at:%H:%M:%S}"


def _at(utc_ns: int, zone: tzinfo | None) -> datetime | None:
    try:
        return (_EPOCH + timedelta(microseconds=utc_ns // 1000)).astimezone(zone)
    except (ValueError, OverflowError):
        return None


def _text(utc_ns: int, zone: tzinfo | None) -> str:
    at = _at(utc_ns, zone)
    if at is None:
        return f"{utc_ns} ns"
    return f"{at:%Y-%m-%d %H:%M:%S}" + (f".{at.microsecond // 1000:03}" if at.microsecond else "")


def _range(first_ns: int, last_ns: int, zone: tzinfo | None) -> str:
    first, last = _at(first_ns, zone), _at(last_ns, zone)
    is_one_day = first is not None and last is not None and first.date() == last.date()
    end = _text(last_ns, zone)
    return f"{_text(first_ns, zone)} to {end.partition(' ')[2] if is_one_day else end}"
