"""Log lines as sentences, for a person at a terminal. Whoever reads the journal gets the same lines as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from edge.logs import plain_sentence
from edge.seal import Event
from edge.sentences import sentence

_Data = Mapping[str, Any]


def _gateway(data: _Data) -> str:
    return str(data["issuer"]).removeprefix("urn:tidegate:") or "an unknown gateway"


def _missing(data: _Data) -> str:
    count = data["last"] - data["first"] + 1
    records = f"1 record ({data['first']}" if count == 1 else f"{count:,} records ({data['first']} to {data['last']}"
    return f"{records} of chain {data['epoch']})"


def _more(words: str) -> Callable[[_Data], str]:
    return lambda d: f"{_gateway(d)}: {d['records']:,} records in {d['ranges']:,} more ranges {words}"


def _refused(data: _Data) -> str:
    return (
        f"{_gateway(data)}, record {data['seq']} of chain {data['epoch']}: {data['reason']} ({data['count']:,} so far)"
    )


_SENTENCES: dict[str, Callable[[_Data], str]] = {
    "running": lambda d: f"Gateway {d['gateway']} runs" + ("" if d["role"] == "all" else f", role {d['role']}"),
    "stopping": lambda d: f"Gateway {d['gateway']} stops",
    "reloaded": lambda d: f"Gateway {d['gateway']} has read the files of its uplink again",
    "not reloaded": lambda d: f"The files of the uplink cannot be used, and those read before stay: {d['reason']}",
    "configuration": lambda d: str(d["problem"]),
    "configuration changed": lambda d: (
        f"The configuration is not the one of the last start: {d['old'][:16]} became {d['new'][:16]}, "
        f"started by {d['account']}"
    ),
    "resend refused": lambda d: f"Records are not sent again, as {d['request']} asks: {d['reason']}",
    "resend begun": lambda d: f"{d['records']:,} delivered records are being sent again ({d['request']})",
    "resend finished": lambda d: f"{d['records']:,} delivered records were sent again ({d['request']})",
    "identity counter not saved": lambda d: (
        f"The count of signatures of the identity was not saved: {d['reason']}; see to the disk, or the next start "
        "may begin a new chain"
    ),
    "export": lambda d: f"{d['values']:,} values of {d['archive']} were exported to {d['file']}, by {d['account']}",
    "subscribed": lambda d: f"Subscribed at broker {d['broker']}",
    "records removed by retention": lambda d: (
        f"{d['records']:,} records of {d['file']} were removed, {d['rule']}; a signed statement beside the file says so"
    ),
    "not removed by retention": lambda d: f"{d['file']} is due to be removed and stays: {d['reason']}",
    "statement of removal does not count; what it names is missing": lambda d: (
        f"{d['file']} does not count, and what it names is missing: {d['reason']}"
    ),
    "broker lost": lambda d: f"Nothing is received: {d['reason']} ({d['code']})",
    "records missing": lambda d: f"{_gateway(d)}: {_missing(d)} missing; if they do not come, {d['remedy']}",
    "records no longer missing": lambda d: f"{_gateway(d)}: {_missing(d)} no longer missing",
    "records lost, and declared so by the gateway": lambda d: (
        f"{_gateway(d)}: {_missing(d)} lost, and declared so by the gateway"
    ),
    "more records missing": _more("missing; they may still be on their way"),
    "more records no longer missing": _more("no longer missing"),
    "more records lost": _more("lost, and declared so by the gateway"),
    "gateway silent: its tail is unknown": lambda d: f"{_gateway(d)} is silent: it stopped, or its records wait",
    "gateway heard again": lambda d: f"{_gateway(d)} sends again",
    "gateway no longer trusted: no trust file vouches for its identity": lambda d: (
        f"{_gateway(d)} is no longer trusted: no trust file vouches for its identity"
    ),
    "record refused": lambda d: f"A record on {d['topic']} was refused: {d['reason']} ({d['count']:,} so far)",
    "record altered": lambda d: f"An altered record was refused: {_refused(d)}",
    "record untrusted": lambda d: f"A record of an untrusted key was refused: {_refused(d)}",
    "record fork": lambda d: f"A record of a second chain with the same numbers was refused: {_refused(d)}",
    "record garbage": lambda d: f"A message on {d['topic']} is no record: {d['reason']} ({d['count']:,} so far)",
    "view connected": lambda d: f"The view is connected to broker {d['broker']}",
    "view lost": lambda d: f"The view is not shown: {d['reason']} ({d['code']})",
    "view refused": lambda d: f"The broker refuses the view: {d['reason']}",
    "sink connected": lambda d: f"Sink {d['sink']} is connected at {d['address']}",
    "sink lost": lambda d: f"Sink {d['sink']} takes nothing: {d['reason']} ({d['code']})",
    "view accepted": lambda _: "The broker takes the view again",
    "trust files read again": lambda d: f"{d['files']} trust files were read again",
    "service manager not told": lambda d: f"The service manager was not told {d['words']!r}: {d['reason']}",
}  # fmt: skip


def log_sentence(event: str, data: _Data) -> str:
    """What a log line says, as one sentence; an event of the audit trail as `tidegate log` tells it."""
    words = _SENTENCES.get(event)
    if words is not None:
        with suppress(KeyError, TypeError, ValueError):  # A line that lacks a detail is still a line.
            return words(data)
    if "." in event or event in ("start", "stop", "resend"):
        told = {name: value for name, value in data.items() if name != "subject"}
        return sentence(Event(at_ns=0, kind=event, subject=str(data.get("subject", "")), data=told))
    return plain_sentence(event, data)
