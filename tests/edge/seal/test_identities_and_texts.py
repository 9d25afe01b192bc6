"""Identities of devices and texts of tags are sealed with the catalogue, whatever a device sends."""

from __future__ import annotations

from typing import Any

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.model import (
    IDENTITY_MORE_LIMIT,
    IDENTITY_TEXT_LIMIT,
    Catalogue,
    CatalogueGroup,
    CatalogueTag,
    DataType,
    Identity,
)
from edge.seal import (
    CataloguePart,
    EncodedCatalogue,
    Identities,
    KnownDevice,
    Malformed,
    RecordType,
    catalogue_digest,
    decode,
    encode_identities,
    join_catalogue,
)
from edge.seal.record import MAX_PAYLOAD_BYTES

DIGEST = bytes(range(8))

anything = st.text(st.characters(), max_size=2 * IDENTITY_TEXT_LIMIT)
identities = st.builds(
    Identity, vendor=anything, product=anything, firmware=anything, serial=anything,
    more=st.lists(st.tuples(anything, anything), max_size=2 * IDENTITY_MORE_LIMIT).map(tuple),
)  # fmt: skip
known = st.builds(
    KnownDevice,
    device=st.text(max_size=9),
    identity=identities.map(Identity.bounded),
    since_ns=st.integers(-(2**63), 2**63 - 1),
)


def back(payload: bytes) -> Identities:
    content = decode(RecordType.CATALOG, payload)
    assert isinstance(content, Identities)
    return content


@given(devices=st.lists(known, min_size=1, max_size=4))
def test_identities_come_back_as_they_were(devices: list[KnownDevice]) -> None:
    read = [back(payload) for payload in encode_identities(DIGEST, "acme/basel", devices)]

    assert [each for part in read for each in part.devices] == devices
    assert {(part.digest, part.path) for part in read} == {(DIGEST, "acme/basel")}


@given(identity=identities)
def test_an_identity_is_cut_to_its_limits_once(identity: Identity) -> None:
    cut = identity.bounded()

    assert cut.bounded() == cut
    assert max(map(len, cut.texts.values())) <= IDENTITY_TEXT_LIMIT
    assert len(cut.more) <= IDENTITY_MORE_LIMIT


def test_the_identities_of_a_large_site_travel_in_records_that_fit() -> None:
    loud = Identity(vendor="€" * 500, more=tuple((f"{n}" * 99, "€" * 500) for n in range(99))).bounded()
    payloads = encode_identities(DIGEST, "p", [KnownDevice(f"d{n}", loud, n) for n in range(9)])

    assert max(map(len, payloads)) < 60_000 < MAX_PAYLOAD_BYTES
    assert [each.device for payload in payloads for each in back(payload).devices] == [f"d{n}" for n in range(9)]


def test_identities_of_no_device_are_not_sealed() -> None:
    assert encode_identities(DIGEST, "p", []) == []


def test_the_form_of_identities() -> None:
    """Bytes that a reader of another language can be tried with."""
    acme = Identity(vendor="Acme", product="P-1", firmware="2.4", serial="77", more=(("revision", "B"),))
    [payload] = encode_identities(DIGEST, "p", [KnownDevice("pump", acme, 5)])

    assert payload.hex() == (
        "a6014800010203040506070200030004800561700681876470756d706441636d6563502d3163322e34623737"
        "a1687265766973696f6e614205"
    )


PAYLOAD = {1: DIGEST, 2: 0, 3: 0, 4: [], 5: "p", 6: [["d", "v", "p", "f", "s", {}, 0]]}


@pytest.mark.parametrize(
    "member",
    [
        {1: b""}, {2: 1}, {3: 1}, {4: [[0, "d", "g", 1, []]]}, {5: 5}, {6: []}, {6: None}, {0: 0},
        {6: [["d", "v", "p", "f", "s", {}]]}, {6: [["d", "v", "p", "f", "s", [], 0]]},
        {6: [["d", "v", "p", "f", 1, {}, 0]]}, {6: [["d", "v", "p", "f", "s", {1: "x"}, 0]]},
        {6: [["d", "v" * (IDENTITY_TEXT_LIMIT + 1), "p", "f", "s", {}, 0]]},
        {6: [["d", "v", "p", "f", "s", {str(n): "" for n in range(IDENTITY_MORE_LIMIT + 1)}, 0]]},
        {6: [["d", "v", "p", "f", "s", {}, 2**63]]},
    ],
)  # fmt: skip
def test_another_form_is_malformed(member: dict[int, Any]) -> None:
    assert decode(RecordType.CATALOG, cbor2.dumps(PAYLOAD, canonical=True))

    with pytest.raises(Malformed):
        decode(RecordType.CATALOG, cbor2.dumps(PAYLOAD | member, canonical=True))


# Texts of enumerations


def catalogue(texts: tuple[tuple[int, str], ...]) -> Catalogue:
    tag = CatalogueTag(name="state", data_type=DataType.INT32, address="4", texts=texts)
    return Catalogue(path="p", groups=(CatalogueGroup(device="d", name="g", interval_ns=1, tags=(tag,)),))


@given(texts=st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.text(max_size=9), max_size=9))
def test_the_texts_of_an_enumeration_come_back(texts: dict[int, str]) -> None:
    wanted = catalogue(tuple(sorted(texts.items())))
    parts = [decode(RecordType.CATALOG, payload) for payload in EncodedCatalogue.of(wanted).payloads]

    assert join_catalogue([part for part in parts if isinstance(part, CataloguePart)]) == wanted


def test_a_catalogue_without_texts_keeps_the_digest_that_it_always_had() -> None:
    assert catalogue_digest(catalogue(())).hex() == "2e986acdf2a261a7"


@pytest.mark.parametrize("texts", [[], [1], ["a", 1], [1, "a", 1, "b"], [2, "b", 1, "a"], [2**63, "x"], None])
def test_texts_in_another_form_are_malformed(texts: object) -> None:
    """Each list has one encoding, or a catalogue would have two digests."""
    [payload] = EncodedCatalogue.of(catalogue(())).payloads
    whole = cbor2.loads(payload)
    whole[4][0][4][0].append(texts)

    with pytest.raises(Malformed):
        decode(RecordType.CATALOG, cbor2.dumps(whole, canonical=True))
