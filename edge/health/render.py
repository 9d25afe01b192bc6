"""The status on a terminal: the verdict, the problems, the facts, and a row for each device or gateway.

A screen is a list of lines for a width. With a height it has no more lines than that, and says how many are left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rich.text import Text

from edge.health.problems import Problem, StatusAnswer, archive_room_of, issuer_name, room_of
from edge.health.relay_snapshot import IssuerStatus, RelayStatus
from edge.health.snapshot import BufferStatus, ClockStatus, DeviceStatus, StatusSnapshot, TagStatus, UplinkStatus
from edge.model import StatusCode
from edge.terminal import BOLD, DIM, Column, FittedTable, age, fit_table, printable, quantity, shorten, state, wrap
from edge.units import counted, format_duration, format_size, format_value

_LABEL = 9
_WIDE = 100
_UNITS_SHOWN = 8
_HOUR_NS, _YEAR_NS = 3600 * 10**9, 365 * 86_400 * 10**9
_SICK = {"DOWN": 0, "DEGRADED": 1, "SILENT": 1, "connecting": 2}
STATUS_WORDS = {
    StatusCode.UNCERTAIN_OUT_OF_RANGE: "out of range",
    StatusCode.BAD_DECODING_ERROR: "the answer is not a value",
    StatusCode.BAD_RESOURCE_UNAVAILABLE: "the device is busy",
    StatusCode.BAD_TIMEOUT: "the device did not answer in time",
    StatusCode.BAD_NO_COMMUNICATION: "no answer",
    StatusCode.BAD_WAITING_FOR_INITIAL_DATA: "not read yet",
    StatusCode.BAD_ADDRESS: "the device has no such address",
    StatusCode.BAD_DEVICE_FAILURE: "the device reports a failure",
    StatusCode.BAD_OUT_OF_SERVICE: "out of service",
    StatusCode.BAD_NO_DATA: "the device has no value",
}
"""What each status code means, in words."""
_AS_GIVEN = "the value is as the device gave it"  # What the others mean.


def render(answer: StatusAnswer, width: int, height: int | None = None, *, target: str = "CONFIG") -> list[Text]:
    """The whole screen; `target` is how a command names this gateway or relay."""
    head = [_verdict(answer, width)]
    facts = [[*_fact(label, text, width)] for label, text in _facts(answer)]
    problems = [_problem(problem, width) for problem in answer.problems]
    table = _devices(answer, width) if answer.devices else _gateways(answer.relay, width) if answer.relay else None
    last = [*_left_out(table, width), *_hint(answer.devices, target, width)]
    rows = table.lines if table else []
    if height is not None:
        room = height - len(head) - len(last)
        if sum(map(len, problems + facts)) + len(rows) > room:
            facts = _first_lines(facts)
        problems = _fit(problems, max(room // 3, room - sum(map(len, facts)) - len(rows)), "problem")
        room -= sum(map(len, problems + facts))
        rows = _cut_rows(rows, room, "device" if answer.devices else "gateway")
    lines = [*head, *(line for lines in problems + facts for line in lines), *rows, *last]
    return clamp(lines, height)


def render_problems(answer: StatusAnswer, width: int, height: int | None = None) -> list[Text]:
    """Verdict and problems only."""
    lines = [line for problem in answer.problems for line in _problem(problem, width)]
    return clamp([_verdict(answer, width), *(lines or [Text("no problems", style=DIM)])], height)


def render_tags(answer: StatusAnswer, width: int, height: int | None = None) -> list[Text]:
    """All tags of the devices with their values: name, value, unit, quality with its reason, age."""
    lines = [_verdict(answer, width)]
    for device in answer.devices:
        tags = sum(group.tags for group in device.scan_groups)
        heading = Text(f"{shorten(printable(device.name), width)}  ", style=BOLD)
        heading.append_text(state(device_state(device, answer.problems)))
        lines.append(heading.append(f"  {counted(tags, 'tag')}"))
        rows = [
            _tag_row(tag, group.last_scan_age_ns) for group in device.scan_groups for tag in group.values
        ]  # fmt: skip
        # Only what is shown is laid out: a window has no use for the other 10,000.
        shown = rows if height is None else rows[: max(0, height - len(lines))]
        table = fit_table(_TAG_COLUMNS, shown, width)
        lines += [*table.lines, *(Text() for _ in rows[len(shown) :]), *_left_out(table, width)]
    return clamp(lines, height)


def clamp(lines: list[Text], height: int | None) -> list[Text]:
    """No more lines than the height; where some are left out, the last says how many."""
    if height is None or len(lines) <= height:
        return lines
    shown = max(0, height - 1)
    return [*lines[:shown], Text(f"... {len(lines) - shown:,} more lines; widen the window", style=DIM)][:height]


def outdated(why: str, age_ns: int, lines: list[Text], width: int) -> list[Text]:
    """A screen whose figures are old because nobody answers: since when, why, and the figures in grey."""
    said = [Text(line, no_wrap=True) for line in wrap(f"UNKNOWN  {age(age_ns)} old: {why}", width, 9)]
    said[0].stylize(_style("UNKNOWN"), 0, 7)
    return [*said, *(Text(line.plain, style=DIM, no_wrap=True) for line in lines)]


def _verdict(answer: StatusAnswer, width: int) -> Text:
    gateway = answer.gateway
    more = f"up {age(gateway.uptime_ns)}   {gateway.version}".rstrip()
    name = shorten(printable(gateway.name), max(8, width - len(answer.verdict) - len(more) - 6))
    line = Text(f"{name}   ", style=BOLD, no_wrap=True).append_text(Text(answer.verdict, style=_style(answer.verdict)))
    line.append(f"   {more}", style=DIM)
    line.truncate(width)
    return line


def _style(word: str) -> str:
    return f"{BOLD} {state(word).style}".rstrip()


def _problem(problem: Problem, width: int) -> list[Text]:
    label = "notice" if problem.state == "NOTICE" else "problem"
    lines = [Text(line, no_wrap=True) for line in wrap(f"  {label:<7}  {printable(problem.sentence)}", width, 11)]
    lines[0].stylize(DIM if label == "notice" else _style(problem.state), 2, 2 + len(label))
    return lines


def _fact(label: str, text: str, width: int) -> list[Text]:
    lines = [Text(line, no_wrap=True) for line in wrap(f"{label:<{_LABEL - 1}} {printable(text)}", width, _LABEL)]
    lines[0].stylize(DIM, 0, len(label))
    word = text.partition(",")[0]
    if word.isupper():
        lines[0].stylize(state(word).style, _LABEL, _LABEL + len(word))
    return lines


def _facts(answer: StatusSnapshot) -> Iterator[tuple[str, str]]:
    if answer.clock:
        yield "clock", _clock(answer.clock)
    if answer.buffer:
        yield "buffer", _buffer(answer.buffer, answer.uplink)
    if answer.uplink:
        yield "uplink", _uplink(answer.uplink)
    elif answer.buffer:
        elsewhere = "another process sends: see status-forward.sock"
        yield (
            "uplink",
            elsewhere if answer.gateway.role == "acquire" else "none is configured: records stay in the buffer",
        )
    if chain := answer.chain:
        yield "sealed", (
            f"{chain.readings:,} readings in {chain.records:,} records, {format_size(chain.record_bytes)}, "
            f"last {_ago(chain.last_sealed_age_ns)}"
        )  # fmt: skip
    if (written := answer.gateway.disk_bytes_per_day) is not None:
        yield "disk", f"{format_size(written)} a day are written"
    if answer.devices:
        up = sum(device.state == "up" for device in answer.devices)
        tags, bad = (sum(getattr(each, name) for device in answer.devices for each in device.scan_groups)
                     for name in ("tags", "bad_tags"))  # fmt: skip
        yield "devices", f"{up} of {len(answer.devices)} up; {counted(tags, 'tag')}, {bad:,} BAD"
    yield from _contexts(answer)
    if answer.relay:
        yield from _relay(answer.relay)


def _contexts(answer: StatusSnapshot) -> Iterator[tuple[str, str]]:
    for context in answer.contexts[:_UNITS_SHOWN]:
        yield "context", printable(context.words)
    if more := answer.contexts[_UNITS_SHOWN:]:
        yield "context", f"of {counted(len(more), 'more unit')}: see tidegate status --json"


def _clock(clock: ClockStatus) -> str:
    return f"{clock.words} ({clock.source})" + (f"; {steps_text(clock)}" if clock.steps else "")


def steps_text(clock: ClockStatus) -> str:
    """How often the clock was set."""
    return f"set {counted(clock.steps, 'time')} since the start" if clock.steps else "not set since the start"


def _buffer(buffer: BufferStatus, uplink: UplinkStatus | None) -> str:
    parts = [buffer.state if buffer.state == "ok" else buffer.state.upper()]
    waiting = buffer.undelivered_records if uplink is None else uplink.waiting
    if waiting is not None:
        parts.append(f"{waiting:,} waiting")
    if uplink and uplink.oldest_waiting_age_ns is not None:
        more = "more than " if uplink.is_older_than_process else ""
        parts.append(f"oldest {more}{age(uplink.oldest_waiting_age_ns)}")
    room_ns = room_of(buffer)
    room = "" if room_ns is None else f"; room for about {room_words(room_ns)}"
    return f"{', '.join(parts)}; {format_size(buffer.stored_bytes)} of {format_size(buffer.limit_bytes)} used{room}"


def room_words(room_ns: int) -> str:
    """For how long there is room, to the day."""
    if room_ns > 10 * _YEAR_NS:
        return "more than 10 years"
    return f"{room_ns // (24 * _HOUR_NS):,} days" if room_ns >= 48 * _HOUR_NS else age(room_ns)


def _uplink(uplink: UplinkStatus) -> str:
    word = "up" if uplink.state == "up" else uplink.state.replace("_", " ").upper()
    again = f", {uplink.resent:,} sent again" if uplink.resent else ""
    to_resend = f", {uplink.to_resend:,} to be sent again" if uplink.to_resend else ""
    taken = "nothing acknowledged since the start"
    if uplink.acknowledged:
        taken = f"{uplink.acknowledged:,} records acknowledged, last {_ago(uplink.last_acknowledged_age_ns)}"
    return f"{word}, {uplink.broker}; {taken}{again}{to_resend}"


def _relay(relay: RelayStatus) -> Iterator[tuple[str, str]]:
    yield "broker", f"{relay.state if relay.state == 'up' else relay.state.upper()}, {relay.broker}"
    room_ns = archive_room_of(relay)
    room = "" if room_ns is None else f"; room for about {room_words(room_ns)}"
    free = "" if relay.free_bytes is None else f", {format_size(relay.free_bytes)} free{room}"
    late = f", {relay.not_durable:,} messages not durable yet" if relay.not_durable else ""
    late += f", {relay.behind_records:,} records to take" if relay.behind_records else ""
    word = "DOWN" if relay.unwritable else "ok"
    stored = f"{relay.archived_records:,} records ({format_size(relay.archived_bytes)}) since the start"
    if not relay.is_intake:
        yield "archive", f"{word}, {stored}{free}{late}"
    if view := relay.view:
        behind = "shows all that is archived"
        if view.waiting or view.oldest_age_ns:
            what = f"{view.waiting:,} records" if view.waiting else "the newest values"
            behind = f"{what} not shown yet, the oldest for {age(view.oldest_age_ns)}"
        yield "view", f"{view.state if view.state == 'up' else view.state.upper()}, {behind}"
    for sink in relay.sinks:
        behind = "up to date"
        if sink.lag_ns:
            behind = f"{format_size(sink.waiting_bytes)} to go, {age(sink.lag_ns)} behind"
        elif sink.waiting_bytes:
            behind = f"has all, {format_size(sink.waiting_bytes)} wait in memory for their file"
        yield f"sink {sink.name}", f"{'up' if sink.state == 'up' else 'DOWN'}, {sink.records:,} records, {behind}"


def _devices(answer: StatusAnswer, width: int) -> FittedTable:
    since_ns = min(answer.gateway.uptime_ns, _HOUR_NS)
    columns = [
        Column(title="device", least=12),
        Column(title="state"),
        Column(title="tags", is_number=True, rank=2),
        Column(title="bad", is_number=True),
        Column(title="last scan", is_number=True),
        Column(title="takes", is_number=True, rank=3),
        Column(title=f"missed ({age(since_ns)})", is_number=True, rank=1),
    ]
    rows = sorted(
        (_device_row(device, device_state(device, answer.problems)) for device in answer.devices),
        key=lambda row: _SICK.get(str(row[1]), 3),
    )
    if width >= _WIDE:
        columns.append(Column(title="driver", rank=4))
        drivers = {printable(device.name): device.driver for device in answer.devices}
        rows = [[*row, drivers[str(row[0])]] for row in rows]
    return fit_table(columns, rows, width)


def device_state(device: DeviceStatus, problems: tuple[Problem, ...]) -> str:
    """The state of a device in one word: in capitals where it is not well."""
    if device.state in ("down", "resting"):
        return "DOWN"
    is_sick = any(problem.subject == device.name and problem.state != "NOTICE" for problem in problems)
    return "DEGRADED" if is_sick else device.state


def _device_row(device: DeviceStatus, word: str) -> list[str | Text]:
    groups = device.scan_groups
    ages = [group.last_scan_age_ns for group in groups if group.last_scan_age_ns is not None]
    took = [group.last_scan_took_ns for group in groups if group.last_scan_took_ns is not None]
    bad = sum(group.bad_tags for group in groups)
    return [
        printable(device.name), state(word), f"{sum(group.tags for group in groups):,}",
        f"{bad:,}", quantity(age(min(ages, default=None))),
        quantity(format_duration(max(took))) if took and device.state == "up" else "-", f"{device.missed_last_hour:,}",
    ]  # fmt: skip


def _gateways(relay: RelayStatus, width: int) -> FittedTable | None:
    columns = [
        Column(title="gateway", least=12),
        Column(title="state"),
        Column(title="last record", is_number=True),
        Column(title="lag", is_number=True, rank=1),
        Column(title="missing", is_number=True),
        Column(title="refused", is_number=True, rank=2),
        Column(title="waiting", is_number=True, rank=3),
        Column(title="records", is_number=True, rank=4),
    ]
    rows = sorted((_gateway_row(issuer) for issuer in relay.issuers), key=lambda row: _SICK.get(str(row[1]), 3))
    return fit_table(columns, rows, width) if rows else None


def _gateway_row(issuer: IssuerStatus) -> list[str | Text]:
    lag = "-" if issuer.lag_ns is None or issuer.clock_ahead_ns else format_duration(issuer.lag_ns)
    word = "SILENT" if issuer.state == "silent" else "DEGRADED" if issuer.missing or issuer.rejected else issuer.state
    return [
        printable(issuer_name(issuer)), state(word), quantity(age(issuer.last_record_age_ns)), quantity(lag),
        f"{issuer.missing:,}", f"{issuer.rejected:,}", f"{issuer.waiting:,}", f"{issuer.records:,}",
    ]  # fmt: skip


_TAG_COLUMNS = (
    Column(title="tag", least=12),
    Column(title="value", is_number=True),
    Column(title="unit"),
    Column(title="quality", least=9),
    Column(title="age", is_number=True, rank=1),
)


def _tag_row(tag: TagStatus, age_ns: int | None) -> list[str | Text]:
    value = f"{tag.text} ({format_value(tag.value)})" if tag.text else format_value(tag.value)
    quality = tag.quality if tag.quality == "GOOD" else f"{tag.quality} {reason_of(tag.status)}".rstrip()
    style = state(tag.quality).style
    return [
        printable(tag.tag),
        printable(value),
        printable(tag.unit),
        Text(quality, style=style),
        quantity(age(age_ns)),
    ]


def meaning_of(code: StatusCode) -> str:
    """What a status code says of a value, as a sentence."""
    words = STATUS_WORDS.get(code, _AS_GIVEN)
    return f"{words[:1].upper()}{words[1:]}."


def reason_of(status: int) -> str:
    """Why a value is not good, in plain words."""
    known = StatusCode._value2member_map_.get(status)
    if known is None:
        return f"status 0x{status:08X} of the device"
    return STATUS_WORDS.get(StatusCode(status), "")


def _left_out(table: FittedTable | None, width: int) -> list[Text]:
    if table is None or not (hidden := [title for title in table.left_out if title != "driver"]):
        return []
    return [Text(line, style=DIM, no_wrap=True) for line in wrap(f"Wider shows: {', '.join(hidden)}", width, 2)]


def _hint(devices: Sequence[DeviceStatus], target: str, width: int) -> list[Text]:
    if not devices:
        return []
    named = next((device for device in devices if device.state == "up"), devices[0])
    line = f"Values: tidegate status {target} --tags {printable(named.name)}"
    return [Text(each, style=DIM, no_wrap=True) for each in wrap(line, width, 2)]


def _fit(blocks: list[list[Text]], room: int, noun: str) -> list[list[Text]]:
    """All blocks whole, else their first lines, else as many of them as fit, and how many do not."""
    if sum(map(len, blocks)) <= room:
        return blocks
    firsts = _first_lines(blocks)
    if len(firsts) <= room:
        return firsts
    shown = max(0, room - 1)
    return [*firsts[:shown], [Text(f"  ... {len(blocks) - shown:,} more {noun}s: --problems", style=DIM)]]


def _first_lines(blocks: list[list[Text]]) -> list[list[Text]]:
    """Each block as one line."""
    return [lines if len(lines) == 1 else [_continued(lines[0])] for lines in blocks]


def _continued(line: Text) -> Text:
    line = line.copy()
    line.right_crop(1)
    return line.append("…")


def _cut_rows(rows: list[Text], room: int, noun: str) -> list[Text]:
    if len(rows) <= room:
        return rows
    shown = max(0, room - 1)
    return [*rows[:shown], Text(f"... {len(rows) - max(shown, 1):,} more {noun}s are not shown", style=DIM)]


def _ago(age_ns: int | None) -> str:
    return "never" if age_ns is None else f"{age(age_ns)} ago"
