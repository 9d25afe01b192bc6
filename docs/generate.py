"""Generate the reference pages from the code: `make docs`. A test fails when they are not current."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any

import orjson
from ruamel.yaml import YAML

from edge.cli import answers
from edge.errors import ErrorCode
from edge.gateway.audit import EventKind
from edge.health.families import FAMILIES
from edge.health.render import meaning_of
from edge.model import StatusCode, quality_of
from edge.qualify.requirements import requirements
from edge.syslog import SECURITY_EVENTS, Line

DOCS = Path(__file__).parent
NOTE = "<!-- Written by docs/generate.py from {source}; change it there and run `make docs`. -->\n"

# In a process of its own: click keeps of a command how it was asked for help first.
_HELPS = """
import json
from click import Context
from click.testing import CliRunner
from edge.cli import cli
run = CliRunner().invoke
names = cli.list_commands(Context(cli))
print(json.dumps({name: run(cli, [name, "--help"], prog_name="tidegate", terminal_width=98).output for name in names}))
"""


def commands() -> str:
    """The page of all commands with their help texts."""
    parts = ["# Commands", "", NOTE.format(source="the commands themselves")]
    parts += ["Exit codes: 0 it did what was asked; 1 it ran and the answer is no; 2 usage; 78 configuration.", ""]
    done = subprocess.run([sys.executable, "-c", _HELPS], capture_output=True, check=True)  # noqa: S603
    for name, text in orjson.loads(done.stdout).items():
        parts += [f"## tidegate {name}", "", "```text", text.rstrip(), "```", ""]
    return "\n".join(parts)


AREAS_OF_CODES = {
    "Devices": "D", "Broker and uplink": "U", "Buffer and disk of the gateway": "B", "Clock": "C",
    "Chain, keys and certificates": "K", "Configuration and version": "F", "Commands": "X", "Relay and archive": "R",
    "Machine": "M",
}  # fmt: skip


def events() -> str:
    """The page of all kinds of EVENT records."""
    parts = ["# Events", "", NOTE.format(source="edge/gateway/audit.py and edge/syslog.py")]
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
    parts += [
        "",
        "## Security events in the system's log",
        "",
        "Gateway and relay also send these lines to syslog (`/dev/log`, facility authpriv), whatever `log.level` is.",
        "Each has an id that stays the same in all versions, the data of the line as structured data (RFC 5424), and",
        'the sentence: `tidegate[812]: TG-S04 [tidegate gateway="line-4" event="uplink.inbound" ...] The broker ...`.',
        "",
        "Under systemd they are in the journal: `journalctl SYSLOG_FACILITY=10 -t tidegate`. A setting, `log.syslog`,",
        "says where else they go, or that none are sent. Without a syslog nothing else changes. What repeats is sent",
        "once a minute, with its `count`.",
        "",
        "The first that fits is the one.",
        "",
        "| id | meaning | lines of the log |",
        "| --- | --- | --- |",
    ]
    for each in SECURITY_EVENTS:
        lines = "; ".join(_lines(datum, list(alike)) for datum, alike in groupby(each.lines, lambda line: line.datum))
        parts.append(f"| {each.id} | {each.meaning} | {lines} |")
    return "\n".join([*parts, ""])


def _lines(datum: str, lines: Sequence[Line]) -> str:
    """Lines of the log, and what a datum of them has to say."""
    names = ", ".join(f"`{name}`" for name in dict.fromkeys(line.name for line in lines))
    words = " or ".join(f"`{word}`" for word in dict.fromkeys(line.word for line in lines))
    return f"{names}, where `{datum}` has {words}" if datum else names


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


def status_codes() -> str:
    """The page of the status codes that the gateway gives."""
    parts = ["# Status codes", "", NOTE.format(source="edge/model.py and edge/health/render.py")]
    parts += [
        "Every value has a status code of OPC UA (OPC 10000-4, 7.39); its two highest bits are the quality. These are",
        "given by the gateway. One that a device gives is kept as it is. `tidegate explain CODE` says the same.",
        "",
        "| status | number | quality | meaning |",
        "| --- | --- | --- | --- |",
    ]
    for code in StatusCode:
        parts.append(f"| `{code.name}` | 0x{code:08X} | {quality_of(code).name} | {meaning_of(code)} |")
    return "\n".join([*parts, ""])


def error_codes() -> str:
    """The page of the codes of failures."""
    parts = ["# Error codes", "", NOTE.format(source="edge/codes.py")]
    parts += [
        "A failure has a code, which stands behind its sentence: in commands, in `tidegate status`, in findings of",
        "`tidegate doctor`, in the log, in `tidegate log`, and with `--json` as `code`. `tidegate explain CODE` says",
        "what is here. A code never changes its meaning. By what is seen: [troubleshoot](../how-to/troubleshoot.md).",
        "",
    ]
    for title, letter in AREAS_OF_CODES.items():
        parts += [f"## {title}", "", "| code | what happened | what the data says meanwhile | what to do |",
                  "| --- | --- | --- | --- |"]  # fmt: skip
        for code in ErrorCode:
            if code.id.startswith(f"TG-{letter}"):
                cells = (each.replace("|", r"\|") for each in (code.happened, code.meanwhile, code.remedy))
                parts.append(f"| `{code.id}` | {' | '.join(cells)} |")
        parts.append("")
    return "\n".join(parts)


def json_page() -> str:
    """The page of what commands print with --json."""
    heading, _, rest = answers.page().partition("\n\n")
    return f"{heading}\n\n{NOTE.format(source='the answers of the commands')}\n{rest}"


def iec_62443_4_2() -> str:
    """The page of component requirements; raises ValueError where a test is named that does not exist."""
    source = DOCS / "iec-62443-4-2.yaml"
    rows = YAML(typ="safe").load(source)
    stand: dict[str, list[str]] = {}
    for row in rows:
        if "id" in row:
            stand.setdefault(row["standing"], []).append(row["id"])
    parts = ["# IEC 62443-4-2, requirement by requirement", "", NOTE.format(source=f"docs/{source.name}")]
    parts += [
        "Tidegate is a software application on a machine of the plant's (SAR, and HDR for the machine). This is what",
        "its makers say, not a certificate. Names and sentences are ours; the standard has the requirements. Each test",
        "is run with every commit, and another checks that it exists. SL are the security levels that ask for the",
        "requirement.",
        "",
        "| it is | how many | meaning |",
        "| --- | --- | --- |",
        *(f"| {name} | {len(stand.get(name, []))} | {meaning} |" for name, meaning in _STANDINGS.items()),
        "",
        "CR 2.3 and CR 7.5 ask nothing of a component. What is asked of embedded devices (EDR) is asked of the",
        "machine (HDR) here.",
    ]
    for row in rows:
        parts += _section(row["section"]) if "section" in row else [_requirement(row)]
    return "\n".join([*parts, ""])


def requirements_page() -> str:
    """The page of what has to hold at a plant."""
    parts = ["# Requirements", "", NOTE.format(source="edge/qualify/requirements.yaml")]
    parts += [
        "What Tidegate has to do where its data is used in production: each a sentence that a test can fail, with",
        "what goes wrong at the plant where it does not hold. An id never changes its meaning. The severity is",
        "*high* where a value is wrong or missing and nobody notices, or a device is reached; *medium* where it is",
        "noticed, and costs data or work; *low* where it costs work. The",
        "[matrix](reference/requirements-matrix.md) has the tests that show each of them.",
    ]
    for group, alike in groupby(requirements().values(), lambda one: one.group):
        parts += ["", f"## {group}", "", "| id | it holds that | severity | if not |"]
        parts.append("| --- | --- | --- | --- |")
        parts += [f"| `{one.id}` | {one.text} | {one.severity} | {one.risk} |" for one in alike]
    return "\n".join([*parts, ""])


def _section(name: str) -> list[str]:
    return ["", f"## {name}", "", "| requirement | SL | it is | how | shown by |", "| --- | --- | --- | --- | --- |"]


def _requirement(row: dict[str, Any]) -> str:
    name, standing = f"{row['id']}: {row['name']}", row["standing"]
    if standing not in _STANDINGS:
        raise ValueError(f"{name}: {standing} is not one of {', '.join(_STANDINGS)}")
    if standing in ("met", "partly") and not row.get("tests"):
        raise ValueError(f"{name} is {standing}, and no test shows it")
    shown = []
    for test in row.get("tests", ()):
        if test not in _tests():
            raise ValueError(f"{name}: there is no test {test}")
        shown.append(f"[{test.removeprefix('test_').replace('_', ' ')}](../../{_tests()[test]})")
    levels = str(row["levels"]).replace("-", " to ")
    return f"| {name} | {levels} | {standing} | {row['text']} | {'; '.join(shown)} |"


@cache
def _tests() -> dict[str, str]:
    """Where each test is."""
    root = DOCS.parent
    return {
        name: path.relative_to(root).as_posix()
        for path in sorted((root / "tests").rglob("test_*.py"))
        for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    }


def schema(name: str) -> Callable[[], str]:
    """What writes the JSON Schema of a command's answer."""
    return lambda: orjson.dumps(answers.schema(name), option=orjson.OPT_INDENT_2).decode() + "\n"


_STANDINGS = {
    "met": "Tidegate does it",
    "partly": "with the limit that is named",
    "plant": "the machine, its system or the plant's network does it",
    "no subject": "there is nothing here that it could be asked of",
    "open": "it is asked for, and not there",
}

PAGES: dict[str, Callable[[], str]] = {
    "requirements.md": requirements_page,
    "reference/events.md": events,
    "reference/metrics.md": metrics,
    "reference/status-codes.md": status_codes,
    "reference/error-codes.md": error_codes,
    "reference/commands.md": commands,
    "reference/json.md": json_page,
    "reference/iec-62443-4-2.md": iec_62443_4_2,
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
