"""What a record says happened, as one plain sentence: for the log, the report, and whoever reads either.

Texts on record come from devices and brokers. What cannot be printed in them is shown as a question mark.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import astuple, dataclass

from edge.config.kept import changed as changed  # noqa: PLC0414 - Taken from here, with the other sentences.
from edge.seal import (
    ConfigChange,
    Epoch,
    EpochReason,
    Event,
    Gap,
    KeyChange,
    Loss,
    LossReason,
    Severity,
    Stop,
    StopReason,
    TimeChange,
)
from edge.seal.approval import Approval
from edge.seal.cbor import Plain
from edge.units import counted, format_duration, format_size, format_utc

Happening = Event | Gap | Loss | TimeChange | ConfigChange | KeyChange | Epoch | Stop
"""The payloads of records that say what happened."""

TimeText = Callable[[int], str]
"""UTC in ns as it stands in a sentence, with the date first: 2026-01-31."""

_DATE = len("2026-01-31 ")

FINGERPRINT = 19
"""How many characters of a fingerprint are enough to recognise a key; a comparison needs all of them."""

CHANGES_SHOWN = 3
"""How many changes of a configuration stand in its sentence."""

SHORT = 8
"""How many digits of a hash tell one configuration from another for people."""

_EPOCH_REASONS = {
    EpochReason.INSTALL: "first start",
    EpochReason.STORE_LOST: "the chain on disk was lost",
    EpochReason.ROLLBACK_SUSPECTED: "the chain on disk is a copy, or older than what was sent: a restored backup?",
    EpochReason.IDENTITY_RENEWED: "the identity key was renewed",
    EpochReason.OPERATOR: "an operator asked for it",
}
_LOSS_REASONS = {
    LossReason.BUFFER_FULL: "the buffer was full",
    LossReason.CORRUPT: "the disk damaged them",
    LossReason.TOO_OLD: "they were older than the buffer may keep",
}
_STOP_REASONS = {StopReason.OPERATOR: "", StopReason.UPDATE: " for an update", StopReason.FAULT: " because of a fault"}
_ABOUT_DEVICES = ("device.", "poll.")
_PLANNED = (EpochReason.INSTALL, EpochReason.IDENTITY_RENEWED, EpochReason.OPERATOR)


def utc_text(utc_ns: int) -> str:
    """UTC to the millisecond."""
    return format_utc(utc_ns, decimals=3)


def _printable(text: str) -> str:
    """The text in one line, without what would move the cursor or hide a part of it."""
    return "".join(each if each.isprintable() else "?" for each in text)


def severity_of(content: Happening) -> Severity:
    """How urgent it is: what the record says, and for records that do not say it, what their kind means."""
    match content:
        case Event():
            return content.severity
        case Loss():
            return Severity.ERROR
        case Gap():
            return Severity.WARNING
        case Epoch():
            return Severity.INFO if content.reason in _PLANNED else Severity.ERROR
        case TimeChange():
            return Severity.WARNING if content.step_ns else Severity.INFO
        case Stop():
            return Severity.ERROR if content.reason is StopReason.FAULT else Severity.INFO
    return Severity.INFO


def device_of(event: Event) -> str:
    """The device that an EVENT is about; empty where it is about the gateway as a whole."""
    return event.subject if event.kind.startswith(_ABOUT_DEVICES) else str(event.data.get("device", ""))


def sentence(content: Happening, time_text: TimeText = utc_text, group: str = "") -> str:
    """One sentence for an EVENT, GAP, LOSS, TIME, CONFIG, KEY, EPOCH or STOP, without a full stop.

    Args:
        content: the decoded payload.
        time_text: how times within the sentence are written.
        group: the scan group that a GAP is about, as it is shown.
    """
    match content:
        case Event():
            text = _event(content)
        case Gap():
            text = _gap(content, time_text, group)
        case Loss():
            text = _loss(content, time_text)
        case TimeChange():
            text = _time(content, time_text)
        case ConfigChange():
            text = _configuration(content)
        case KeyChange():
            key = content.session.fingerprint[:FINGERPRINT]
            text = f"The session key changed to {key}, as it does at regular intervals"
        case Epoch():
            text = _epoch(content)
        case Stop():
            text = f"The gateway stopped{_STOP_REASONS.get(content.reason, '')}; no record follows until its next start"
    return _printable(text)


def _gap(gap: Gap, time_text: TimeText, group: str) -> str:
    what = group or "All scan groups"
    verb = "was" if group else "were"
    why = f": {gap.detail}" if gap.detail else ""
    if gap.to_ns is not None:
        length = format_duration(gap.to_ns - gap.from_ns)
        return f"{what} {verb} not read for {length}, until {_end(gap.from_ns, gap.to_ns, time_text)}{why}"
    if gap.group is None:
        return f"{what} {verb} not read, for how long is not known{why}"
    return f"{what} {verb} not read, and no end of that is on record: still open{why}"


def _end(from_ns: int, to_ns: int, time_text: TimeText) -> str:
    """The end of a range, without its date where that is the one of the begin."""
    begin, end = time_text(from_ns), time_text(to_ns)
    return end[_DATE:] if begin[:_DATE] == end[:_DATE] else end


def _loss(loss: Loss, time_text: TimeText) -> str:
    which = f"seq {loss.first}" if loss.first == loss.last else f"seq {loss.first} to {loss.last}"
    chain = f" of chain {loss.epoch.hex()}" if loss.epoch is not None else ""
    span = ""
    if loss.from_ns is not None and loss.to_ns is not None:
        span = f", from {time_text(loss.from_ns)} to {_end(loss.from_ns, loss.to_ns, time_text)}"
    readings = "" if loss.readings is None else f" with {loss.readings:,} readings"
    why = _LOSS_REASONS.get(loss.reason, _words(loss.reason.name))
    records = counted(loss.records, "record")
    return f"{records} ({which}{chain}){readings} {_were(loss.records)} lost before delivery{span}: {why}"


def _time(change: TimeChange, time_text: TimeText) -> str:
    if change.step_ns:
        after_ns = change.after.as_of_ns + change.after.offset_ns
        direction = "forward" if change.step_ns > 0 else "back"
        return (
            f"The clock stepped {direction} by {format_duration(abs(change.step_ns))}: "
            f"{time_text(after_ns - change.step_ns)} became {_end(after_ns - change.step_ns, after_ns, time_text)}"
        )
    if (stretch := stretch_of(change)) is not None:
        return f"The clock is trusted again: {correction_text(stretch, time_text)}"
    return f"The clock is {_words(change.after.state.name)}, before it was {_words(change.before.state.name)}"


@dataclass(frozen=True, slots=True)
class Stretch:
    """Times that were stamped by a clock that was not trusted, and what the gateway learned of them later.

    Attributes:
        from_ns: UTC of the begin as it was stamped.
        to_ns: UTC of the end as it was stamped.
        correction_ns: to be added to these times.
        bound_ns: how far they may be off then; None where that is not known.
    """

    from_ns: int
    to_ns: int
    correction_ns: int
    bound_ns: int | None


def stretch_of(change: TimeChange) -> Stretch | None:
    """The times that a TIME record corrects; None where it corrects none."""
    if change.corrected_boot_ns is None or change.correction_ns is None:
        return None
    offset_ns = change.after.offset_ns - change.correction_ns
    first_ns, last_ns = (each + offset_ns for each in change.corrected_boot_ns)
    return Stretch(first_ns, last_ns, change.correction_ns, change.bound_after_ns)


def correction_text(stretch: Stretch, time_text: TimeText = utc_text) -> str:
    """The times as they were stamped, by how much they were wrong, and as they are right."""
    first_ns, last_ns, by_ns, bound_ns = astuple(stretch)
    known = "" if bound_ns is None else f", right within {format_duration(bound_ns)}"
    text = f"times from {time_text(first_ns)} to {_end(first_ns, last_ns, time_text)}"
    if not by_ns:
        return f"{text} were right{known.removeprefix(', right')}"
    right = f"{time_text(first_ns + by_ns)} to {_end(first_ns + by_ns, last_ns + by_ns, time_text)}"
    side = "slow" if by_ns > 0 else "fast"
    return f"{text} were {format_duration(abs(by_ns))} {side}; corrected, they are {right}{known}"


def _words(name: str) -> str:
    return name.lower().replace("_", " ")


def _configuration(change: ConfigChange) -> str:
    which = replacement(change)
    who = f", by account {change.account}" if change.account else ""
    why = (f" ({change.why})" if change.why else "") + approved_by(change)
    shown = "; ".join(changed(*each) for each in change.changes[:CHANGES_SHOWN])
    more = change_count(change) - CHANGES_SHOWN
    return f"{which}{who}{why}" + (f": {shown}" if shown else "") + (f"; and {more:,} more changes" if more > 0 else "")


def approved_by(change: ConfigChange) -> str:
    """Who approved it, as what, and what that means, to end a sentence with; empty where nobody has."""
    if change.approval is None:
        return ""
    approval = Approval.from_bytes(change.approval)
    if approval is None:
        return ", with an approval of a form that this version does not know"
    return f", approved by {approval.name}, {approval.role} ({approval.meaning})"


def replacement(change: ConfigChange, *, ran_before: bool = False) -> str:
    """Which configuration replaced which, or has returned."""
    new, old = change.new_hash.hex()[:SHORT], change.old_hash.hex()[:SHORT]
    if old == new:
        return f"Configuration {new} is on record itself"
    verb = "returned in place of" if ran_before or change.role == _ROLL_BACK else "replaced"
    return f"Configuration {new} {verb} {old}" if old else f"Configuration {new} is the first on record"


_ROLL_BACK = "roll back"
_ROLES = {
    "start": "as which the gateway was started", "apply": "with tidegate apply",
    _ROLL_BACK: "as which the gateway went back by itself",
}  # fmt: skip


def responsible(change: ConfigChange) -> str:
    """Account and role in words; a role that only a later version knows as it is."""
    role = _ROLES.get(change.role) or (f"role {change.role}" if change.role else "")
    return ", ".join(filter(None, (f"account {change.account}" if change.account else "no account", role)))


def change_count(change: ConfigChange) -> int:
    """How many values changed, also those that found no room in the record."""
    known = None if change.kept is None else change.kept.changes
    return len(change.changes) if known is None else known


def _epoch(epoch: Epoch) -> str:
    why = _EPOCH_REASONS.get(epoch.reason, _words(epoch.reason.name))
    after = "" if epoch.previous is None else f" after chain {epoch.previous.epoch.hex()} (seq {epoch.previous.seq})"
    configuration = f", configuration {epoch.config_hash.hex()[:SHORT]}" if epoch.config_hash else ""
    return f"A new chain began{after}: {why}; Tidegate {epoch.version or 'of unknown version'}{configuration}"


def _text(value: Plain) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


class _Told:
    """The subject and data of an EVENT as texts; what an earlier version did not say is a question mark."""

    def __init__(self, event: Event) -> None:
        self.subject = event.subject
        self._data = event.data

    def __getitem__(self, name: str) -> str:
        value = self._data.get(name)
        return "?" if value is None else _text(value)

    def number(self, name: str) -> int:
        value = self._data.get(name)
        return value if isinstance(value, int) else 0

    def duration(self, name: str) -> str:
        value = self._data.get(name)
        return format_duration(abs(value)) if isinstance(value, int) else "an unknown time"

    def after(self, lead: str, name: str) -> str:
        """The text with what leads to it, or nothing where there is none."""
        value = self._data.get(name)
        return lead + _text(value) if value not in (None, "") else ""


def _buffer_corrupt(told: _Told) -> str:
    if where := told.after("", "number"):
        return f"Stored record {where} is damaged and stays in the buffer{told.after(': ', 'reason')}"
    return f"Records {told['first_seq']} to {told['last_seq']} were damaged on disk, in {told['segment']}"


def _buffer_memory(told: _Told) -> str:
    if told.number("is_in_memory"):
        return f"The disk failed: records are kept in memory only, and lost with the power{told.after(': ', 'error')}"
    return "The disk works again: records are stored on it"


def _protocol(told: _Told) -> str:
    if answers := told.after("", "answers"):
        return f"{told.subject} broke the protocol in scan group {told['group']}, and it was refused: {answers}"
    return (
        f"{told.subject} broke the protocol, and it was refused: {told['field']} was {told['got']}, "
        f"expected {told['expected']}"
    )


def _identity(told: _Told) -> str:
    names = ("vendor", "product", "firmware", "serial")
    moved = [f"{name} {told.after('', f'was_{name}') or 'none'} -> {told.after('', name) or 'none'}"
             for name in names if told.after("", name) != told.after("", f"was_{name}")]  # fmt: skip
    return f"{told.subject} is another device or has other firmware: {', '.join(moved) or 'no detail on record'}"


def _device_clock(told: _Told) -> str:
    if told["state"] == "off":
        side = "ahead of" if told.number("off_ns") > 0 else "behind"
        limit = told.duration("limit_ns")
        return f"The clock of {told.subject} is {told.duration('off_ns')} {side} the gateway's; the limit is {limit}"
    return f"The clock of {told.subject} is within {told.duration('limit_ns')} of the gateway's again"


_WHOSE = {
    "ours": "The gateway's certificate",
    "the device's": "The certificate",
    "revocation list": "The revocation list of",
}


def _certificate(told: _Told) -> str:
    of_device = f"of {told['device']}" if told.after("", "device") else ""
    whose = told["whose"]
    what = _WHOSE.get(whose) or f"{whose[:1].upper()}{whose[1:]} certificate"
    return " ".join(filter(None, (what, told["name"], of_device)))


def _calibration(told: _Told) -> str:
    left = told.number("days_left")
    days = counted(abs(left), "day")
    ends = f"has been overdue for {days}" if left < 0 else f"ends in {days}" if left else "ends with this day"
    certificate = told.after(", certificate ", "certificate")
    return f"The calibration of {told.subject}{certificate}, {ends} (due {told['due']}): calibrate it"


def _step(told: _Told) -> str:
    return f"The clock stepped {'forward' if told.number('step_ns') > 0 else 'back'} by {told.duration('step_ns')}"


def _tags(told: _Told) -> str:
    shown, count = told.after("", "tags"), told.number("count")
    return f"{counted(count, 'tag')} of scan group {told['group']}" + (f" ({shown})" if shown else "")


def _bound(told: _Told) -> str:
    if not told.number("from_ns"):
        return ", or earlier: it was so when it was read first"
    return f", within {told.duration('bound_ns')}" if told.number("bound_ns") else ""


def _of_batch(told: _Told) -> str:
    return f"batch {told['batch']}" if told.after("", "batch") else "no batch"


_EVENTS: dict[str, Callable[[_Told], str]] = {
    "start": lambda t: f"The gateway started: Tidegate {t['version']}, configuration {t['configuration'][:SHORT]}, "
                       f"identity {t['fingerprint'][:FINGERPRINT]}",
    "stop": lambda _: "The gateway was asked to stop",
    "chain.new": lambda t: f"The chain on disk was not continued and a new one began: {t['reason']}",
    "time.state": lambda t: f"The clock is {_words(t['to'])}, before it was {_words(t['from'])}"
                            + (f"; within {t.duration('bound_ns')}" if t.number("bound_ns") else "")
                            + t.after(": ", "reason"),
    "time.source": lambda t: f"The source of the clock is {_words(t['to'])}, before it was {_words(t['from'])}"
                             + t.after(": ", "reason"),
    "time.step": _step,
    "time.behind": lambda t: f"The gateway started with a clock {t.duration('behind_ns')} behind its records: for how "
                             "long it was off is not known, and times recur",
    "key.rotated": lambda t: f"The identity key was replaced on purpose; that of the next chain: {t['fingerprint']}",
    "key.new": lambda t: f"The identity key was created as {t.subject}: compare its fingerprint {t['fingerprint']}",
    "uplink.up": lambda t: f"{_capital(t['broker'])} accepted the gateway",
    "uplink.down": lambda t: f"The uplink is down and records wait in the buffer: {t['reason']}",
    "uplink.refused": lambda t: f"The gateway or a record{t.after(' on ', 'topic')} was refused: {t['reason']}",
    "uplink.accepted": lambda t: f"The broker takes records on {t['topic']} again",
    "uplink.no_subscriber": lambda t: f"Nobody subscribes to {t['topic']}: its records stay in the buffer",
    "uplink.inbound": lambda t: "The broker sent what a one-way link never carries, and the connection was closed: "
                                f"{t['reason']}",
    "signal": lambda t: f"{t.subject} came: the connection to the broker is made anew; who sent it is not known",
    "config.differs": lambda t: f"{t.subject} is not what runs: configuration {t['configuration'][:SHORT]} runs",
    "config.rolled_back": lambda t: f"The configuration before {t.subject} returned: {t['reason']}",
    "approval.refused": lambda t: f"A change that {t['account']} asked for was not applied: {t['reason']}",
    "approvers.changed": lambda t: f"The file {t.subject} of those who may approve a change is another: "
                                   f"{t['old'][:SHORT] or 'none'} became {t['new'][:SHORT] or 'none'}",
    "resend": lambda t: f"{counted(t.number('records'), 'delivered record')} {_were(t.number('records'))} sent again, "
                        f"as account {t['account']} asked: {t['ranges']}",
    "buffer.high": lambda t: f"The buffer is {t['percent']} % full: {format_size(t.number('undelivered_bytes'))} are "
                             "not delivered",
    "buffer.corrupt": _buffer_corrupt,
    "buffer.fsync": lambda t: f"The disk refused to sync {t['segment']}, and its records were written anew: "
                              f"{t['error']}",
    "buffer.memory": _buffer_memory,
    "device.up": lambda t: f"{t.subject} answers",
    "device.down": lambda t: f"{t.subject} does not answer: {t['reason']}",
    "device.refused": lambda t: f"{t.subject} answers and refuses the gateway: {t['reason']}",
    "device.protocol": _protocol,
    "device.tolerated": lambda t: f"The configuration accepts what {t.subject} does against the protocol: "
                                  f"{t['tolerates']}",
    "device.address": lambda t: f"{t.subject} does not have the address of {_tags(t)}",
    "device.identity": _identity,
    "device.clock": _device_clock,
    "device.overflow": lambda t: f"{t.subject} dropped values of {_tags(t)}: its queue was too short",
    "calibration.due": _calibration,
    "cert.expiring": lambda t: f"{_certificate(t)} expires at {t['expires']}, in {t['days_left']} days: renew it",
    "cert.expired": lambda t: f"{_certificate(t)} expired at {t['expires']}: renew it",
    "batch.start": lambda t: f"Batch {t['batch']} began in unit {t.subject}{_bound(t)}",
    "batch.end": lambda t: f"Batch {t['batch']} ended in unit {t.subject}{_bound(t)}",
    "phase.start": lambda t: f"Phase {t['phase']} of {_of_batch(t)} began in unit {t.subject}{_bound(t)}",
    "phase.end": lambda t: f"Phase {t['phase']} of {_of_batch(t)} ended in unit {t.subject}{_bound(t)}",
    "poll.overrun": lambda t: f"A scan of {t.subject}, scan group {t['group']}, was {t.duration('late_ns')} late, and "
                              "the next ones were skipped",
}  # fmt: skip

_COUNTS_TAGS = ("device.address", "device.overflow")


def _event(event: Event) -> str:
    told = _Told(event)
    words = _EVENTS.get(event.kind)
    if words is None:  # Of a later version.
        data = ", ".join(f"{name} {_text(value)}" for name, value in event.data.items())
        return " ".join(filter(None, (event.kind, event.subject))) + (f": {data}" if data else "")
    repeats = 0 if event.kind in _COUNTS_TAGS and not told.after("", "span_ns") else told.number("count")
    within = told.after("", "span_ns") and f" within {told.duration('span_ns')}"
    code = told.after(" ", "code")
    return words(told) + (f" ({repeats} times{within})" if repeats > 1 else "") + (f" ({code[1:]})" if code else "")


def _were(number: int) -> str:
    return "was" if number == 1 else "were"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
