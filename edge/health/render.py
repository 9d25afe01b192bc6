"""A snapshot on a terminal."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge.health.snapshot import DeviceStatus, GroupStatus, IssuerStatus, StatusSnapshot, TagStatus, ViewStatus
from edge.units import format_duration, format_size, format_value

_STYLE = {
    "up": "green",
    "ok": "green",
    "synchronized": "green",
    "GOOD": "green",
    "connecting": "yellow",
    "UNCERTAIN": "yellow",
    "holdover": "yellow",
    "resting": "yellow",
    "down": "red",
    "refused": "red",
    "full": "red",
    "memory": "red",
    "BAD": "red",
}


def render(snapshot: StatusSnapshot) -> RenderableType:
    """Everything in one view; parts that a role does not have are left out."""
    parts: list[RenderableType] = [_summary(snapshot)]
    if snapshot.devices:
        parts.append(_devices(snapshot.devices))
        parts += [Text(f"{device.name}: {device.reason}") for device in snapshot.devices if device.reason]
        parts += [Text(f"{each.device}: {each.exception}") for each in snapshot.certificates if each.exception]
    if any(group.values for device in snapshot.devices for group in device.scan_groups):
        parts.append(_values(snapshot.devices))
    if snapshot.relay and snapshot.relay.issuers:
        parts += _issuers(snapshot.relay.issuers)
    return Group(*parts)


def _summary(snapshot: StatusSnapshot) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_column(style="bold")
    table.add_column()
    gateway = snapshot.gateway
    table.add_row(
        gateway.role,
        f"{gateway.name}  {gateway.path}".rstrip() + f"  up {format_duration(gateway.uptime_ns)}  {gateway.version}",
    )
    for name, line in _lines(snapshot):
        table.add_row(name, line)
    return table


def _lines(snapshot: StatusSnapshot) -> list[tuple[str, Text]]:
    lines = []
    if clock := snapshot.clock:
        bound = "no bound" if clock.bound_ns is None else f"within {format_duration(clock.bound_ns)} of UTC"
        lines.append(("clock", _state(clock.state.lower(), f"{bound}, source {clock.source}, {clock.steps} steps")))
        lines += [("", Text(f"not {clock.unmet}: every value is sealed as UNCERTAIN"))] if clock.unmet else []
    if chain := snapshot.chain:
        sealed = f"{chain.readings:,} readings in {chain.records:,} records, {format_size(chain.record_bytes)}"
        lines.append(("sealed", Text(f"{sealed}, last {_age(chain.last_sealed_age_ns)}, seq {chain.seq}")))
    if buffer := snapshot.buffer:
        waiting = "" if buffer.undelivered_records is None else f"{buffer.undelivered_records:,} records waiting, "
        stored = f"{format_size(buffer.stored_bytes)} of {format_size(buffer.limit_bytes)} used"
        lost = f", {buffer.dropped_records:,} dropped" if buffer.dropped_records else ""
        lines.append(("buffer", _state(buffer.state, f"{waiting}{stored}{lost}")))
        lines += [("", Text(buffer.reason))] if buffer.reason else []
    if uplink := snapshot.uplink:
        sent = f"{uplink.acknowledged:,} acknowledged, {uplink.in_flight} in flight, {uplink.resent:,} sent again"
        again = f", {uplink.to_resend:,} to be sent again" if uplink.to_resend else ""
        lines.append(("uplink", _state(uplink.state.replace("_", " "), f"{uplink.broker}  {sent}{again}")))
        lines += [("", Text(uplink.reason))] if uplink.reason else []
    if relay := snapshot.relay:
        lines.append(("broker", _state(relay.state, relay.broker)))
        lines += [("", Text(relay.reason))] if relay.reason else []
        archived = f"{relay.archived_records:,} records ({format_size(relay.archived_bytes)}) since the start"
        late = f", {relay.not_durable:,} messages not durable yet" if relay.not_durable else ""
        lines.append(("archive", Text(archived + late)))
        lines += [("", Text(relay.unwritable, style="red"))] if relay.unwritable else []
        lines += zip(["view", "", "", ""], _view(relay.view), strict=False) if relay.view else []
    return lines


def _view(view: ViewStatus) -> Iterator[Text]:
    behind = "shows all that is archived"
    if view.waiting or view.oldest_age_ns:
        what = f"{view.waiting:,} records" if view.waiting else "the newest values"
        behind = f"{what} not shown yet, the oldest for {format_duration(view.oldest_age_ns)}"
    yield _state(view.state, behind)
    if view.reason:
        yield Text(view.reason)
    if view.left_out:
        yield Text(view.left_out, style="yellow" if view.is_behind else "")
    if view.skipped:
        yield Text(f"{view.skipped:,} records never shown: they cannot be read, or nothing says what is in them")


def _devices(devices: tuple[DeviceStatus, ...]) -> Table:
    table = _table("devices", ("device", "state", "scan\ngroup"),
                   ("tags", "scans", "skipped", "failed", "not\ngood", "scan\nage", "took"))  # fmt: skip
    for device in devices:
        for group in device.scan_groups:
            _add_row(table, device.name, _state(device.state), *_group(group))
    return table


def _group(group: GroupStatus) -> tuple[str, ...]:
    counts = (group.scans, group.skipped_scans, group.failed_scans, group.not_good_tags)
    return (
        group.name,
        f"{group.tags:,}",
        *(f"{count:,}" for count in counts),
        _duration(group.last_scan_age_ns),
        _duration(group.last_scan_took_ns),
    )


def _values(devices: tuple[DeviceStatus, ...]) -> Table:
    table = _table("values", ("device", "tag"), ("value",))
    table.add_column("unit", no_wrap=True)
    table.add_column(no_wrap=True)
    for device in devices:
        for tag in (tag for group in device.scan_groups for tag in group.values):
            _add_row(table, device.name, tag.tag, _value(tag), tag.unit, _state(tag.quality))
        if left_out := sum(group.tags - len(group.values) for group in device.scan_groups):
            _add_row(table, device.name, f"and {left_out:,} more")
    return table


def _value(tag: TagStatus) -> str:
    return f"{tag.text} ({format_value(tag.value)})" if tag.text else format_value(tag.value)


def _issuers(issuers: tuple[IssuerStatus, ...]) -> Iterator[RenderableType]:
    table = _table("gateways", ("gateway",), ("records", "seq", "lag", "last record"))
    for issuer in issuers:
        lag = _duration(None if issuer.clock_ahead_ns else issuer.lag_ns)
        _add_row(table, _name(issuer), f"{issuer.records:,}", f"{issuer.seq:,}", lag, _age(issuer.last_record_age_ns))
    yield table
    for issuer in issuers:
        if words := _not_plain(issuer):
            yield Text(f"{_name(issuer)}: {words}")
        if issuer.clock_ahead_ns:
            ahead = format_duration(issuer.clock_ahead_ns)
            yield Text(f"{_name(issuer)}: its clock is {ahead} ahead of ours, or more; its lag is not known")
    if any(issuer.lag_ns is not None for issuer in issuers):
        yield Text("lag: how old the newest value was when durable, our clock less the gateway's", style="dim")


def _name(issuer: IssuerStatus) -> str:
    return issuer.issuer.removeprefix("urn:tidegate:")


def _not_plain(issuer: IssuerStatus) -> str:
    """What became of the records that were not simply archived."""
    counts = {"came again": issuer.duplicates, "cannot be judged yet": issuer.waiting, "rejected": issuer.rejected,
              "missing": issuer.missing, "declared lost": issuer.declared_lost}  # fmt: skip
    return ", ".join(f"{count:,} {words}" for words, count in counts.items() if count)


def _table(title: str, words: tuple[str, ...], numbers: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for name in words:
        table.add_column(name, no_wrap=True)
    for name in numbers:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _add_row(table: Table, *cells: str | Text) -> None:
    # A plain text would be read as markup: the unit "[pH]" would be gone.
    table.add_row(*(Text(cell) if isinstance(cell, str) else cell for cell in cells))


def _state(state: str, more: str = "") -> Text:
    text = Text(state, style=_STYLE.get(state, "yellow"))
    return text.append(f"  {more}", style="default") if more else text


def _age(age_ns: int | None) -> str:
    return "never" if age_ns is None else f"{format_duration(age_ns)} ago"


def _duration(duration_ns: int | None) -> str:
    return "-" if duration_ns is None else format_duration(duration_ns)
