"""What is exported is what was sealed, in every format and of every type."""

from __future__ import annotations

import struct
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge.model import (
    NO_TIME,
    Catalogue,
    CatalogueGroup,
    CatalogueTag,
    DataType,
    SampleBlock,
    Vector,
    in_unit,
    name_of,
    shown_status,
    status_runs,
)
from tests.edge.export.conftest import Row, export
from tests.edge.report.conftest import S, Site
from tests.support.chains import BOOT_NS, TIME, UTC_NS

KNOWN = [each for each in DataType if each.is_known]
CODES = [0, 0, 0, 0x40940000, 0x80310000, 0x80AB0000]
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8) | st.sampled_from(
    ["", '"', "a,b", "a\nb", "\r\n", "nul\0", "NULL", " ", "'", "°C"]
)


@st.composite
def vectors(draw: st.DrawFn, kind: DataType, count: int) -> Vector:
    if kind is not DataType.TEXT:
        return draw(arrays(kind.numpy, count))
    texts = np.empty(count, object)
    texts[:] = draw(st.lists(TEXTS, min_size=count, max_size=count))
    return texts


@st.composite
def scans(draw: st.DrawFn) -> tuple[Catalogue, list[SampleBlock]]:
    """A scan group of any types, and a few blocks of it, complete or of changes."""
    kinds = draw(st.lists(st.sampled_from(KNOWN), min_size=1, max_size=6))
    tags = tuple(
        CatalogueTag(
            name=f'tag "{n}", {kind.label}', data_type=kind, address="1", unit=draw(st.sampled_from(["", "Cel", "m3"])),
            scale=draw(st.sampled_from([1.0, 1.0, 0.1, -3.0])) if kind.is_number else 1.0,
        )
        for n, kind in enumerate(kinds)
    )  # fmt: skip
    group = CatalogueGroup(device="mixer", name="fast", interval_ns=S, tags=tags)
    blocks = []
    for second in range(draw(st.integers(1, 3))):
        codes = np.array(draw(st.lists(st.sampled_from(CODES), min_size=len(kinds), max_size=len(kinds))), np.uint32)
        is_complete, has_times = draw(st.booleans()), draw(st.booleans())
        positions = [
            np.array([at for at in range(len(tags)) if is_complete or draw(st.booleans())], np.uint16)
            for tags in group.layout.members
        ]
        found = tuple(
            draw(vectors(kind, len(places)))
            for kind, places in zip(group.layout.vector_types, positions, strict=True)
        )  # fmt: skip
        times = tuple(
            np.array([draw(st.just(NO_TIME) | st.integers(0, 2**61)) for _ in each], np.int64) for each in found
        )
        at_ns = BOOT_NS + second * S
        blocks.append(SampleBlock(0, at_ns, at_ns + 2 * draw(st.integers(0, 10**6)) // 1000 * 1000, found,
                                  None if is_complete else tuple(positions), status_runs(codes),
                                  times if has_times else None,
                                  context=draw(st.sampled_from([(), (7,), (0,), (7, 9)]))))  # fmt: skip
    return Catalogue(path="p", groups=(group,)), blocks


