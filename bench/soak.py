"""R10: a gateway for hours while devices, broker and relay fail at random: `python -m bench.soak --hours 8`.

Every scan that was due was done, skipped or failed; every value that a device served is archived, or lies in a gap that
is on record. Of an hour and more, memory and open files must not have grown either.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from secrets import randbelow

from bench.results import Row, store
from tests.faults.gateway.site_under_test import sites
from tests.faults.gateway.soak import Soak, soak

_GROWTH_MAX = 0.02


def main() -> None:
    """Soak, account, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hours", type=float, default=8)
    parser.add_argument("--seed", type=int, default=randbelow(10**6))
    options = parser.parse_args()
    command = f"python -m bench.soak --hours {options.hours:g} --seed {options.seed}"
    print(command, flush=True)
    directory = Path(tempfile.mkdtemp(prefix="soak-", dir="/var/tmp"))
    with contextmanager(sites)(directory) as site:
        outcome = soak(site, options.hours * 3600, options.seed, every="100 ms")
    print(text(outcome))
    if outcome.findings:
        raise SystemExit(f"what was written is kept in {directory}")
    shutil.rmtree(directory)
    due, done, skipped, failed = (
        sum(getattr(scans, each) for scans in outcome.scans.values()) for each in ("due", "done", "skipped", "failed")
    )
    served, kept, in_gaps = (
        sum(getattr(account, each) for account in outcome.accounts.values()) for each in ("served", "kept", "in_gaps")
    )
    store([
        Row(figure=f"R10 soak, {options.hours:g} h", command=command,
            goal="every scan and value accounted for; memory grows <= 2 %, open files do not",
            measured=f"{outcome.faults.total()} faults: {due:,} scans due = {done:,} done + {skipped:,} skipped + "
            f"{failed:,} failed; {served:,} values served = {kept:,} archived + {in_gaps:,} in gaps; memory "
            f"{outcome.growth:+.1%}, open files {outcome.more_files:+d}"),
    ])  # fmt: skip
    if options.hours >= 1 and (outcome.growth > _GROWTH_MAX or outcome.more_files > 0):
        raise SystemExit("memory or open files have grown")


def text(outcome: Soak) -> str:
    """The outcome for people."""
    lines = [f"{count:5} x {name}" for name, count in sorted(outcome.faults.items())]
    for name, account in outcome.accounts.items():
        lines.append(f"{name:7} {outcome.scans[name]}; {account.served:,} served, {account.kept:,} archived, "
                     f"{account.in_gaps:,} in gaps")  # fmt: skip
    lines.append(f"memory {outcome.growth:+.1%}, open files {outcome.more_files:+d}, {outcome.losses} losses declared")
    return "\n".join([*lines, *(f"FOUND   {each}" for each in outcome.findings or ["nothing"])])


if __name__ == "__main__":
    main()
