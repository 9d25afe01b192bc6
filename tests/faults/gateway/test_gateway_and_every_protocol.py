"""One configuration with every protocol, subscribed and polled, healthy and hostile: one run, judged by its archive."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import orjson
import pytest

from drivers.ethernetip.simulator import REAL, LogixServer
from drivers.modbus.simulator import Signal, SimulatedLine, SimulatedUnit, counter
from edge.health import GroupStatus, StatusSnapshot
from edge.model import StatusCode
from hil.wall_clock import WallClock
from tests.faults.gateway.plant_under_test import (
    PLANT,
    RETRY,
    Deaf,
    asked_group,
    controller,
    logix,
    notified,
    opcua,
    points,
    reports,
    scrambled,
    statuses,
    told_group,
)
from tests.faults.gateway.site_under_test import Process, Site, Told, sites
from tests.peers.opcua.plant import BROKEN, Server, running

HEALTHY = {"reactor", "kiln", "filler", "mixer", "dryer", "silo"}
HOSTILE = {"opcua-mute", "opcua-liar", "enip-mute", "enip-liar", "modbus-mute", "modbus-liar", "dryer-off"}
RAMP = 60
PATIENT = {"timeout": "3 s"}  # Of healthy devices, whatever else this machine does.
MINUTE_NS = 60 * 10**9
ROOT = "uns/acme/basel/upstream/line-4"


def group_of(status: StatusSnapshot, device: str, group: str = "") -> GroupStatus:
    held = next(each for each in status.devices if each.name == device)
    return next(each for each in held.scan_groups if group in ("", each.name))


def states(status: StatusSnapshot) -> dict[str, str]:
    return {device.name: device.state for device in status.devices}


def failed_scans(status: StatusSnapshot) -> dict[str, int]:
    return {device.name: sum(group.failed_scans for group in device.scan_groups) for device in status.devices}


@dataclass
class Run:
    """What came of it."""

    told: Told
    report: dict[str, Any]
    early: StatusSnapshot
    calm: StatusSnapshot
    shown: dict[str, list[dict[str, Any]]]
    site: Site
    log: str


class Plant:
    """The devices, and what happens to them."""

    def __init__(self, site: Site, reactor: Server, kiln: Server, clock: WallClock) -> None:
        self.site, self.reactor, self.kiln, self.clock = site, reactor, kiln, clock
        self.filler = controller()
        self._add_healthy()
        self._add_hostile()

    def _add_healthy(self) -> None:
        site, devices = self.site, self.site.settings["devices"]
        texts = [
            {"name": "temperature", "address": f"{PLANT}Temperature", "type": "float64"},
            {"name": "mode", "address": f"{PLANT}Mode", "type": "enumeration"},
        ]
        known = {"facts": True, "clock_limit": "2 s"}
        url = f"opc.tcp://127.0.0.1:{self.reactor.port}/plant"
        devices.append(
            opcua("reactor", url, told_group([*points(range(4)), *texts]), asked_group(points(range(4, 8))), **known)
        )
        url = f"opc.tcp://127.0.0.1:{self.kiln.port}/plant"
        short = told_group(points([1, 2]), sampling="20 ms", queue=2) | {"every": "400 ms"}
        devices.append(opcua("kiln", url, short, clock_limit="2 s", limits=PATIENT))
        server: Any = site.plant.enter(LogixServer(self.filler))
        devices.append(logix("filler", server.port, limits=PATIENT | {"check_changes": "200 ms"}))
        site.add_counter("mixer", limits=PATIENT)
        unit = SimulatedUnit([Signal("holding 0", "uint32", counter(), is_kept=True)])
        self.line = site.directory / "ttyRS485"
        site.devices["dryer"] = site.plant.enter(SimulatedLine({1: unit}, self.line))
        devices.append(self._on_the_line("dryer", 1, **PATIENT))
        ramp = {"name": "level", "signal": "counter", "period": "20 ms", "type": "uint32"}
        devices.append({"name": "silo", "driver": "simulator", "scan_groups": [{"every": "20 ms", "tags": [ramp]}]})

    def _on_the_line(self, name: str, unit: int, **limits: str) -> dict[str, Any]:
        tags = [{"name": "count", "address": "holding 0", "type": "uint32", "word_order": "big"}]
        return {"name": name, "driver": "modbus", "unit": unit, **RETRY, "limits": limits,
                "serial": {"port": str(self.line), "baud": 115200},
                "scan_groups": [{"every": "50 ms", "tags": tags}]}  # fmt: skip

    def _add_hostile(self) -> None:
        site, devices = self.site, self.site.settings["devices"]
        mute, liar = site.plant.enter(Deaf()), site.plant.enter(Deaf(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
        for name, port in (("mute", mute.port), ("liar", liar.port)):
            devices.append(opcua(f"opcua-{name}", f"opc.tcp://127.0.0.1:{port}", asked_group(points([1]))))
        bad = controller()
        bad.distort = scrambled
        server: Any = site.plant.enter(LogixServer(bad))
        devices += [logix("enip-mute", mute.port), logix("enip-liar", server.port)]
        site.add_device("modbus-mute", mute)
        site.add_device("modbus-liar", liar)
        devices.append(self._on_the_line("dryer-off", 9, timeout="100 ms"))

    # What happens.

    def change(self) -> None:
        """Values change as fast as they can be told, one goes bad and comes back; another server tells too much."""
        self.reactor.tell("ramp Point1", RAMP, 10)
        self.reactor.tell("status Point2 BadSensorFailure")
        self.reactor.tell("ramp Point2 1 0")
        self.reactor.tell("value Mode 1")
        self.kiln.tell("ramp Point1 20 30")

    def download(self) -> None:
        """A program without a tag comes into the controller, then one that has it again."""
        site, filler = self.site, self.filler
        site.plant.call(lambda: (filler.remove("Level3"), filler.download()))
        site.wait_for_status(lambda status: group_of(status, "filler").not_good_tags == 1, "the tag to vanish")
        site.plant.call(lambda: (filler.tag("Level3", REAL, 33.0), filler.download()))
        site.wait_for_status(lambda status: group_of(status, "filler").not_good_tags == 0, "the tag to be back")

    def stand_still(self) -> None:
        """The server is silent for a while, its connections open."""
        self.reactor.send(signal.SIGSTOP)
        self.site.wait_for_status(lambda status: states(status)["reactor"] in ("down", "resting"), "the loss of it")
        self.reactor.send(signal.SIGCONT)
        self.site.wait_for_status(lambda status: states(status)["reactor"] == "up", "its return")

    def set_clock_back(self, gateway: Process) -> None:
        """The kiln's clock is a minute slow for a while."""
        self.clock.shift(-60)
        self.kiln.tell("value Point2 -1")
        self.site.wait(lambda: gateway.said("device.clock"), "the clock to be noticed")
        quiet = group_of(self.site.wait_for_status(bool, "a status"), "kiln").scans
        self.site.wait_for_status(lambda status: group_of(status, "kiln").scans > quiet + 3, "signs of life")
        self.kiln.tell("value Point2 -3")
        self.site.wait_for_status(lambda status: group_of(status, "kiln").scans > quiet + 6, "more of them")
        self.clock.shift(0)
        self.kiln.tell("value Point2 -2")


