"""lock_for.py LOCK PYTHON MACHINE [WITHOUT]: what counts of a lock file for that Python on Linux on that machine.

pip evaluates markers for the Python it runs on, also when it downloads for another. WITHOUT is a lock to leave out.
"""

import re
import sys
from pathlib import Path

from packaging.markers import Marker

lock, python, machine, *without = sys.argv[1:]
target = {
    "implementation_name": "cpython", "platform_machine": machine, "platform_python_implementation": "CPython",
    "platform_system": "Linux", "python_full_version": f"{python}.0", "python_version": python, "sys_platform": "linux",
}  # fmt: skip


def entries(path: str) -> dict[str, str]:
    """Each pinned version, with its hashes."""
    counted = {}
    for entry in re.split(r"^(?=\w)", Path(path).read_text(), flags=re.MULTILINE)[1:]:
        head, _, hashes = entry.partition(" \\\n")
        pinned, _, marker = head.partition(" ; ")
        if not marker or Marker(marker).evaluate(target):
            counted[pinned] = hashes
    return counted


left_out = {pinned for path in without for pinned in entries(path)}
for pinned, hashes in entries(lock).items():
    if pinned not in left_out:
        sys.stdout.write(f"{pinned} \\\n{hashes}")
