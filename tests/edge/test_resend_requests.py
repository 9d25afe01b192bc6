"""Requests to send again: whose they are cannot be forged, and a file of ranges is read as it was written."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.accounts import account_name
from edge.buffer import PosixDisk, Store
from edge.buffer.space import BufferLimits
from edge.gateway.resend import SIZE_LIMIT_BYTES, numbers_of, read_request, write_request
from edge.ranges import RecordRange, ranges_from_text, ranges_to_text
from tests.support.crash_matrix import Stored

RANGE = RecordRange("urn:tidegate:line-4", bytes(range(8)), 3, 7)
ranges = st.builds(
    lambda issuer, epoch, first, more: RecordRange(issuer, epoch, first, first + more),
    st.text(min_size=1), st.binary(min_size=8, max_size=8), st.integers(0, 2**63), st.integers(0, 2**63 - 1),
)  # fmt: skip


@given(st.lists(ranges))
def test_a_text_of_ranges_is_read_as_it_was_written_and_a_name_cannot_break_a_line(wanted: list[RecordRange]) -> None:
    read = ranges_from_text(ranges_to_text(wanted))

    assert read == [each for each in wanted if not any(c.isspace() for c in each.issuer) and each.issuer[0] != "#"]


@pytest.mark.parametrize(
    "line", ["7 8", "urn:x 0001020304050607 8 7", "urn:x 00010203 1 2", "urn:x 0001020304050607 1 2 3"]
)
def test_another_line_is_no_range(line: str) -> None:
    text = ranges_to_text([RANGE]) + line + "\n"

    with pytest.raises(ValueError, match="line 3 is not a gateway"):
        ranges_from_text(text)


def test_a_request_is_of_the_account_that_owns_the_file_and_readable_for_the_gateway(tmp_path: Path) -> None:
    before = os.umask(0o077)
    try:
        path = write_request(tmp_path, [RANGE])
    finally:
        os.umask(before)

    request = read_request(path)

    assert (request.account, request.ranges) == (account_name(os.getuid()), (RANGE,))
    assert path.stat().st_mode & 0o777 == 0o644
    assert [*tmp_path.iterdir()] == [path]


def test_a_second_name_of_a_file_is_no_request(tmp_path: Path) -> None:
    """Else the owner of any readable file could be made the one who asked."""
    path = write_request(tmp_path, [RANGE])
    os.link(path, tmp_path / "resend-2.request")
    (tmp_path / "resend-3.request").symlink_to(path)
    os.mkfifo(tmp_path / "resend-4.request")
    (tmp_path / "resend-5.request").write_bytes(b"#" * (SIZE_LIMIT_BYTES + 1))

    for number in (2, 3, 4, 5):
        with pytest.raises(ValueError, match="it is "):
            read_request(tmp_path / f"resend-{number}.request")


def test_only_what_is_stored_is_found_over_segments_and_chains(tmp_path: Path) -> None:
    store = Store(PosixDisk(tmp_path), BufferLimits(segment_bytes=1 << 20, reserve_bytes=0))
    chains = (b"a" * 8, 60), (b"b" * 8, 20)
    for epoch, count in chains:
        for seq in range(5, 5 + count):
            store.append([Stored(epoch, seq, bytes(60_000))])
            store.commit()
    store.close()

    found = numbers_of(
        tmp_path,
        [
            RecordRange("-", b"a" * 8, 0, 6),  # 0 to 4 are not stored.
            RecordRange("-", b"a" * 8, 20, 30),  # Over the end of a segment.
            RecordRange("-", b"b" * 8, 24, 2**64 - 1),
            RecordRange("-", b"c" * 8, 0, 100),
        ],
    )

    assert len([*tmp_path.glob("*.seg")]) > 4
    assert list(found) == [(0, 1), (15, 25), (79, 79)]
