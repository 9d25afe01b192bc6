from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge.model import SampleBlock
from edge.recorder.commit_window import HARD_BYTES, SOFT_BYTES, CommitWindow, encoded_bytes
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


@given(st.lists(st.integers(1, 30_000), min_size=1))
def test_a_commit_is_bounded_by_its_hard_limit_or_by_its_first_block(sizes: list[int]) -> None:
    block = SampleBlock(0, 0, 0, ())
    commits: list[tuple[int, int]] = []

    def commit() -> None:
        size_bytes = window.size_bytes
        commits.append((len(window.take()), size_bytes))
        assert window.size_bytes == 0

    window = CommitWindow(0, commit)
    for size in sizes:
        window.add(block, size, urgent=False, is_idle=False)
        assert window.size_bytes < SOFT_BYTES

    assert all(count == 1 or size_bytes <= HARD_BYTES for count, size_bytes in commits)
    left = len(window.take())
    assert sum(count for count, _ in commits) + left == len(sizes)
