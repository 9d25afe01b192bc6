from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import SampleBlock
from edge.recorder.commit_window import COMMIT_BYTES, HARD_BYTES, CommitWindow, encoded_bytes
from edge.seal import encode_data
from tests.support.chains import TIME

DTYPES = [np.bool_, np.uint8, np.int16, np.uint32, np.int64, np.float32, np.float64]


@st.composite
def blocks(draw: st.DrawFn) -> SampleBlock:
    vectors = [np.zeros(draw(st.integers(0, 300)), dtype) for dtype in draw(st.lists(st.sampled_from(DTYPES)))]
    texts = draw(st.lists(st.text(max_size=60), max_size=5))
    vectors.append(np.array([*texts, None], object)[:-1])
    positions = None
    if draw(st.booleans()):
        positions = tuple(np.arange(len(vector), dtype=np.uint16) for vector in vectors)
    runs = tuple((first, 1, 0x80310000) for first in range(draw(st.integers(0, 20))))
    at_ns = draw(st.integers(0, 10**15))
    return SampleBlock(draw(st.integers(0, 2000)), at_ns, at_ns + draw(st.integers(0, 10**9)), tuple(vectors),
                       positions, runs)  # fmt: skip


def payload_bytes(blocks: list[SampleBlock]) -> int:
    return len(encode_data(utc_ns=0, boot_ns=0, time=TIME, catalogue=bytes(8), blocks=blocks))


@given(blocks())
def test_the_estimate_is_never_below_what_a_block_adds(block: SampleBlock) -> None:
    """A commit that was estimated to fit a record must fit."""
    assert payload_bytes([block]) - payload_bytes([]) <= encoded_bytes(block)


