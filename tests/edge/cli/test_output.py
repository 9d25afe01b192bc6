"""What scripts rely on: one JSON document on standard output, sentences on standard error, and the exit code."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

TIDEGATE = (sys.executable, "-m", "edge.cli")


def tidegate(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*TIDEGATE, *map(str, arguments)], capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("arguments", "kind", "code"),
    [
        (["verify"], "usage", 2),
        (["verify", "KEY", "--trust", "KEY"], "configuration", 78),
        (["pln"], "usage", 2),
    ],
    ids=lambda value: str(value[0]) if isinstance(value, list) else None,
)
def test_a_failure_is_json_where_json_was_asked_for(tmp_path: Path, arguments: list[str], kind: str, code: int) -> None:
    """A script reads one stream, and finds there why it has no answer."""
    key = tmp_path / "key.pem"
    key.write_text("no key")

    result = tidegate(*(key if word == "KEY" else word for word in arguments), "--json")

    error = json.loads(result.stdout)["error"]
    assert (error["kind"], error["exit_code"], result.returncode) == (kind, code, code)
    assert error["message"] in result.stderr


def test_a_failure_is_a_sentence_where_json_was_not_asked_for() -> None:
    result = tidegate("verify")

    assert (result.stdout, result.returncode) == ("", 2)


def test_whoever_reads_only_the_first_line_sees_no_traceback() -> None:
    """`tidegate schema | head -1` ends as any other program does."""
    process = subprocess.Popen([*TIDEGATE, "schema"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.close()

    _, errors = process.communicate(timeout=60)

    assert errors == b""
    assert process.returncode == -signal.SIGPIPE
