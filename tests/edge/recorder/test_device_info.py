"""What devices say goes on record where the configuration is silent, and is the same after a restart."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import Catalogue, CatalogueGroup, CatalogueTag, DataType, Identity, TagMetadata
from edge.recorder.device_info import DeviceInfo, bounded, with_metadata
from edge.seal import (
    Calibration,
    Calibrations,
    CataloguePart,
    Data,
    EncodedCatalogue,
    Identities,
    KnownDevice,
    catalogue_digest,
    encode_calibrations,
    join_catalogue,
)

FLOAT = CatalogueTag(name="t", data_type=DataType.FLOAT32, address="1")
MODE = CatalogueTag(name="mode", data_type=DataType.INT32, address="2")
GROUP = CatalogueGroup(device="mixer", name="fast", interval_ns=1, tags=(FLOAT, MODE))
CATALOGUE = Catalogue(path="p", groups=(GROUP, replace(GROUP, device="pump")))
SAID = (
    TagMetadata(unit="Cel", range=(0, 120), description="temperature"),
    TagMetadata(texts=((0, "off"), (1, "on"))),
)
ACME = Identity(vendor="Acme", serial="77", more=(("revision", "B"),))


def test_a_device_fills_in_what_the_configuration_leaves_open() -> None:
    temperature, mode = with_metadata(GROUP, SAID).tags

    assert (temperature.unit, temperature.range, temperature.description) == ("Cel", (0, 120), "temperature")
    assert mode.texts == ((0, "off"), (1, "on"))


def test_what_the_configuration_says_stays() -> None:
    written = replace(FLOAT, unit="degF", range=(1, 2), description="ours")
    scaled = replace(FLOAT, scale=0.1)
    text = replace(FLOAT, data_type=DataType.TEXT)
    group = replace(GROUP, tags=(written, scaled, text))
    everything = replace(SAID[0], texts=((1, "x"),))

    found = with_metadata(group, (everything,) * 3).tags

    assert found[0] == replace(written, texts=((1, "x"),))
    # The device's unit describes the value before it is scaled.
    assert (found[1].unit, found[1].range, found[1].texts) == ("", None, ())
    assert (found[2].unit, found[2].texts) == ("", ())


def test_metadata_of_another_number_of_tags_are_ignored() -> None:
    assert with_metadata(GROUP, SAID[:1]) is GROUP


numbers = st.floats() | st.integers(-(2**70), 2**70)
anything = st.builds(
    TagMetadata, unit=st.text(st.characters(), max_size=300), description=st.text(st.characters(), max_size=3000),
    range=st.none() | st.tuples(st.floats(), st.floats()),
    texts=st.lists(st.tuples(st.integers(-(2**70), 2**70), st.text(st.characters(), max_size=99))).map(tuple),
)  # fmt: skip


@given(metadata=anything)
def test_any_metadata_can_be_sealed(metadata: TagMetadata) -> None:
    cut = bounded(metadata)
    wanted = Catalogue(path="p", groups=(with_metadata(replace(GROUP, tags=(FLOAT,)), (cut,)),))

    assert bounded(cut) == cut
    assert all(len(part) < 60_000 for part in EncodedCatalogue.of(wanted).payloads)


def test_an_enumeration_without_end_is_cut() -> None:
    endless = TagMetadata(texts=tuple((n, "€" * 2000) for n in range(10_000)))

    assert len(str(bounded(endless).texts)) < 10_000


# Across restarts


async def read(path: Path, configured: Catalogue) -> DeviceInfo:
    return await asyncio.to_thread(DeviceInfo, path, configured)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "learned.json"


async def test_device_info_is_known_after_a_restart(path: Path) -> None:
    info = await read(path, CATALOGUE)
    info.set_identity("mixer", ACME, 5)
    info.set_tag_metadata(0, SAID)
    await info.update()

    again = await read(path, CATALOGUE)

    assert again.devices == (KnownDevice("mixer", ACME, 5),)
    assert again.catalogue == info.catalogue != CATALOGUE
    assert catalogue_digest(again.catalogue) == catalogue_digest(info.catalogue)


async def test_the_same_again_changes_nothing_and_something_else_does(path: Path) -> None:
    info = await read(path, CATALOGUE)
    catalogues: list[Catalogue] = []
    info.on_catalogue = lambda _: catalogues.append(info.catalogue)
    for metadata in (SAID, SAID, (TagMetadata(), TagMetadata()), (), SAID[::-1]):
        info.set_tag_metadata(0, metadata)
        await info.update()

    assert len(catalogues) == 3
    assert catalogues[0].groups[1] == catalogues[1].groups[1] == CATALOGUE.groups[1]
    assert catalogues[1] == CATALOGUE


async def test_what_was_said_of_other_tags_or_devices_is_forgotten(path: Path) -> None:
    info = await read(path, CATALOGUE)
    info.set_identity("mixer", ACME, 5)
    info.set_tag_metadata(0, SAID)
    await info.update()
    moved = Catalogue(path="p", groups=(replace(GROUP, tags=(replace(FLOAT, address="9"), MODE)),))
    renamed = Catalogue(path="p", groups=(replace(GROUP, device="tank"),))

    assert (await read(path, moved)).catalogue == moved
    assert (await read(path, renamed)).devices == ()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"devices": [[1]]}', b"\xff"])
def test_a_damaged_file_costs_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)

    assert DeviceInfo(path, CATALOGUE).catalogue == CATALOGUE


async def test_a_disk_that_refuses_costs_nothing(tmp_path: Path) -> None:
    info = await read(tmp_path / "missing" / "learned.json", CATALOGUE)
    info.set_tag_metadata(0, SAID)

    await info.update()

    assert info.catalogue.groups[0].tags[0].unit == "Cel"


# On record


async def test_data_refers_to_the_catalogue_that_was_sealed_before_it(machine: Any) -> None:
    async with machine.recording() as recording:
        recording.recorder.add_block(recording.block())
        recording.recorder.change_catalogue(EncodedCatalogue.of(CATALOGUE))
        recording.recorder.add_block(recording.block())
        await recording.recorder.close()

    contents = machine.contents()
    before, after = [each.digest for each in contents if isinstance(each, CataloguePart)]
    assert [each.catalogue for each in contents if isinstance(each, Data)] == [before, after]
    order = [type(each).__name__ for each in contents]
    assert order == ["Epoch", "CataloguePart", "Data", "CataloguePart", "Data", "Checkpoint", "Stop"]
    assert join_catalogue([contents[3]]) == CATALOGUE


async def test_an_identity_is_sealed_at_once_and_again_with_the_catalogue(machine: Any) -> None:
    async with machine.recording() as recording:
        recording.recorder.record_identity(KnownDevice("mixer", ACME, 5))
        recording.recorder.record_identity(KnownDevice("mixer", replace(ACME, serial="78"), 6))
        recording.recorder.repeat_catalogue()
        await recording.recorder.close()

    contents = machine.contents()
    [part, *_] = [each for each in contents if isinstance(each, CataloguePart)]
    identities = [each for each in contents if isinstance(each, Identities)]
    assert [known.identity.serial for each in identities for known in each.devices] == ["77", "78", "78"]
    assert {each.digest for each in identities} == {part.digest}


async def test_calibrations_are_sealed_before_each_catalogue_and_renewed_ones_change_no_digest(machine: Any) -> None:
    old, new = (Calibrations("p", (Calibration("mixer", "level", certificate=name),)) for name in ("C-1", "C-2"))
    async with machine.recording() as recording:
        encoded = EncodedCatalogue.of(CATALOGUE)
        for held in (old, new):
            payloads = encode_calibrations(held)
            recording.recorder.change_configuration(encoded, CATALOGUE, [KnownDevice("mixer", ACME, 5)], payloads)
        recording.recorder.repeat_catalogue()
        await recording.recorder.close()

    sealed = [each for each in machine.contents() if isinstance(each, CataloguePart | Calibrations | Identities)]
    kinds = ["Calibrations", "CataloguePart", "Identities"]
    assert [type(each).__name__ for each in sealed] == ["CataloguePart", *kinds, *kinds, *kinds]
    assert [each for each in sealed if isinstance(each, Calibrations)] == [old, new, new]
    assert {each.digest for each in sealed[1:] if isinstance(each, CataloguePart)} == {encoded.digest}
