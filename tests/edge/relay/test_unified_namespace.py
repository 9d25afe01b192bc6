"""What the unified namespace shows of a sample block."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import orjson
import pytest

from edge.clock import TimeQuality
from edge.model import NO_TIME, Catalogue, CatalogueGroup, CatalogueTag, DataType, SampleBlock, StatusCode, TimeKind
from edge.relay.archive import RecordLocation
from edge.relay.shapes import BlockOrigin, Messages
from edge.relay.unified_namespace import UnifiedNamespace, context_origin, origin
from edge.seal import Context, Malformed

DIGEST = b"catalog1"
NS = 10**9
NOON_NS = 1_750_000_000 * NS + 123_456_789
GROUP = CatalogueGroup(
    device="mixer",
    name="100 ms",
    interval_ns=100_000_000,
    tags=(
        CatalogueTag(name="temperature", data_type=DataType.FLOAT32, address="holding 1", unit="Cel"),
        CatalogueTag(name="speed", data_type=DataType.UINT16, address="holding 3", unit="/min", scale=0.1, offset=5),
        CatalogueTag(name="running", data_type=DataType.BOOL, address="coil 1"),
        CatalogueTag(name="batch", data_type=DataType.TEXT, address="holding 10"),
        CatalogueTag(name="count/total", data_type=DataType.UINT64, address="holding 20", at_least_every_ns=NS),
    ),
)
CATALOGUE = Catalogue(path="acme/basel/line-4", groups=(GROUP,))


def from_at(utc_ns: int = NOON_NS, *, arrived_ns: int | None = None) -> BlockOrigin:
    return BlockOrigin("00ff/7/0/0", utc_ns, 1_500, utc_ns + 1 if arrived_ns is None else arrived_ns)


def scan(temperature: float = 21.5, speed: int = 1200, *, status: Any = (), count: int = 2**63) -> SampleBlock:
    """A complete block: vectors in the order of type numbers."""
    return SampleBlock(
        group=0,
        asked_at_ns=1000,
        answered_at_ns=2001,
        vectors=(
            np.array([True]),
            np.array([speed], np.uint16),
            np.array([count], np.uint64),
            np.array([temperature], np.float32),
            np.array(["B-77"], object),
        ),
        status=status,
    )


def published(messages: Iterable[Messages]) -> list[tuple[str, bytes]]:
    """Topic and payload of each message."""
    pairs = [pair for each in messages for pair in zip(each.topics, each.payloads, strict=True)]
    return [(topic[2:].decode(), payload) for topic, payload in pairs]


def shown(view: UnifiedNamespace, block: SampleBlock, where: BlockOrigin) -> dict[str, dict[str, Any]]:
    """Payloads by tag."""
    messages = published(view.messages(DIGEST, CATALOGUE, block, where))
    return {topic.removeprefix("plant/acme/basel/line-4/mixer/"): orjson.loads(payload) for topic, payload in messages}


@pytest.fixture
def view() -> UnifiedNamespace:
    return UnifiedNamespace("plant")


POWER = CatalogueTag(name="", data_type=DataType.INT16, address="1", at_least_every_ns=NS)
SCALED = replace(
    GROUP,
    tags=(
        replace(POWER, name="power", unit="W", scale_tag="power_SF"),
        replace(POWER, name="power_SF"),
        replace(POWER, name="lost", unit="W", scale_tag="elsewhere"),
    ),
)


def power(*values: int, positions: list[int] | None = None) -> SampleBlock:
    places = None if positions is None else (np.array(positions, np.uint16),)
    return SampleBlock(0, 1, 2, (np.array(values, np.int16),), places)


@pytest.mark.requirement("REQ-TYPE-03")
def test_a_value_is_shown_with_the_scale_of_its_own_block() -> None:
    """The scale moves in operation, also while the raw value stays."""
    view, catalogue = UnifiedNamespace("plant"), Catalogue(path="p", groups=(SCALED,))
    blocks = [power(1234, -1, 5), power(1234, 1, 5), power(1234, 1, 5), power(77, 0, positions=[0, 1])]

    shown = [
        {
            topic.rpartition("/")[2]: orjson.loads(payload)["v"]
            for topic, payload in published(view.messages(DIGEST, catalogue, block, from_at(NOON_NS + number)))
        }
        for number, block in enumerate(blocks)
    ]

    assert shown == [
        {"power": 123.4, "power_SF": -1, "lost": None},
        {"power": 12340, "power_SF": 1},
        {},
        {"power": 77, "power_SF": 0},
    ]


def test_a_value_whose_scale_is_not_known_is_not_shown() -> None:
    view, catalogue = UnifiedNamespace("plant"), Catalogue(path="p", groups=(SCALED,))

    [(_, payload)] = published(view.messages(DIGEST, catalogue, power(1234, positions=[0]), from_at()))

    assert (orjson.loads(payload)["v"], orjson.loads(payload)["q"]) == (None, "uncertain")


def test_a_date_is_a_text_beside_numbers_of_its_type() -> None:
    """Both are int64, and only the catalogue knows which is which."""
    tags = (
        CatalogueTag(name="count", data_type=DataType.INT64, address="1"),
        CatalogueTag(name="due", data_type=DataType.INT64, address="2", time_kind=TimeKind.DATE),
        CatalogueTag(name="took", data_type=DataType.INT64, address="3", time_kind=TimeKind.DURATION, scale=1e-9),
    )
    catalogue = Catalogue(path="p", groups=(replace(GROUP, tags=tags),))
    values = np.array([7, 1_767_312_000 * NS, 1_500_000_000], np.int64)

    messages = UnifiedNamespace("plant").messages(DIGEST, catalogue, SampleBlock(0, 1, 2, (values,)), from_at())

    assert [orjson.loads(payload)["v"] for _, payload in published(messages)] == ["7", "2026-01-02", 1.5]


@pytest.mark.parametrize("data_type", [DataType.INT64, DataType.UINT64])
def test_integers_of_64_bits_are_text_whatever_their_value(data_type: DataType) -> None:
    """A reader with 53 bits rounds the large ones; one that finds now a number and then a text needs two parsers."""
    tags = (
        CatalogueTag(name="count", data_type=data_type, address="1", texts=((0, "none"),)),
        CatalogueTag(name="energy", data_type=data_type, address="2", scale=0.5),
    )
    catalogue = Catalogue(path="p", groups=(replace(GROUP, tags=tags),))
    view = UnifiedNamespace("plant")
    found: dict[str, list[Any]] = {}
    for at, count in enumerate([0, 2**53 + 1]):
        block = SampleBlock(0, 1, 2, (np.array([count, 3], data_type.numpy),))
        for topic, payload in published(view.messages(DIGEST, catalogue, block, from_at(NOON_NS + at))):
            said = orjson.loads(payload)
            found.setdefault(topic.rpartition("/")[2], []).append((said["v"], said.get("x")))

    assert found == {"count": [("0", "none"), ("9007199254740993", None)], "energy": [(1.5, None)] * 2}


def test_what_the_number_of_an_enumeration_means_stands_beside_it() -> None:
    view, texts = UnifiedNamespace("plant"), ((0, "off"), (1, "on"))
    tags = tuple(replace(tag, texts=texts) if tag.name == "running" else tag for tag in GROUP.tags)
    catalogue = Catalogue(path="p", groups=(replace(GROUP, tags=tags),))
    bad = ((2, 1, int(StatusCode.BAD_NO_COMMUNICATION)),)

    good_one, bad_one = (
        {topic.rpartition("/")[2]: orjson.loads(payload) for topic, payload in published(messages)}
        for messages in (
            view.messages(DIGEST, catalogue, scan(), from_at()),
            view.messages(DIGEST, catalogue, scan(status=bad), from_at(NOON_NS + 1)),
        )
    )

    assert (good_one["running"]["v"], good_one["running"]["x"]) == (True, "on")
    assert "x" not in good_one["speed"]
    assert "x" not in bad_one["running"]


def test_a_message_says_value_time_quality_unit_bound_and_source(view: UnifiedNamespace) -> None:
    messages = shown(view, scan(), from_at())

    assert messages["temperature"] == {
        "t": "2025-06-15T15:06:40.123456789Z",
        "v": 21.5,
        "q": "good",
        "sc": 0,
        "u": "Cel",
        "tu": 1500,
        "h": False,
        "src": "00ff/7/0/0",
    }


@pytest.mark.requirement("REQ-TYPE-03")
def test_scale_and_offset_are_applied_and_what_has_none_keeps_its_type(view: UnifiedNamespace) -> None:
    messages = shown(view, scan(speed=1200, count=2**64 - 1), from_at())

    values = {tag: message["v"] for tag, message in messages.items()}
    assert values == {
        "temperature": 21.5, "speed": 1200 * 0.1 + 5, "running": True, "batch": "B-77", "count/total": str(2**64 - 1),
    }  # fmt: skip


@pytest.mark.requirement("REQ-TYPE-04")
@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize(
    ("code", "word", "shown_code"),
    [
        (0, "uncertain", StatusCode.UNCERTAIN_OUT_OF_RANGE),
        (0x00960000, "uncertain", StatusCode.UNCERTAIN_OUT_OF_RANGE),
        (StatusCode.UNCERTAIN, "uncertain", StatusCode.UNCERTAIN),
        (StatusCode.BAD_DEVICE_FAILURE, "bad", StatusCode.BAD_DEVICE_FAILURE),
    ],
)
def test_what_json_cannot_say_is_null_and_never_good(
    view: UnifiedNamespace, value: float, code: int, word: str, shown_code: int
) -> None:
    """Whatever the record says: earlier gateways sealed such values as GOOD, and devices call them GOOD too."""
    status = ((0, 1, int(code)),) if code else ()
    message = shown(view, scan(temperature=value, status=status), from_at())["temperature"]

    assert (message["v"], message["q"], message["sc"]) == (None, word, shown_code)


def test_a_value_that_is_infinite_in_its_unit_is_uncertain() -> None:
    tags = (replace(GROUP.tags[4], scale=1e300),)
    catalogue = Catalogue(path="p", groups=(replace(GROUP, tags=tags),))
    block = SampleBlock(0, 1000, 2000, (np.array([2**63], np.uint64),))

    [(_, payload)] = published(UnifiedNamespace("plant").messages(DIGEST, catalogue, block, from_at()))

    assert {"v": None, "q": "uncertain"}.items() <= orjson.loads(payload).items()


def test_not_a_number_that_stays_is_not_published_again(view: UnifiedNamespace) -> None:
    tags = tuple(replace(tag, at_least_every_ns=60 * NS) for tag in GROUP.tags)
    catalogue = Catalogue(path="p", groups=(replace(GROUP, tags=tags),))
    blocks = [(DIGEST, catalogue, scan(float("nan")), from_at(NOON_NS + n)) for n in range(2)]
    counts = [len(published(view.messages(*block))) for block in blocks]

    assert counts == [5, 0]


@pytest.mark.parametrize(
    ("code", "word", "value"),
    [
        (StatusCode.BAD_NO_COMMUNICATION, "bad", None),
        (StatusCode.UNCERTAIN_OUT_OF_RANGE, "uncertain", 21.5),
        (0xC0000000, "bad", None),
    ],
)
def test_a_bad_value_is_null_and_an_uncertain_one_is_shown(
    view: UnifiedNamespace, code: int, word: str, value: float | None
) -> None:
    message = shown(view, scan(status=((0, 1, int(code)),)), from_at())["temperature"]

    assert (message["q"], message["sc"], message["v"]) == (word, code, value)


def test_a_tag_that_did_not_move_is_not_published_again_until_it_is_due(view: UnifiedNamespace) -> None:
    """The report by exception may seal a complete scan because that is shorter: nothing more moved for it."""
    group = tuple(shown(view, scan(), from_at()))

    unmoved = shown(view, scan(speed=1201), from_at(NOON_NS + NS // 2))
    due = shown(view, scan(speed=1201), from_at(NOON_NS + NS))

    assert len(group) == 5
    # at_least_every 0 means: reports every scan.
    assert "count/total" not in unmoved
    assert "count/total" in due


def test_changes_show_the_reported_tags_and_those_whose_quality_changed(view: UnifiedNamespace) -> None:
    shown(view, scan(), from_at())
    nothing = np.array([], np.uint16)
    changes = SampleBlock(
        group=0,
        asked_at_ns=1000,
        answered_at_ns=2000,
        vectors=(np.array([], bool), np.array([1300], np.uint16), np.array([], np.uint64), np.array([], np.float32),
                 np.array([], object)),
        positions=(nothing, np.array([0], np.uint16), nothing, nothing, nothing),
        status=((0, 1, int(StatusCode.UNCERTAIN)),),
    )  # fmt: skip

    messages = shown(view, changes, from_at(NOON_NS + 1))

    assert {tag: (m["v"], m["q"]) for tag, m in messages.items()} == {
        "speed": (135.0, "good"),
        "temperature": (21.5, "uncertain"),
    }


@pytest.mark.parametrize(("code", "later", "earlier"), [
    (StatusCode.UNCERTAIN_OUT_OF_RANGE, set(), {"uncertain"}), (StatusCode.BAD_NO_COMMUNICATION, {"bad"}, set()),
])  # fmt: skip
def test_a_block_that_overtakes_the_first_values_shows_only_what_is_bad(
    view: UnifiedNamespace, code: StatusCode, later: set[str], earlier: set[str]
) -> None:
    """The newest records are sent first when a connection opens."""
    whole = scan(status=((0, 5, code),))
    nothing_moved = replace(
        whole, vectors=tuple(vector[:0] for vector in whole.vectors), positions=(np.empty(0, np.uint16),) * 5
    )

    newer = shown(view, nothing_moved, from_at(NOON_NS + 1))
    older = shown(view, whole, from_at(NOON_NS))

    assert {each["q"] for each in newer.values()} == later
    assert {each["q"] for each in older.values()} == earlier
    assert len({**newer, **older}) == len(GROUP.tags)


def test_backlog_does_not_replace_what_is_newer_even_after_a_restart(view: UnifiedNamespace) -> None:
    shown(view, scan(temperature=30), from_at(NOON_NS))
    restarted = UnifiedNamespace("plant", view.shown_ns())

    assert shown(view, scan(temperature=20), from_at(NOON_NS - 1)) == {}
    assert shown(restarted, scan(temperature=20), from_at(NOON_NS - 1)) == {}
    assert shown(restarted, scan(temperature=31), from_at(NOON_NS + 1))["temperature"]["v"] == 31


def test_what_was_five_seconds_old_on_arrival_is_historical(view: UnifiedNamespace) -> None:
    fresh = shown(view, scan(), from_at(NOON_NS, arrived_ns=NOON_NS + 5 * NS))
    old = shown(view, scan(1.0), from_at(NOON_NS + 1, arrived_ns=NOON_NS + 2 + 5 * NS))

    assert (fresh["temperature"]["h"], old["temperature"]["h"]) == (False, True)


@pytest.mark.parametrize(("bound_ns", "uncertainty_ns"), [(1_000, 1_501), (None, None)])
def test_the_time_of_a_block_is_its_middle_and_its_bound_has_half_the_width(
    bound_ns: int | None, uncertainty_ns: int | None
) -> None:
    quality = TimeQuality(bound_ns=bound_ns, drift_ppb=0, as_of_ns=0, offset_ns=0, boot_id=b"")

    where = origin("00ff/7", 3, scan(), t0_ns=NOON_NS, b0_ns=1400, quality=quality, arrived_ns=0)

    assert where == BlockOrigin("00ff/7/3/0", NOON_NS + 100, uncertainty_ns, 0, "00ff", 7 << 17 | 3)


def test_a_clock_that_was_set_back_does_not_freeze_what_is_shown(view: UnifiedNamespace) -> None:
    """What was read later is newer, whatever the clock of the gateway said; a late record of the backlog is not."""

    def at(order: int, utc_ns: int) -> BlockOrigin:
        return replace(from_at(utc_ns), chain="00ff", order=order)

    shown(view, scan(20.0), at(1, NOON_NS + 86_400 * NS))
    now = shown(view, scan(21.0), at(3, NOON_NS))
    late = shown(view, scan(19.0), at(2, NOON_NS + NS))

    assert now["temperature"]["v"] == 21.0
    assert late == {}


def test_what_an_earlier_chain_showed_is_replaced_by_what_is_newer_only(view: UnifiedNamespace) -> None:
    shown(view, scan(20.0), replace(from_at(NOON_NS), chain="00ff", order=900))

    assert shown(view, scan(21.0), replace(from_at(NOON_NS + NS), chain="11ee", order=4))["temperature"]["v"] == 21.0
    assert shown(view, scan(22.0), replace(from_at(NOON_NS), chain="00ff", order=901)) == {}


def test_a_late_value_of_an_earlier_catalogue_does_not_replace_a_newer_one(view: UnifiedNamespace) -> None:
    """After a change of the configuration the backlog of the gateway comes behind its fresh records."""
    later = b"catalog2", replace(CATALOGUE, groups=(replace(GROUP, name="1s"),))
    shown(view, scan(20.0), replace(from_at(NOON_NS), chain="00ff", order=1))
    newest = published(view.messages(*later, scan(21.0), replace(from_at(NOON_NS + NS), chain="11ee", order=1)))

    late = shown(view, scan(19.0), replace(from_at(NOON_NS + NS // 2), chain="00ff", order=2))
    view.take_all()
    again = [pair for _ in range(2) for pair in published(view.pending_messages())]

    assert late == {}
    assert again == newest


def test_a_notification_shows_every_value_in_order_with_the_devices_own_time(view: UnifiedNamespace) -> None:
    source_ns = NOON_NS - 5
    block = SampleBlock(
        0, 1000, 2001,
        (np.empty(0, np.bool_), np.array([1200, 1300, 0], np.uint16), np.empty(0, np.uint64), np.array([1], np.float32),
         np.empty(0, object)),
        (np.empty(0, np.uint16), np.zeros(3, np.uint16), np.empty(0, np.uint16), np.zeros(1, np.uint16),
         np.empty(0, np.uint16)),
        ((2, 1, StatusCode.BAD_DEVICE_FAILURE),),
        (np.empty(0, np.int64), np.array([source_ns, NO_TIME, NO_TIME]), np.empty(0, np.int64), np.array([NO_TIME]),
         np.empty(0, np.int64)),
        is_notification=True,
    )  # fmt: skip

    messages = [
        (topic.rsplit("/", 1)[1], orjson.loads(text))
        for topic, text in published(view.messages(DIGEST, CATALOGUE, block, from_at()))
    ]

    assert [(name, each["v"], each["q"]) for name, each in messages] == [
        ("speed", 125, "good"), ("temperature", 1, "good"), ("speed", 135, "good"), ("speed", None, "bad"),
    ]  # fmt: skip
    assert [each.get("st") for _, each in messages] == ["2025-06-15T15:06:40.123456784Z", None, None, None]
    assert shown(view, block, from_at(NOON_NS - 1)) == {}, "older than what is shown"


def test_a_scan_shows_the_devices_own_time_beside_ours(view: UnifiedNamespace) -> None:
    times = tuple(np.array([NOON_NS - 7 if n == 3 else NO_TIME]) for n in range(5))

    found = shown(view, replace(scan(), source_times=times), from_at())

    assert {tag: each.get("st") for tag, each in found.items() if "st" in each} == {
        "temperature": "2025-06-15T15:06:40.123456782Z"
    }


def test_what_a_later_version_added_is_marked() -> None:
    view = UnifiedNamespace("plant")

    marked = shown(view, scan(), replace(from_at(), has_unknown=True))

    assert {payload["unknown"] for payload in marked.values()} == {True}
    assert "unknown" not in shown(view, scan(22.5), from_at(NOON_NS + NS))["temperature"]


def test_a_value_of_a_later_data_type_is_null_and_marked() -> None:
    tags = (*GROUP.tags, CatalogueTag(name="new", data_type=DataType.from_code(12), address="1", scale=2.0))
    catalogue = replace(CATALOGUE, groups=(replace(GROUP, tags=tags),))
    block = scan()
    block = replace(block, vectors=(*block.vectors, np.array([None], object)))

    messages = dict(published(UnifiedNamespace("plant").messages(DIGEST, catalogue, block, from_at())))

    new = orjson.loads(messages["plant/acme/basel/line-4/mixer/new"])
    assert (new["v"], new["unknown"]) == (None, True)
    assert "unknown" not in orjson.loads(messages["plant/acme/basel/line-4/mixer/speed"])


REACTOR = "plant/acme/basel/line-4/reactor-1/context"
PLACE = RecordLocation("line-4", "2025-06-15", 0, 1)


def context(number: int, at_ns: int, unit: str = "reactor-1", **members: str | None) -> Context:
    return Context(number=number, unit=unit, members=members, from_ns=at_ns - 5, to_ns=at_ns)


def contexts_shown(view: UnifiedNamespace, seq: int, said: Context, chain: str = "00ff") -> list[tuple[str, Any]]:
    """Topics and payloads after a record with this context."""
    where = context_origin(f"{chain}/{seq}", said, NOON_NS, PLACE)
    messages = list(view.messages(DIGEST, CATALOGUE, said, where))
    assert all(each.is_retained for each in messages)
    return [(topic, orjson.loads(payload)) for topic, payload in published(messages)]


@pytest.mark.requirement("REQ-BATCH-02")
def test_a_unit_has_a_topic_with_its_context_in_which_what_is_not_known_is_null() -> None:
    view = UnifiedNamespace("plant", is_retained=False)
    said = context(7, NOON_NS, batch="B-17", lot="", phase=None)

    assert contexts_shown(view, 7, said) == [(REACTOR, {
        "t": "2025-06-15T15:06:40.123456789Z", "batch": "B-17", "lot": "", "phase": None,
        "from": "2025-06-15T15:06:40.123456784Z", "to": "2025-06-15T15:06:40.123456789Z", "src": "00ff/7",
    })]  # fmt: skip
    assert view.shown_ns() == {REACTOR: NOON_NS}


def test_a_context_is_replaced_by_the_next_one_only_whatever_comes_late_or_again() -> None:
    view = UnifiedNamespace("plant")
    first, second = context(7, NOON_NS, batch="B-17"), context(9, NOON_NS - NS, batch="B-18")  # The clock was set back.

    assert [len(contexts_shown(view, 9, second)), len(contexts_shown(view, 7, first))] == [1, 0]
    assert contexts_shown(view, 40, second) == []
    assert contexts_shown(view, 41, first) == []
    assert contexts_shown(view, 3, context(3, NOON_NS - 2 * NS, batch="B-1"), "00aa") == []
    assert len(contexts_shown(view, 3, context(3, NOON_NS + NS, batch="B-19"), "00aa")) == 1


def test_after_a_restart_what_is_sealed_again_is_shown_and_what_is_older_is_not() -> None:
    view = UnifiedNamespace("plant", {REACTOR: NOON_NS})

    assert contexts_shown(view, 60, context(5, NOON_NS - NS, batch="B-16")) == []
    ((_, again),) = contexts_shown(view, 61, context(7, NOON_NS, batch="B-17"))
    assert (again["batch"], again["src"]) == ("B-17", "00ff/61")
    assert contexts_shown(view, 99, context(7, NOON_NS, batch="B-17")) == []


def test_of_contexts_that_wait_the_newest_is_shown_and_none_counts_as_shown_before() -> None:
    view = UnifiedNamespace("plant")
    replaced = 0
    for number in (7, 8, 9):
        said = context(number, NOON_NS + number, batch=f"B-{number}")
        replaced += view.take(DIGEST, CATALOGUE, said, context_origin(f"00ff/{number}", said, NOON_NS, PLACE))

    assert (replaced, view.has_pending, view.shown_ns()) == (2, True, {})
    assert [each.source for each in view.pending_origins()] == ["00ff/9"]
    ((topic, payload),) = published(view.pending_messages())
    assert (topic, orjson.loads(payload)["batch"]) == (REACTOR, "B-9")
    view.take_all()
    assert [topic for topic, _ in published(view.pending_messages())] == [REACTOR]


@pytest.mark.parametrize("unit", ["", "a/b+#%", "\0\n", "\N{GREEK SMALL LETTER OMEGA}\u202e" * 9])
def test_the_name_of_a_unit_is_one_level_of_its_topic(unit: str) -> None:
    ((topic, _),) = contexts_shown(UnifiedNamespace("plant"), 7, context(7, NOON_NS, unit, batch="B-17"))

    assert topic.startswith("plant/acme/basel/line-4/")
    assert topic.count("/") == REACTOR.count("/")
    assert not {*topic} & {"+", "#", "\0", "\n"}


@pytest.mark.parametrize(("catalogue", "unit"), [
    (replace(CATALOGUE, groups=(replace(GROUP, tags=(replace(GROUP.tags[0], name="context"),)),)), "mixer"),
    (replace(CATALOGUE, groups=(replace(GROUP, name="context"),)), "mixer"), (CATALOGUE, "u" * 2**16),
], ids=["a tag", "a scan group", "too long"])  # fmt: skip
def test_a_context_never_takes_the_topic_of_a_tag_and_one_without_a_topic_is_refused(
    catalogue: Catalogue, unit: str
) -> None:
    said = context(7, NOON_NS, unit, batch="B-17")
    with pytest.raises(Malformed, match="topic"):
        list(UnifiedNamespace("plant").messages(DIGEST, catalogue, said, context_origin("00ff/7", said, 0, PLACE)))
