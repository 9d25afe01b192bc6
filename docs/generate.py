"""Generate the reference pages from the code: `make docs`. A test fails when they are not current."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import click
import orjson

from edge.cli import answers, cli
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
        "What happens to the gateway is on record as an EVENT, and in the log under the same name.",
        "`tidegate log` shows events as sentences.",
        "",
        "The first event is recorded at once. Repeats within the next minute become one event with their `count`, if",
        "kind, subject and reason code or scan group are the same. Its time is that of the last repeat, and",
        "`span_ns` is how long before that the first one was. The log has a line for each time that a",
        "device or the broker comes or goes.",
        "",
        "| severity | meaning |",
        "| --- | --- |",
        "| info | a change |",
        "| warning | it heals by itself |",
        "| error | a person has to act |",
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
        "Served at `/metrics` where `status.metrics` says. They are read from plain counters when",
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


def json_page() -> str:
    """The page of what commands print with --json."""
    heading, _, rest = answers.page().partition("\n\n")
    return f"{heading}\n\n{NOTE.format(source='the answers of the commands')}\n{rest}"


def schema(name: str) -> Callable[[], str]:
    """What writes the JSON Schema of a command's answer."""
    return lambda: orjson.dumps(answers.schema(name), option=orjson.OPT_INDENT_2).decode() + "\n"


PAGES: dict[str, Callable[[], str]] = {
    "reference/events.md": events,
    "reference/metrics.md": metrics,
    "reference/commands.md": commands,
    "reference/json.md": json_page,
    **{f"reference/json/{answers.file_of(name)}": schema(name) for name in answers.alike()},
}


def main() -> None:
    """Write all pages."""
    for name, write in PAGES.items():
        path = DOCS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(write())


if __name__ == "__main__":
    main()