@contextmanager
def plant(folder: Path) -> Iterator[Plant]:
    with ExitStack() as stack:
        clock = WallClock(folder)
        pool = stack.enter_context(ThreadPoolExecutor())
        with patch.dict("os.environ", clock.environment):
            kiln = stack.enter_context(running("node-opcua", folder))
        reactor = pool.submit(stack.enter_context, running("asyncua", folder))  # The clock is the kiln's alone.
        site = stack.enter_context(contextmanager(sites)(folder))
        yield Plant(site, reactor.result(), kiln, clock)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with plant(tmp_path_factory.mktemp("site")) as it:
        site = it.site
        site.mosquitto()
        site.relay(views={"unified_namespace": {"prefix": "uns"}})
        view = site.start(
            "view", ["mosquitto_sub", "-V", "5", "-v", "-q", "1", "-t", "uns/#", "-p", str(site.broker_port)]
        )
        gateway = site.gateway()
        site.wait_for_status(lambda status: {n for n, s in states(status).items() if s == "up"} == HEALTHY, "a start")
        site.wait(lambda: len(site.told(site.buffered()).catalogues) == 2, "the facts")
        early = site.wait_for_status(lambda status: group_of(status, "mixer").scans, "a first scan")
        it.change()
        it.set_clock_back(gateway)
        it.download()
        calm = site.wait_for_status(lambda status: group_of(status, "mixer").scans > 200, "scans")
        it.stand_still()
        it.reactor.tell("value Point3 99")
        shown = f"{ROOT}/reactor/point-3"
        site.wait(lambda: [p for p in messages(view).get(shown, []) if p["v"] == 99], "the last value to be shown")
        told = site.stop_and_archive(gateway)
        yield Run(told, site.verify(site.archive), early, calm, messages(view), site, gateway.log())


