"""Payloads that are packed with zlib and zstd, and the limits of what they may hold."""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence

from tests.support.vectors.content import BLOCK, FLOATS, TAG, bad, bads, begin, case, catalog, data, good
from tests.support.vectors.wire import CATALOG, DATA, EVENT, ZLIB, ZSTD, Case, Chain, Tag, cbor

MIB = 2**20
ITEMS = 100_000

# Packed by the libraries. They are kept here, for another release may pack otherwise.
SCANS = [BLOCK, [0, 0, 10**8, 900, [FLOATS], []], [0, 0, 2 * 10**8, 900, [FLOATS], []]]
ZLIB_DATA = bytes.fromhex(
    "78da5bca282d3e7dce3f332d06062649e617cc6b1819991899a51898791d582419bfb002c5d8202a34ff48b0337048a8723abb0704733172"
    "7fe37149cacf2f61f16060646266616563676d6e63606090646e69bc11eac1c0d0600fe4393400c5a458bf3ec42acefdfa10863800a1b322"
    "a2"
)
ZSTD_DATA = bytes.fromhex(
    "28b52ffd20919503005406a5011b17979cfe362a0000021903e803ac01010201031a00030d40041901f4051903e80629fc18070008182509"
    "434750530a010bf60c44626f6f740448000102030405060705838600000019038481d855480000803f00000040808600001a05f5e10bebc2"
    "0300601ebef34396413d01"
)
ZLIB_CATALOG = bytes.fromhex(
    "78da5bcae8c1c0c8c4ccc2cac6cec4c0ccc8d2d8ca905a9093ac6b989296585c22c5faf5214353774a5a4e7e3967aa89818181614aaeb17e"
    "c64f0b869f0c0c4d40fc33cce1a709038334030303ef0ff70886ccb4d4d4148582d2dc82ee8c82a2d4e2e2d2a2545275b2e614e424e695e8"
    "e764e6a5ea9a0000197a327b"
)
ZSTD_CATALOG = bytes.fromhex(
    "28b52ffd20a2d503002407a501480001020304050607020003010481850065706c632d3164666173741a05f5e100828b64666c6f77096534"
    "30303031646d332f68f93800f9000082f90000f95640f93400001b0000000df847580069666565642070756d708b68707265737375726505"
    "6c706c616e742f6c696e652d340100643d5251"
)
ZLIB_MIB = bytes.fromhex(
    "78daedcab16942511880d1ffbefb9e266a48199fd62974006b41212903e92c5dc026034408ae90c64eec1cc8111c40ac440d640ccf293fbe"
    "6deabffcae2fa3614451e743dea554a4dc8bfc342eeb74acfe5ae3ff189cbbcd78e8be3e4ede3e3e5ba97dea4ce78bc557f91ea9c865d568"
    "56cb5544d4f967b91fcfe2f9ba09"
) + bytes(1015) + bytes.fromhex("e01e7cdf007f861652")  # fmt: skip
ZLIB_MIB_AND_1 = bytes.fromhex(
    "78daedcab14d42511880d1ffbefb1e28602ce5416d0103509340a2a5891d250bd038802486156c28a1632046600042450013c7e09cf2cbb7"
    "4dfd97dff565348c28ea7cc8bb948a947b919fc6659d8ed55f6bfc1f8373b7190fddd7c7c9dbc7672bb54f9de97cb1f82adf2315b9ac1acd"
    "6ab98a883aff2cf7e3593c5f3701"
) + bytes(1015) + bytes.fromhex("dc85ef1b95ee1653")  # fmt: skip


def cases() -> Iterator[Case]:
    """Packed payloads."""
    line = begin()
    yield from _good(line)
    yield from _limits(line)
    yield from _bad(line)


def _stored(payload: bytes) -> bytes:
    """A zlib stream of one block that is not compressed (RFC 1951, 3.2.4)."""
    sizes = len(payload).to_bytes(2, "little") + (len(payload) ^ 0xFFFF).to_bytes(2, "little")
    return b"\x78\x01\x01" + sizes + payload + zlib.adler32(payload).to_bytes(4, "big")


