"""One gateway or relay, asked for its status by this process alone, however many browsers look.

It asks status sockets, which answer everyone the same, and the live socket, which gives values that scans have brought
already. Browsers add nothing to that but the names of the tags that they show.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import orjson

from edge import unix_sockets
from edge.errors import ForeignSocket
from edge.health import DeviceStatus, GatewayStatus, GroupStatus, StatusSnapshot, TagStatus
from edge.health.problems import StatusAnswer
from edge.health.render import reason_of
from edge.page.history import BAD, DAY_NS, GAP, NOTHING, NUMBER, SAMPLE_NS, Counters, Trends
from edge.page.overview import overview_of, recent_of, rows_of
from edge.page.time_line import TimeLine, draw
from edge.terminal import printable
from edge.units import format_value

STATUS_EVERY_S = 1.0
ROWS_EVERY_S = 0.25
_ANSWER_WITHIN_S = 5.0
_POINTS = 240
_COUNTERS = ("in", "out", "waiting", "bound")


class Notice:
    """Wakes all who wait for something to change."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def tell(self) -> None:
        """Wake them."""
        self._event.set()
        self._event = asyncio.Event()

    async def wait(self, limit_s: float) -> bool:
        """Whether it changed within the limit."""
        try:
            async with asyncio.timeout(limit_s):
                await self._event.wait()
        except TimeoutError:
            return False
        return True


@dataclass(frozen=True, slots=True)
class TagPlace:
    """Where a tag is: of which device, and which of all scan groups."""

    device: str
    name: str
    group: int


class Catalogue:
    """All tags in the order of the configuration; a tag is its number in that order."""

    def __init__(self, devices: Sequence[DeviceStatus]) -> None:
        self.tags: list[TagPlace] = []
        self.first: dict[str, int] = {}
        shown: list[dict[str, Any]] = []
        groups = 0
        for device in devices:
            self.first[device.name] = len(self.tags)
            for group in device.scan_groups:
                self.tags += [TagPlace(device.name, tag.tag, groups) for tag in group.values]
                shown.append({
                    "device": printable(device.name), "every": group.every_ns // 10**6,
                    "tags": [printable(tag.tag) for tag in group.values],
                    "units": [printable(tag.unit) for tag in group.values],
                    "ranges": [tag.range for tag in group.values],
                })  # fmt: skip
                groups += 1
        self.groups = groups
        text = orjson.dumps(shown)
        self.version = f"{hash(text) & 0xFFFFFFFF:08x}"
        self.json = orjson.dumps({"version": self.version, "groups": orjson.Fragment(text)})

    def fits(self, devices: Iterable[DeviceStatus]) -> bool:
        """Whether these are the same tags."""
        at = 0
        for device in devices:
            for tag in (tag for group in device.scan_groups for tag in group.values):
                if at >= len(self.tags) or self.tags[at].name != tag.tag or self.tags[at].device != device.name:
                    return False
                at += 1
        return at == len(self.tags)