def messages(view: Process) -> dict[str, list[dict[str, Any]]]:
    """What the view showed, by topic."""
    found: dict[str, list[dict[str, Any]]] = {}
    for line in view.log().splitlines(keepends=True):
        topic, _, payload = line.partition(" ")
        if line.endswith("}\n"):
            found.setdefault(topic, []).append(orjson.loads(payload))
    return found


def test_the_whole_archive_is_authentic(run: Run) -> None:
    assert run.report["is_wholly_authentic"]
    assert "Traceback" not in run.log


@pytest.mark.requirement("REQ-READ-06")
def test_every_notified_value_is_on_record_in_order_with_its_time_and_status(run: Run) -> None:
    told = notified(run.told, "reactor", "told", "point-1")
    ramp = told[[report.value for report in told].index(2.0) :][: RAMP - 1]  # It begins with the value that was there.
    faulty = [(report.value, report.status) for report in notified(run.told, "reactor", "told", "point-2")]

    assert [report.value for report in ramp] == list(range(2, RAMP + 1))
    times = [report.source_ns for report in ramp]
    assert times == sorted(set(times))  # type: ignore[type-var]
    assert {report.status for report in told} == {StatusCode.GOOD}
    assert faulty[:3] == [(2, 0), (None, BROKEN), (1, 0)]


def test_what_is_polled_beside_it_is_read_all_the_same(run: Run) -> None:
    asked = reports(run.told, "reactor", "asked")

    assert {name: {report.value for report in held} for name, held in asked.items()} == {
        f"point-{n}": {float(n)} for n in range(4, 8)
    }
    assert not any(report.is_notification for held in asked.values() for report in held)


def test_the_view_shows_every_notified_value_with_unit_text_and_time(run: Run) -> None:
    ramp = [each["v"] for each in run.shown[f"{ROOT}/reactor/point-1"] if each["q"] == "good"]
    [mode] = [each for each in run.shown[f"{ROOT}/reactor/mode"] if each["v"] == 1][:1]
    temperature = run.shown[f"{ROOT}/reactor/temperature"][-1]

    first = ramp.index(2.0)  # The ramp begins with the value that was there.
    assert ramp[first : first + RAMP - 1] == list(range(2, RAMP + 1))
    assert mode["x"] == "Heating"
    assert (temperature["u"], temperature["v"]) == ("Cel", 37)
    assert all("st" in each for each in run.shown[f"{ROOT}/reactor/point-1"] if each["q"] == "good")


def test_what_was_not_watched_from_the_start_on_is_a_gap(run: Run) -> None:
    """Nobody can know what a server would have told before it was subscribed to."""
    begun = [gap for gap in run.told.gaps("kiln") if "not connected yet" in gap.detail]
    groups = [n for n, group in enumerate(run.told.catalogue.groups) if (group.device, group.name) == ("kiln", "told")]

    assert [gap.group for gap in begun if gap.group in groups] == groups
    assert all(gap.to_ns is not None and gap.from_ns < gap.to_ns for gap in begun)


