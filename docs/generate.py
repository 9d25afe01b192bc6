"""Generate the reference pages from the code: `make docs`. A test fails when they are not current."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from edge.cli import cli
from edge.gateway.audit import EventKind
from edge.health.families import FAMILIES

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from {source}; change it there and run `make docs`. -->\n"


def commands() -> str:
    """The page of all commands with their help texts."""
    parts = ["# Commands", "", NOTE.format(source="the commands themselves")]
    parts += ["Exit codes: 0 it did what was asked; 1 it ran and the answer is no; 2 usage; 78 configuration.", ""]
    for name in cli.list_commands(click.Context(cli)):
        command = [sys.executable, "-m", "edge.cli", name, "--help"]
        done = subprocess.run(command, env={**os.environ, "COLUMNS": "100"}, capture_output=True, text=True, check=True)  # noqa: S603
        parts += [f"## tidegate {name}", "", "```text", done.stdout.rstrip(), "```", ""]
    return "\n".join(parts)


def events() -> str:
    """The page of all kinds of EVENT records."""
    parts = ["# Events", "", NOTE.format(source="edge/gateway/audit.py")]
    parts += [
        "What happens to the gateway itself is sealed in the chain as EVENT records and logged under the same name.",
        "The first is recorded at once. Repeats of the next minute, of the same kind and subject and with the same",
        "reason code or scan group, become one event with their `count`. Its time is that of the last of them, and",
        "`span_ns` is how long before it the first of them was; it comes to the archive after the minute.",
        "The log tells each time a device or the broker comes or goes.",
        "",
        "Info marks a change, a warning heals by itself, an error asks for a person.",
        "",
        "| kind | severity | meaning |",
        "| --- | --- | --- |",
    ]
    parts += [f"| `{kind.label}` | {kind.severity.name.lower()} | {kind.meaning} |" for kind in EventKind]
    return "\n".join([*parts, ""])


def metrics() -> str:
    """The page of all Prometheus metrics."""
    parts = ["# Metrics", "", NOTE.format(source="edge/health/families.py")]
    parts += [
        "Served at `/metrics` where `status.metrics` says, on loopback only. They are read from plain counters when",
        "somebody asks, so a scan pays nothing for them. Counters start at 0 with the process; what a role does not",
        "have, it does not show.",
        "",
        "| metric | kind | labels | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for family in FAMILIES:
        kind = "counter" if family.is_counter else "gauge"
        parts.append(f"| `{family.name}` | {kind} | {', '.join(family.labels)} | {family.meaning} |")
    return "\n".join([*parts, ""])


PAGES = {"reference/events.md": events, "reference/metrics.md": metrics, "reference/commands.md": commands}


def main() -> None:
    """Write all pages."""
    for name, write in PAGES.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write())


if __name__ == "__main__":
    main()
