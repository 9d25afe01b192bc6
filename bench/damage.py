"""R7: every 4 KiB of a buffer overwritten in turn: `python -m bench.damage`.

Each block of each file (segments, mark, cursor, declared, reserve, spare) is overwritten with zeros, noise, or with
what looks like frames, and the buffer is started on it. `--processes 20` does so at random to gateways that are killed.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path

from bench.results import Row, store
from tests.faults.gateway.process_damage import damage_at_random
from tests.faults.gateway.site_under_test import sites
from tests.support.damaged_buffer import DamagedBuffer


def main() -> None:
    """Damage, start, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=8_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=0, help="gateways to kill and start, in place of the buffer")
    options = parser.parse_args()
    if options.processes:
        _damage_processes(options.processes, options.seed)
        return
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


def _damage_processes(rounds: int, seed: int) -> None:
    with tempfile.TemporaryDirectory(prefix="damage-") as place, contextmanager(sites)(Path(place)) as site:
        outcome = damage_at_random(site, rounds, seed)
    print(*outcome.hit, *outcome.findings or ["nothing found"], sep="\n")
    account = outcome.account
    if outcome.findings or account is None:
        raise SystemExit(1)
    store([
        Row(figure="R7 damage under the process", goal="each start succeeds, every value is archived or declared",
            command=f"python -m bench.damage --processes {rounds} --seed {seed}",
            measured=f"{rounds} kills, each with 4 KiB overwritten: every start succeeded, {outcome.declared} records "
            f"declared lost; of {account.served:,} values {account.kept:,} archived, {account.in_gaps:,} in declared "
            "gaps and losses"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