def test_a_server_that_stands_still_is_a_gap_from_its_last_notification(run: Run) -> None:
    groups = {group.name: n for n, group in enumerate(run.told.catalogue.groups) if group.device == "reactor"}
    [gap] = run.told.outages("reactor")
    offset_ns = next(data.utc_ns - data.boot_ns for data, _ in run.told.scans(groups["told"]))
    heard = [block.answered_at_ns + offset_ns for _, block in run.told.scans(groups["told"]) if block.is_notification]

    assert len(run.told.outages("reactor", is_open=True)) == 1
    assert min(abs(gap.from_ns - at_ns) for at_ns in heard) < 10**6
    assert not [at_ns for at_ns in heard if gap.from_ns + 10**6 < at_ns < gap.to_ns - 10**6]
    assert [event.subject for event in run.told.events("device.down") if event.subject in HEALTHY] == ["reactor"]


def test_a_clock_that_is_slow_is_told_once_and_once_when_it_is_right_again(run: Run) -> None:
    """Signs of life carry no time, and say nothing about it."""
    off, back = run.told.events("device.clock")

    assert (off.subject, off.data["state"]) == ("kiln", "off")
    assert abs(off.data["off_ns"] + MINUTE_NS) < MINUTE_NS / 10
    assert (back.subject, back.data["state"], back.data["count"]) == ("kiln", "within its limit again", 1)


def test_values_that_the_server_dropped_are_told(run: Run) -> None:
    overflows = run.told.events("device.overflow")

    assert {event.subject for event in overflows} == {"kiln"}
    assert overflows[0].data["tags"] == "point-1"
    assert notified(run.told, "kiln", "told", "point-1")[-1].value == 20


def test_after_a_download_only_the_vanished_tag_is_bad_until_it_is_back(run: Run) -> None:
    levels = reports(run.told, "filler")

    assert statuses(run.told, "filler", "level-3") == [StatusCode.GOOD, StatusCode.BAD_ADDRESS, StatusCode.GOOD]
    assert [report.value for report in levels["level-3"]][-1] == 33
    for n in {*range(8)} - {3}:
        assert statuses(run.told, "filler", f"level-{n}") == [StatusCode.GOOD]
        assert {report.value for report in levels[f"level-{n}"]} == {n}
    counts = [report.value for report in levels["count"]]
    assert counts == sorted(counts)
    [event] = [event for event in run.told.events("device.address") if event.subject == "filler"]
    assert event.data["tags"] == "level-3"


def test_what_the_server_says_of_its_tags_is_in_the_catalogue_that_records_refer_to(run: Run) -> None:
    configured, learned = run.told.catalogues.values()
    before, after = (
        {tag.name: tag for group in each.groups for tag in group.tags if group.device == "reactor"}
        for each in (configured, learned)
    )
    digests = [report.catalogue for report in reports(run.told, "reactor", "told")["point-1"]]

    assert (before["temperature"].unit, before["temperature"].range, before["mode"].texts) == ("", None, ())
    assert (after["temperature"].unit, after["temperature"].range) == ("Cel", (-20, 120))
    assert after["temperature"].description == "of the broth"
    assert after["mode"].texts == ((0, "Off"), (1, "Heating"), (2, "Cooling"))
    assert list(dict.fromkeys(digests)) == list(run.told.catalogues)


def test_hostile_and_dead_devices_of_each_protocol_cost_the_healthy_ones_no_scan(run: Run) -> None:
    early, calm = failed_scans(run.early), failed_scans(run.calm)
    assert {name for name in early if early[name] == calm[name]} == HEALTHY
    assert states(run.calm) | dict.fromkeys(HEALTHY, "up") == states(run.calm)
    for name in ("mixer", "dryer", "silo", "filler", "kiln"):
        assert not run.told.outages(name)
    for name in HOSTILE:
        assert not any(report.value is not None for held in reports(run.told, name).values() for report in held)
        assert run.told.gaps(name, is_open=True)
    for name in ("mixer", "dryer"):
        run.site.assert_accounted_for(run.told, name)
        run.site.assert_times_are_true(run.told, name)
    levels = [report.value for report in reports(run.told, "silo")["level"]]
    assert levels == sorted(levels)  # One stands twice where a new catalogue has every value reported again.
