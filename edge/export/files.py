"""The files of an export, written under other names first: there is a whole one under its name, or none."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge.export.lines import LongLines, WideLines, utc_text
from edge.files import sync_directory
from edge.relay.reading_columns import SourcedBlock
from edge.report.facts import GatewayAnswer, RangeReport

GAPS = ("gateway", "kind", "device", "scan_groups", "from", "to", "epoch", "first_seq", "last_seq", "records", "reason")


@contextmanager
def drafts(*files: Path) -> Iterator[list[Path]]:
    """A draft for each file, which becomes it at the end of the block; where that fails, none does. Raises OSError.

    They are renamed in their order, so that the last one is there only where all are.
    """
    names = [file.with_name(f".{file.name}.{os.getpid()}.new") for file in files]
    try:
        yield names
        for draft in names:
            handle = os.open(draft, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)
        for draft, file in zip(names, files, strict=True):
            draft.rename(file)
            sync_directory(file.parent)
    finally:
        for draft in names:
            draft.unlink(missing_ok=True)


def write_lines(file: Path, blocks: Iterable[SourcedBlock], lines: LongLines | WideLines) -> int:
    """Write CSV or JSON Lines; returns how many values that are. Raises OSError."""
    count = 0
    with file.open("wb", buffering=1 << 20) as out:
        out.write(lines.header)
        for found in blocks:
            for number, text in lines.lines(found):
                count += number
                out.write(text)
    return count


def write_gaps(file: Path, report: RangeReport) -> int:
    """Write what is not there, and why, as CSV; returns how many rows that are."""
    rows = [row for gateway in report.gateways for row in _gaps(gateway)]
    rows += [
        {"gateway": each.gateway, "kind": each.verdict.lower(), "epoch": each.epoch, "first_seq": each.seq,
         "last_seq": each.seq, "records": 1, "reason": f"{each.reason}: {each.file} offset {each.offset}"}
        for each in report.refused if each.is_inside
    ]  # fmt: skip
    with file.open("w", encoding="utf-8", newline="") as out:
        table = csv.DictWriter(out, GAPS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return len(rows)


def _gaps(gateway: GatewayAnswer) -> Iterator[dict[str, Any]]:
    def row(kind: str, from_ns: int | None, to_ns: int | None, **more: object) -> dict[str, Any]:
        return {"gateway": gateway.gateway, "kind": kind, "from": utc_text(from_ns), "to": utc_text(to_ns), **more}

    complete = gateway.complete
    for gap in complete.gaps:
        if gap.is_inside:
            yield row("gap" if gap.is_declared else "hole", gap.from_ns, gap.to_ns, device=gap.device,
                      scan_groups=" ".join(gap.scan_groups), reason=gap.reason)  # fmt: skip
    for absent in complete.missing:
        kind = "removed" if absent.is_removed else "declared lost" if absent.is_declared else "missing"
        yield row(kind, absent.from_ns, absent.to_ns, epoch=absent.epoch, first_seq=absent.first_seq,
                  last_seq=absent.last_seq, records=absent.records)  # fmt: skip
    for text in complete.losses:
        yield row("loss", None, None, reason=text)
    for text in complete.shortfalls:
        yield row("shortfall", None, None, reason=text)
