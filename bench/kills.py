"""R2: kill gateway roles, relay and broker at random moments: `python -m bench.kills --kills 300`.

What the devices served and the archive does not hold, exactly once or as a declared gap, is printed, and the directory
with everything that was written is kept. `--seed` plays the victims and pauses of an earlier run again.
"""

from __future__ import annotations

import argparse
import shutil
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from secrets import randbelow

from bench.results import Row, store
from tests.faults.gateway.kill_loop import KillLoop
from tests.faults.gateway.site_under_test import sites


def main() -> None:
    """Kill, account, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=300)
    parser.add_argument("--seed", type=int, default=randbelow(10**6))
    options = parser.parse_args()
    command = f"python -m bench.kills --kills {options.kills} --seed {options.seed}"
    print(command, flush=True)
    directory = Path(tempfile.mkdtemp(prefix="kills-"))
    began_s = time.monotonic()
    with contextmanager(sites)(directory) as site:
        outcome = KillLoop(site, options.seed).run(options.kills)
    print(f"{outcome.text()}\n{time.monotonic() - began_s:.0f} s")
    if outcome.findings:
        raise SystemExit(f"what was written is kept in {directory}")
    shutil.rmtree(directory)
    served = sum(account.served for account in outcome.accounts.values())
    in_gaps = sum(account.in_gaps for account in outcome.accounts.values())
    starting = sum(count for (_, phase), count in outcome.kills.items() if phase == "starting")
    store([
        Row(figure="R2 kills", goal="each value archived once, or in a declared gap", command=command,
            measured=f"{outcome.kills.total()} kills, {starting} of them while starting: {served:,} values served, "
            f"{in_gaps:,} in declared gaps, 0 lost, 0 twice, 0 invented"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
