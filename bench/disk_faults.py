"""R6: every fault of a disk, under a running gateway and relay: `python -m bench.disk_faults`.

Printed is how long after its disk works again each says that records are on it.
"""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path

from bench.results import Row, store
from tests.faults.gateway.disk_faults import DiskFaults
from tests.faults.gateway.site_under_test import sites


def main() -> None:
    """Fail, heal, account, and store the row."""
    with tempfile.TemporaryDirectory(prefix="disk-faults-") as place, contextmanager(sites)(Path(place)) as site:
        outcome = DiskFaults(site).run()
    print(outcome.text())
    account = outcome.account
    if outcome.findings or account is None:
        raise SystemExit(1)
    gateway, relay = (max(each) for each in zip(*outcome.recovered_s.values(), strict=True))
    store([
        Row(figure="R6 disk faults", goal="stays up, nothing undeclared, on disk again <= 5 s after it works",
            command="python -m bench.disk_faults", measured=f"{', '.join(outcome.recovered_s)}: gateway on disk again "
            f"within {gateway:.1f} s, relay within {relay:.1f} s; of {account.served:,} values 0 lost, 0 twice, "
            "no restart"),
    ])  # fmt: skip


if __name__ == "__main__":
    main()
