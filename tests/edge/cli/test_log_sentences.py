"""What a person at a terminal reads of a log line."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.cli.log_sentences import _SENTENCES, log_sentence
from edge.relay.completeness import Missing

ROOT = Path(__file__).parents[3]
NUMBERS = {"count", "seq", "first", "last", "records", "files"}


def lines_of_code() -> Iterator[tuple[str, set[str]]]:
    """Each event that the code logs, with the names of its data."""
    for path in sorted((ROOT / "edge").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.args):
                continue
            is_log = isinstance(node.func.value, ast.Name) and node.func.value.id == "log"
            if is_log and isinstance(node.args[0], ast.Constant):
                event, names = str(node.args[0].value), {each.arg for each in node.keywords if each.arg}
                has_more = event.startswith("records ") and any(each.arg is None for each in node.keywords)
                yield event, names | (set(Missing._fields) if has_more else set())


LINES = [(event, names) for event, names in lines_of_code() if event in _SENTENCES]


@pytest.mark.parametrize(("event", "names"), LINES, ids=[event for event, _ in LINES])
def test_each_sentence_says_what_its_line_has(event: str, names: set[str]) -> None:
    """Also that no sentence asks for what its line does not have."""
    data = {name: 7 if name in NUMBERS else f"the {name}" for name in names}

    said = _SENTENCES[event](data)

    left_out = {name for name in names - NUMBERS if f"the {name}" not in said}
    assert left_out <= {"state", "retry_s", "is_declared", "revocation_lists", "dropped_values"}


def test_no_sentence_is_for_a_line_that_nothing_logs() -> None:
    logged = {event for event, _ in lines_of_code()}

    assert {event for event in _SENTENCES if event not in logged} <= {
        "record altered", "record untrusted", "record fork", "record garbage", "more records missing",
        "more records no longer missing", "more records lost", "export",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("event", "data", "said"),
    [
        ("device.down", {"subject": "plc", "reason": "connection closed (port 502)"},
         "plc does not answer: connection closed (port 502)"),
        ("device.down", {"subject": "plc", "reason": "no answer", "code": "TG-D02"},
         "plc does not answer: no answer (TG-D02)"),
        ("device.address", {"subject": "plc", "group": "fast", "tags": "spare, x", "count": 2},
         "plc does not have the address of 2 tags of scan group fast (spare, x)"),
        ("uplink.no_subscriber", {"topic": "tidegate/v1/line-4/r/data", "reason_code": 16},
         "Nobody subscribes to tidegate/v1/line-4/r/data: its records stay in the buffer"),
        ("records missing", {"issuer": "urn:tidegate:line-4", "epoch": "ab12", "first": 3, "last": 9,
                             "remedy": "on the gateway: resend"},
         "line-4: 7 records (3 to 9 of chain ab12) missing; if they do not come, on the gateway: resend"),
        ("record altered", {"issuer": "urn:tidegate:line-4", "epoch": "ab12", "seq": 3, "reason": "its bytes changed",
                            "topic": "t", "count": 1},
         "An altered record was refused: line-4, record 3 of chain ab12: its bytes changed (1 so far)"),
        ("more records missing", {"issuer": "urn:tidegate:line-4", "ranges": 1_200, "records": 3_400},
         "line-4: 3,400 records in 1,200 more ranges missing; they may still be on their way"),
        ("running", {"gateway": "line-4"}, "running (gateway line-4)"),  # It lacks its role, and is still a line.
        ("something new", {"reason": "why"}, "something new: why"),
    ],
)  # fmt: skip
def test_a_line_is_a_sentence(event: str, data: dict[str, object], said: str) -> None:
    assert log_sentence(event, data) == said