class VirtualLoop(asyncio.AbstractEventLoop):
    """Timers only, in a time that the test moves."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.timers: list[asyncio.TimerHandle] = []

    def time(self) -> float:
        return self.now_s

    def get_debug(self) -> bool:
        return False

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        raise context["exception"]

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        if handle in self.timers:  # It may be the one that is running.
            self.timers.remove(handle)

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:
        self.timers.append(asyncio.TimerHandle(self.now_s + delay, callback, args, self, context))
        return self.timers[-1]

    def advance(self, duration_s: float) -> None:
        end_s = self.now_s + duration_s
        while self.timers and (first := min(self.timers, key=asyncio.TimerHandle.when)).when() <= end_s:
            self.timers.remove(first)
            self.now_s = max(self.now_s, first.when())
            first._run()
        self.now_s = end_s


class Commits:
    """A commit window and what it commits; checks each commit when it comes."""

    def __init__(self, window_ns: int) -> None:
        self.loop = VirtualLoop()
        self.window = CommitWindow(window_ns, self.commit, self.loop)
        self.window_s = window_ns / 1e9
        self.scans: dict[str, float] = {}
        self.added: list[tuple[float, float]] = []  # When each block came, and the twentieth of its interval.
        self.committed: list[tuple[float, list[int]]] = []
        self.is_urgent = False
        self.blocks = 0

    @property
    def limit_s(self) -> float:
        return min(share_s for _, share_s in self.added)

    @property
    def waited_s(self) -> float:
        return self.loop.now_s - self.added[0][0]

    @property
    def is_waited_for(self) -> bool:
        """Whether a scan is under way that may still be answered with those of the commit."""
        return any(self.loop.now_s - began_s < self.limit_s for began_s in self.scans.values())

    def commit(self) -> None:
        records = self.window.take()
        assert sum(map(len, records)) == len(self.added)
        if not self.is_urgent:
            assert self.waited_s >= self.window_s - 1e-9
            assert self.waited_s <= max(self.window_s, self.limit_s) + 1e-9
            assert not self.is_waited_for or self.waited_s >= self.limit_s - 1e-9
        self.committed.append((self.loop.now_s, [block.group for record in records for block in record]))
        self.added.clear()

    def add(self, interval_ms: int, *, urgent: bool = False, size_bytes: int = 10) -> None:
        self.is_urgent = urgent
        block, interval_ns = SampleBlock(self.blocks, 0, 0, ()), interval_ms * 10**6
        self.added.append((self.loop.now_s, interval_ns / 1e9 / 20))
        self.blocks += 1
        self.window.add(block, size_bytes, interval_ns=interval_ns, urgent=urgent, is_idle=False)
        self.is_urgent = False

    def begin(self, device: str) -> None:
        self.scans[device] = self.loop.now_s
        self.window.begin_scan(device)

    def end(self, device: str) -> None:
        del self.scans[device]
        self.window.end_scan(device)


_INTERVALS_MS = st.sampled_from([10, 100, 1_000, 60_000])
_DEVICES = st.sampled_from("abcde")
_STEPS = st.one_of(
    st.tuples(st.just("begin"), _DEVICES, st.none()),
    st.tuples(st.just("answered"), _DEVICES, _INTERVALS_MS),
    st.tuples(st.just("lost"), _DEVICES, st.none()),
    st.tuples(st.just("notified"), st.none(), _INTERVALS_MS),
    st.tuples(st.just("urgent"), st.none(), _INTERVALS_MS),
    st.tuples(st.just("pause"), st.none(), st.integers(1, 60)),
    st.tuples(st.just("pause"), st.none(), st.integers(1, 6_000)),
)


@given(window_ms=st.sampled_from([1, 20, 100]), steps=st.lists(_STEPS, max_size=60))
def test_a_commit_ends_with_the_scans_that_may_join_it_and_in_time(
    window_ms: int, steps: list[tuple[str, Any, Any]]
) -> None:
    """Whatever devices do: answer, fall silent, get lost, or send by themselves. What is checked is in `commit`."""
    commits = Commits(window_ms * 10**6)
    for kind, device, number in steps:
        match kind:
            case "begin" if device not in commits.scans:
                commits.begin(device)
            case "answered" if device in commits.scans:
                commits.add(number)
                commits.end(device)
            case "lost" if device in commits.scans:
                commits.end(device)
            case "notified" | "urgent":
                commits.add(number, urgent=kind == "urgent")
            case "pause":
                commits.loop.advance(number / 1e3)
        # Nothing is left that should have been sealed.
        assert not commits.added or commits.waited_s < max(commits.window_s, commits.limit_s) + 1e-9
        assert not commits.added or commits.waited_s < commits.window_s + 1e-9 or commits.scans
    commits.loop.advance(3.0)

    assert not commits.added
    assert [block for _, blocks in commits.committed for block in blocks] == list(range(commits.blocks))
    assert not commits.loop.timers


def test_a_volley_is_one_commit_although_it_answers_after_the_window() -> None:
    commits = Commits(20 * 10**6)
    for device in "abc":
        commits.begin(device)
    for device in "abc":
        commits.loop.advance(0.015)
        commits.add(1_000)
        commits.end(device)

    assert commits.committed == [(pytest.approx(0.045), [0, 1, 2])]


def test_a_device_that_takes_seconds_holds_no_commit() -> None:
    """Not even for the twentieth of an interval for which it could."""
    commits = Commits(20 * 10**6)
    commits.begin("slow")
    commits.loop.advance(1.0)
    commits.add(1_000)
    commits.loop.advance(0.5)

    assert commits.committed == [(pytest.approx(1.02), [0])]


def test_a_device_that_falls_silent_holds_a_commit_for_a_twentieth_of_the_interval() -> None:
    commits = Commits(20 * 10**6)
    commits.begin("silent")
    commits.add(1_000)
    commits.loop.advance(0.5)

    assert commits.committed == [(pytest.approx(0.05), [0])]


def test_a_shorter_interval_that_joins_a_waiting_commit_ends_it_earlier() -> None:
    commits = Commits(20 * 10**6)
    commits.begin("silent")
    commits.add(60_000)
    commits.loop.advance(0.03)
    commits.add(1_000)
    commits.loop.advance(5.0)

    assert commits.committed == [(pytest.approx(0.05), [0, 1])]


@given(st.lists(st.integers(1, 30_000), min_size=1) | st.lists(st.integers(15_000, 30_000), min_size=40))
def test_records_and_commits_are_bounded_or_of_one_block(sizes: list[int]) -> None:
    commits: list[list[list[int]]] = []
    window = CommitWindow(0, lambda: commits.append(sizes_of(window.take())), VirtualLoop())

    def sizes_of(records: list[list[SampleBlock]]) -> list[list[int]]:
        return [[sizes[block.group] for block in record] for record in records]

    for number, size in enumerate(sizes):
        window.add(SampleBlock(number, 0, 0, ()), size, interval_ns=1, urgent=False, is_idle=False)
    commits.append(sizes_of(window.take()))

    assert [size for commit in commits for record in commit for size in record] == sizes
    for commit in commits:
        assert all(sum(record) <= HARD_BYTES for record in commit)
        assert all(sum(record) + after[0] > HARD_BYTES for record, after in pairwise(commit))
        assert sum(map(sum, commit)) < COMMIT_BYTES + HARD_BYTES
    assert all(sum(map(sum, commit)) >= COMMIT_BYTES for commit in commits[:-1])
