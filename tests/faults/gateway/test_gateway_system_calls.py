"""Every gateway and relay of a `Site` runs under the system-call filter of the shipped units."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from tests.faults.gateway.site_under_test import Site
from tests.support.system_call_filter import UNIT, allowed, under_the_filter

_PROGRAM = """
import os
for call in os.getpid, lambda: os.setuid(0), lambda: os.nice(1), lambda: os.chown("/", 0, 0):
    try:
        call()
        print("allowed")
    except OSError as error:
        print(error.errno)
"""


def test_the_filter_of_every_unit_is_the_same() -> None:
    assert len({allowed(path.read_text()) for path in UNIT.parent.glob("*.service")}) == 1


def test_what_needs_a_privilege_is_refused_as_by_systemd_and_in_children_too() -> None:
    program = [*under_the_filter(), "sh", "-c", '"$0" -c "$1"', sys.executable, _PROGRAM]

    result = subprocess.run(program, capture_output=True, text=True, check=True)

    assert result.stdout.split() == ["allowed", "1", "1", "1"]


def test_every_role_runs_under_the_filter(site: Site) -> None:
    site.add_counter("mixer")
    site.mosquitto()
    processes = [site.relay(), site.gateway("acquire"), site.gateway("forward")]

    filters = [re.findall(r"Seccomp:\t(\d)", Path(f"/proc/{each.pid}/status").read_text()) for each in processes]
    site.wait_until_archived()

    assert filters == [["2"]] * 3
