"""A gateway that is killed, of whose buffer 4 KiB are overwritten, and that starts again; over and over."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from pathlib import Path

from edge.verify import Verdict
from tests.faults.gateway.site_under_test import Account, Site

BLOCK_BYTES = 4096
_DEVICE = "mixer"


@dataclass(kw_only=True)
class ProcessDamage:
    """Which blocks were overwritten, how many records of it were declared lost, and what should not be."""

    hit: list[str] = field(default_factory=list)
    declared: int = 0
    account: Account | None = None
    findings: list[str] = field(default_factory=list)


def damage_at_random(site: Site, rounds: int, seed: int) -> ProcessDamage:
    """Kill, overwrite, start; in the end deliver and account for every value."""
    outcome, dice = ProcessDamage(), random.Random(seed)
    site.add_counter(_DEVICE)
    site.settings["seal"] = {"checkpoint": "1 s"}  # Of what comes before the first one nobody can vouch without EPOCH.
    for _ in range(rounds):
        gateway = site.gateway("acquire")
        site.wait_for_scans(100)
        gateway.kill()
        outcome.hit.append(_overwrite(dice, site.buffer))
    site.mosquitto()
    site.relay()
    gateway = site.gateway()
    site.wait_for_scans()
    site.stop_and_archive(gateway)
    told = site.told(site.archived(), (Verdict.AUTHENTIC, Verdict.LINKED))  # Of a key that is lost the next one tells.
    outcome.account = site.account(told, _DEVICE)
    outcome.findings += outcome.account.findings()
    outcome.declared = sum(loss.records for loss in told.losses)
    report = site.verify(site.archive, "--admit", "declared_lost,linked")
    absent = {kind for epoch in report["epochs"] for kind, *_ in epoch["absent"]}
    if absent - {"DECLARED_LOST"}:
        outcome.findings.append(f"absent from the archive are {absent}")
    return outcome


def _overwrite(dice: random.Random, folder: Path) -> str:
    """Overwrite a block of a file, of a segment one that holds records."""
    names = ("mark", "cursor", "declared", "reserve")
    files = [*folder.glob("*.seg")] * 3 + [folder / name for name in names if (folder / name).exists()]
    path = dice.choice(sorted(files))
    data = path.read_bytes()
    used = len(data.rstrip(b"\0")) if path.suffix == ".seg" else len(data)
    at = dice.randrange(0, max(1, used), BLOCK_BYTES)
    length = min(BLOCK_BYTES, len(data) - at)
    with path.open("r+b") as file:
        file.seek(at)
        file.write(dice.choice([bytes(length), (b"REC1" * BLOCK_BYTES)[:length], dice.randbytes(length)]))
    return f"{path.name} at {at:,}"
