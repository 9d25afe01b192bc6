"""A status as the page says it: one sentence, four tiles, a table, and facts; words are made here, not in browsers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from edge.health import (
    CertificateStatus,
    ClockStatus,
    DeviceStatus,
    GroupStatus,
    IssuerStatus,
    SinkStatus,
    StatusSnapshot,
)
from edge.health.problems import Problem, StatusAnswer, archive_room_of, issuer_name, room_of
from edge.health.render import device_state, room_words, steps_text
from edge.terminal import age, printable
from edge.units import counted, format_duration, format_size

_DAY_NS = 86_400 * 10**9
_DIGITS = 8  # Of a digest: enough to tell configurations apart.
_NONE = "\N{EN DASH}"


def overview_of(answer: StatusAnswer) -> dict[str, Any]:
    """All but the rows of the table."""
    is_relay = answer.relay is not None
    return {
        "name": printable(answer.gateway.name),
        "path": printable(answer.gateway.path),
        "verdict": answer.verdict,
        "sentence": _sentence(answer),
        "tiles": list(_relay_tiles(answer) if is_relay else _tiles(answer)),
        "problems": [_problem(each) for each in answer.problems],
        "kind": "gateways" if is_relay else "devices",
        "facts": {name: [[label, printable(text)] for label, text in facts] for name, facts in _facts(answer)},
        "certificates": [_certificate(each) for each in answer.certificates],
        "sinks": [_sink_row(each, answer.problems) for each in (answer.relay.sinks if answer.relay else ())],
    }


def _problem(problem: Problem) -> list[str]:
    remedy = "its tags say why" if problem.remedy.startswith("see why with --tags") else problem.remedy
    return [problem.state, *(printable(text) for text in (problem.subject, problem.text, remedy))]


def _sentence(answer: StatusAnswer) -> str:
    if answer.verdict == "OK":
        return f"{_all_well(answer)}."
    worst = [problem for problem in answer.problems if problem.state != "NOTICE"]
    if not worst:
        return (
            "Nothing can be said yet: it has just started." if answer.devices else "No gateway has sent a record yet."
        )
    more = f", and {counted(len(worst) - 1, 'problem')} more" if len(worst) > 1 else ""
    text = printable(worst[0].text).split(": ")[0]
    return f"{printable(worst[0].subject)}: {text}{more}."


def _all_well(answer: StatusAnswer) -> str:
    if (relay := answer.relay) is not None:
        return f"{counted(len(relay.issuers), 'gateway').capitalize()} heard, every record is archived and authentic"
    count = len(answer.devices)
    parts = ["The device answers" if count == 1 else f"All {count:,} devices answer"]
    parts.append("records reach the broker" if answer.uplink else "records are stored")
    if answer.clock and answer.clock.bound_ns is not None:
        parts.append(f"the clock is within {answer.clock.within} of UTC")
    return f"{', '.join(parts[:-1])}, and {parts[-1]}"


def _word(answer: StatusAnswer, subjects: set[str], otherwise: str = "OK") -> tuple[str, str]:
    """The worst state of these parts, and why."""
    for problem in answer.problems:
        if problem.subject in subjects and problem.state != "NOTICE":
            return problem.state, printable(problem.text)
    return otherwise, ""


def _tile(title: str, word: str, number: str, unit: str, line: str) -> dict[str, str]:
    return {"title": title, "word": word, "number": number, "unit": unit, "line": line}


def _number_unit(text: str) -> tuple[str, str]:
    number, _, unit = text.partition(" ")
    return number, unit


def _room(room_ns: int) -> tuple[str, str]:
    if room_ns >= 2 * _DAY_NS:
        return f"{min(room_ns // _DAY_NS, 3650):,}", "days of room"
    return f"{room_ns / 3600e9:.0f}", "h of room"


def _tiles(answer: StatusAnswer) -> Iterator[dict[str, str]]:
    devices, buffer, uplink, clock = answer.devices, answer.buffer, answer.uplink, answer.clock
    states = [device_state(device, answer.problems) for device in devices]
    tags, bad = (sum(getattr(group, name) for device in devices for group in device.scan_groups)
                 for name in ("tags", "bad_tags"))  # fmt: skip
    word = (
        "DOWN" if states and all(each == "DOWN" for each in states)
        else "DEGRADED" if {"DOWN", "DEGRADED"} & set(states) else "UNKNOWN" if "connecting" in states else "OK"
    )  # fmt: skip
    up = sum(device.state == "up" for device in devices)
    yield _tile("Devices", word if devices else "NONE", f"{up:,}", f"of {len(devices):,} answer",
                f"{counted(tags, 'tag')}, {f'{bad:,} BAD' if bad else 'none BAD'}")  # fmt: skip
    if buffer is not None:
        word, why = _word(answer, {"buffer"})
        room_ns = room_of(buffer)
        number, unit = (
            _number_unit(format_size(buffer.stored_bytes)) if room_ns is None else _room(room_ns)
        )  # fmt: skip
        stored = f"{format_size(buffer.stored_bytes)} of {format_size(buffer.limit_bytes)} used"
        yield _tile("Buffer", word, number, unit, why or stored)
    else:
        yield _tile("Buffer", "UNKNOWN", _NONE, "", "the process that stores does not answer")
    if uplink is not None:
        word, why = _word(answer, {"uplink"})
        waiting = "record waits" if uplink.waiting == 1 else "records wait"
        acknowledged = uplink.last_acknowledged_age_ns
        line = "nothing acknowledged yet" if acknowledged is None else f"last acknowledged {age(acknowledged)} ago"
        yield _tile("Uplink", word, f"{uplink.waiting:,}", waiting, why or line)
    else:
        word, why = _word(answer, {"uplink"}, "NONE")
        yield _tile("Uplink", word, _NONE, "", why or "none is configured: records stay in the buffer")
    if clock is not None:
        word = "DEGRADED" if clock.unmet else "UNKNOWN" if clock.bound_ns is None else "OK"
        number, unit = (_NONE, "") if clock.bound_ns is None else _number_unit(clock.within)
        why = f"{clock.words}; {clock.reason}" if clock.reason else ""
        line = f"{clock.source}, {_plain(clock.state)}"
        yield _tile("Clock", word, number, f"{unit} of UTC at most" if unit else "no bound is known", why or line)
    else:
        yield _tile("Clock", "UNKNOWN", _NONE, "", "the process that reads devices does not answer")


def _plain(state: str) -> str:
    return state.lower().replace("_", " ")


def _relay_tiles(answer: StatusAnswer) -> Iterator[dict[str, str]]:
    relay = answer.relay
    assert relay is not None
    names = {issuer_name(issuer) for issuer in relay.issuers}
    word, why = _word(answer, names, "OK" if relay.issuers else "UNKNOWN")
    sending = sum(issuer.state == "up" for issuer in relay.issuers)
    missing = sum(issuer.missing for issuer in relay.issuers)
    yield _tile("Gateways", word, f"{sending:,}", f"of {len(relay.issuers):,} send",
                f"{counted(missing, 'record')} missing" if missing else why or "no record is missing")  # fmt: skip
    word, why = _word(answer, {"archive"})
    room_ns = archive_room_of(relay)
    number, unit = (_NONE, "room not known yet") if room_ns is None else _room(room_ns)
    yield _tile("Archive", word, number, unit,
                why or f"{counted(relay.archived_records, 'record')}, {format_size(relay.archived_bytes)}")  # fmt: skip
    word, why = _word(answer, {"broker"})
    yield _tile("Broker", word, f"{relay.not_durable:,}", "not archived yet", why or relay.broker)
    if (view := relay.view) is None:
        yield _tile("View", "NONE", _NONE, "", "none is configured")
    else:
        word, why = _word(answer, {"view"})
        line = f"the oldest waits for {age(view.oldest_age_ns)}" if view.waiting else "up to date"
        yield _tile("View", word, f"{view.waiting:,}", "records wait", why or line)


def _facts(answer: StatusAnswer) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    yield "gateway", list(_gateway_facts(answer))
    yield "buffer", [*_buffer_facts(answer), *_uplink_facts(answer), *_relay_facts(answer)]
    if answer.clock is not None:
        yield "clock", list(_clock_facts(answer.clock))


def _gateway_facts(answer: StatusSnapshot) -> Iterator[tuple[str, str]]:
    gateway = answer.gateway
    if gateway.path:
        yield "Path", gateway.path
    yield "Role", {"run": "devices and uplink in one process", "acquire": "devices and uplink in two processes",
                   "forward": "uplink only", "relay": "relay"}[gateway.role]  # fmt: skip
    yield "Version", gateway.version
    yield "Runs for", age(gateway.uptime_ns)
    yield "Memory", format_size(gateway.resident_bytes)
    if gateway.disk_bytes_per_day is not None:
        yield "Written to disk", f"{format_size(gateway.disk_bytes_per_day)} a day"
    yield "Log since the start", (
        f"{counted(gateway.log_warnings, 'warning')}, {counted(gateway.log_errors, 'error')}"
    )  # fmt: skip
    if (chain := answer.chain) is not None:
        yield "Sealed", f"{chain.readings:,} readings in {counted(chain.records, 'record')}"
        yield "Identity", chain.fingerprint


def _buffer_facts(answer: StatusSnapshot) -> Iterator[tuple[str, str]]:
    buffer, uplink = answer.buffer, answer.uplink
    if buffer is None:
        return
    waiting = buffer.undelivered_records if uplink is None else uplink.waiting
    if waiting is not None:
        yield "Waiting", counted(waiting, "record")
    if uplink is not None and uplink.oldest_waiting_age_ns is not None:
        more = "more than " if uplink.is_older_than_process else ""
        yield "Oldest", f"{more}{age(uplink.oldest_waiting_age_ns)}"
    yield "Stored", f"{format_size(buffer.stored_bytes)} of {format_size(buffer.limit_bytes)}"
    room_ns = room_of(buffer)
    yield "Room", "known after a minute" if room_ns is None else room_words(room_ns)
    yield (
        "Lost",
        f"{counted(buffer.dropped_records, 'record')} since the start" if buffer.dropped_records else "nothing",
    )


def _uplink_facts(answer: StatusSnapshot) -> Iterator[tuple[str, str]]:
    uplink = answer.uplink
    if uplink is None:
        return
    yield "Broker", uplink.broker
    yield "Acknowledged", counted(uplink.acknowledged, "record")
    if uplink.resent or uplink.to_resend:
        yield "Sent again", f"{uplink.resent:,}, {uplink.to_resend:,} to go"
    for refused in uplink.refused_topics:
        yield "Refused topic", f"{refused.topic}: {refused.reason}"


def _relay_facts(answer: StatusSnapshot) -> Iterator[tuple[str, str]]:
    relay = answer.relay
    if relay is None:
        return
    yield "Broker", relay.broker
    if relay.is_intake:
        return
    yield "Archive", relay.archive
    yield "Archived", f"{counted(relay.archived_records, 'record')}, {format_size(relay.archived_bytes)}"
    if relay.free_bytes is not None:
        yield "Free", format_size(relay.free_bytes)
    room_ns = archive_room_of(relay)
    yield "Room", "known after a minute" if room_ns is None else room_words(room_ns)


def _clock_facts(clock: ClockStatus) -> Iterator[tuple[str, str]]:
    yield "State", _plain(clock.state) + (f" for {age(clock.state_age_ns)}" if clock.state_age_ns is not None else "")
    yield "Source", f"{clock.source} {clock.reference}".strip()
    yield "Bound", "not known" if clock.bound_ns is None else clock.within
    if clock.measured_age_ns is not None:
        yield "Measured", f"{age(clock.measured_age_ns)} ago"
    yield "Steps", steps_text(clock)
    if clock.unmet:
        yield "Required", f"{clock.unmet}: every value is UNCERTAIN"
    if clock.leap:
        yield "Leap second", f"{clock.leap} announced"
    if clock.reason:
        yield "Why", clock.reason
    if clock.remedy:
        yield "What helps", clock.remedy


def _certificate(each: CertificateStatus) -> dict[str, Any]:
    left_ns = each.expires_at_ns - time.time_ns()
    days = left_ns // _DAY_NS
    state = "EXPIRED" if left_ns <= 0 else "DEGRADED" if days < 7 else "SOON" if days < 30 else ""
    return {
        "what": printable(f"{each.device}: {each.name}" if each.device else each.name), "whose": each.whose,
        "at": each.expires_at_ns // 10**6, "days": days, "state": state,
        "exception": printable(each.exception),
    }  # fmt: skip


def _sink_row(sink: SinkStatus, problems: tuple[Problem, ...]) -> dict[str, Any]:
    mine = [problem for problem in problems if problem.subject == f"sink {sink.name}"]
    state = "DOWN" if sink.state != "up" else "DEGRADED" if any(each.state == "DEGRADED" for each in mine) else "up"
    reasons = "; ".join(f"{each.text} ({each.code})" for each in mine)
    return {
        "name": printable(sink.name), "state": state, "lag": age(sink.lag_ns) if sink.lag_ns else "",
        "to_go": format_size(sink.waiting_bytes) if sink.waiting_bytes else "", "records": sink.records,
        "refused": sink.refused + sink.skipped, "reason": printable(reasons or sink.address),
    }  # fmt: skip


def recent_of(answer: StatusAnswer) -> dict[str, Any]:
    """What happened and which configurations were taken into use, the newest first; times in UTC milliseconds."""
    recent = answer.recent
    if recent is None:
        return {}
    return {
        "since": recent.since_ns // 10**6, "running": answer.gateway.configuration[:_DIGITS],
        "events": [
            [each.at_ns // 10**6, "" if each.severity == "info" else each.severity.upper(), printable(each.issuer),
             printable(each.text)]
            for each in reversed(recent.events)
        ],
        "configurations": [
            {"at": each.at_ns // 10**6, "digest": each.digest[:_DIGITS], "who": printable(each.who),
             "why": printable(each.why), "changes": counted(each.changes, "change") if each.changes else "",
             "shown": [printable(text) for text in each.shown], "more": each.changes - len(each.shown),
             "gateway": printable(each.issuer)}
            for each in reversed(recent.configurations)
        ],
    }  # fmt: skip


def rows_of(answer: StatusAnswer, utc_ns: int) -> dict[str, dict[str, Any]]:
    """The rows of the table by name: devices of a gateway, gateways of a relay; moments in UTC milliseconds."""
    if answer.relay is not None:
        known = sorted(answer.relay.issuers, key=issuer_name)
        return {issuer.issuer: _issuer_row(issuer, utc_ns) for issuer in known}
    return {device.name: _device_row(device, answer.problems, utc_ns) for device in answer.devices}


def _moment(age_ns: int | None, utc_ns: int) -> int | None:
    """A tenth of a second: the same moment is the same number in the next status."""
    return None if age_ns is None else round((utc_ns - age_ns) / 1e8) * 100


def _device_row(device: DeviceStatus, problems: tuple[Problem, ...], utc_ns: int) -> dict[str, Any]:
    groups = device.scan_groups
    ages = [group.last_scan_age_ns for group in groups if group.last_scan_age_ns is not None]
    took = [group.last_scan_took_ns for group in groups if group.last_scan_took_ns is not None]
    mine = [problem for problem in problems if problem.subject == device.name]
    identity = device.identity
    return {
        "name": printable(device.name), "state": device_state(device, problems), "protocol": device.driver,
        "address": printable(device.address),
        "tags": sum(group.tags for group in groups), "bad": sum(group.bad_tags for group in groups),
        "last": _moment(min(ages, default=None), utc_ns),
        "takes": format_duration(max(took)) if took and device.state == "up" else "",
        "missed": device.missed_last_hour, "reason": printable("; ".join(problem.text for problem in mine)),
        "help": "; ".join(remedy for problem in mine if (remedy := _problem(problem)[3])),
        "clock": device.clock_words,
        "identity": printable(" ".join((identity.vendor, identity.product, identity.firmware)).strip())
        if identity else "",
        "groups": [_group_words(group) for group in groups],
    }  # fmt: skip


def _group_words(group: GroupStatus) -> list[str]:
    missed = group.skipped_scans + group.failed_scans
    return [printable(group.name), f"every {format_duration(group.every_ns)}", counted(group.tags, "tag"),
            f"{missed:,} of {group.due_scans:,} scans missed since the start"]  # fmt: skip


def _issuer_row(issuer: IssuerStatus, utc_ns: int) -> dict[str, Any]:
    is_sick = issuer.missing or issuer.rejected
    return {
        "name": printable(issuer_name(issuer)),
        "state": "SILENT" if issuer.state == "silent" else "DEGRADED" if is_sick else issuer.state,
        "last": _moment(issuer.last_record_age_ns, utc_ns),
        "lag": "" if issuer.lag_ns is None or issuer.clock_ahead_ns else format_duration(issuer.lag_ns),
        "missing": issuer.missing, "refused": issuer.rejected, "waiting": issuer.waiting, "records": issuer.records,
    }  # fmt: skip
