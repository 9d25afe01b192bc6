from __future__ import annotations

import asyncio
from collections.abc import Mapping
from itertools import pairwise

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from edge.gateway.audit import FOLD_NS, FOLDED_LIMIT, Audit, EventKind, Severity, Value

Recorded = tuple[int, str, int, str, Mapping[str, Value]]


class Clock:
    """Stands still until it is moved."""

    now_ns = 10**15

    def boot_ns(self) -> int:
        return self.now_ns

    def utc_ns(self) -> int:
        return self.now_ns

    def steered_ns(self) -> int:
        return 0

    def suspended_ns(self) -> int:
        return 0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def recorded() -> list[Recorded]:
    return []


@pytest.fixture
def audit(clock: Clock, recorded: list[Recorded]) -> Audit:
    return Audit(lambda *event: recorded.append(event), clock)


def test_the_first_of_its_kind_is_recorded_at_once(audit: Audit, recorded: list[Recorded]) -> None:
    audit.event(EventKind.DEVICE_DOWN, "pump-2", reason="no answer")

    assert recorded == [(Clock.now_ns, "device.down", Severity.WARNING, "pump-2", {"reason": "no answer"})]


def test_begins_and_ends_of_batches_are_never_folded(audit: Audit, recorded: list[Recorded]) -> None:
    for kind in (EventKind.BATCH_START, EventKind.BATCH_END) * 3:
        audit.event(kind, "mixer", batch="B-7")

    assert [kind for _, kind, *_ in recorded] == ["batch.start", "batch.end"] * 3


def test_repeats_within_a_minute_become_one_event_with_their_count(
    audit: Audit, clock: Clock, recorded: list[Recorded]
) -> None:
    for attempt in range(5):
        audit.event(EventKind.UPLINK_REFUSED, "broker", code=135, attempt=attempt)
    clock.now_ns += FOLD_NS
    audit.flush()

    assert [data for *_, data in recorded] == [
        {"code": 135, "attempt": 0},
        {"code": 135, "attempt": 4, "count": 4, "span_ns": 0},
    ]


def test_a_folded_event_states_when_it_happened(audit: Audit, clock: Clock, recorded: list[Recorded]) -> None:
    """A device that came back is on record with that time, not with the end of the minute that was folded."""
    began_ns = clock.now_ns
    for second in (0, 5, 12, 36):
        clock.now_ns = began_ns + second * 10**9
        audit.event(EventKind.DEVICE_UP, "pump-1")
    clock.now_ns = began_ns + FOLD_NS
    audit.flush()

    assert [(at_ns - began_ns, data) for at_ns, *_, data in recorded] == [
        (0, {}), (36 * 10**9, {"count": 3, "span_ns": 31 * 10**9}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "name", "values"),
    [
        (EventKind.UPLINK_REFUSED, "reason_code", (0x95, 0x97, 0x83)),
        (EventKind.SCAN_OVERRUN, "group", ("fast", "slow")),
        (EventKind.TIME_STATE, "to", ("holdover", "unsynchronized")),
        (EventKind.BUFFER_HIGH, "percent", (70, 85, 95)),
        (EventKind.BUFFER_MEMORY, "is_in_memory", (True, False)),
    ],
)
def test_what_is_another_thing_to_see_to_is_another_event(
    audit: Audit, recorded: list[Recorded], kind: EventKind, name: str, values: tuple[Value, ...]
) -> None:
    """After "packet too large" a full quota was swallowed for a minute, and the first was put right in vain."""
    with capture_logs() as lines:
        for value in values:
            audit.event(kind, "line-4", **{name: value})

    assert [data[name] for *_, data in recorded] == [line[name] for line in lines] == list(values)


