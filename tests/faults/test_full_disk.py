"""A real file system that is full, in a mount namespace of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

_FILL = """
import json, sys
from dataclasses import dataclass
from pathlib import Path
from edge.buffer import BufferLimits, PosixDisk, Reader, Store

@dataclass
class Stored:
    epoch: bytes
    seq: int
    data: bytes

now_ns = 0
directory = Path(sys.argv[1])
filler = directory.parent / "filler"
limits = BufferLimits(segment_bytes=65_536, reserve_bytes=0)

def commit(store, seq):
    store.append([Stored(b"01234567", seq, bytes(1000))])
    return store.commit()

def fill():
    try:
        with filler.open("wb", buffering=0) as file:
            while file.write(bytes(4096)) == 4096:
                pass
    except OSError:
        pass

directory.mkdir()
fill()
store = Store(PosixDisk(directory), limits, lambda: now_ns)
outcome = {"full at the start": [commit(store, seq) for seq in range(3)]}
filler.unlink()
now_ns += 10**9
outcome["space at last"] = commit(store, 3)
fill()
seq = 4
while commit(store, seq):
    seq += 1
outcome["full while running"] = store.is_in_memory
filler.unlink()
now_ns += 10**9
outcome["space again"] = commit(store, seq + 1)
store.close()
reader, number, numbers = Reader(PosixDisk(directory)), 0, []
while found := reader.read(number, 1 << 20):
    numbers += [number for number, _ in found]
    number = found[-1][0] + 1
outcome["all there"] = numbers == list(range(seq + 2))
print(json.dumps(outcome))
"""


def test_a_real_disk_that_is_full_is_waited_for_and_nothing_is_lost(tmp_path: Path) -> None:
    mount = f'mount -t tmpfs -o size=400k tidegate-test {tmp_path} && exec {sys.executable} -c "$0" {tmp_path}/buffer'

    ran = subprocess.run(["unshare", "--mount", "sh", "-c", mount, _FILL], capture_output=True, text=True, check=False)

    assert ran.returncode == 0, ran.stderr
    assert json.loads(ran.stdout) == {
        "full at the start": [False, False, False],
        "space at last": True,
        "full while running": True,
        "space again": True,
        "all there": True,
    }