def zstd_frame(*blocks: tuple[bytes, int], size: int | None = None) -> bytes:
    """A zstd frame (RFC 8878, 3.1.1): blocks of bytes as they are, or of one byte many times."""
    pieces = [b"\x28\xb5\x2f\xfd", b"\x00\x50" if size is None else b"\xa0" + size.to_bytes(4, "little")]
    for number, (content, times) in enumerate(blocks, 1):
        is_run = len(content) == 1 and times > 1
        count = times if is_run else len(content)
        pieces += [(count << 3 | is_run << 1 | (number == len(blocks))).to_bytes(3, "little"), content]
    return b"".join(pieces)


def runs(payload: bytes, run: bytes) -> list[tuple[bytes, int]]:
    """A payload as blocks, where most of it is one byte many times."""
    start = payload.index(run * 1000)
    end = payload.rindex(run * 1000) + 1000
    full, rest = divmod(end - start, 2**17)
    return [(payload[:start], 1), *[(run, 2**17)] * full, (run, rest), (payload[end:], 1)]


def _zeros(size: int) -> bytes:
    """A DATA payload of some size, most of it zeros."""
    empty = cbor(data([0, 0, 0, 900, [Tag(64, b"")], []]))
    payload = cbor(data([0, 0, 0, 900, [Tag(64, bytes(size - len(empty) - 4))], []]))
    assert len(payload) == size
    return payload


def _texts(items: int) -> bytes:
    """A DATA payload of some items, most of them empty texts."""
    # The map of 5 members, TQ of 12, three arrays, kind, group, dt, rtt and status.
    others = 1 + 2 * 5 - 1 + 2 * 12 + 3 + 5 + 1
    return cbor(data([0, 0, 0, 900, [[""] * (items - others)], []]))


def _good(line: Chain) -> Iterator[Case]:
    scans, groups = cbor(data(*SCANS)), cbor(catalog(TAG, ["pressure", *TAG[1:]]))
    for slug, what, record in (
        ("zlib-data", "A DATA packed with zlib.", line.make(DATA, ZLIB_DATA, enc=ZLIB)),
        ("zstd-data", "A DATA packed with zstd.", line.make(DATA, ZSTD_DATA, enc=ZSTD)),
        ("zlib-catalog", "A CATALOG packed with zlib.", line.make(CATALOG, ZLIB_CATALOG, enc=ZLIB)),
        ("zstd-catalog", "A CATALOG packed with zstd.", line.make(CATALOG, ZSTD_CATALOG, enc=ZSTD)),
        ("zlib-stored", "A zlib stream that compresses nothing.", line.make(DATA, _stored(scans), enc=ZLIB)),
        ("zstd-raw", "A zstd frame that compresses nothing.",
         line.make(CATALOG, zstd_frame((groups, 1), size=len(groups)), enc=ZSTD)),
        ("zstd-no-size", "A zstd frame that does not say how large its content is.",
         line.make(DATA, zstd_frame((scans[:80], 1), (scans[80:], 1)), enc=ZSTD)),
    ):  # fmt: skip
        yield good(f"packed/{slug}", what, record)


def _limits(line: Chain) -> Iterator[Case]:
    exact, more = _zeros(MIB), _zeros(MIB + 1)
    assert (zlib.decompress(ZLIB_MIB), zlib.decompress(ZLIB_MIB_AND_1)) == (exact, more)
    few, many = _texts(ITEMS), _texts(ITEMS + 1)
    yield good("limits/zlib-1-mib", "Exactly 1 MiB, packed with zlib.", line.make(DATA, ZLIB_MIB, enc=ZLIB))
    yield bad("limits/zlib-1-mib-and-1", "A byte more than 1 MiB, packed with zlib.",
              line.make(DATA, ZLIB_MIB_AND_1, enc=ZLIB))  # fmt: skip
    for slug, what, frame in (
        ("zstd-1-mib", "Exactly 1 MiB, packed with zstd.", zstd_frame(*runs(exact, b"\x00"), size=MIB)),
        ("zstd-1-mib-no-size", "Exactly 1 MiB, packed with zstd without its size.", zstd_frame(*runs(exact, b"\x00"))),
        ("items", "Exactly 100,000 items.", zstd_frame(*runs(few, b"\x60"), size=len(few))),
    ):
        yield good(f"limits/{slug}", what, line.make(DATA, frame, enc=ZSTD))
    for slug, what, frame in (
        ("zstd-1-mib-and-1", "A byte more than 1 MiB, packed with zstd.",
         zstd_frame(*runs(more, b"\x00"), size=MIB + 1)),
        ("zstd-1-mib-and-1-no-size", "A byte more than 1 MiB, packed with zstd without its size.",
         zstd_frame(*runs(more, b"\x00"))),
        ("zstd-1-mib-and-1-wrong-size", "A byte more than 1 MiB in a frame that says 1 MiB.",
         zstd_frame(*runs(more, b"\x00"), size=MIB)),
        ("zstd-bomb", "Sixteen megabytes in 500 bytes.", zstd_frame(*[(b"\x00", 2**17)] * 128)),
        ("zstd-size-only", "A frame that says four gigabytes, and holds a byte.",
         zstd_frame((b"\xa0", 1), size=2**32 - 1)),
        ("items-and-1", "An item more than 100,000.", zstd_frame(*runs(many, b"\x60"), size=len(many))),
    ):  # fmt: skip
        yield bad(f"limits/{slug}", what, line.make(DATA, frame, enc=ZSTD))


