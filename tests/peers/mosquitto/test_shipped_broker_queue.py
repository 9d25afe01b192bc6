"""The shipped broker while a relay is away; `python -m bench.broker` is the long form, with rates.

What it writes is compared with what it was given: that does not depend on how fast this machine is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.uplink import BrokerAccess, Delivery
from tests.support.broker_load import RECORD_BYTES, QueueAtBroker
from tests.support.dmz import ROOT, Dmz

QUEUED = 5_000
MORE = 500


@pytest.fixture
def queue(tmp_path: Path) -> Iterator[QueueAtBroker]:
    with Dmz(tmp_path) as dmz:
        yield QueueAtBroker(dmz)


def test_what_the_broker_writes_for_a_record_does_not_grow_with_the_queue(queue: QueueAtBroker) -> None:
    """Saving the whole queue at every change brings a broker to a stand when a relay is away."""
    queue.publish(QUEUED)

    more = queue.publish(MORE)

    saved_by_the_way = 2 * (QUEUED + MORE) * RECORD_BYTES
    assert more.written_bytes < saved_by_the_way + MORE * RECORD_BYTES


def test_a_save_costs_as_much_as_what_waits_and_a_killed_broker_has_it(queue: QueueAtBroker) -> None:
    """The gateway's connection outlives the save, and what was acknowledged before it is there after a kill."""
    queue.publish(QUEUED)

    during = queue.save(MORE)
    queue.restart_broker()
    relay = queue.fetch(QUEUED)

    assert relay.wait() == 0
    assert during.written_bytes < 3 * (QUEUED + MORE) * RECORD_BYTES  # Another save may have come by itself.


def test_the_resend_window_covers_the_interval_and_a_save_of_the_shipped_broker() -> None:
    """A save that is longer than the keep-alive would end the connection anyway."""
    shipped = (ROOT / "configs/dmz/mosquitto.conf").read_text()
    interval_s = int(re.findall(r"^autosave_interval (\d+)$", shipped, re.MULTILINE)[0])
    longest_save_s = BrokerAccess(host="", port=0, client_id="").keep_alive_s

    assert Delivery(gateway="line-4").resend_window_ns >= (interval_s + longest_save_s) * 10**9