def test_the_log_tells_at_once_what_comes_and_goes_and_the_chain_folds_it(
    audit: Audit, clock: Clock, recorded: list[Recorded]
) -> None:
    """A log that says "down" for a minute after the broker came back sends people to the wrong cabinet."""
    with capture_logs() as lines:
        for _ in range(2):
            audit.event(EventKind.UPLINK_DOWN, "uplink")
            audit.event(EventKind.UPLINK_UP, "uplink")
        clock.now_ns += FOLD_NS
        audit.flush()

    assert [line["event"] for line in lines] == ["uplink.down", "uplink.up"] * 2
    assert [(kind, data.get("count")) for _, kind, _, _, data in recorded] == [
        ("uplink.down", None), ("uplink.up", None), ("uplink.down", 1), ("uplink.up", 1),
    ]  # fmt: skip


def test_another_subject_is_another_event(audit: Audit, recorded: list[Recorded]) -> None:
    audit.event(EventKind.DEVICE_DOWN, "pump-1")
    audit.event(EventKind.DEVICE_DOWN, "pump-2")

    assert [subject for *_, subject, _ in recorded] == ["pump-1", "pump-2"]


def test_a_quiet_minute_makes_an_event_new_again(audit: Audit, clock: Clock, recorded: list[Recorded]) -> None:
    audit.event(EventKind.DEVICE_DOWN, "pump-1")
    clock.now_ns += FOLD_NS
    audit.flush()
    audit.event(EventKind.DEVICE_DOWN, "pump-1")

    assert [data for *_, data in recorded] == [{}, {}]


def test_what_was_folded_is_recorded_before_the_end(audit: Audit, recorded: list[Recorded]) -> None:
    for _ in range(3):
        audit.event(EventKind.DEVICE_PROTOCOL, "pump-1", field="unit")
    audit.close()

    assert recorded[-1][4] == {"field": "unit", "count": 2, "span_ns": 0}


def test_what_is_remembered_for_folding_is_bounded(audit: Audit, recorded: list[Recorded]) -> None:
    for device in range(FOLDED_LIMIT + 10):
        audit.event(EventKind.DEVICE_DOWN, f"pump-{device}")

    assert len(audit._repeats) == FOLDED_LIMIT
    assert len(recorded) == FOLDED_LIMIT + 10


def test_an_event_is_also_a_log_line_of_its_severity(audit: Audit) -> None:
    with structlog.testing.capture_logs() as lines:
        audit.event(EventKind.BUFFER_MEMORY, "/var/lib/tidegate", error="EIO")

    assert lines == [{"event": "buffer.memory", "log_level": "error", "subject": "/var/lib/tidegate", "error": "EIO"}]


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, FOLD_NS)), max_size=60))
def test_every_event_is_counted_once_however_they_come(steps: list[tuple[int, int]]) -> None:
    """Folding may delay and add up; it neither loses nor repeats an event, and records at most one a minute."""
    clock = Clock()
    recorded: list[tuple[int, str, int]] = []
    audit = Audit(
        lambda _, __, ___, subject, data: recorded.append((clock.now_ns, subject, int(data.get("count") or 1))), clock
    )

    for subject, pause_ns in steps:
        audit.event(EventKind.DEVICE_DOWN, str(subject))
        clock.now_ns += pause_ns
    at_close = len(recorded)
    audit.close()

    for subject in range(3):
        assert sum(n for _, about, n in recorded if about == str(subject)) == sum(of == subject for of, _ in steps)
        times = [at for at, about, _ in recorded[:at_close] if about == str(subject)]
        assert all(later - earlier >= FOLD_NS for earlier, later in pairwise(times))


async def test_repeats_are_recorded_in_time_without_another_event(
    clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.gateway.audit.FOLD_NS", 1_000_000)
    is_folded = asyncio.Event()
    audit = Audit(lambda *event: is_folded.set() if event[4] == {"count": 1} else None, clock)
    audit.event(EventKind.DEVICE_DOWN, "pump-1")
    audit.event(EventKind.DEVICE_DOWN, "pump-1")
    clock.now_ns += FOLD_NS

    task = asyncio.create_task(audit.run())
    await is_folded.wait()
    task.cancel()


def test_every_kind_has_a_meaning_and_a_name_of_its_own() -> None:
    assert len({kind.label for kind in EventKind}) == len(EventKind)
    assert all(kind.meaning.endswith(".") for kind in EventKind)
