"""Scheduled failures, clocks and browsing of simulated devices."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from drivers.simulator import SimulatorKind
from drivers.simulator.driver import SimulatorDriver
from drivers.simulator.settings import SimulatorDevice, SimulatorTag
from edge.config.check import check
from edge.config.validate import settings_from
from edge.driver import Browsable, load
from edge.errors import DeviceRefused, DeviceUnreachable, ProtocolViolation, TidegateError
from edge.model import Identity, StatusCode
from edge.testing.clock import ManualClock

MakeDevice = Callable[..., SimulatorDevice]
S = 10**9
CONFIGS = Path(__file__).parents[3] / "configs"
TAGS = [{"signal": "constant", "value": 1, "type": "uint8"}, {"signal": "counter", "period": "1 s", "type": "uint8"}]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


def failing(make_device: MakeDevice, clock: ManualClock, *failures: dict[str, Any], **settings: Any) -> SimulatorDriver:
    device = make_device(TAGS, failures=failures, timeout="1 ms", **settings)
    return SimulatorKind().driver(device, clock)


@pytest.mark.parametrize(
    ("kind", "connecting", "reading"),
    [
        ("off", DeviceUnreachable, DeviceUnreachable),
        ("silent", DeviceUnreachable, DeviceUnreachable),
        ("refuse", DeviceRefused, None),
        ("garbled", ProtocolViolation, ProtocolViolation),
    ],
)
async def test_a_failure_begins_and_ends_on_time(
    make_device: MakeDevice,
    clock: ManualClock,
    kind: str,
    connecting: type[TidegateError],
    reading: type[TidegateError] | None,
) -> None:
    driver = failing(make_device, clock, {"kind": kind, "at": "10 s", "lasts": "5 s"})
    plan = driver.plan(driver.device.settings.scan_groups[0].tags)

    async def connect() -> None:
        async with driver.connect():
            pass

    clock.advance_ns(10 * S - 1)
    async with driver.connect() as session:
        await session.read(plan)
        clock.advance_ns(1)
        with pytest.raises(connecting):
            await connect()
        if reading is not None:
            with pytest.raises(reading):
                await session.read(plan)
        clock.advance_ns(5 * S - 1)
        with pytest.raises(connecting):
            await connect()
        clock.advance_ns(1)
        await session.read(plan)
    await connect()

    assert driver.device.sessions == 0


async def test_a_failure_repeats(make_device: MakeDevice, clock: ManualClock) -> None:
    driver = failing(make_device, clock, {"kind": "off", "at": "1 s", "lasts": "1 s", "every": "3 s"})
    seen = ""
    for _ in range(9):
        seen += "x" if driver.device.schedule.is_now("off", driver.device.elapsed_ns()) else "."
        clock.advance_ns(S)

    assert seen == ".x..x..x."


async def test_a_failure_can_make_single_tags_bad(make_device: MakeDevice, clock: ManualClock) -> None:
    driver = failing(
        make_device,
        clock,
        {"kind": "bad", "at": 0, "lasts": "1 s", "tags": ["tag-1"]},
        {"kind": "bad", "at": "1 s", "lasts": "1 s"},
    )
    plan = driver.plan(driver.device.settings.scan_groups[0].tags)
    bad = int(StatusCode.BAD_DEVICE_FAILURE)
    async with driver.connect() as session:
        statuses = []
        for _ in range(3):
            statuses.append((await session.read(plan)).status)
            clock.advance_ns(S)

    assert statuses == [((1, 1, bad),), ((0, 2, bad),), ()]


async def test_an_answer_after_the_timeout_is_unreachable(make_device: MakeDevice, clock: ManualClock) -> None:
    driver = failing(
        make_device,
        clock,
        {"kind": "late", "at": 0, "lasts": "1 s", "delay": "1 us"},
        {"kind": "late", "at": "1 s", "lasts": "1 s", "delay": "1 h"},
    )
    plan = driver.plan(driver.device.settings.scan_groups[0].tags)
    async with driver.connect() as session:
        await session.read(plan)
        clock.advance_ns(S)
        with pytest.raises(DeviceUnreachable, match=r"device did not answer within 0\.001 s"):
            await session.read(plan)


async def test_a_replaced_device_reports_another_serial_number(make_device: MakeDevice, clock: ManualClock) -> None:
    driver = failing(make_device, clock, {"kind": "identity", "at": "1 s", "lasts": "1 s"}, identity={"product": "p"})
    async with driver.connect() as session:
        before = await session.identity()
        clock.advance_ns(S)
        after = await session.identity()

    assert before == Identity(vendor="Tidegate", product="p", firmware="1.0", serial="device")
    assert after.serial == "device-replaced"


@pytest.mark.parametrize(
    ("settings", "error_ns"), [({"clock_ahead": "2 s"}, 2 * S), ({"clock_behind": "2 s"}, -2 * S), ({}, None)]
)
async def test_a_device_has_a_clock_of_its_own(
    make_device: MakeDevice, clock: ManualClock, settings: dict[str, Any], error_ns: int | None
) -> None:
    driver = failing(make_device, clock, **settings)
    async with driver.connect() as session:
        reading = await session.read(driver.plan(driver.device.settings.scan_groups[0].tags))

    assert reading.device_time_ns == (None if error_ns is None else clock.utc_ns() + error_ns)
    assert reading.source_times is None


async def test_values_can_have_source_times(make_device: MakeDevice, clock: ManualClock) -> None:
    driver = failing(make_device, clock, clock_ahead=0, source_times="values")
    async with driver.connect() as session:
        reading = await session.read(driver.plan(driver.device.settings.scan_groups[0].tags))

    assert reading.source_times is not None
    assert [times.tolist() for times in reading.source_times] == [[clock.utc_ns()] * 2]
    assert reading.source_times[0].dtype == "i8"


async def test_two_runs_are_identical_to_the_last_bit(make_device: MakeDevice) -> None:
    async def run() -> list[Any]:
        clock = ManualClock()
        tags = [{"signal": "walk", "noise": 1.0}, {"signal": "sine", "type": "float32", "noise": 0.1}]
        device = make_device(tags, seed=3)
        driver = SimulatorKind().driver(device, clock)
        plan = driver.plan(device.scan_groups[0].tags)
        found = []
        async with driver.connect() as session:
            for _ in range(50):
                clock.advance_ns(123_456_789)
                reading = await session.read(plan)
                found.append((reading.asked_at_ns, *(vector.tobytes() for vector in reading.vectors)))
        return found

    assert await run() == await run()


@pytest.fixture
def recorded(make_device: MakeDevice, clock: ManualClock, tmp_path: Path) -> SimulatorDriver:
    (tmp_path / "run.csv").write_text("t,count,step\n0,1,a\n1,2,b\n")
    return failing(make_device, clock, replay={"file": str(tmp_path / "run.csv")})


async def test_a_device_can_be_browsed(recorded: SimulatorDriver) -> None:
    async with recorded.connect() as session:
        assert isinstance(session, Browsable)
        top = [entry.path for entry in await session.browse("")]
        signals = await session.browse("signals")
        columns = await session.browse("recording")
        with pytest.raises(LookupError, match="device has nothing at 'nowhere'"):
            await session.browse("nowhere")

    assert top == ["signals", "recording"]
    assert [entry.name for entry in signals][:2] == ["sine", "ramp"]
    assert [(entry.name, entry.value, entry.tag["type"]) for entry in columns] == [
        ("count", "1", "int64"), ("step", "a", "text"),
    ]  # fmt: skip
    for entry in [*signals, *columns]:
        settings_from(SimulatorTag, {"name": entry.name, **entry.tag})


def test_the_example_configuration_is_valid() -> None:
    checked = check(CONFIGS / "simulated.yaml")

    assert [problem.message for problem in checked.problems] == [
        "no uplink is written: records stay in the buffer and go nowhere"
    ]
    assert load("simulator").settings is SimulatorDevice
