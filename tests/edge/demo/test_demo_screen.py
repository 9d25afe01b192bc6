"""What the demo draws from the status of gateway and relay."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edge.demo.account import Account, BrokerOutage, DeviceOutage, Outcome, Sides
from edge.demo.last_page import Answer, last_page
from edge.demo.screen import Scene, draw_screen
from edge.health import (
    BufferStatus,
    ChainStatus,
    DeviceStatus,
    GatewayStatus,
    GroupStatus,
    IssuerStatus,
    RelayStatus,
    SinkStatus,
    StatusSnapshot,
    TagStatus,
    UplinkStatus,
)
from edge.health.trend import ASCII, BLOCKS, Hole, Trends, draw
from edge.model import StatusCode

BAD_ADDRESS = TagStatus(tag="spare", value=None, quality="BAD", status=StatusCode.BAD_ADDRESS)


def device(name: str, *tags: TagStatus, gap_ns: int | None = None) -> DeviceStatus:
    group = GroupStatus(name="1 s", every_ns=10**9, tags=len(tags), values=tags)
    state = "up" if gap_ns is None else "down"
    return DeviceStatus(name=name, driver="modbus", state=state, gap_age_ns=gap_ns, scan_groups=(group,))


def sides(*devices: DeviceStatus, waiting: int = 0, is_up: bool = True, seq: int = 99, missing: int = 0) -> Sides:
    gateway = StatusSnapshot(
        gateway=GatewayStatus(name="demo"),
        chain=ChainStatus(epoch="01", seq=100, records=101, readings=1_000),
        buffer=BufferStatus(undelivered_records=waiting),
        uplink=UplinkStatus(state="up" if is_up else "down"),
        devices=devices,
    )
    issuer = IssuerStatus(issuer="urn:tidegate:demo", epoch="01", seq=seq, authentic=100, missing=missing)
    relay = RelayStatus(state="up", archived_records=100, issuers=(issuer,))
    return gateway, StatusSnapshot(gateway=GatewayStatus(name="demo"), relay=relay)


def scene(now: Sides, seconds: int = 30) -> Scene:
    made = Scene(broker="mosquitto", sides=now)
    for second in range(seconds):
        assert now[0] is not None
        made.trends.note(second, now[0])
        made.elapsed_s = second
    made.account.add(0.0, "broker stopped", lambda *_: Outcome(" ".join(["many words"] * 12)), is_fault=True)
    made.account.observe(1.0, now)
    return made


LONG = "a-name-of-sixty-characters-as-some-plants-have-them-for-tags"
PLANT = [
    device(f"{LONG}-{number}", *[TagStatus(tag=f"{LONG}-{at}", value=-12345.6 * at, unit="mL/min") for at in range(20)],
           BAD_ADDRESS, gap_ns=10**9 if number == 3 else None)
    for number in range(5)
]  # fmt: skip


@pytest.mark.parametrize("width", [1, 20, 40, 75, 76, 80, 100, 160])
@pytest.mark.parametrize("height", [1, 6, 12, 22, 60])
@pytest.mark.parametrize("devices", [[], PLANT])
def test_nothing_is_larger_than_the_window(width: int, height: int, devices: list[DeviceStatus]) -> None:
    """What is wider than the terminal would wrap, and what is higher would scroll."""
    lines = draw_screen(scene(sides(*devices)), width, height, BLOCKS)

    assert len(lines) <= height
    assert max(line.cell_len for line in lines) <= width


@pytest.mark.parametrize("width", [40, 60, 80, 160])
def test_numbers_and_units_are_whole_at_usual_widths(width: int) -> None:
    tag = TagStatus(tag=LONG, value=14.82, unit="mL/min")

    lines = draw_screen(scene(sides(device("chromatography-1", tag), waiting=34)), width, 22, BLOCKS)
    text = "\n".join(line.plain for line in lines)

    assert "14.82 mL/min" in text
    assert "1,000 readings sealed" in text
    assert "101 verified" not in text
    assert "100 verified" in text


def test_a_trend_shows_a_gap_as_a_gap_and_bad_values_as_bad() -> None:
    """A line drawn across either would show values that nobody measured."""
    trends = Trends()
    tag = TagStatus(tag="flow", value=1.0)
    bad = TagStatus(tag="flow", value=None, quality="BAD")
    moments = [device("plc", tag), device("plc", bad, gap_ns=1), device("plc", bad), device("plc", tag)]

    for second, each in enumerate(moments):
        status = sides(each)[0]
        assert status is not None
        trends.note(second, status)

    assert trends.last("plc", "flow", 5) == [Hole.NOTHING, 1.0, Hole.GAP, Hole.BAD, 1.0]
    assert draw(trends.last("plc", "flow", 5), BLOCKS) == " ▄░x▄"


def test_a_trend_reaches_from_the_lowest_to_the_highest_number() -> None:
    assert draw([0.0, 5.0, 10.0], BLOCKS) == "▁▄▇"
    assert draw([-3.0, Hole.GAP, 4.0], ASCII) == "_/#"


def test_a_screen_without_utf_8_is_plain_ascii() -> None:
    tags = [TagStatus(tag="flow", value=14.82, unit="mL/min"), BAD_ADDRESS]

    lines = draw_screen(scene(sides(device("plc", *tags, gap_ns=1))), 80, 22, ASCII)

    assert "\n".join(line.plain for line in lines).isascii()


def test_tags_without_a_trend_give_way_first() -> None:
    tags = [TagStatus(tag="lot", value="LOT-1"), TagStatus(tag="running", value=True), TagStatus(tag="vials", value=3),
            BAD_ADDRESS]  # fmt: skip

    lines = draw_screen(scene(sides(device("filler-1", *tags))), 80, 12, BLOCKS)
    text = "\n".join(line.plain for line in lines)

    assert "vials" in text
    assert "BAD   no such address" in text
    assert "lot" not in text


def test_the_account_of_a_device_says_what_became_of_its_tags() -> None:
    tags = [TagStatus(tag=name, value=1.0) for name in ("flow", "pressure")]
    well, other, outage = device("plc", *tags), device("filler", tags[0]), DeviceOutage("plc")

    texts = [
        outage.during(1, sides(well, other)).text,
        outage.during(2, sides(device("plc", *tags, gap_ns=6 * 10**9), other)).text,
        outage.after(3, sides(device("plc", *tags, gap_ns=7 * 10**9), other)).text,
        outage.after(4, sides(well, other)).text,
    ]

    assert texts == [
        "", "its 2 tags are BAD, the others go on", "the gateway tries it again soon", "a gap of 7.0 s is on record",
    ]  # fmt: skip


def test_the_account_of_a_broker_says_none_lost_only_once_the_relay_has_all() -> None:
    """It is counted, not assumed: the relay has to have archived the last record, with none missing before it."""
    outage = BrokerOutage()

    texts = [
        outage.during(15.0, sides()).text,
        outage.during(16.0, sides(waiting=34, is_up=False)).text,
        outage.after(20.0, sides(waiting=80, is_up=False)).text,
        outage.after(24.0, sides(waiting=112, is_up=False)).text,
        outage.after(24.2, sides(waiting=60)).text,
        outage.after(24.4, sides(waiting=1, seq=50)).text,
        outage.after(24.8, sides(waiting=0, missing=3)).text,
        outage.after(25.2, sides(waiting=0)).text,
    ]

    assert texts == [
        "",
        "the gateway keeps records on disk (34 waiting)",
        "the gateway connects again soon (80 waiting)",
        "the gateway connects again soon (112 waiting)",
        "52 of 112 records sent",
        "connected after 4.0 s, 112 records sent in 0.4 s",
        "connected after 4.0 s, 112 records sent in 0.4 s",
        "connected after 4.0 s, 112 records sent in 0.4 s, none lost",
    ]


def test_what_is_known_of_an_outage_stays_when_the_gateway_is_stopped() -> None:
    account = Account()
    account.add(20.0, "broker back", BrokerOutage().after)
    back = sides(waiting=80, is_up=False)

    account.observe(21.0, back)
    account.observe(22.0, (None, back[1]))

    assert account.entries[0].text == "broker back: the gateway connects again soon (80 waiting)"


@pytest.mark.parametrize("is_known", [False, True])
def test_the_historian_has_a_line_of_its_own_from_the_first_moment(is_known: bool) -> None:
    """What is below must not move when the relay answers."""
    gateway, relay = sides(device("plc", TagStatus(tag="flow", value=1.0)))
    assert relay is not None
    assert relay.relay is not None
    sink = SinkStatus(name="historian", state="up", records=12_345)
    relay = replace(relay, relay=replace(relay.relay, sinks=(sink,)))
    shown = scene((gateway, relay if is_known else None))
    shown.historian = "psql"

    lines = [line.plain for line in draw_screen(shown, 80, 22, BLOCKS)]

    assert lines[6].endswith("historian 12,345") == is_known
    assert lines[7] == ""
    assert lines[8].startswith("flow")


@pytest.mark.parametrize(("held", "is_whole"), [(9_000, True), (8_999, False), (9_001, False)])
def test_the_last_page_compares_the_historian_with_the_archive(held: int, is_whole: bool) -> None:
    answer = Answer(True, "COMPLETE", "all").beside(held, 9_000)
    shown = scene(sides())
    shown.historian = "psql -h /demo/historian"

    page = "\n".join(line.plain for line in last_page(shown, answer, None, 100))

    words = "as many as are archived" if is_whole else "and 9,000 are archived"
    assert f"Historian  {held:,} values in PostgreSQL, {words}" in page
    assert "while the demo runs: psql -h /demo/historian" in page
    assert answer.is_whole is is_whole
