"""What happened to the buffer while the gateway was off is found at the next start, and put on record."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.buffer.frame import HEADER, decode, encode
from edge.seal import Epoch, LossReason, parse
from tests.faults.gateway.process_damage import damage_at_random
from tests.faults.gateway.site_under_test import Site

PAGE = 4096


def newest(site: Site) -> Path:
    return max(site.buffer.glob("*.seg"))


def ends(path: Path) -> list[int]:
    """Where each frame of a segment begins, and where the last one ends."""
    image, epoch = path.read_bytes(), bytes.fromhex(path.stem.split("-")[1])
    found = [0]
    while frame := decode(image, found[-1], epoch):
        found.append(frame.end)
    return found


def overwrite(path: Path, at: int, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        file.write(data)


@pytest.mark.requirement("REQ-BUF-04")
@pytest.mark.parametrize("is_killed", [False, True], ids=["stopped", "killed"])
def test_a_damaged_page_becomes_a_loss_of_exactly_what_it_held(site: Site, is_killed: bool) -> None:
    site.add_counter("mixer")
    first = site.gateway("acquire")
    site.wait_for_scans(150)
    first.kill() if is_killed else first.stop()
    path = newest(site)
    before, places = site.buffered(), ends(path)
    middle = places[-1] // 2
    overwrite(path, middle, bytes(PAGE))
    hit = {number for number, at in enumerate(places[:-1]) if at < middle + PAGE and places[number + 1] > middle}

    site.mosquitto()
    site.relay()
    second = site.gateway()
    site.wait_for_status(lambda status: status.buffer.corrupt_records == len(hit), "the damage to be found")
    told = site.stop_and_archive(second)

    [loss] = told.losses
    assert (loss.first, loss.last) == (min(hit), max(hit))
    assert (loss.records, loss.reason) == (len(hit), LossReason.CORRUPT)
    assert loss.hash_of_last == parse(before[max(hit) + 1]).prev
    assert set(before) - set(site.archived()) == {before[number] for number in hit}
    [event] = told.events("buffer.corrupt")
    assert (event.data["first_seq"], event.data["last_seq"]) == (min(hit), max(hit))
    [epoch] = site.verify(site.archive, "--admit", "declared_lost")["epochs"]
    assert epoch["absent"] == [["DECLARED_LOST", min(hit), max(hit)]]


def test_a_torn_tail_is_cut_and_the_chain_goes_on(site: Site) -> None:
    site.add_counter("mixer")
    first = site.gateway("acquire")
    site.wait_for_scans()
    first.kill()
    (site.buffer / "mark").unlink()  # As after a power cut: nobody has been told of the last frame.
    path = newest(site)
    places = ends(path)
    whole = places[-2]
    overwrite(path, whole + HEADER.size + 20, bytes(places[-1] - whole))

    second = site.gateway("acquire")
    site.wait_for_scans()
    assert second.stop() == 0

    report = site.verify(site.buffer)
    [epoch] = report["epochs"]
    assert epoch["tail"] == "CLOSED"
    assert len(site.told(site.buffered()).gaps(None)) == 1


def test_a_tail_that_somebody_forged_is_not_extended(site: Site) -> None:
    """A frame that is whole and a record that is not ours: a new chain begins, names the old one, and says why."""
    site.add_counter("mixer")
    first = site.gateway("acquire")
    site.wait_for_scans()
    first.kill()
    path = newest(site)
    start = ends(path)[-2]
    frame = decode(path.read_bytes(), start, bytes.fromhex(path.stem.split("-")[1]))
    assert frame is not None
    forged = frame.data[:-1] + bytes([frame.data[-1] ^ 1])
    overwrite(path, start, encode(parse(frame.data).epoch, frame.seq, forged))

    site.mosquitto()
    site.relay()
    second = site.gateway()
    site.wait_for_scans()
    told = site.stop_and_archive(second, without=[forged])

    assert forged not in site.archived()
    epochs = told.all(Epoch)
    assert [epoch.previous is None for epoch in epochs] == [True, False]
    assert epochs[1].previous is not None
    assert (epochs[1].previous.epoch, epochs[1].previous.seq) == (parse(frame.data).epoch, frame.seq)
    [event] = told.events("chain.new")
    assert "is not signed by this gateway" in str(event.data["reason"])
    assert second.said("chain.new")[0]["level"] == "error"
    site.assert_accounted_for(told, "mixer")
    report = site.verify(site.archive, is_fine=False)
    assert [epoch["absent"] for epoch in report["epochs"]] == [[["TRUNCATED", frame.seq, frame.seq]], []]


def test_4_kib_that_are_overwritten_anywhere_cost_what_is_declared(site: Site) -> None:
    """`python -m bench.damage --processes` in short."""
    outcome = damage_at_random(site, rounds=2, seed=1)

    assert outcome.findings == [], outcome
