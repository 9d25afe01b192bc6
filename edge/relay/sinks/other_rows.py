"""What a record without sample blocks says, as rows: all sinks have them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import astuple
from typing import Any, NamedTuple

import orjson

from edge.model import Catalogue
from edge.relay.sinks.postgres_copy import text
from edge.relay.sinks.sink import SinkRecord
from edge.seal import Identities
from edge.seal.payloads import Checkpoint, ConfigChange, Context, Epoch, Event, Gap, KeyChange, Loss, Stop, TimeChange
from edge.sentences import stretch_of

TABLES = {
    "chain": "type, reason, t_ns, counter, version, configuration, previous, hardware",
    "gap": "scan_group, from_ns, to_ns, status, detail",
    "loss": "lost_epoch, first, last, from_ns, to_ns, records, readings, reason",
    "event": "t_ns, kind, severity, subject, data",
    "correction": "from_ns, to_ns, correction_ns, bound_ns",
    "config": "t_ns, account, role, why, old_hash, new_hash, changes",
    "batch": "number, unit, batch, lot, product, recipe, procedure, unit_procedure, operation, phase, state, from_ns, "
             "to_ns, sources",
    "identity": "device, since_ns, vendor, product, firmware, serial, more",
}  # fmt: skip

MEMBERS = TABLES["batch"].split(", ")[2:11]
"""What a context says of its unit."""


class Told(NamedTuple):
    """A row by itself, where one table has them all.

    Attributes:
        kind: its table.
        from_ns: when, or the begin; None where it says none.
        to_ns: the end; None where it was not over, or it is a moment.
        device, group: those of a gap, as far as the catalogue names them.
        content: the rest, by the names of the columns.
    """

    kind: str
    from_ns: int | None
    to_ns: int | None
    device: str | None
    group: str | None
    content: dict[str, Any]


def told_by(record: SinkRecord, catalogue: Catalogue | None) -> Iterator[Told]:
    """The rows of a record without sample blocks; `catalogue` names the scan groups of its chain."""
    for table, values in other_rows(record):
        said = dict(zip(TABLES[table].split(", "), values, strict=True))
        begins = [said.pop(name) for name in ("t_ns", "from_ns", "since_ns") if name in said]
        until, number, device, group = said.pop("to_ns", None), said.get("scan_group"), said.pop("device", None), None
        if number is not None and catalogue is not None and number < len(catalogue.groups):
            device, group = catalogue.groups[number].device, catalogue.groups[number].name
        yield Told(table, begins[0] if begins else None, until, device, group, said)


def other_rows(record: SinkRecord) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The rows of a record without sample blocks, each with its table; without the columns of its place."""
    match record.content:
        case Epoch() | KeyChange() | Checkpoint() | Stop() as it:
            yield "chain", _chain_row(it)
        case Gap() as it:
            yield "gap", (it.group, it.from_ns, it.to_ns, it.status, text(it.detail))
        case Loss() as it:
            yield "loss", (it.epoch or record.place.epoch, it.first, it.last, it.from_ns, it.to_ns,
                           it.records, it.readings, it.reason.name)  # fmt: skip
        case Event() as it:
            yield "event", (it.at_ns, text(it.kind), it.severity.name, text(it.subject), to_json(dict(it.data)))
        case TimeChange() as it:
            about = {"before": it.before.state.name, "after": it.after.state.name, "step_ns": it.step_ns}
            at_ns = it.after.as_of_ns + it.after.offset_ns
            yield "event", (at_ns, "time", "INFO", "", to_json(about))
            if (stretch := stretch_of(it)) is not None:
                yield "correction", astuple(stretch)
        case ConfigChange() as it:
            yield "config", (it.at_ns, text(it.account), text(it.role), text(it.why), it.old_hash, it.new_hash,
                             to_json(it.changes))  # fmt: skip
        case Identities() | Context() as it:
            yield from _plant_rows(it)


def _plant_rows(it: Identities | Context) -> Iterator[tuple[str, tuple[Any, ...]]]:
    if isinstance(it, Context):
        members = (it.members.get(name) for name in MEMBERS)
        yield "batch", (it.number, text(it.unit), *(each and text(each) for each in members), it.from_ns, it.to_ns,
                        to_json(it.sources))  # fmt: skip
        return
    for known in it.devices:
        texts = (text(each) for each in known.identity.texts.values())
        yield "identity", (text(known.device), known.since_ns, *texts, to_json(dict(known.identity.more)))


def _chain_row(it: Epoch | KeyChange | Checkpoint | Stop) -> tuple[Any, ...]:
    reason = it.reason.name if isinstance(it, Epoch | Stop) else None
    counter = it.counter if isinstance(it, Epoch | Checkpoint) else None
    about: tuple[Any, ...] = (None, None, None, None)
    if isinstance(it, Epoch):
        previous = it.previous.epoch if it.previous else None
        about = text(it.version), it.config_hash, previous, to_json(dict(it.hardware))
    return it.type.name, reason, it.time.as_of_ns + it.time.offset_ns, counter, *about


def to_json(value: object) -> str:
    """JSON that PostgreSQL takes; bytes as hexadecimal digits."""
    return orjson.dumps(_without_nul(value), default=lambda each: each.hex()).decode()


def _without_nul(value: Any) -> Any:
    if isinstance(value, str):
        return text(value)
    if isinstance(value, Mapping):
        return {text(str(key)): _without_nul(each) for key, each in value.items()}
    return [_without_nul(each) for each in value] if isinstance(value, list | tuple) else value
