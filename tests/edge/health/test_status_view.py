"""The screens of `tidegate status`, and its answers for scripts."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest
from click.testing import CliRunner
from rich.cells import cell_len
from rich.text import Text

from edge.cli.status import command
from edge.gateway.control import ControlServer, Request
from edge.health import (
    CalibrationStatus,
    ContextStatus,
    DeviceStatus,
    GatewayStatus,
    GroupStatus,
    InstrumentStatus,
    IssuerStatus,
    RelayStatus,
    SinkStatus,
    StatusServer,
    StatusSnapshot,
    TagStatus,
    UplinkStatus,
    ViewStatus,
)
from edge.health.problems import StatusAnswer, problems_of
from edge.health.render import outdated, render, render_problems, render_tags
from edge.model import StatusCode
from edge.terminal import AMBER, RED

S, MIN, H, DAY = 10**9, 60 * 10**9, 3600 * 10**9, 86_400 * 10**9


def text_of(lines: list[Text]) -> str:
    return "\n".join(map(str, lines))


def shown(snapshot: StatusSnapshot, width: int = 120) -> str:
    return text_of(render(StatusAnswer.of(snapshot), width))


def problems(snapshot: StatusSnapshot) -> str:
    return text_of(render_problems(StatusAnswer.of(snapshot), 400))


def device(name: str = "mixer", **more: object) -> DeviceStatus:
    group = GroupStatus(name="fast", every_ns=S, tags=3, last_scan_age_ns=S // 10, last_scan_took_ns=12 * 10**6)
    return replace(DeviceStatus(name=name, driver="modbus", state="up", scan_groups=(group,)), **more)  # type: ignore[arg-type]


def bad(one: DeviceStatus, **more: object) -> DeviceStatus:
    return replace(one, scan_groups=(replace(one.scan_groups[0], **more),))  # type: ignore[arg-type]


@pytest.fixture
def well(snapshot: StatusSnapshot) -> StatusSnapshot:
    """A gateway with which nothing is wrong."""
    uplink = UplinkStatus(
        broker="dmz:8883", state="up", acknowledged=12_345, waiting=34, oldest_waiting_age_ns=5 * S,
        last_acknowledged_age_ns=S // 5,
    )  # fmt: skip
    return replace(snapshot, uplink=uplink, relay=None, certificates=(), devices=(device(),))


@pytest.fixture
def plant(well: StatusSnapshot) -> StatusSnapshot:
    """Thirty devices, one of them with a long name; five are down."""
    names = ["utilities-building-7/" + "very-long-name-" * 2 + "of-a-device", *(f"reactor-{n}" for n in range(24))]
    up = tuple(device(name) for name in names)
    down = tuple(
        bad(device(f"press-{number}", state="down", gap_age_ns=12 * MIN, reason=f"192.0.2.{number}:502: timed out"),
            bad_tags=3, last_scan_age_ns=12 * MIN)
        for number in range(5)
    )  # fmt: skip
    return replace(well, gateway=replace(well.gateway, uptime_ns=76 * H), devices=up + down)


@pytest.fixture
def running(tmp_path: Path, snapshot: StatusSnapshot) -> Iterator[Path]:
    """The status socket of a gateway in a thread of its own, and its live socket."""
    path, live = tmp_path / "status.sock", tmp_path / "live.sock"
    snapshot = replace(snapshot, gateway=replace(snapshot.gateway, live_socket=str(live)))
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def values(request: Request) -> bytes:
        if request.device not in ("", "bioreactor-1"):
            raise LookupError(f"no device {request.device!r}")
        return StatusSnapshot(gateway=snapshot.gateway, devices=snapshot.devices[:1]).to_json()

    async def serve() -> None:
        async with StatusServer(path, lambda: snapshot), ControlServer(live, {"values": values}):
            is_up.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=lambda: loop).run(serve()))
    thread.start()
    is_up.wait()
    yield path
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


# The verdict


def test_a_gateway_with_which_nothing_is_wrong_is_ok(well: StatusSnapshot) -> None:
    answer = StatusAnswer.of(well)

    assert (answer.verdict, answer.problems) == ("OK", ())
    assert "problem" not in shown(well)


@pytest.mark.parametrize(
    ("uplink", "words"),
    [
        (UplinkStatus(state="down", reason="broker dmz:8883 cannot be reached: Connection refused", waiting=24),
         "uplink: broker dmz:8883 cannot be reached: Connection refused (24 records kept); start the broker"),
        (UplinkStatus(state="no_subscriber", reason="...", waiting=24),
         "uplink: the broker takes records and nobody subscribes (24 records kept); start the relay"),
        (UplinkStatus(state="refused", reason="broker dmz:8883 is full", waiting=1),
         "broker dmz:8883 is full (1 record kept)"),
        (UplinkStatus(state="up", waiting=24, oldest_waiting_age_ns=5 * MIN, last_acknowledged_age_ns=4 * MIN),
         "uplink: the broker has not acknowledged anything for 4 min (24 records kept)"),
        (UplinkStatus(state="up", unread_last_hour=7), "nobody subscribed to 7 records"),
    ],
)  # fmt: skip
def test_the_verdict_is_not_ok_while_nothing_is_delivered(
    well: StatusSnapshot, uplink: UplinkStatus, words: str
) -> None:
    stuck = replace(well, uplink=uplink)

    assert StatusAnswer.of(stuck).verdict == "DEGRADED"
    assert words in problems(stuck)


def test_a_sending_process_that_does_not_answer_is_a_problem(well: StatusSnapshot) -> None:
    alone = replace(well, gateway=replace(well.gateway, role="acquire"), uplink=None)

    assert "uplink: the process that sends does not answer" in problems(alone)


def test_devices_that_do_not_answer_degrade_the_gateway_and_all_of_them_end_it(well: StatusSnapshot) -> None:
    down = device("press", state="down")

    assert StatusAnswer.of(replace(well, devices=(device(), down))).verdict == "DEGRADED"
    assert StatusAnswer.of(replace(well, devices=(down, down))).verdict == "DOWN"
    assert StatusAnswer.of(replace(well, devices=(device(), replace(down, name="buffer")))).verdict == "DEGRADED"
    assert StatusAnswer.of(replace(well, devices=(device(state="connecting"),))).verdict == "UNKNOWN"


@pytest.mark.requirement("REQ-OPER-01")
def test_a_problem_has_its_cause_and_what_would_help(well: StatusSnapshot) -> None:
    assert well.buffer is not None
    assert well.clock is not None
    sick = (
        bad(device("utilities", state="down", reason="192.0.2.23:502: timed out", gap_age_ns=12 * MIN), bad_tags=3),
        bad(device("press", reason=""), bad_tags=2, unknown_address_tags=2, unknown_addresses=("spare", "x")),
        bad(device("kiln"), bad_tags=1),
        bad(device("oven"), last_scan_age_ns=2 * MIN),
    )
    buffer = replace(well.buffer, undelivered_bytes=82 * 10**7, bytes_per_day=18 * 10**7, dropped_last_hour=12)
    clock = replace(well.clock, unmet="bounded", state="FREE_RUNNING", bound_ns=None)

    said = problems(replace(well, devices=sick, buffer=buffer, clock=clock))

    for words in (
        "utilities: no answer for 12 min, 3 tags BAD: 192.0.2.23:502: timed out",
        "press: 2 of 3 tags BAD: the device has no such address (spare, x); correct their addresses",
        "kiln: 1 of 3 tags BAD; see why with --tags kiln",
        "oven: scan group fast was not read for 2 min",
        "buffer: 12 records lost in the last hour: there was no room for them; bring the broker back",
        "buffer: 82% full of what is not delivered, room for 1 d",
        "clock: free running, not bounded as the configuration asks: every value is UNCERTAIN; see chronyc sources",
    ):
        assert words in said


def test_a_certificate_is_a_notice_first_and_then_a_problem(snapshot: StatusSnapshot) -> None:
    in_20_days = replace(snapshot.certificates[0], expires_at_ns=2**62)

    assert "pump-2: the device's certificate CN=plc expired" in problems(snapshot)
    assert "renew it" in problems(snapshot)
    assert "certificate" not in problems(replace(snapshot, certificates=(in_20_days,)))


def test_another_version_than_the_command_is_a_notice(well: StatusSnapshot) -> None:
    (notice,) = problems_of(well, "0.2.0")

    assert (notice.state, notice.text) == ("NOTICE", "version 0.1.0 runs, and this command is 0.2.0")
    assert StatusAnswer.of(well, "0.2.0").verdict == "OK"


def test_a_relay_without_records_is_not_ok_and_a_silent_gateway_is_a_problem() -> None:
    empty = StatusSnapshot(gateway=GatewayStatus(name="it", role="relay"), relay=RelayStatus(state="up"))
    silent = IssuerStatus(issuer="urn:tidegate:line-4", state="silent", last_record_age_ns=12 * MIN)
    stopped = IssuerStatus(issuer="urn:tidegate:line-5", state="stopped", last_record_age_ns=DAY)

    assert StatusAnswer.of(empty).verdict == "UNKNOWN"
    assert "gateways: none has sent a record yet" in problems(empty)
    with_silent = replace(empty, relay=RelayStatus(state="up", issuers=(silent, stopped)))
    assert "line-4: no record for 12 min" in problems(with_silent)
    assert "line-5" not in problems(with_silent)
    assert StatusAnswer.of(replace(empty, relay=RelayStatus(state="down", reason="no route"))).verdict == "DOWN"


@pytest.mark.requirement("REQ-OPER-02")
def test_an_archive_that_will_be_full_soon_is_a_problem() -> None:
    relay = RelayStatus(state="up", free_bytes=10**9, bytes_per_day=5 * 10**8)
    soon = StatusSnapshot(gateway=GatewayStatus(name="it", role="relay"), relay=relay)

    assert "archive: 1 GB free, room for 2 d; free or add space" in problems(soon)
    assert "room for about 2 days" in shown(soon)


# The screen


def test_the_first_lines_are_verdict_and_problems_and_sick_devices_are_on_top(plant: StatusSnapshot) -> None:
    lines = shown(plant, 80).splitlines()

    assert lines[0] == "line-4   DEGRADED   up 3 d 4 h   0.1.0"
    assert lines[1] == "  problem  press-0: no answer for 12 min, 3 tags BAD: 192.0.2.0:502: timed out"
    heading = next(number for number, line in enumerate(lines) if line.startswith("device "))
    assert [line.split()[:2] for line in lines[heading + 1 : heading + 6]] == [[f"press-{n}", "DOWN"] for n in range(5)]
    assert "Values: tidegate status CONFIG --tags" in " ".join(lines[-2:])


def test_each_fact_is_a_line(well: StatusSnapshot) -> None:
    assert well.buffer is not None
    seen = shown(replace(well, buffer=replace(well.buffer, bytes_per_day=24 * 10**6)))

    for words in (
        "clock    synchronized, within 250 us of UTC (CHRONY)",
        "buffer   ok, 34 waiting, oldest 5.0 s; 4.1 kB of 1 GB used; room for about 41 days",
        "uplink   up, dmz:8883; 12,345 records acknowledged, last 0.2 s ago",
        "disk     4.2 GB a day are written",
        "devices  1 of 1 up; 3 tags, 0 BAD",
        "Values: tidegate status CONFIG --tags mixer",
    ):
        assert words in seen


@pytest.mark.parametrize("width", [40, 80, 100, 160])
def test_no_line_is_wider_than_the_screen_and_no_unit_is_cut(plant: StatusSnapshot, width: int) -> None:
    lines = render(StatusAnswer.of(plant), width)

    assert max(cell_len(str(line)) for line in lines) <= width
    assert sum(str(line).startswith(("press-", "reactor-", "utilit")) for line in lines) == 30
    assert "12 min" in str(next(line for line in lines if str(line).startswith("press-0")))
    assert not any(str(line).lstrip().startswith(("min ", "GB ", "days")) for line in lines)
    assert (width == 40) == any("Wider shows: " in str(line) for line in lines)


@pytest.mark.parametrize("height", [1, 3, 8, 12, 24, 40])
@pytest.mark.parametrize("width", [40, 80])
def test_a_window_is_never_overrun_and_what_is_not_shown_is_counted(
    plant: StatusSnapshot, width: int, height: int
) -> None:
    answer = StatusAnswer.of(plant)
    all_lines, lines = render(answer, width), render(answer, width, height)

    assert len(lines) <= height
    assert any("more" in str(line) for line in lines) == (len(all_lines) > height)
    if height > 1:
        assert "DEGRADED" in str(lines[0])


def test_trouble_has_a_colour_and_good_has_none(plant: StatusSnapshot, well: StatusSnapshot) -> None:
    def colours(snapshot: StatusSnapshot) -> set[str]:
        lines = render(StatusAnswer.of(snapshot), 120)
        return {colour for line in lines for span in line.spans for colour in (RED, AMBER) if colour in str(span.style)}

    assert colours(plant) == {RED, AMBER}
    assert colours(well) == set()


def test_a_role_without_devices_is_shown_without_them() -> None:
    seen = shown(StatusSnapshot(gateway=GatewayStatus(name="dmz-1", role="relay")))

    assert seen.startswith("dmz-1   OK")
    assert "device" not in seen


def test_a_relay_has_a_row_for_each_gateway(snapshot: StatusSnapshot) -> None:
    assert snapshot.relay is not None
    busy = IssuerStatus(
        issuer="urn:tidegate:bioreactor-hall-2", records=123_456_789, waiting=1, rejected=12, missing=345,
        declared_lost=6_789, lag_ns=123 * 10**6, last_record_age_ns=456 * 10**6,
    )  # fmt: skip
    relay = StatusSnapshot(
        gateway=GatewayStatus(name="it", role="relay"), relay=replace(snapshot.relay, issuers=(busy,))
    )

    seen = shown(relay, 80)

    row = next(line for line in seen.splitlines() if line.startswith("bioreactor-hall-2"))
    assert row.split() == ["bioreactor-hall-2", "DEGRADED", "0.4", "s", "123", "ms", "345", "12", "1"]
    for words in ("345 records missing", "12 records refused", "6,789 records lost", "6 messages not durable yet",
                  "5 records not shown yet, the oldest for 3.0 s", "Wider shows: records"):  # fmt: skip
        assert words in seen


def test_a_view_that_is_behind_or_away_says_so_in_both_lines_of_status(snapshot: StatusSnapshot) -> None:
    assert snapshot.relay is not None
    behind = ViewStatus(state="up", is_behind=True, waiting=5, oldest_age_ns=3 * S, dropped=1_200)
    away = ViewStatus(state="down", reason="no route to host", oldest_age_ns=3 * S, dropped=1_200)
    relay = replace(snapshot, gateway=GatewayStatus(name="it", role="relay"))

    seen = [replace(relay, relay=replace(snapshot.relay, view=view)) for view in (behind, away)]

    sentence = "too far behind: shows only the newest value of each tag; 1,200 values left out; the archive has them"
    assert f"view: {sentence}" in problems(seen[0])
    assert f"view {sentence}" in seen[0].headline()
    for words in ("view: no route to host", "1,200 values left out"):
        assert words in problems(seen[1])
    assert "view down: no route to host" in seen[1].headline()


def test_a_lag_is_not_shown_where_the_clock_of_the_gateway_is_ahead(snapshot: StatusSnapshot) -> None:
    assert snapshot.relay is not None
    ahead = IssuerStatus(issuer="urn:tidegate:line-4", lag_ns=0, clock_ahead_ns=3 * S)
    relay = replace(snapshot, devices=(), relay=replace(snapshot.relay, issuers=(ahead,)))

    assert "line-4: its clock is 3.0 s ahead of ours, or more; its lag is not known" in problems(relay)
    assert " 0 ns" not in shown(relay)


def test_a_calibration_that_is_due_is_a_notice_and_no_fault(well: StatusSnapshot) -> None:
    first = tuple(InstrumentStatus(name=f"TT-{n}", certificate="", due=f"2026-03-0{n}") for n in range(1, 5))
    held = CalibrationStatus(instruments=12, overdue=1, due_soon=4, first=first)

    due = replace(well, calibration=held)

    assert (
        "calibration: 1 instrument overdue, 4 instruments due within 30 days: TT-1 on 2026-03-01, TT-2 on 2026-03-02, "
        "TT-3 on 2026-03-03, ...; calibrate, then write the new certificate and days in the configuration (TG-D15)"
    ) in problems(due)
    assert StatusAnswer.of(due).verdict == StatusAnswer.of(well).verdict
    assert "calibration" not in problems(replace(well, calibration=replace(held, overdue=0, due_soon=0)))


def test_the_context_of_each_unit_is_shown_or_why_it_is_not_known(well: StatusSnapshot) -> None:
    mixer = ContextStatus(unit="mixer", number=7, members={"batch": "\u202e7-B", "phase": "", "recipe": None},
                          unknown={"recipe": "mes/recipe is BAD_NO_COMMUNICATION"})  # fmt: skip
    units = [replace(mixer, unit=f"unit-{n}", members={"batch": None}) for n in range(9)]

    seen = shown(replace(well, contexts=(mixer, *units)))

    assert "mixer: batch \ufffd7-B, recipe not known, because mes/recipe is BAD_NO_COMMUNICATION" in seen
    assert "of 2 more units: see tidegate status --json" in seen
    assert "context" not in shown(well)


def test_what_was_accepted_of_a_certificate_is_shown_by_device(snapshot: StatusSnapshot) -> None:
    [*others, plc] = snapshot.certificates
    accepted = replace(plc, exception="its certificate is for urn:old: accepted by `certificate_uri`")

    seen = shown(replace(snapshot, certificates=(*others, accepted)))

    assert "pump-2: its certificate is for urn:old: accepted by `certificate_uri`" in seen
    assert "accepted" not in shown(snapshot)


def test_figures_without_an_answer_are_said_to_be_old(well: StatusSnapshot) -> None:
    lines = outdated("status.sock: nobody answers", 12 * S, render(StatusAnswer.of(well), 80), 80)

    assert str(lines[0]) == "UNKNOWN  12 s old: status.sock: nobody answers"
    assert "line-4" in str(lines[1])


# The values


def test_units_and_values_in_brackets_are_no_markup_and_quality_has_its_reason(snapshot: StatusSnapshot) -> None:
    group = snapshot.devices[0].scan_groups[0]
    tags = (
        TagStatus(tag="ph", value=7.1, unit="[pH]"), TagStatus(tag="lot", value="[b]17[/b]"),
        TagStatus(tag="mode", value=2, text="automatic"),
        TagStatus(tag="spare", value=None, quality="BAD", status=StatusCode.BAD_ADDRESS),
        TagStatus(tag="own", value=None, quality="BAD", status=0x80990000),
        TagStatus(tag="hot", value=1e9, quality="UNCERTAIN", status=StatusCode.UNCERTAIN_OUT_OF_RANGE),
    )  # fmt: skip
    one = replace(snapshot.devices[0], scan_groups=(replace(group, values=tags),))

    seen = text_of(render_tags(StatusAnswer.of(replace(snapshot, devices=(one,))), 120))

    for words in ("[pH]", "[b]17[/b]", "automatic (2)", "BAD the device has no such address", "UNCERTAIN out of range",
                  "BAD status 0x80990000 of the device"):  # fmt: skip
        assert words in seen


def test_all_tags_are_shown_and_in_a_window_those_that_are_not_are_counted(well: StatusSnapshot) -> None:
    name = "hall-2/skid/" + "a-rather-long-name-of-a-measuring-point-"
    tags = tuple(TagStatus(tag=f"{name}{number:05d}", value=20.5, unit="Cel") for number in range(10_000))
    large = replace(well, devices=(bad(device(), tags=10_000, values=tags),))

    everything = render_tags(StatusAnswer.of(large), 60)
    window = render_tags(StatusAnswer.of(large), 40, 24)

    assert sum("Cel" in str(line) for line in everything) == 10_000
    assert len({str(line).split()[0] for line in everything}) > 10_000
    assert len(window) == 24
    assert str(window[-1]) == "... 9,981 more lines; widen the window"
    assert max(len(str(line)) for line in window) <= 40


# The command


def test_the_command_shows_a_running_gateway(running: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(running)])

    assert result.exit_code == 0
    assert result.output.startswith("line-4   ")
    hint = f"Values: tidegate status --socket {running} --tags bioreactor-1"
    assert "".join(hint.split()) in "".join(result.output.split())  # A long path is wrapped.


def test_the_command_shows_all_values_of_a_device(running: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(running), "--tags", "bioreactor-1"])

    assert result.exit_code == 0, result.output
    assert "36.6  Cel   GOOD" in result.output


def test_a_device_that_is_not_there_is_answered_with_those_that_are(running: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(running), "--tags", "kiln"])

    assert result.exit_code == 1
    assert "no device 'kiln'; it has bioreactor-1, pump-2" in result.output


def test_problems_alone_end_with_1_for_scripts(running: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(running), "--problems"])

    assert result.exit_code == 1
    assert "pump-2: no answer" in result.output
    assert "device " not in result.output


def test_a_device_that_was_written_wrong_since_the_start_hides_nothing(running: Path) -> None:
    path = running.parent / "site.yaml"
    path.write_text(
        f"gateway: {{name: line-4, path: acme/basel, state: {running.parent}}}\n"
        "devices: [{name: plc, driver: modbus, hots: 10.0.0.1, scan_groups: [{every: fast, tags: []}]}]\n"
    )

    seen = CliRunner().invoke(command, [str(path)])

    assert seen.exit_code == 0, seen.output
    assert "line-4" in seen.stdout


def test_a_script_gets_the_snapshot_with_verdict_and_problems(running: Path, snapshot: StatusSnapshot) -> None:
    answer = json.loads(CliRunner().invoke(command, ["--socket", str(running), "--json"]).output)

    assert answer["verdict"] == "DEGRADED"
    assert {"subject", "state", "text", "code", "remedy"} == answer["problems"][0].keys()
    assert answer["uplink"] == orjson.loads(snapshot.to_json())["uplink"]


def test_no_answer_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(tmp_path / "status.sock")])

    assert result.exit_code == 1
    assert "no answer" in result.output


@pytest.mark.parametrize(
    "arguments",
    [[], ["--watch", "--json", "--socket", "x"], ["--problems", "--tags", "mixer", "--socket", "x"]],
)
def test_arguments_that_contradict_each_other_are_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_a_sink_says_how_far_behind_it_is_and_why() -> None:
    away = SinkStatus(
        name="historian", reason="its disk is full", code="TG-R08", lag_ns=90 * S, waiting_bytes=3_000_000
    )
    filling = replace(away, state="up", reason="", code="")
    lacking = replace(filling, lag_ns=0, waiting_bytes=0, refused=2)

    issuers = (IssuerStatus(issuer="urn:tidegate:line-4", state="up"),)
    relays = [RelayStatus(state="up", issuers=issuers, sinks=(each,)) for each in (away, filling, lacking)]
    seen = [StatusSnapshot(gateway=GatewayStatus(name="it", role="relay"), relay=relay) for relay in relays]

    assert "3 MB to go, 90 s behind" in shown(seen[1])
    gathering = replace(filling, lag_ns=0)
    relay = RelayStatus(state="up", issuers=issuers, sinks=(gathering,))
    held = StatusSnapshot(gateway=GatewayStatus(name="it", role="relay"), relay=relay)
    assert "has all, 3 MB wait in memory for their file" in shown(held)
    assert "sink historian" not in [each.subject for each in problems_of(held)]
    assert [[(each.subject, each.state, each.text) for each in problems_of(snapshot)] for snapshot in seen] == [
        [("sink historian", "DEGRADED", "its disk is full")],
        [("sink historian", "NOTICE", "90 s behind the archive, 3 MB to go")],
        [("sink historian", "DEGRADED", "2 records of the archive not written since the start")],
    ]
