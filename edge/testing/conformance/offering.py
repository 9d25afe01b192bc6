"""Rules about the optional interfaces of drivers; a driver without an interface is exempt from its rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NoReturn

import numpy as np

from edge.driver import (
    Browsable,
    BrowseEntry,
    Discoverable,
    Discovered,
    HasTagMetadata,
    Inspectable,
    SharesConnection,
    Subscribable,
    Target,
    UsesCertificates,
)
from edge.errors import DeviceUnreachable, ProtocolViolation
from edge.model import DataType, Layout, Notification, TagMetadata
from edge.testing.conformance.reading import assert_only_reading, assert_values
from edge.testing.conformance.rule import NotOffered, live, offline
from edge.testing.conformance.stand import EVENT_TIMEOUT_S, NOWHERE, Stand, settings_of, stand
from edge.testing.conformance.subject import Subject, Value
from edge.testing.conformance.watch import OpenResources, wait_until_only

_ENTRIES = 200


@live("changes-are-told")
async def changes_are_told(subject: Subject) -> None:
    """A subscription notifies the current values first; cancelling it leaves nothing open."""
    async with _subscribed(subject) as setup:
        before = OpenResources.now()
        async with setup.driver.connect() as session:
            latest, receiving = await _notified(session, setup.plan())
            receiving.cancel()
            await asyncio.wait([receiving], timeout=EVENT_TIMEOUT_S)
            assert receiving.cancelled(), f"changes() went on when it was cancelled: {receiving!r}"
        latest.assert_values(subject.values(0))
        await wait_until_only(before)


@live("silent-subscription-is-unreachable-in-time")
async def silent_subscription_is_unreachable_in_time(subject: Subject) -> None:
    """A subscribed device that is silent for longer than agreed counts as lost."""
    async with _subscribed(subject) as setup, setup.driver.connect() as session:
        _, receiving = await _notified(session, setup.plan())
        await setup.peer.silence()
        await asyncio.wait([receiving], timeout=EVENT_TIMEOUT_S)
        assert receiving.done(), f"after {EVENT_TIMEOUT_S:g} s it still waits for a device that is silent"
        assert isinstance(receiving.exception(), (DeviceUnreachable, ProtocolViolation)), f"{receiving!r}"
        await setup.peer.start()


@live("subscribing-only-reads")
async def subscribing_only_reads(subject: Subject) -> None:
    """Only reading services appear in the recorded bytes of a subscription."""
    async with _subscribed(subject, is_recorded=True) as setup:
        if setup.proxy is None:
            raise NotOffered("it has no wire")
        async with setup.driver.connect() as session:
            _, receiving = await _notified(session, setup.plan())
            receiving.cancel()
            await asyncio.wait([receiving], timeout=EVENT_TIMEOUT_S)
    assert_only_reading(setup)


@asynccontextmanager
async def _subscribed(subject: Subject, *, is_recorded: bool = False) -> AsyncIterator[Stand]:
    if not subject.subscription:
        raise NotOffered("its devices tell nothing by themselves")
    async with stand(subject, group=subject.subscription, is_recorded=is_recorded) as setup:
        yield setup


async def _notified(session: Any, plan: Any) -> tuple[LatestValues, asyncio.Task[NoReturn]]:
    """The first value of every tag, and the task that continues to receive notifications."""
    assert isinstance(session, Subscribable), "a subscribed group, and a session without changes()"
    latest = LatestValues(plan.layout)
    receiving = asyncio.ensure_future(session.receive_notifications(plan, latest.update))
    await latest.wait_until_all(receiving)
    return latest, receiving


@live("browsing-finds-what-can-be-read")
async def browsing_finds_what_can_be_read(subject: Subject) -> None:
    """Browsing lists entries; each readable one has the keys of a valid tag."""
    async with stand(subject) as setup, setup.driver.connect() as session:
        if not isinstance(session, Browsable):
            raise NotOffered("its devices cannot be browsed")
        found, paths = 0, [""]
        tags = []
        while paths and found < _ENTRIES:
            for entry in await session.browse(paths.pop()):
                assert isinstance(entry, BrowseEntry)
                assert entry.name, "an entry without a name"
                found += 1
                paths += [entry.path] if entry.path else []
                tags += [{"name": f"tag-{found}", **entry.tag}] if entry.tag else []
        assert tags, f"none of {found} entries can be read"
        settings = settings_of(subject, subject.kind(), 0, setup.peer.port, tags)
        subject.kind().driver(settings, subject.clock).plan(settings.scan_groups[0].tags)
        try:
            await session.browse("there is no such path")
        except LookupError:
            pass
        else:
            raise AssertionError("a path that is not there has entries")


@live("facts-fit-the-tags")
async def facts_fit_the_tags(subject: Subject) -> None:
    """The metadata of a plan is empty, or has one item for each tag."""
    async with stand(subject) as setup, setup.driver.connect() as session:
        if not isinstance(session, HasTagMetadata):
            raise NotOffered("its devices say nothing about tags")
        plan = setup.plan()
        metadata = await session.tag_metadata(plan)

        assert len(metadata) in (0, len(plan.layout)), f"{len(metadata)} facts for {len(plan.layout)} tags"
        for each in metadata:
            assert isinstance(each, TagMetadata)
            assert each.range is None or each.range[0] <= each.range[1], f"a range from high to low: {metadata}"
        assert_values(await session.read(plan), plan.layout, subject.values(0))


@live("inspection-shows-each-way")
async def inspection_shows_each_way(subject: Subject) -> None:
    """Inspection returns every way to read an address, as text."""
    async with stand(subject) as setup, setup.driver.connect() as session:
        if not isinstance(session, Inspectable):
            raise NotOffered("its addresses can be read in one way only")
        plan, tags = setup.plan(), setup.settings.scan_groups[0].tags
        await session.read(plan)
        for tag, ways in zip(tags, session.inspect(plan, tags), strict=True):
            assert ways, f"{tag.address_text} can be read in no way"
            assert all(isinstance(how, str) and how and isinstance(value, str) for how, value in ways), f"{ways!r}"


@live("certificates-tell-their-end")
async def certificates_tell_their_end(subject: Subject) -> None:
    """Every certificate that a session depends on has a name and an expiry time."""
    async with stand(subject) as setup:
        driver = setup.driver
        if not isinstance(driver, UsesCertificates):
            raise NotOffered("it uses no certificates")
        async with driver.connect():
            pass
        for certificate in driver.certificates():
            assert certificate.whose, "nobody's certificate"
            assert certificate.name, "a certificate without a name"
            assert certificate.expires_at_ns > 0, f"{certificate.name} expired in 1970"


@live("discovery-is-gentle")
async def discovery_is_gentle(subject: Subject) -> None:
    """Discovery pauses before each connection, and leaves nothing open."""
    kind = subject.kind()
    if not isinstance(kind, Discoverable):
        raise NotOffered("its devices cannot be found on a network")
    before, pauses = OpenResources.now(), 0

    async def pause() -> None:
        nonlocal pauses
        pauses += 1

    found: Sequence[Discovered] = ()
    async with asyncio.timeout(EVENT_TIMEOUT_S):
        with suppress(DeviceUnreachable):
            found = await kind.discover(Target("127.0.0.1"), pause)

    assert pauses > 0, "it asked without a pause"
    assert all(isinstance(one, Discovered) and one.what for one in found), f"{found!r}"
    await wait_until_only(before)


@offline("shared-connections-are-named")
def shared_connections_are_named(subject: Subject) -> None:
    """Devices that share a connection have equal keys, and say one `reached_at`; other devices have different keys."""
    kind = subject.kind()
    if not isinstance(kind, SharesConnection):
        raise NotOffered("each of its devices has a connection of its own")
    devices = [settings_of(subject, kind, 0, port, subject.tags) for port in (NOWHERE, NOWHERE, NOWHERE + 1)]
    one, same, other = map(kind.connection, devices)

    assert isinstance(one, Hashable)
    assert one == same
    assert one != other
    assert devices[0].reached_at, "reached_at is empty: scans of devices on one connection would begin together"
    assert devices[0].reached_at == devices[1].reached_at


class LatestValues:
    """The last notified value and status of each tag."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._vectors = layout.empty()
        self._codes = [np.zeros(len(tags), np.uint32) for tags in layout.members]
        self._seen = [np.zeros(len(tags), bool) for tags in layout.members]
        self._all = asyncio.Event()

    def update(self, notification: Notification) -> None:
        """Add one notification. Raises AssertionError if it does not fit the layout."""
        kinds, count = self._layout.vector_types, len(self._layout.vector_types)
        assert len(notification.vectors) == len(notification.positions) == len(notification.codes) == count, (
            f"not {count} vectors"
        )
        assert notification.asked_at_ns <= notification.answered_at_ns, "told before it was asked"
        for number, (kind, values, positions, codes) in enumerate(
            zip(kinds, notification.vectors, notification.positions, notification.codes, strict=True)
        ):
            assert len(values) == len(positions) == len(codes), "values, positions and codes of different lengths"
            assert values.dtype == kind.numpy, f"{values.dtype} instead of {kind.numpy}"
            assert kind is not DataType.TEXT or all(isinstance(text, str) for text in values), "a text that is none"
            self._vectors[number][positions] = values
            self._codes[number][positions] = codes
            self._seen[number][positions] = True
        if all(seen.all() for seen in self._seen):
            self._all.set()

    async def wait_until_all(self, receiving: asyncio.Task[Any]) -> None:
        """Wait until every tag was notified at least once. Raises what ended `receiving` before that."""
        waiting = asyncio.create_task(self._all.wait())
        try:
            await asyncio.wait([waiting, receiving], timeout=EVENT_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED)
            if receiving.done():
                receiving.result()
            assert self._all.is_set(), "some tags were never told"
        finally:
            waiting.cancel()

    def assert_values(self, values: Sequence[Value]) -> None:
        """Check that every tag is good and has these values."""
        for tag, value in enumerate(values):
            vector, position = self._layout.slots[tag]
            wanted = np.array([value], self._layout.types[tag].numpy)[0]
            assert self._codes[vector][position] == 0, f"tag {tag} is {self._codes[vector][position]:#010x}"
            assert self._vectors[vector][position] == wanted, f"tag {tag} is {self._vectors[vector][position]!r}"
