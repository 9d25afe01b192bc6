"""U5: the reference explains each command, setting, metric, event and record type: `python -m bench.documented`."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from bench.results import Row, store
from edge.cli import cli
from edge.config.reference import settings_rows
from edge.driver import installed, load
from edge.gateway.audit import EventKind
from edge.health.families import FAMILIES
from edge.seal import RecordType

DOCS = Path(__file__).parents[1] / "docs"


def undocumented() -> Mapping[str, tuple[int, list[str]]]:
    """How many there are of each kind, and which of them the reference does not explain."""
    kinds = dict(_kinds())
    return {
        kind: (len(lines), [name for name, is_told in lines.items() if not is_told]) for kind, lines in kinds.items()
    }


def _kinds() -> Iterator[tuple[str, dict[str, bool]]]:
    reference = DOCS / "reference"
    commands, events, metrics, settings = (
        (reference / f"{page}.md").read_text() for page in ("commands", "events", "metrics", "settings")
    )
    records = (DOCS / "explanation/record-format.md").read_text()
    names = cli.list_commands(click.Context(cli))
    yield "commands", {name: f"\n## tidegate {name}\n" in commands for name in names}
    yield (
        "settings",
        {
            f"{row.where}: {row.key}": bool(row.description)
            and any(_has_line(settings, key) for key in (row.key, row.key.rpartition(".")[2]))
            for row in settings_rows((name, load(name)) for name in installed())
        },
    )
    yield "metrics", {each.name: bool(each.meaning) and _has_line(metrics, each.name) for each in FAMILIES}
    yield "events", {each.label: bool(each.meaning) and _has_line(events, each.label) for each in EventKind}
    yield (
        "record types",
        {
            each.name: f"\n| {each:d} | {each.name} | {'identity' if each.is_identity_signed else 'session'} | `{{"
            in records
            for each in RecordType
        },
    )


def _has_line(page: str, name: str) -> bool:
    return re.search(rf"^\| `{re.escape(name)}` \|", page, re.MULTILINE) is not None


def main() -> None:
    """Count, and store the row."""
    found = undocumented()
    missing = [name for _, names in found.values() for name in names]
    for name in missing:
        print(f"not documented: {name}")
    store([
        Row(figure="U5 documented", goal="every command, setting, metric, event and record type",
            command="python -m bench.documented",
            measured=", ".join(f"{count} {kind}" for kind, (count, _) in found.items()) + f": {len(missing)} missing"),
    ])  # fmt: skip
    raise SystemExit(bool(missing))


if __name__ == "__main__":
    main()
