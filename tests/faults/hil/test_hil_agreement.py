"""What the comparison of archive, witness, device and known signal finds, and what it lets pass."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from math import pi, sin
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice
from drivers.modbus.simulator import SimulatedDevice, SimulatedUnit, TagSignal
from edge.clock import SystemClock
from edge.config.validate import settings_from
from edge.model import status_codes
from hil import watch
from hil.agreement import Agreement, Known, Motion, agreement
from hil.devices import Served
from hil.evidence import Archived, Declared
from hil.rig import Signal, load_rig
from hil.trial import StepFailed, Trial
from hil.truth import amplitude, archived_steps, deviation, match_steps, true_steps
from hil.witness import Seen, boot_ns, reader_of
from tests.faults.hil.conftest import ROOT

RIG = load_rig(ROOT / "hil/rigs/simulated.yaml")
MS = 10**6
SINE = Signal(wave="sine", low=0.0, high=10.0, period=4000 * MS)
SQUARE = Signal(wave="square", low=1.0, high=5.0, period=1000 * MS)
KNOWN = Known(type="float64", hole_ns=150 * MS)


def readings(signal: Signal, seed: int, every_ms: int, count: int = 120) -> list[tuple[int, int, float]]:
    """(from, to, value) as a device with some latency gives them: sampled anywhere between request and answer."""
    chance = random.Random(seed)
    found = []
    for number in range(count):
        from_ns = (number * every_ms + chance.randrange(every_ms // 2)) * MS
        to_ns = from_ns + chance.randrange(1, every_ms * MS // 2)
        found.append((from_ns, to_ns, signal.at(chance.randrange(from_ns, to_ns + 1))))
    return found


def archived(signal: Signal, seed: int = 1) -> list[Archived]:
    return [Archived(*each) for each in readings(signal, seed, 50)]


def seen(signal: Signal, seed: int = 2, every_ms: int = 40) -> list[Seen]:
    return [
        Seen("t", value, "float64", 0, from_ns, to_ns) for from_ns, to_ns, value in readings(signal, seed, every_ms)
    ]


def compared(archive: list[Archived], witness: list[Seen], motion: Motion, **more: Any) -> Agreement:
    return agreement("d/t", KNOWN, motion, archive, witness, **more)


@given(seed=st.integers(0, 10**6), signal=st.sampled_from([SINE, SQUARE]))
def test_two_that_are_right_always_agree(seed: int, signal: Signal) -> None:
    """However their requests fall: a tolerance that is too narrow would accuse a gateway that did nothing wrong."""
    found = compared(archived(signal, seed), seen(signal, seed + 1), Motion.of(signal))

    assert found.holds, found.found
    assert found.judged > 60
    assert found.largest <= 1


@pytest.mark.parametrize("signal", [SINE, SQUARE])
def test_a_wrong_value_is_found(signal: Signal) -> None:
    archive = archived(signal)
    archive[50] = archive[50]._replace(value=archive[50].value + 3)

    found = compared(archive, seen(signal), Motion.of(signal))

    assert (found.wrong, found.holds) == (1, False)
    assert str(archive[50].value) in found.examples[0]


def test_a_wrong_quality_is_found() -> None:
    archive = archived(SINE)
    archive[50] = archive[50]._replace(value=None, status=0x80340000)
    archive[60] = archive[60]._replace(value=None, status=0x80310000)  # Not read at all: says nothing of the decoding.

    found = compared(archive, seen(SINE), Motion.of(SINE))

    assert (found.wrong, found.unread) == (1, 1)


def test_a_wrong_type_is_found() -> None:
    found = compared(archived(SINE), [each._replace(type="float32") for each in seen(SINE)], Motion.of(SINE))

    assert found.examples == ["the archive has it as float64, the witness as float32"]


def test_a_gateway_that_repeats_an_old_value_is_found() -> None:
    archive = [each for each in archived(SQUARE) if each.from_ns < 2000 * MS or each.from_ns > 4000 * MS]

    stuck = compared(archive, seen(SQUARE), Motion.of(SQUARE))
    declared = compared(archive, seen(SQUARE), Motion.of(SQUARE), declared=[Declared("d", 1900 * MS, 4100 * MS)])

    assert stuck.unmatched > 5
    assert declared.unmatched == 0


def test_a_value_that_stands_still_is_equal_to_the_bit() -> None:
    steady = Signal(wave="steady", low=3.0)
    archive = archived(steady)[:1]  # Reported once: it did not move.

    right = compared(archive, seen(steady), Motion.of(steady))
    wrong = compared([archive[0]._replace(value=3.0000002)], seen(steady), Motion.of(steady))

    assert right.holds
    assert right.matched > 60
    assert wrong.unmatched == right.matched


def test_a_reading_far_from_the_witness_is_not_judged() -> None:
    found = compared(archived(SQUARE), seen(SQUARE, every_ms=400), Motion.of(SQUARE))

    assert found.unjudged > 60


def test_the_device_has_the_last_word() -> None:
    archive = archived(SINE)
    served = [Served((each.from_ns + each.to_ns) // 2, "t", each.value) for each in archive]
    less = compared(archive, seen(SINE), Motion.of(SINE), served=served[1:])

    assert compared(archive, seen(SINE), Motion.of(SINE), served=served).unserved == 0
    assert less.unserved == 1


@given(seed=st.integers(0, 10**6))
def test_right_values_follow_the_known_signal(seed: int) -> None:
    found, height = deviation(SINE, archived(SINE, seed)), amplitude(SINE, archived(SINE, seed))

    assert (found.judged, found.wrong) == (120, 0)
    assert height is not None
    assert height.holds


def test_an_amplitude_that_is_too_small_is_found() -> None:
    """As of an unknown filter: each value alone would pass for a moment earlier or later."""
    lower = [each._replace(value=5 + 4.9 * sin(2 * pi * each.from_ns / SINE.period)) for each in archived(SINE)]
    height = amplitude(SINE, lower)

    assert height is not None
    assert not height.holds


def test_the_instruments_own_error_makes_the_verdict_weaker() -> None:
    late = [each._replace(value=SINE.at(each.from_ns - 100 * MS)) for each in archived(SINE)]
    known = Signal(wave="sine", low=0.0, high=10.0, period=4000 * MS, time_error=130 * MS)

    assert deviation(SINE, late).wrong > 60
    assert deviation(known, late).wrong == 0


@given(seed=st.integers(0, 10**6), late_ms=st.sampled_from([0, 200]))
def test_each_step_is_where_the_archive_says(seed: int, late_ms: int) -> None:
    """And a gateway that stamps 200 ms late misses every one of them."""
    archive = [
        each._replace(from_ns=each.from_ns + late_ms * MS, to_ns=each.to_ns + late_ms * MS)
        for each in archived(SQUARE, seed)
    ]
    scans = [each.from_ns for each in archive]

    steps = match_steps(true_steps(SQUARE, scans), archived_steps(archive, scans), scans, KNOWN.hole_ns)

    assert steps.holds is (late_ms == 0)
    assert steps.widest_ns < 150 * MS


@asynccontextmanager
async def flipping(port: int, number: int) -> AsyncIterator[int]:
    """The way to a device on which one bit of one answer flips: the lowest of its last byte."""
    count = 0

    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, flips: bool) -> None:
        nonlocal count
        while data := bytearray(await reader.read(4096)):
            count += flips
            if flips and count == number:
                data[-1] ^= 1
            writer.write(data)
        writer.close()

    async def join(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, device = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(carry(reader, device, flips=False), carry(answers, writer, flips=True))

    async with await asyncio.start_server(join, "127.0.0.1", 0) as server:
        yield server.sockets[0].getsockname()[1]


@pytest.mark.parametrize("flipped", [0, 4])
async def test_a_bit_that_flips_between_device_and_gateway_is_found(flipped: int) -> None:
    """Our driver reads through the proxy; the witness, on pymodbus, reads beside it."""

    def device_at(port: int) -> ModbusDevice:
        tag = {"name": "t", "address": "holding 7", "type": "float64", "word_order": "little"}
        return settings_from(ModbusDevice, {"name": "d", "driver": "modbus", "host": "127.0.0.1", "port": port,
                                            "scan_groups": [{"every": "1 s", "tags": [tag]}]})  # fmt: skip

    signal = TagSignal(device_at(1).scan_groups[0].tags[0], lambda _: pi, is_kept=True)
    async with SimulatedDevice({1: SimulatedUnit([signal])}) as server, flipping(server.port, flipped) as port:
        driver = ModbusKind().driver(device_at(port), SystemClock())
        plan = driver.plan(device_at(port).scan_groups[0].tags)
        archive, witness = [], []
        async with driver.connect() as session, reader_of(device_at(server.port)) as reader:
            for _ in range(8):
                witness += await reader.read()
                reading = await session.read(plan)
                status = int(status_codes(reading.status, 1)[0])
                archive.append(
                    Archived(reading.asked_at_ns, reading.answered_at_ns, reading.vectors[0][0].item(), status)
                )
            witness += await reader.read()
    served = [Served(at_ns, "t", float(value)) for at_ns, value in signal.served]

    found = agreement("d/t", KNOWN, Motion.of(Signal(wave="steady")), archive, witness, served, until_ns=boot_ns())

    assert (found.judged, found.wrong, found.unserved) == (8, int(flipped > 0), int(flipped > 0))


class Hanging:
    """A library that never answers, and loses a cancellation, as `asyncio.wait_for` of Python 3.11 may."""

    library = "hanging 1.0"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        pass

    async def read(self) -> list[Seen]:
        while True:
            with suppress(asyncio.CancelledError):
                await asyncio.sleep(3)
                return []


async def test_a_library_that_hangs_fails_its_step_and_not_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(watch, "reader_of", lambda *_: Hanging())
    monkeypatch.setattr(watch, "_HANGS_S", -500.0)  # With the time limits of its tags, that is at once.
    trial = Trial(SimpleNamespace(rig=RIG, folder=tmp_path), 1.0)  # type: ignore[arg-type]

    with pytest.raises(StepFailed, match="the witness of meter-1 hangs: its library gave no answer within"):
        await watch.take_turn(trial)
    with pytest.raises(StepFailed, match="the witness stopped: the witness of bioreactor-1 hangs"):
        async with watch.watching(trial):
            await asyncio.sleep(0.1)
