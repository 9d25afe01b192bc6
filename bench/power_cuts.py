"""Power cuts under the real gateway and relay: `python -m bench.power_cuts --cuts 200`.

Their disks forget what was not synced. Sites of 25 cuts each, gateways of one and of two processes by turns; one cut in
five hits the first start of a new gateway. `--seed` throws the dice of an earlier run again; what a process was doing
at that operation is up to the machine.
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
from tests.faults.gateway.power_cuts import FirstStarts, Outcome, PowerCuts
from tests.faults.gateway.site_under_test import sites

_CUTS_PER_SITE = 25


def main() -> None:
    """Cut, account, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cuts", type=int, default=200)
    parser.add_argument("--seed", type=int, default=randbelow(10**6))
    options = parser.parse_args()
    command = f"python -m bench.power_cuts --cuts {options.cuts} --seed {options.seed}"
    print(command, flush=True)
    began_s = time.monotonic()
    total, seed, served, in_gaps = Outcome(), options.seed, 0, 0
    while total.cuts.total() < options.cuts:
        first = total.cuts.total() % (5 * _CUTS_PER_SITE) == 4 * _CUTS_PER_SITE
        count = min(_CUTS_PER_SITE, options.cuts - total.cuts.total())
        directory = Path(tempfile.mkdtemp(prefix="power-cuts-"))
        with contextmanager(sites)(directory) as site:
            outcome = (FirstStarts if first else PowerCuts)(site, seed).run(count)
        print(f"seed {seed}: {total.cuts.total() + count} cuts, {outcome.findings or 'nothing found'}", flush=True)
        served += sum(account.served for account in outcome.accounts.values())
        in_gaps += sum(account.in_gaps for account in outcome.accounts.values())
        total.add(outcome)
        if outcome.findings:
            raise SystemExit(f"{outcome.text()}\nwhat was written is kept in {directory}")
        shutil.rmtree(directory)
        seed += 1
    print(f"{total.text()}\n{time.monotonic() - began_s:.0f} s")
    store([
        Row(figure="R1 power cuts", goal="nothing durable lost, no fork, each value archived or in a gap",
            command=command, measured=f"{total.power_cuts} cuts and {total.cuts.total() - total.power_cuts} kills: "
            f"{served:,} values served, {in_gaps:,} in declared gaps, 0 lost, 0 twice; of {total.durable:,} records "
            "durable in the moment of a cut 0 lost; 0 forks, 0 new chains"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
