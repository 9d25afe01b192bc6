"""Runs a command under the system-call filter of the shipped units: `python -m tests.support.system_call_filter ...`.

What the filter refuses fails with EPERM, in the command and in all that it starts, as in the service.
"""

from __future__ import annotations

import ctypes
import os
import re
import subprocess
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path

UNIT = Path(__file__).parents[2] / "systemd/tidegate.service"
_ALLOW, _REFUSE_EPERM = 0x7FFF0000, 0x00050001  # SCMP_ACT_ALLOW, SCMP_ACT_ERRNO(EPERM)
_UNKNOWN = -1  # __NR_SCMP_ERROR


def groups() -> dict[str, list[str]]:
    """The members of each of systemd's groups; a group may have groups in it."""
    said = subprocess.run(["systemd-analyze", "syscall-filter"], check=True, capture_output=True, text=True).stdout
    found: dict[str, list[str]] = {}
    for line in said.splitlines():
        if line.startswith("@"):
            members = found[line.strip()] = []
        elif line.startswith("    ") and "#" not in line:
            members.append(line.strip())
    return found


def allowed(unit: str) -> frozenset[str]:
    """The system calls that the text of a unit allows; what is allowed comes first in it."""
    assert "\nSystemCallErrorNumber=EPERM\n" in unit
    known = groups()

    def expand(names: Iterable[str]) -> set[str]:
        return {call for name in names for call in (expand(known[name]) if name.startswith("@") else [name])}

    calls = expand(["@default"])  # systemd always adds these.
    for inverted, named in re.findall(r"^SystemCallFilter=(~?)(.*)$", unit, re.MULTILINE):
        calls = calls - expand(named.split()) if inverted else calls | expand(named.split())
    return frozenset(calls)


@cache
def under_the_filter() -> tuple[str, ...]:
    """What to put before a command; it finds out once which calls are allowed."""
    return sys.executable, "-I", "-S", __file__, "--calls", ",".join(sorted(allowed(UNIT.read_text())))


def install(calls: Iterable[str]) -> None:
    """Refuse every other system call to this process from here on."""
    library = ctypes.CDLL("libseccomp.so.2", use_errno=True)
    library.seccomp_init.restype = ctypes.c_void_p
    context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(_REFUSE_EPERM)))
    for name in calls:
        number = library.seccomp_syscall_resolve_name(name.encode())
        if number != _UNKNOWN:
            # One that this architecture lacks is refused by libseccomp, which is no loss.
            library.seccomp_rule_add(context, ctypes.c_uint32(_ALLOW), number, 0)
    failed = library.seccomp_load(context)
    assert failed == 0, f"the filter cannot be installed: {os.strerror(-failed)}"


def main(arguments: list[str]) -> None:
    """Become the command, under the filter."""
    if arguments[0] == "--calls":
        calls, command = arguments[1].split(","), arguments[2:]
    else:
        calls, command = sorted(allowed(UNIT.read_text())), arguments
    install(calls)
    os.execvp(command[0], command)


if __name__ == "__main__":
    main(sys.argv[1:])