class Source:
    """A gateway, of which both processes are one, or a relay.

    Attributes:
        answer: the last status; None before the first.
        away: since when in UTC milliseconds no status comes, and why.
        version: grows with each status; `overview`, `changed_rows` and `recent` are of this one.
        catalogue: the tags of a gateway that gives their values; None before they are known.
        values: by tag, the version of a value and what is shown of it.
        read_at: by scan group, when it was read last in UTC milliseconds.
    """

    def __init__(self, key: str, path: Path, forward: Path | None) -> None:
        self.key, self._path, self._forward = key, path, forward
        self.answer: StatusAnswer | None = None
        self.away: tuple[int, str] | None = None
        self.version = self.values_version = 0
        self.overview = self.changed_rows = self.all_rows = self.recent = b"{}"
        self._rows: dict[str, dict[str, Any]] = {}
        self.catalogue: Catalogue | None = None
        self.values: dict[int, tuple[int, list[Any]]] = {}
        self.read_at: dict[int, int] = {}
        self.not_good: list[int] = []
        self.trends: Trends | None = None
        self.watched: Counter[int] = Counter()
        self._asked_s: dict[str, float] = {}
        self.status_notice, self.values_notice = Notice(), Notice()
        self._began_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        self._time_line = TimeLine()
        self._counters = Counters(_COUNTERS, ("in", "out"))
        self._sampled_ns = 0
        self._histories: dict[int, tuple[int, bytes]] = {}

    async def run(self) -> NoReturn:
        """Ask, for as long as this process runs."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(_each(STATUS_EVERY_S, self._ask_status), name="status")
            tasks.create_task(_each(SAMPLE_NS / 1e9, self._ask_all_values), name="trends")
            tasks.create_task(_each(ROWS_EVERY_S, self._ask_shown_values), name="values")
        raise AssertionError

    @property
    def name(self) -> str:
        """What people call it."""
        return printable(self.answer.gateway.name) if self.answer else self.key.rpartition("/")[2]

    @property
    def verdict(self) -> str:
        """The state in one word."""
        return "UNKNOWN" if self.answer is None or self.away else self.answer.verdict

    async def _ask_status(self) -> None:
        now_ns, utc_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME), time.time_ns()
        try:
            snapshot = StatusSnapshot.from_json(await _ask(self._path))
        except (OSError, ValueError) as error:
            why = _why(self._path, error)
            self.away = (self.away[0] if self.away else utc_ns // 10**6, why)
            self._time_line.away(now_ns, why)
        else:
            answer = StatusAnswer.of(await self._with_uplink(snapshot))
            self._note(now_ns, utc_ns, answer)
        self.version += 1
        self.status_notice.tell()

    async def _with_uplink(self, snapshot: StatusSnapshot) -> StatusSnapshot:
        """The two processes of one gateway as one."""
        if snapshot.gateway.role != "acquire" or self._forward is None:
            return snapshot
        try:
            sending = StatusSnapshot.from_json(await _ask(self._forward))
        except (OSError, ValueError):
            return snapshot
        return replace(snapshot, uplink=sending.uplink, certificates=snapshot.certificates + sending.certificates)

    def _note(self, now_ns: int, utc_ns: int, answer: StatusAnswer) -> None:
        before, self.answer, self.away = self.answer, answer, None
        self.overview = orjson.dumps(overview_of(answer))
        rows = rows_of(answer, utc_ns)
        is_same = rows.keys() == self._rows.keys()
        changed = {name: row for name, row in rows.items() if row != self._rows.get(name)} if is_same else rows
        self._rows = rows
        self.all_rows = orjson.dumps({"all": True, "rows": list(rows.values())})
        self.changed_rows = orjson.dumps({"all": not is_same, "rows": list(changed.values())})
        draw(self._time_line, now_ns, utc_ns, before, answer)
        self.recent = orjson.dumps(recent_of(answer))
        if now_ns - self._sampled_ns >= SAMPLE_NS - 10**8:
            self._sampled_ns = now_ns
            self._counters.note(now_ns, _counted(answer))

    def history(self, span_ns: int) -> bytes:
        """Time line and counters of the last hour or day, as JSON."""
        now_ns = time.clock_gettime_ns(time.CLOCK_BOOTTIME)
        kept = self._histories.get(span_ns)
        if kept is None or kept[0] != self.version:
            offset_ns = time.time_ns() - now_ns
            document = {
                "now": (now_ns + offset_ns) // 10**6, "since": (self._began_ns + offset_ns) // 10**6,
                "span": span_ns // 10**6, "lanes": self._time_line.shown(now_ns, span_ns, offset_ns),
                "points": self._counters.shown(now_ns, span_ns, min(_POINTS, span_ns // (2 * SAMPLE_NS))),
            }  # fmt: skip
            kept = self._histories[span_ns] = (self.version, orjson.dumps(document))
        return kept[1]

    async def _ask_all_values(self) -> None:
        """One cell of all trends, and which tags are not good."""
        path = self._live_socket()
        if path is None or self.answer is None:
            return
        names = [device.name for device in self.answer.devices]
        try:
            devices = [await _values(path, name) for name in names]
        except (OSError, ValueError, LookupError):
            return  # The status says what is wrong.
        if self.catalogue is None or not self.catalogue.fits(devices):
            self.catalogue = Catalogue(devices)
            self.trends = Trends(len(self.catalogue.tags))
            self.values, self.read_at = {}, {}
            self.watched = Counter()
        assert self.trends is not None
        self.trends.begin(time.clock_gettime_ns(time.CLOCK_BOOTTIME))
        at, not_good = 0, []
        for device in devices:
            is_gap = device.state in ("down", "resting") or device.gap_age_ns is not None
            tags = [tag for group in device.scan_groups for tag in group.values]
            cells = [_cell(tag, is_gap=is_gap) for tag in tags]
            self.trends.note(at, [kind for kind, _ in cells], [value for _, value in cells])
            not_good += [at + number for number, tag in enumerate(tags) if tag.quality != "GOOD"]
            self._take(device, at, tags)
            at += len(tags)
        self.not_good = not_good
        self.values_notice.tell()

    async def _ask_shown_values(self) -> None:
        path, catalogue = self._live_socket(), self.catalogue
        if path is None or catalogue is None:
            return
        wanted: dict[str, list[int]] = {}
        for tag in sorted(self.watched):
            wanted.setdefault(catalogue.tags[tag].device, []).append(tag)
        for device, tags in wanted.items():
            if not self._take_turn(device):
                continue
            try:
                answer = await _values(path, device, [catalogue.tags[tag].name for tag in tags])
            except (OSError, ValueError, LookupError):
                return
            if catalogue is not self.catalogue:
                return
            # Two groups of a device may have a tag of the same name: then both are given, in their order.
            self._take_named(answer, tags, catalogue)
        if wanted:
            self.values_notice.tell()

    def _take_turn(self, device: str) -> bool:
        """Take the turn of a device, if it may have new values: it has them at the pace of its fastest scan group."""
        known = [each for each in self.answer.devices if each.name == device] if self.answer else []
        every_ns = min((group.every_ns for each in known for group in each.scan_groups), default=0)
        now_s = asyncio.get_running_loop().time()
        if now_s - self._asked_s.get(device, 0.0) < every_ns / 2e9 - ROWS_EVERY_S / 2:
            return False
        self._asked_s[device] = now_s
        return True

    def _take_named(self, device: DeviceStatus, tags: Sequence[int], catalogue: Catalogue) -> None:
        places = {(catalogue.tags[tag].group, catalogue.tags[tag].name): tag for tag in tags}
        first = catalogue.tags[catalogue.first[device.name]].group
        for number, group in enumerate(device.scan_groups, first):
            for tag in group.values:
                if (place := places.get((number, tag.tag))) is not None:
                    self._keep(place, tag)
            self._read(number, group)

    def _take(self, device: DeviceStatus, at: int, tags: Sequence[TagStatus]) -> None:
        assert self.catalogue is not None
        for place, tag in enumerate(tags, at):
            if place in self.watched:
                self._keep(place, tag)
        if tags:
            for number, group in enumerate(device.scan_groups, self.catalogue.tags[at].group):
                self._read(number, group)

    def _keep(self, place: int, tag: TagStatus) -> None:
        shown = _shown(tag)
        if (known := self.values.get(place)) is None or known[1] != shown:
            self.values_version += 1
            self.values[place] = (self.values_version, shown)

    def _read(self, number: int, group: GroupStatus) -> None:
        if group.last_scan_age_ns is not None:
            self.read_at[number] = round((time.time_ns() - group.last_scan_age_ns) / 1e8) * 100

    def watch(self, tags: Iterable[int]) -> Callable[[], None]:
        """Ask for these tags more often, until what is returned is called."""
        watched, chosen = self.watched, tuple(tags)
        watched.update(chosen)
        self._asked_s.clear()  # Who begins to look sees values at once.

        def forget() -> None:
            watched.subtract(chosen)
            for tag in chosen:
                if watched[tag] <= 0:
                    del watched[tag]
                    if watched is self.watched:
                        self.values.pop(tag, None)

        return forget

    def _live_socket(self) -> Path | None:
        if self.answer is None or self.away or not self.answer.gateway.live_socket:
            return None
        named = Path(self.answer.gateway.live_socket)
        return named if named.is_absolute() else self._path.with_name(named.name)


def load_what_reads_status() -> None:
    """Load the library that checks answers: it is read from files, which is not for the event loop."""
    StatusSnapshot.from_json(StatusSnapshot(gateway=GatewayStatus(name="")).to_json())


async def _each(period_s: float, work: Callable[[], Any]) -> NoReturn:
    """Work again and again, on a grid where that is possible."""
    loop = asyncio.get_running_loop()
    while True:
        due_s = loop.time() + period_s
        await work()
        await asyncio.sleep(max(due_s - loop.time(), period_s / 5))


async def _ask(path: Path, request: bytes = b"") -> bytes:
    """Everything that is answered. Raises as `unix_sockets.ask_async`."""
    return await unix_sockets.ask_async(path, request, _ANSWER_WITHIN_S)


async def _values(path: Path, device: str, tags: Sequence[str] = ()) -> DeviceStatus:
    """A device with all values, or those of the named tags. Raises OSError, ValueError; LookupError: no such device."""
    request = {"ask": "values", "device": device, **({"tags": tags} if tags else {})}
    document = await _ask(path, orjson.dumps(request) + b"\n")
    if document.startswith(b'{"error"'):
        raise LookupError(document.decode(errors="replace"))
    devices = StatusSnapshot.from_json(document).devices
    if len(devices) != 1 or devices[0].name != device:
        raise ValueError(f"{path} answers of other devices")
    return devices[0]


def _why(path: Path, error: Exception) -> str:
    if isinstance(error, PermissionError):
        return f"{path}: this process may not ask; its account has to be in the group of that socket"
    if isinstance(error, TimeoutError):
        return f"{path}: no answer within {_ANSWER_WITHIN_S:.0f} s"
    if isinstance(error, ForeignSocket):
        return str(error)
    if isinstance(error, OSError):
        return f"{path}: no answer ({error.strerror or error}); is the gateway or relay running?"
    return f"{path}: what answers there is not a Tidegate status socket"


def _cell(tag: TagStatus, *, is_gap: bool) -> tuple[int, float]:
    if is_gap:
        return GAP, 0.0
    if tag.quality == "BAD":
        return BAD, 0.0
    return (NUMBER, float(tag.value)) if isinstance(tag.value, bool | int | float) else (NOTHING, 0.0)


def _shown(tag: TagStatus) -> list[Any]:
    """The value to look at, its quality and the reason, the whole value, and a number for the trend."""
    whole = printable(format_value(tag.value))
    value = _digits(tag.value) if isinstance(tag.value, float) else whole if tag.value is not None else "\N{EN DASH}"
    if tag.text:
        value = f"{printable(tag.text)} ({value})"
    reason = "" if tag.quality == "GOOD" else printable(reason_of(tag.status))
    kind, number = _cell(tag, is_gap=False)
    return [value, tag.quality, reason, whole, number if kind == NUMBER else None]


def _digits(value: float) -> str:
    """As many digits as a person reads, always the same for values of a size, so that they do not jump."""
    size = abs(value)
    if size and not 1e-3 <= size < 1e7:
        return f"{value:.5g}"
    return f"{value:.{max(0, 5 - len(str(int(size))))}f}"


def _counted(answer: StatusAnswer) -> Mapping[str, float | None]:
    if (relay := answer.relay) is not None:
        lags = [issuer.lag_ns for issuer in relay.issuers if issuer.lag_ns is not None and issuer.state == "up"]
        return {
            "in": sum(issuer.records for issuer in relay.issuers), "out": relay.archived_records,
            "waiting": relay.not_durable, "bound": max(lags) / 1e6 if lags else None,
        }  # fmt: skip
    chain, uplink, clock = answer.chain, answer.uplink, answer.clock
    return {
        "in": chain.records if chain else None, "out": uplink.acknowledged if uplink else None,
        "waiting": uplink.waiting if uplink else answer.buffer.undelivered_records if answer.buffer else None,
        "bound": clock.bound_ns / 1e6 if clock and clock.bound_ns is not None else None,
    }  # fmt: skip


SPANS = {"minutes": 600 * 10**9, "hour": 3600 * 10**9, "day": DAY_NS}
"""What the time line can show."""
