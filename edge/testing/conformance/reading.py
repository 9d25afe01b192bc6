"""Rules about readings."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from edge.driver import Browsable, HasTagMetadata, Inspectable
from edge.model import DataType, Identity, Layout, Quality, Reading, quality_of, status_codes
from edge.testing.conformance.rule import NotOffered, live, offline
from edge.testing.conformance.stand import Stand, stand
from edge.testing.conformance.subject import Subject, Value

_READS = 25


async def read_once(setup: Stand) -> Reading:
    """The reading of a new session."""
    async with setup.driver.connect() as session:
        reading: Reading = await session.read(setup.plan())
    return reading


def assert_fits(reading: Reading, layout: Layout) -> None:
    """Check that a reading fits its layout, which the rest of the gateway relies on."""
    wanted = [(kind.numpy, len(tags)) for kind, tags in zip(layout.vector_types, layout.members, strict=True)]
    got = [(vector.dtype, len(vector)) for vector in reading.vectors]
    assert got == wanted, f"vectors are {got}, the layout says {wanted}"
    for kind, vector in zip(layout.vector_types, reading.vectors, strict=True):
        assert kind is not DataType.TEXT or all(isinstance(text, str) for text in vector), "a text that is none"
    assert reading.asked_at_ns <= reading.answered_at_ns, "answered before it was asked"
    end = 0
    for first, count, code in reading.status:
        assert first >= end, f"runs of status are not in order: {reading.status}"
        assert count > 0, f"an empty run of status: {reading.status}"
        assert 0 < code < 2**32, f"not a status of a run: {code:#x}"
        end = first + count
    assert end <= len(layout), f"a status beyond the last tag: {reading.status}"
    shape = None if reading.source_times is None else [(row.dtype, len(row)) for row in reading.source_times]
    assert shape in (None, [(np.dtype("i8"), count) for _, count in wanted]), f"source times are {shape}"


def assert_values(reading: Reading, layout: Layout, values: Sequence[Value]) -> None:
    """Check that the first tags are good and have these values."""
    codes = status_codes(reading.status, len(layout))
    for tag, value in enumerate(values):
        vector, position = layout.slots[tag]
        wanted = np.array([value], layout.types[tag].numpy)[0]
        got = reading.vectors[vector][position]
        assert codes[tag] == 0, f"tag {tag} is {codes[tag]:#010x}, and should be good"
        assert got == wanted, f"tag {tag} is {got!r}, the peer has {wanted!r}"


@live("values-fit-the-layout")
async def values_fit_the_layout(subject: Subject) -> None:
    """Readings fit the layout in type, length and order; status runs are in order, and times ascend."""
    async with stand(subject) as setup:
        before_ns = subject.clock.boot_ns()
        reading = await read_once(setup)

        assert_fits(reading, setup.plan().layout)
        assert_values(reading, setup.plan().layout, subject.values(0))
        assert before_ns <= reading.asked_at_ns, "asked before the scan began"
        assert reading.answered_at_ns <= subject.clock.boot_ns(), "answered in the future"


@live("partial-answer-keeps-the-good")
async def partial_answer_keeps_the_good(subject: Subject) -> None:
    """A tag that the device does not have is BAD; the other tags keep their values in every scan."""
    async with stand(subject, tags=[*subject.tags, subject.missing]) as setup:
        plan = setup.plan()
        async with setup.driver.connect() as session:
            for _ in range(3):
                reading = await session.read(plan)

                assert_fits(reading, plan.layout)
                assert_values(reading, plan.layout, subject.values(0))
                code = int(status_codes(reading.status, len(plan.layout))[-1])
                assert quality_of(code) is Quality.BAD, f"a tag that is not there is {code:#010x}"


@live("identity-is-read")
async def identity_is_read(subject: Subject) -> None:
    """The identity of the device is read, and the device can be read afterwards."""
    async with stand(subject) as setup, setup.driver.connect() as session:
        identity = await session.identity()

        assert isinstance(identity, Identity)
        for key, text in subject.says.items():
            assert getattr(identity, key) == text, f"{key} is {getattr(identity, key)!r}, the peer says {text!r}"
        assert_values(await session.read(setup.plan()), setup.plan().layout, subject.values(0))


@live("two-devices-share-nothing")
async def two_devices_share_nothing(subject: Subject) -> None:
    """Two devices of one gateway that are read concurrently never return each other's values."""
    kind = subject.kind()
    async with stand(subject, 0, kind=kind) as one, stand(subject, 1, kind=kind) as other:
        assert list(subject.values(0)) != list(subject.values(1)), "the two peers have the same values"

        async def read_often(setup: Stand) -> None:
            plan = setup.plan()
            async with setup.driver.connect() as session:
                for _ in range(_READS):
                    assert_values(await session.read(plan), plan.layout, subject.values(setup.number))

        await asyncio.gather(read_often(one), read_often(other))


@live("sessions-follow-each-other")
async def sessions_follow_each_other(subject: Subject) -> None:
    """A driver opens several sessions in sequence, with the same plan."""
    async with stand(subject) as setup:
        plan = setup.plan()
        for _ in range(3):
            async with setup.driver.connect() as session:
                assert_values(await session.read(plan), plan.layout, subject.values(0))


@live("only-reading-on-the-wire")
async def only_reading_on_the_wire(subject: Subject) -> None:
    """Only reading services appear in the recorded bytes of any operation of a session."""
    async with stand(subject, tags=[*subject.tags, subject.missing], is_recorded=True) as setup:
        if setup.proxy is None:
            raise NotOffered("it has no wire")
        async with setup.driver.connect() as session:
            await _call_everything(setup, session)
    assert_only_reading(setup)


def assert_only_reading(setup: Stand) -> None:
    """Check that the recorded bytes contain services, and only reading ones."""
    assert setup.proxy is not None
    used = {name for recorded in setup.proxy.recordings for name in setup.subject.services(bytes(recorded.sent))}
    others = used - set(setup.subject.reading)

    assert used, "nothing was recognised in the recorded bytes"
    assert not others, f"more than reading was asked: {', '.join(sorted(others))}"


async def _call_everything(setup: Stand, session: Any) -> None:
    plan, read = setup.plan(), session.read
    await session.identity()
    for _ in range(3):
        await session.read(plan)
    if isinstance(session, Inspectable):
        session.inspect(plan, setup.settings.scan_groups[0].tags)
    if isinstance(session, HasTagMetadata):
        await asyncio.gather(session.tag_metadata(plan), read(plan))
    if isinstance(session, Browsable):
        await session.browse("")


@offline("both-event-loops")
def both_event_loops(subject: Subject) -> None:
    """Readings are equal on asyncio's own loop and on uvloop."""
    import uvloop

    async def read() -> None:
        async with stand(subject) as setup:
            reading = await read_once(setup)
            assert_values(reading, setup.plan().layout, subject.values(0))

    for factory in (asyncio.new_event_loop, uvloop.new_event_loop):
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(read())