def expected(catalogue: Catalogue, blocks: list[SampleBlock], *, is_raw: bool) -> Iterator[Row]:
    """One by one, by the scalar functions, what was sealed."""
    [group] = catalogue.groups
    for number, block in enumerate(blocks):
        codes = {tag: code for first, count, code in block.status for tag in range(first, first + count)}
        values: dict[int, tuple[Any, int]] = {}
        for vector, members in enumerate(group.layout.members):
            places = range(len(members)) if block.positions is None else block.positions[vector].tolist()
            for at, place in enumerate(places):
                time = NO_TIME if block.source_times is None else int(block.source_times[vector][at])
                values[int(members[place])] = block.vectors[vector][at], time
        for tag in {*values, *(tag for tag, code in codes.items() if code >= 2**31)}:
            about, code = group.tags[tag], codes.get(tag, 0)
            raw, time = values.get(tag, (None, NO_TIME))
            row = {"tag": about.name, "type": about.data_type.label, "seq": 2 + number, "block": 0, "row": 0,
                   "gateway": "line-4", "device": "mixer", "verdict": "AUTHENTIC", "status": name_of(code),
                   "ns": UTC_NS + block.sampled_at_ns - BOOT_NS}  # fmt: skip
            row |= zip(("context", "context_before"), reversed(block.context), strict=False)
            row["bound_ns"] = (block.answered_at_ns - block.asked_at_ns) // 2 + (
                TIME.bound_at(block.sampled_at_ns) or 0
            )
            if about.unit and (not is_raw or about.scale == 1):
                row["unit"] = about.unit
            if code < 2**31:
                shown = in_unit(raw, 1 if is_raw else about.scale)
                row |= {"value": shown, "status": name_of(shown_status(code, shown))}
                if time != NO_TIME:
                    row["source_ns"] = time
            yield row


def key(row: Row) -> tuple[Any, ...]:
    return row["seq"], row["tag"]


def nanoseconds(text: Any) -> int:
    return int(np.datetime64(str(text).rstrip("Z"), "ns").astype(np.int64))


def comparable(row: Row, form: str) -> Row:
    """A row of a file in the terms of `expected`."""
    row = {name: each for name, each in row.items() if name not in ("epoch", "quality", "label")}
    row["ns"] = nanoseconds(row.pop("time"))
    if "source_time" in row:
        row["source_ns"] = nanoseconds(row.pop("source_time"))
    value, text = row.pop("value", None), row.pop("value_text", None)
    for name in ("seq", "block", "row", "bound_ns", "context", "context_before"):
        if name in row:
            row[name] = int(row[name])
    kind = next(each for each in DataType if each.label == row["type"])
    if kind is DataType.TEXT:
        value = text
    elif text is not None and value not in (None, ""):
        # What no float64 says stands beside it as a text, and in a CSV in the number as well.
        assert form != "csv" or value == text
        value = float(text) if "N" in text or "y" in text else int(text)
    elif text is not None:
        value = float(text)
    if value is not None:
        row["value"] = value
    return row


def same(found: Any, sealed: Any) -> bool:
    """A number is the same float64, or the same integer."""
    if isinstance(sealed, str):
        return bool(found == sealed)
    if isinstance(found, str):
        found = float(found) if isinstance(sealed, float) else int(float(found)) if "." in found else int(found)
    return struct.pack("d", found) == struct.pack("d", sealed) or (found == found and found == sealed)


@pytest.mark.requirement("REQ-ARCH-03")
@pytest.mark.parametrize("form", ["csv", "json"])
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(made=scans(), is_raw=st.booleans())
def test_every_value_is_exported_as_it_was_sealed(
    form: str, made: tuple[Catalogue, list[SampleBlock]], is_raw: bool
) -> None:
    check(form, *made, is_raw=is_raw)


@pytest.mark.requirement("REQ-ARCH-03")
@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(made=scans(), is_raw=st.booleans())
def test_every_value_is_in_parquet_as_it_was_sealed(made: tuple[Catalogue, list[SampleBlock]], is_raw: bool) -> None:
    check("parquet", *made, is_raw=is_raw)


def check(form: str, catalogue: Catalogue, blocks: list[SampleBlock], *, is_raw: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "archive").mkdir()
        site = Site(Path(folder) / "archive", catalogue=catalogue)
        for second, block in enumerate(blocks):
            site.block(second, block)
        site.write()
        found = [comparable(row, form) for row in export(site, form, *(["--raw"] if is_raw else []))]
    wanted = list(expected(catalogue, blocks, is_raw=is_raw))
    assert len(found) == len(wanted)
    for row, sealed in zip(sorted(found, key=key), sorted(wanted, key=key), strict=True):
        value, meant = row.pop("value", None), sealed.pop("value", None)
        assert row == sealed
        assert (value is None and meant in (None, "")) or same(value, meant), (value, meant)
