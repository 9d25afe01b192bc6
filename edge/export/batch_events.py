"""What happened during a batch, as events of a BatchProductionRecord."""

from __future__ import annotations

from collections.abc import Iterator

from edge.export.b2mml import Happened, Head, evidence
from edge.relay.reading_columns import SourcedBlock
from edge.report.batch import BatchSlice, GroupKey, Run, gateway_of, members_text
from edge.report.collect import Collector
from edge.report.facts import RangeReport
from edge.seal import Gap, Loss
from edge.seal.record import ISSUER_PREFIX

_KINDS = {"gap": ("Equipment", "Status Change"), "loss": ("General", "System"), "time": ("General", "System"),
          "config": ("Operator", "Modification")}  # fmt: skip


def batch_events(collector: Collector, batch: BatchSlice, report: RangeReport) -> Iterator[Happened]:
    """Changes of context, gaps of its units, losses, changes of configuration and the rest that is on record."""
    for run in batch.runs:
        yield from _contexts(run)
    for gateway in report.gateways:
        gaps = {(gap.device, group) for gap in gateway.complete.gaps if gap.is_inside
                for group in gap.scan_groups or ("",)}  # fmt: skip
        devices = {device for device, group in gaps if not group}
        for noted in collector.gateways[ISSUER_PREFIX + gateway.gateway].inside:
            entry, content = collector.logbook.entry(noted), noted.content
            if isinstance(content, Gap) and entry.device not in devices and (entry.device, entry.group) not in gaps:
                continue
            kind, subkind = _KINDS.get(entry.kind, ("General", "System"))
            at_ns = entry.at_ns or (report.from_ns or 0 if isinstance(content, Loss) else 0)
            yield Happened(at_ns, kind, subkind, entry.device, entry.text,
                           evidence(entry.gateway, entry.place.epoch.hex(), entry.place.seq))  # fmt: skip


def _contexts(run: Run) -> Iterator[Happened]:
    gateway = gateway_of(run)
    for number, each in enumerate(run.contexts):
        within_ns = each.context.to_ns - each.context.from_ns
        text = f"{members_text(each.context.members)} (changed within {within_ns} ns before)"
        yield Happened(each.context.to_ns, "Procedural Execution", "State Change", run.unit,
                       text if number else f"batch {run.batch} began: {text}",
                       evidence(gateway, each.epoch.hex(), each.context.number))  # fmt: skip
    if run.to_ns is not None and run.ended_ns is not None:
        yield Happened(run.to_ns, "Procedural Execution", "State Change", run.unit,
                       f"batch {run.batch} ended (within {run.to_ns - run.ended_ns} ns before)", "")  # fmt: skip


def batch_head(batch: BatchSlice, report: RangeReport) -> Head:
    """What the record says of the batch as a whole: lot and product where all contexts say one."""
    contexts = [each.context for run in batch.runs for each in run.contexts]

    def only(member: str) -> str:
        said = {text for each in contexts if (text := each.members.get(member))}
        return said.pop() if len(said) == 1 else ""

    made = f"Made by Tidegate {report.version} from signed records: {report.command}"
    return Head(batch=batch.batch, equipment=tuple(dict.fromkeys(run.unit for run in batch.runs)), lot=only("lot"),
                product=only("product"), descriptions=(report.text, made), made_at_ns=report.made_at_ns)  # fmt: skip


def group_key(found: SourcedBlock) -> GroupKey:
    """The scan group of a block, by which a slice knows its unit."""
    return ISSUER_PREFIX + found.gateway, found.catalogue, found.readings.block.group
