"""Notifications of subscribed groups: every value is kept, in order, and silence is recorded as a gap."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DeviceUnreachable
from edge.model import (
    NO_TIME,
    CatalogueGroup,
    CatalogueTag,
    DataType,
    Layout,
    Notification,
    SampleBlock,
    StatusCode,
    status_codes,
)
from edge.recorder.commit_window import HARD_BYTES, encoded_bytes
from edge.scan import DeviceClockMonitor, DeviceState, ScanCounts, SubscribedGroup

S = 10**9
MS = 10**6
TAGS = (
    CatalogueTag(name="level", data_type=DataType.FLOAT64, address="a", range=(0, 100), at_least_every_ns=60 * S),
    CatalogueTag(name="state", data_type=DataType.TEXT, address="b"),
    CatalogueTag(name="flow", data_type=DataType.FLOAT64, address="c"),
)
LAYOUT = Layout(tuple(tag.data_type for tag in TAGS))
FLOATS, TEXTS = 0, 1


def notification(
    asked_ns: int, answered_ns: int, levels: Sequence[tuple[int, float, int]] = (), texts: Sequence[str] = (),
    **more: object,
) -> Notification:  # fmt: skip
    """Levels are (position, value, status)."""
    words = np.empty(len(texts), object)
    words[:] = list(texts)
    return Notification(
        (np.array([value for _, value, _ in levels], np.float64), words),
        (np.array([place for place, _, _ in levels], np.uint16), np.zeros(len(texts), np.uint16)),
        (np.array([code for _, _, code in levels], np.uint32), np.zeros(len(texts), np.uint32)),
        asked_ns,
        answered_ns,
        **more,  # type: ignore[arg-type]
    )


def group() -> SubscribedGroup:
    return SubscribedGroup(3, CatalogueGroup(device="d", name="g", interval_ns=S, tags=TAGS), None)


async def test_a_notification_is_kept_value_by_value(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, subscribed=TAGS)
        await plant.scheduler.settle()
        assert device.state is DeviceState.CONNECTING

        driver.notify[LAYOUT](notification(1, 2, [(0, 1.5, 0), (0, 2.5, 0), (1, 9.0, 0x80000000)], ["run"]))

        [block] = plant.sink.blocks
        assert block.is_notification
        assert block.vectors[FLOATS].tolist() == [1.5, 2.5, 9.0]
        assert block.vectors[TEXTS].tolist() == ["run"]
        assert block.status == ((2, 1, 0x80000000),)
        assert device.state is DeviceState.UP
        assert device.counts() == ScanCounts(due=1, done=1)
        assert device.groups[0].status == ((2, 1, 0x80000000),)
        assert device.groups[0].reading.vectors[FLOATS].tolist() == [2.5, 9.0]


async def test_a_device_is_polled_and_subscribed_in_one_session(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, 100 * MS, subscribed=TAGS)
        await plant.scheduler.advance_ns(1 * S)
        driver.notify[LAYOUT](notification(1, 2, [(0, 1.5, 0)]))

        assert {block.group for block in plant.sink.blocks} == {0, 1}
        assert driver.sessions == 1

        driver.fail(DeviceUnreachable("cut"))
        await plant.scheduler.settle()

        assert device.state is DeviceState.DOWN
        assert driver.sessions == 0
        assert plant.sink.kinds() == ["device.up", "device.down"]


async def test_the_gap_begins_with_the_last_notification_and_ends_with_the_next(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, subscribed=TAGS)
        await plant.scheduler.settle()
        notified_ns = plant.clock.boot_ns()
        driver.notify[LAYOUT](notification(notified_ns - 1, notified_ns))
        await plant.scheduler.advance_ns(9 * S)

        driver.fail(DeviceUnreachable("silent"))
        await plant.scheduler.advance_ns(10 * S)
        driver.failure = None
        again_ns = plant.clock.boot_ns()
        driver.notify[LAYOUT](notification(again_ns - 5, again_ns, [(0, 1.0, 0), (1, 1.0, 0)], [""]))

        code = StatusCode.BAD_NO_COMMUNICATION
        assert [gap[:4] for gap in plant.sink.gaps] == [
            (0, notified_ns, None, code),
            (0, notified_ns, again_ns - 5, code),
        ]
        lost = plant.sink.blocks[1]
        assert (lost.is_notification, lost.status) == (False, ((0, 3, code),))


async def test_what_was_not_notified_before_a_stop_is_a_gap(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, subscribed=TAGS)
        await plant.scheduler.settle()
        notified_ns = plant.clock.boot_ns()
        driver.notify[LAYOUT](notification(notified_ns - 1, notified_ns))
        await plant.scheduler.advance_ns(S // 2)

        device.close(plant.clock.boot_ns())

        assert plant.sink.gaps == [
            (0, notified_ns, notified_ns + S // 2, StatusCode.BAD_OUT_OF_SERVICE,
             "no further notification yet; the gateway stopped"),
        ]  # fmt: skip


async def test_a_device_that_kept_watching_leaves_no_gap_and_its_unchanged_tags_are_as_before(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        device = plant.poll(driver, subscribed=TAGS)
        await plant.scheduler.settle()
        notified_ns = plant.clock.boot_ns()
        driver.notify[LAYOUT](notification(notified_ns - 1, notified_ns, [(0, 1.0, 0), (1, 2.0, 0x80000000)], ["a"]))

        driver.fail(DeviceUnreachable("cut"))
        await plant.scheduler.settle()
        driver.failure = None
        await plant.scheduler.advance_ns(2 * S)
        again_ns = plant.clock.boot_ns()
        driver.notify[LAYOUT](notification(notified_ns - 1, again_ns, [(0, 5.0, 0)], is_continued=True))

        assert plant.sink.gaps[-1][1:3] == (notified_ns, notified_ns)
        changed, everything = plant.sink.blocks[-2:]
        assert changed.vectors[FLOATS].tolist() == [5.0]
        assert everything.positions is None
        assert everything.vectors[FLOATS].tolist() == [5.0, 2.0]
        assert everything.vectors[TEXTS].tolist() == ["a"]
        assert everything.status == device.groups[0].status == ((2, 1, 0x80000000),)


async def test_the_time_before_the_first_notification_is_a_gap(new_plant) -> None:
    async with new_plant() as plant:
        started_ns = plant.clock.boot_ns()
        driver = plant.device()
        plant.poll(driver, subscribed=TAGS)
        await plant.scheduler.advance_ns(2 * S)

        driver.notify[LAYOUT](notification(started_ns + 1 * S, started_ns + 2 * S, [(0, 1.0, 0)]))
        driver.notify[LAYOUT](notification(started_ns + 2 * S, started_ns + 3 * S))

        assert [gap[:3] for gap in plant.sink.gaps] == [(0, started_ns, started_ns + 1 * S)]


async def test_what_the_device_dropped_is_an_event_and_what_did_not_arrive_a_gap(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, subscribed=TAGS)
        await plant.scheduler.settle()
        driver.notify[LAYOUT](notification(1, 2))

        driver.notify[LAYOUT](notification(5, 6, [(0, 1.0, 0)], overflowed=(0,), lost_since_ns=2))

        assert [gap[:3] for gap in plant.sink.gaps] == [(0, 2, 5)]
        assert plant.sink.events[-1] == (
            "device.overflow",
            "press-1",
            {"group": "subscribed", "tags": "level", "count": 1},
        )


async def test_a_clock_that_is_off_is_one_event_and_another_when_it_is_right_again(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        utc_of = lambda boot_ns: boot_ns  # noqa: E731
        plant.poll(driver, 100 * MS, clock_monitor=DeviceClockMonitor(1 * S, utc_of))
        for ahead_ns in (0, 3 * S, 4 * S, 0, -5 * S):
            driver.device_time_ns = plant.clock.boot_ns() + 100 * MS + ahead_ns
            await plant.scheduler.advance_ns(100 * MS)

        events = [data for kind, _, data in plant.sink.events if kind == "device.clock"]
        assert [data["state"] for data in events] == ["off", "within its limit again", "off"]
        assert events[0]["off_ns"] > 2 * S
        assert events[2]["off_ns"] < -4 * S


async def test_a_source_time_in_the_future_means_that_a_clock_is_ahead(new_plant) -> None:
    async with new_plant() as plant:
        driver = plant.device()
        plant.poll(driver, 100 * MS, clock_monitor=DeviceClockMonitor(1 * S, lambda boot_ns: boot_ns))
        driver.source_times = (np.array([NO_TIME]),)
        await plant.scheduler.advance_ns(100 * MS)
        driver.source_times = (np.array([plant.clock.boot_ns() - 3600 * S]),)
        await plant.scheduler.advance_ns(100 * MS)
        assert plant.sink.kinds() == ["device.up"]

        driver.source_times = (np.array([plant.clock.boot_ns() + 3600 * S]),)
        await plant.scheduler.advance_ns(100 * MS)

        assert plant.sink.events[-1][2]["clock"] == "source times"


def test_a_keep_alive_without_a_time_decides_nothing_about_the_clock() -> None:
    """Each pause between two values would otherwise end and repeat the event of a clock that is off."""
    monitor = DeviceClockMonitor(S, lambda boot_ns: boot_ns)

    off = monitor.check(notification(9 * S, 10 * S, device_time_ns=3 * S))
    alive = monitor.check(notification(11 * S, 12 * S))
    back = monitor.check(notification(13 * S, 14 * S, device_time_ns=14 * S))

    assert off is not None
    assert alive is None
    assert back is not None


def test_values_out_of_range_are_uncertain_and_bad_ones_stay_bad() -> None:
    [block] = group().apply(notification(1, 2, [(0, 101, 0), (0, 50, 0), (1, 1e9, 0), (0, -1, 0x80000000)]))

    assert status_codes(block.status, 4).tolist() == [StatusCode.UNCERTAIN_OUT_OF_RANGE, 0, 0, 0x80000000]


def test_not_a_number_and_infinity_are_never_good_and_keep_the_code_of_the_device() -> None:
    forced = 0x00960000  # GoodLocalOverride: more than GOOD, and the device's own word.
    values = [(place, value, code) for place in (0, 1) for value, code in
              ((math.nan, 0), (math.inf, 0), (-math.inf, 0), (math.nan, forced), (math.nan, 0x80000000))]  # fmt: skip
    [block] = group().apply(notification(1, 2, values))

    outside = [StatusCode.UNCERTAIN_OUT_OF_RANGE] * 3
    assert status_codes(block.status, 10).tolist() == [*outside, forced, 0x80000000] * 2


def test_everything_is_reported_again_in_its_time_and_when_something_was_not_kept() -> None:
    subscribed = group()
    subscribed.apply(notification(1, 2, [(0, 1, 0), (1, 2, 0)], ["a"]))
    assert len(subscribed.apply(notification(30 * S, 31 * S))) == 1

    _, complete = subscribed.apply(notification(62 * S, 63 * S, [(0, 7, 0)]))
    assert [vector.tolist() for vector in complete.vectors] == [[7, 2], ["a"]]
    assert (complete.positions, complete.is_notification, complete.status) == (None, False, ())

    subscribed.refresh()
    assert len(subscribed.apply(notification(64 * S, 65 * S))) == 2
    assert len(subscribed.apply(notification(66 * S, 67 * S))) == 1


@given(
    levels=st.lists(st.tuples(st.integers(0, 1), st.floats(), st.sampled_from([0, 0x80000000]))),
    texts=st.lists(st.text(max_size=9_000), max_size=40), repeat=st.integers(1, 400),
)  # fmt: skip
def test_a_large_notification_is_kept_whole_in_blocks_that_fit_a_record(
    levels: list[tuple[int, float, int]], texts: list[str], repeat: int
) -> None:
    changes = notification(1, 2, levels * repeat, texts)

    blocks = group().apply(changes)

    assert all(encoded_bytes(block) <= HARD_BYTES for block in blocks)
    for vector in (FLOATS, TEXTS):
        joined = [value for block in blocks for value in block.vectors[vector].tolist()]
        assert str(joined) == str(changes.vectors[vector].tolist())  # NaN is not equal to itself.
    codes = [int(code) for block in blocks for code in _codes(block, FLOATS)]
    are_inside = [0 <= value <= 100 if place == 0 else math.isfinite(value) for place, value, _ in levels]
    expected = [code or StatusCode.UNCERTAIN_OUT_OF_RANGE * (not is_inside)
                for (_, _, code), is_inside in zip(levels * repeat, are_inside * repeat, strict=True)]  # fmt: skip
    assert codes == expected


def _codes(block: SampleBlock, vector: int) -> list[int]:
    begin = sum(map(len, block.vectors[:vector]))
    codes = status_codes(block.status, sum(map(len, block.vectors)))
    return codes[begin : begin + len(block.vectors[vector])].tolist()  # type: ignore[no-any-return]
