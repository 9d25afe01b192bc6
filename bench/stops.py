"""R10: stops at random moments, while devices answer around their time limit: `python -m bench.stops --stops 100`.

A device of each protocol counts its answers, also those that come when the gateway has given the question up.
"""

from __future__ import annotations

import argparse
import tempfile
from contextlib import contextmanager
from pathlib import Path
from secrets import randbelow

from bench.results import Row, store
from tests.faults.gateway.site_under_test import sites
from tests.faults.gateway.stops import stop_at_random


def main() -> None:
    """Stop, account, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stops", type=int, default=100)
    parser.add_argument("--seed", type=int, default=randbelow(10**6))
    options = parser.parse_args()
    command = f"python -m bench.stops --stops {options.stops} --seed {options.seed}"
    print(command, flush=True)
    with tempfile.TemporaryDirectory(prefix="stops-") as place, contextmanager(sites)(Path(place)) as site:
        outcome = stop_at_random(site, options.stops, options.seed)
    print(*outcome.findings or ["nothing found"], sep="\n")
    if outcome.findings:
        raise SystemExit(1)
    each = "; ".join(
        f"{name} {one.served:,} served = {one.kept:,} archived + {one.in_gaps:,} in gaps"
        for name, one in outcome.accounts.items()
    )
    store([
        Row(figure="R10 stops and late answers", command=command,
            goal="every value served is archived or in a gap; each stop is sealed and ends in time",
            measured=f"{options.stops} stops, the longest {max(outcome.seconds):.1f} s; {outcome.late} answers after "
            f"their time limit; {each}"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
