"""Invented gateways take memory for undecided records only, and are forgotten with them."""

from __future__ import annotations

from edge.verify import Verdict, Verifier
from tests.support.chains import grow, start


def test_chains_that_were_invented_are_forgotten_with_their_last_record() -> None:
    honest = grow(start(), 10)
    verifier = Verifier(honest.trust, pending_bytes=2_000)
    for number in range(50):
        plant = grow(start(f"invented-{number}"), 2)
        verifier.add(plant.records[1].data)
    for record in honest.records:
        verifier.add(record.data)

    assert len(verifier._chains) <= 10  # Those with undecided records, and the honest one.
    report = verifier.report()
    assert report.unattributed[str(Verdict.UNVERIFIABLE)] >= 40
    assert any(epoch.verdicts["AUTHENTIC"] == len(honest.records) for epoch in report.epochs)


def test_a_known_chain_outlives_the_records_that_waited_for_it() -> None:
    honest = grow(start(), 40)
    verifier = Verifier(honest.trust, pending_bytes=1_000)
    verifier.add(honest.records[0].data)
    for record in honest.records[20:]:
        verifier.add(record.data)

    [epoch] = verifier.report().epochs
    assert epoch.held[0] == (0, 0)
