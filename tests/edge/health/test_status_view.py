from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from rich.console import Console

from edge.cli.status import command
from edge.health import GatewayStatus, IssuerStatus, StatusServer, StatusSnapshot, TagStatus, ViewStatus
from edge.health.render import render


def render_text(snapshot: StatusSnapshot, width: int = 120) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as captured:
        console.print(render(snapshot))
    return captured.get()


@pytest.fixture
def running(tmp_path: Path, snapshot: StatusSnapshot) -> Iterator[Path]:
    """The status socket of a gateway in a thread of its own."""
    path = tmp_path / "status.sock"
    is_up = threading.Event()
    loop = asyncio.new_event_loop()
    done = asyncio.Event()

    async def serve() -> None:
        async with StatusServer(path, lambda: snapshot):
            is_up.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=lambda: loop).run(serve()))
    thread.start()
    is_up.wait()
    yield path
    loop.call_soon_threadsafe(done.set)
    thread.join()
    loop.close()


def test_a_person_sees_every_part(snapshot: StatusSnapshot) -> None:
    shown = render_text(snapshot)

    for words in ("line-4", "within 250 us of UTC", "82 readings", "3 records waiting", "10 acknowledged", "36.6",
                  "Cel", "BAD", "pump-2", "no answer", "4 missing", "6 messages not durable yet", "80 ms",
                  "5 records not shown yet, the oldest for 3 s"):  # fmt: skip
        assert words in shown


def test_a_clock_that_is_not_good_enough_is_shown_with_its_consequence(snapshot: StatusSnapshot) -> None:
    assert snapshot.clock is not None
    shown = render_text(replace(snapshot, clock=replace(snapshot.clock, unmet="bounded")))

    assert "not bounded: every value is sealed as UNCERTAIN" in shown


def test_a_broker_that_takes_no_records_is_not_shown_as_up(snapshot: StatusSnapshot) -> None:
    shown = render_text(snapshot)

    assert "refused  127.0.0.1:1883" in shown
    assert "broker 127.0.0.1:1883 is full" in shown


def test_units_and_values_in_brackets_are_no_markup(snapshot: StatusSnapshot) -> None:
    group = snapshot.devices[0].scan_groups[0]
    tags = (TagStatus(tag="ph", value=7.1, unit="[pH]"), TagStatus(tag="lot", value="[b]17[/b]"))
    device = replace(snapshot.devices[0], scan_groups=(replace(group, values=tags),))

    shown = render_text(replace(snapshot, devices=(device,)))

    assert "[pH]" in shown
    assert "[b]17[/b]" in shown


def test_nothing_is_cut_off_on_a_terminal_of_80_columns(snapshot: StatusSnapshot) -> None:
    assert snapshot.relay is not None
    busy = IssuerStatus(
        issuer="urn:tidegate:bioreactor-hall-2", records=123_456_789, seq=98_765_432, duplicates=1_234_567, waiting=1,
        rejected=12, missing=345, declared_lost=6_789, lag_ns=123 * 10**6, last_record_age_ns=456 * 10**6,
    )  # fmt: skip

    shown = render_text(replace(snapshot, relay=replace(snapshot.relay, issuers=(busy,))), width=80)

    assert "…" not in shown


def test_a_view_that_is_behind_or_away_says_so_in_both_lines_of_status(snapshot: StatusSnapshot) -> None:
    assert snapshot.relay is not None
    behind = ViewStatus(state="up", is_behind=True, waiting=5, oldest_age_ns=3 * 10**9, dropped=1_200)
    away = ViewStatus(state="down", reason="no route to host", oldest_age_ns=3 * 10**9, dropped=1_200)
    relay = replace(snapshot, gateway=GatewayStatus(name="it", role="relay"))

    seen = [replace(relay, relay=replace(snapshot.relay, view=view)) for view in (behind, away)]

    sentence = "too far behind: shows only the newest value of each tag; 1,200 values left out; the archive has them"
    assert sentence in render_text(seen[0])
    assert f"view {sentence}" in seen[0].headline()
    for words in ("down  the newest values not shown yet", "no route to host", "1,200 values left out"):
        assert words in render_text(seen[1])
    assert "view down: no route to host" in seen[1].headline()


def test_a_lag_is_not_shown_where_the_clock_of_the_gateway_is_ahead(snapshot: StatusSnapshot) -> None:
    assert snapshot.relay is not None
    ahead = IssuerStatus(issuer="urn:tidegate:line-4", lag_ns=0, clock_ahead_ns=3 * 10**9)

    shown = render_text(replace(snapshot, relay=replace(snapshot.relay, issuers=(ahead,))))

    assert "line-4: its clock is 3 s ahead of ours, or more; its lag is not known" in shown
    assert " 0 ns" not in shown


def test_a_role_without_devices_is_shown_without_them() -> None:
    shown = render_text(StatusSnapshot(gateway=GatewayStatus(name="dmz-1", role="relay")))

    assert shown.strip().startswith("relay")
    assert "device" not in shown


def test_the_command_shows_a_running_gateway(running: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(running)])

    assert result.exit_code == 0
    assert "line-4" in result.output


def test_a_device_that_was_written_wrong_since_the_start_hides_nothing(running: Path) -> None:
    path = running.parent / "site.yaml"
    path.write_text(
        f"gateway: {{name: line-4, path: acme/basel, state: {running.parent}}}\n"
        "devices: [{name: plc, driver: modbus, hots: 10.0.0.1, scan_groups: [{every: fast, tags: []}]}]\n"
    )

    shown = CliRunner().invoke(command, [str(path)])

    assert shown.exit_code == 0, shown.output
    assert "line-4" in shown.stdout


def test_a_script_gets_json(running: Path, snapshot: StatusSnapshot) -> None:
    result = CliRunner().invoke(command, ["--socket", str(running), "--json"])

    assert json.loads(result.output) == {"json_version": 1, **json.loads(snapshot.to_json())}


def test_no_answer_is_an_error_and_not_a_traceback(tmp_path: Path) -> None:
    result = CliRunner().invoke(command, ["--socket", str(tmp_path / "status.sock")])

    assert result.exit_code == 1
    assert "no answer" in result.output


@pytest.mark.parametrize("arguments", [[], ["--watch", "--json", "--socket", "x"]])
def test_arguments_that_contradict_each_other_are_a_usage_error(arguments: list[str]) -> None:
    assert CliRunner().invoke(command, arguments).exit_code == 2


def test_what_was_accepted_of_a_certificate_is_shown_by_device(snapshot: StatusSnapshot) -> None:
    [*others, plc] = snapshot.certificates
    accepted = replace(plc, exception="its certificate is for urn:old: accepted by `certificate_uri`")

    shown = render_text(replace(snapshot, certificates=(*others, accepted)))

    assert "pump-2: its certificate is for urn:old: accepted by `certificate_uri`" in shown
    assert "accepted" not in render_text(snapshot)
