"""R4: connections that end after a few PUBACKs, of which some are lost: `python -m bench.reconnects --cycles 10000`.

A real gateway, whose delays before it connects again are a thousandth of the usual ones, broker and relay. The proxy
between counts how many records go twice, and how many the in-flight and the resend window allow.
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
from tests.faults.gateway.puback_loss import LossyProxy, PubackFilter, lose_pubacks
from tests.faults.gateway.site_under_test import sites


def main() -> None:
    """Lose, account, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=randbelow(10**6))
    parser.add_argument("--pubacks-only", action="store_true", help="lose PUBACKs, and end no connection")
    options = parser.parse_args()
    only = options.pubacks_only
    command = f"python -m bench.reconnects --cycles {options.cycles} --seed {options.seed}" + only * " --pubacks-only"
    print(command, flush=True)
    directory, began_s = Path(tempfile.mkdtemp(prefix="reconnects-")), time.monotonic()
    with contextmanager(sites)(directory) as site:
        proxy, findings = lose_pubacks(site, options.cycles, options.seed, PubackFilter if only else LossyProxy)
    print(*findings or ["nothing found"], f"{time.monotonic() - began_s:.0f} s", sep="\n")
    if findings:
        raise SystemExit(f"what was written is kept in {directory}")
    shutil.rmtree(directory)
    counts = proxy.counts
    windows = "" if only else f", {counts.allowed:,} were allowed"
    store([
        Row(figure="R4 PUBACKs lost on the wire" if only else "R4 connections cut, PUBACKs lost", command=command,
            goal="0 lost, 0 twice in the archive" + "; on the wire twice at most what the windows allow" * (not only),
            measured=f"{counts.cycles:,} connections, {counts.swallowed:,} PUBACKs lost: {len(counts.seen):,} records, "
            f"each once in the archive; {counts.duplicates:,} went twice{windows}"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
