"""The shipped broker while a relay is away: `python -m bench.broker --queued 300000`; about three minutes.

Records wait in the relay's queue; 1,000 a second more are offered until the broker has saved its database three times.
Then the relay returns and takes them all, while the gateway goes on.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from bench.results import Row, store
from edge.uplink import BrokerAccess
from tests.support.broker_load import RECORD_BYTES, Published, QueueAtBroker
from tests.support.dmz import Dmz

_SAVES = 3
_OFFERED = 1_000
_GOAL = 500
_KEEP_ALIVE_S = BrokerAccess(host="", port=0, client_id="").keep_alive_s


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--queued", type=int, default=300_000)
    asked = options.parse_args()
    with tempfile.TemporaryDirectory() as folder, Dmz(Path(folder)) as dmz:
        queue = QueueAtBroker(dmz)
        filled = queue.publish(asked.queued)
        say("filling the queue", filled)
        has_saved = Saves(queue, _SAVES)
        away = go_on(queue, has_saved)
        say("while the relay is away", away)
        relay = queue.fetch(filled.records + away.records)
        back = go_on(queue, lambda: relay.poll() is not None)
        say("while the relay takes it", back)
    pause_s = max(each.longest_pause_s for each in (filled, away, back))
    rate = min(each.records / each.took_s for each in (away, back))
    command = f"python -m bench.broker --queued {asked.queued}"
    store([
        Row(figure=f"Broker, {asked.queued:,} queued: records", goal=f"{_GOAL} a second and more",
            measured=f"{rate:,.0f} a second", command=command),
        Row(figure=f"Broker, {asked.queued:,} queued: longest save", goal=f"below the keep-alive, {_KEEP_ALIVE_S:g} s",
            measured=f"{pause_s:.1f} s", command=command),
    ])  # fmt: skip
    if rate < _GOAL or pause_s >= _KEEP_ALIVE_S:
        raise SystemExit("the goal is not met")


class Saves:
    """Whether the broker has saved its database so often since."""

    def __init__(self, queue: QueueAtBroker, count: int) -> None:
        self._queue, self._left, self._last = queue, count, queue.saves()

    def __call__(self) -> bool:
        last, self._last = self._last, self._queue.saves()
        self._left -= self._last != last
        return self._left <= 0


def go_on(queue: QueueAtBroker, is_done: Callable[[], bool]) -> Published:
    """Offer records at a steady rate until something is so; the time includes the pauses."""
    parts, started_s = [], time.perf_counter()
    while not is_done():
        parts.append(queue.publish(_OFFERED))
        time.sleep(max(0.0, 1 - parts[-1].took_s))
    return Published(
        records=sum(each.records for each in parts),
        took_s=time.perf_counter() - started_s,
        longest_pause_s=max(each.longest_pause_s for each in parts),
        written_bytes=sum(each.written_bytes for each in parts),
    )


def say(what: str, how: Published) -> None:
    """One line."""
    print(
        f"{what}: {how.records:,} records, {how.records / how.took_s:,.0f} a second, longest pause "
        f"{how.longest_pause_s:.1f} s, written {how.written_bytes / (how.records * RECORD_BYTES):.1f} times their size",
        flush=True,
    )


if __name__ == "__main__":
    main()
