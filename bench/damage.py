"""R7: every 4 KiB of a buffer overwritten in turn: `python -m bench.damage`.

Each block of each file (segments, mark, cursor, declared, reserve, spare) is overwritten with zeros, noise, or with
what looks like frames, and the buffer is started on it.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.results import Row, store
from tests.support.damaged_buffer import DamagedBuffer


def main() -> None:
    """Damage, start, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="damage-") as place:
        buffer = DamagedBuffer(Path(place), options.records, options.seed)
        blocks = buffer.blocks()
        for name, offset in blocks:
            if problem := buffer.problem_after_damage(name, offset):
                raise SystemExit(f"{name} at {offset}: {problem}")
    store([
        Row(figure="R7 damage", goal="start succeeds, loss declared exactly, everything else delivered",
            command=f"python -m bench.damage --records {options.records} --seed {options.seed}",
            measured=f"each of {len(blocks):,} blocks of 4 KiB of {len({name for name, _ in blocks})} files: every "
            f"start succeeded; of {buffer.records:,} records each was read back or declared, none was both")
    ])  # fmt: skip


if __name__ == "__main__":
    main()
