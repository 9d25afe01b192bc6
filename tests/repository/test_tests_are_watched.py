"""The rules of tests/conftest.py, tried on tests that break them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

SLEEPS_IN_THE_LOOP = """
import time
source = '''
def doze():
    try:
        time.sleep(0)
    except Exception:
        pass
'''
namespace = {{"time": time}}
exec(compile(source, {ours!r}, "exec"), namespace)
async def test_it():
    namespace["doze"]()
"""
LEAVES_A_SOCKET = """
import socket
def test_it():
    socket.socket()
"""
LEAVES_A_THREAD = """
import threading
def test_it():
    threading.Thread(target=threading.Event().wait, name="forgotten", daemon=True).start()
"""
WAITS_FOR_EVER = """
import asyncio, pytest
@pytest.mark.timeout(2)
async def test_it():
    await asyncio.Event().wait()
"""
CANNOT_BE_ENDED = """
import asyncio, pytest
async def never_ends():
    while True:
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            pass
@pytest.mark.timeout(2)
async def test_it():
    await never_ends()
"""
DOES_NOTHING_WRONG = """
import asyncio, time
async def test_it():
    await asyncio.sleep(0)
    time.sleep(0)
"""


def run_pytest(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    """Runs one test module under our conftest."""
    (folder / "conftest.py").write_text((ROOT / "tests/conftest.py").read_text())
    (folder / "test_rule.py").write_text(body)
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        str(ROOT / "pyproject.toml"),
        "--rootdir",
        str(folder),
        str(folder),
    ]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("PYTEST_")}
    return subprocess.run(
        [*command, "-p", "no:cacheprovider"], check=False, capture_output=True, text=True, cwd=folder, env=inherited
    )


def test_an_async_test_runs_on_both_loops(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, DOES_NOTHING_WRONG)

    assert result.returncode == 0, result.stdout
    assert "2 passed" in result.stdout


@pytest.mark.parametrize(
    ("body", "told"),
    [
        pytest.param(SLEEPS_IN_THE_LOOP.format(ours=str(ROOT / "edge/model.py")), "time.sleep", id="blocking call"),
        pytest.param(LEAVES_A_SOCKET, "ResourceWarning", id="socket"),
        pytest.param(LEAVES_A_THREAD, "thread forgotten was left running", id="thread"),
    ],
)
def test_a_test_that_breaks_a_house_rule_fails(tmp_path: Path, body: str, told: str) -> None:
    result = run_pytest(tmp_path, body)

    assert result.returncode == 1, result.stdout
    assert told in result.stdout


def test_a_timeout_ends_a_test_on_either_loop(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, WAITS_FOR_EVER)

    assert result.returncode == 1, result.stdout
    assert "2 failed" in result.stdout
    assert result.stdout.count("Failed: Timeout (>2.0s) from pytest-timeout.") >= 2


def test_a_test_that_cannot_be_ended_ends_its_process_and_says_where_it_stood(tmp_path: Path) -> None:
    result = run_pytest(tmp_path, CANNOT_BE_ENDED)

    assert result.returncode == 1, result.stdout
    assert "passed" not in result.stdout
    assert "failed in" not in result.stdout  # the process ended before pytest could sum up
    assert "Timeout (0:00:04)!" in result.stderr
    assert "run_until_complete" in result.stderr