def _bad(line: Chain) -> Iterator[Case]:
    scans = cbor(data(*SCANS))
    stored, raw = _stored(scans), zstd_frame((scans, 1), size=len(scans))
    empty_frame = zstd_frame((b"", 1), size=0)
    zlib_payloads: Sequence[tuple[str, str, Sequence[bytes]]] = (
        ("end", "A zlib stream without its last byte, half of one, one that a byte follows.",
         [ZLIB_DATA[:-1], ZLIB_DATA[: len(ZLIB_DATA) // 2], ZLIB_DATA + b"\x00"]),
        ("two", "Two zlib streams, each a payload, and both together one.",
         [stored + stored, _stored(scans[:80]) + _stored(scans[80:])]),
        ("header", "Another checksum, no header, a wrong one, one with a dictionary, a gzip file.",
         [stored[:-1] + bytes((stored[-1] ^ 1,)), stored[2:-4], b"\x78\x02" + stored[2:],
          b"\x78\x20" + bytes(4) + stored[2:], b"\x1f\x8b\x08" + bytes(6) + b"\xff" + stored[2:-4]
          + zlib.crc32(scans).to_bytes(4, "little") + len(scans).to_bytes(4, "little")]),
        ("other", "Not zlib: a plain payload, a zstd frame, no bytes.", [scans, ZSTD_DATA, b""]),
        ("content", "A zlib stream of nothing, of what is not CBOR, of a zlib stream.",
         [_stored(b""), _stored(b"\xff" * 20), _stored(ZLIB_DATA)]),
    )  # fmt: skip
    zstd_payloads: Sequence[tuple[str, str, Sequence[bytes]]] = (
        ("end", "A zstd frame without its last byte, half of one, one that a byte follows.",
         [ZSTD_DATA[:-1], ZSTD_DATA[: len(ZSTD_DATA) // 2], ZSTD_DATA + b"\x00"]),
        ("two", "Two zstd frames: each a payload, both together one, one of them empty, one of them skippable.",
         [raw + raw, zstd_frame((scans[:80], 1), size=80) + zstd_frame((scans[80:], 1), size=len(scans) - 80),
          raw + empty_frame, raw + b"\x50\x2a\x4d\x18" + bytes(4)]),
        ("size", "A zstd frame that holds a byte more or less than it says.",
         [zstd_frame((scans, 1), size=len(scans) - 1), zstd_frame((scans, 1), size=len(scans) + 1)]),
        ("header", "A zstd block of the reserved type, and another magic number.",
         [raw[:9] + bytes((raw[9] | 6,)) + raw[10:], b"\x27" + raw[1:]]),
        ("other", "Not zstd: a plain payload, a zlib stream, no bytes.", [scans, ZLIB_DATA, b""]),
        ("content", "A zstd frame of nothing, and of what is not CBOR.",
         [empty_frame, zstd_frame((b"\xff" * 20, 1), size=20)]),
    )  # fmt: skip
    for enc, name, payloads in ((ZLIB, "zlib", zlib_payloads), (ZSTD, "zstd", zstd_payloads)):
        for slug, what, wrong in payloads:
            yield bads(f"packed/{name}-{slug}", what, [line.make(DATA, each, enc=enc) for each in wrong])
    records = [line.make(DATA, payload) for payload in (ZLIB_DATA, ZSTD_DATA)] + [line.make(EVENT, _stored(scans))]
    yield case("packed/not-said", "Packed payloads that are said to be plain.", [*line.records, *records], "AGGG")
