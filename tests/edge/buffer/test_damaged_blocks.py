"""R7: any 4 KiB of any file of a buffer may be overwritten."""

from __future__ import annotations

from pathlib import Path
from random import Random

from tests.support.damaged_buffer import DamagedBuffer

RECORDS, BLOCKS, SEED = 900, 24, 3


def test_any_block_of_any_file_may_be_overwritten(tmp_path: Path) -> None:
    """A sample, and a block of each file; `python -m bench.damage` overwrites every one."""
    buffer = DamagedBuffer(tmp_path, RECORDS, SEED)
    blocks = buffer.blocks()
    of_each_file = {name: (name, offset) for name, offset in blocks}.values()

    problems = {
        block: buffer.problem_after_damage(*block)
        for block in {*of_each_file, *Random(SEED).sample(blocks, BLOCKS)}
    }  # fmt: skip

    assert {"cursor", "declared", "mark", "reserve", "spare"} < {name for name, _ in problems}
    assert {block: problem for block, problem in problems.items() if problem} == {}
