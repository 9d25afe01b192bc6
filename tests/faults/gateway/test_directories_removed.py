"""Somebody removes the directory of a running gateway, and that of a running relay."""

from __future__ import annotations

import shutil
from pathlib import Path

from click.testing import CliRunner

from edge.cli import cli
from tests.faults.gateway.site_under_test import Site


def remove(directory: Path) -> None:
    """At once, before its owner makes it again."""
    away = directory.with_suffix(".away")
    directory.rename(away)
    shutil.rmtree(away)


def test_a_gateway_whose_buffer_is_removed_reads_on_and_declares_what_went_with_it(site: Site) -> None:
    site.add_counter("mixer")
    broker = site.mosquitto()
    site.relay()
    gateway = site.gateway()
    site.wait(lambda: len(site.archived()) > 20, "the relay to archive")
    broker.kill()
    site.wait_for_scans(30)  # These are nowhere else.

    remove(site.buffer)

    site.wait(lambda: any(site.buffer.glob("*.seg")), "a new segment")
    lost = site.wait_for_status(lambda status: status.buffer.corrupt_records, "the loss").buffer.corrupt_records
    site.mosquitto()
    site.wait_for_scans()
    told = site.stop_and_archive(gateway)
    assert sum(loss.records for loss in told.losses) == lost
    assert told.events("buffer.corrupt")
    site.assert_accounted_for(told, "mixer")
    [epoch] = site.verify(site.archive, "--admit", "declared_lost")["epochs"]
    assert epoch["tail"] == "CLOSED"


def test_a_relay_whose_archive_is_removed_acknowledges_nothing_more_and_begins_again(site: Site) -> None:
    """Its unit starts it again: what it knew is in no file, and what is missing has to be said."""
    site.add_counter("mixer")
    site.mosquitto()
    relay = site.relay()
    gateway = site.gateway()
    site.wait(lambda: len(site.archived()) > 20, "the relay to archive")

    remove(site.archive)

    assert relay.wait() == 1
    [line] = relay.said("archive removed")
    assert "tidegate resend" in line["reason"]
    assert "Traceback" not in relay.log()
    site.relay()
    asked = CliRunner().invoke(cli, ["resend", str(site.buffer), "--from", "0"])
    assert asked.exit_code == 0, asked.output
    taken = set(site.buffered())
    site.wait(lambda: taken <= set(site.archived()), "what was asked for")
    site.assert_accounted_for(site.stop_and_archive(gateway), "mixer")
    assert site.verify(site.archive)["is_wholly_authentic"]
