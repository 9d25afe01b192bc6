"""A changed configuration is taken into use at work: whole, on record, and without a scan of others lost."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from pathlib import Path

import pytest

from drivers.modbus.address import Table
from drivers.modbus.simulator import SimulatedDevice, SimulatedUnit
from edge.config.check import check
from edge.gateway.control import GatewayRefuses, Request
from tests.faults.gateway.applying import (
    WHY,
    DeadPort,
    apply,
    asked,
    assert_as_before,
    assert_whole,
    changes,
    devices,
    ended,
    missed,
    run,
    wait_for_scans,
)
from tests.faults.gateway.site_under_test import Site
from tests.support.machine import run_delay_ns
from tests.support.ports import free_port
from tests.support.system_call_filter import under_the_filter


@pytest.mark.requirement("REQ-CONF-03")
def test_a_device_more_is_read_and_the_others_skip_no_scan(site: Site) -> None:
    for name in "bd":
        site.add_counter(name, every="500 ms")  # Less would be skipped on a busy machine without any apply.
    gateway = site.gateway()
    site.wait_for_scans(2)
    before = missed(site)
    site.add_counter("c")
    site.settings["devices"].insert(0, site.settings["devices"].pop())  # The numbers of all other groups change.

    said = apply(site, "--why", WHY).output

    assert "devices[c] added" in said
    assert said.endswith("applied\n")
    site.wait_for_scans(5)
    assert list(missed(site)) == ["c", "b", "d"]
    assert_as_before(site, before, "bd")
    assert [device.connects for device in devices(site)] == [1, 1, 1]
    assert gateway.stop() == 0
    first, second = changes(site)
    assert (second.role, second.why) == ("apply", WHY)
    assert second.old_hash == first.new_hash
    assert [path for path, _, _ in second.changes] == ["devices[c]"]
    assert_whole(site, "bcd")


class ManyRegisters(SimulatedUnit):
    """Has every register."""

    def data(self, table: Table, first: int, count: int, elapsed_s: float, now_ns: int) -> bytes:
        return bytes(2 * count)


def waited_for_a_processor_ns(gateway: int) -> int:
    """How long threads of the gateway and of its simulated devices were ready to run and did not."""
    threads = [thread for pid in (gateway, os.getpid()) for thread in Path(f"/proc/{pid}/task").iterdir()]
    return sum(run_delay_ns(str(thread.relative_to("/proc"))) for thread in threads)


@pytest.mark.exclusive
def test_ten_thousand_changed_tags_cost_a_fast_device_no_scan(site: Site) -> None:
    """All that takes long is done in another process, or in a thread that lets scans begin."""
    table = site.directory / "tags.csv"

    def write(deadband: int) -> None:
        rows = (f"zone-{number},holding {number},uint16,{deadband}" for number in range(10_000))
        table.write_text("\n".join(["name,address,type,deadband", *rows]) + "\n")

    write(1)
    large = site.plant.enter(SimulatedDevice({1: ManyRegisters([])}))
    site.add_device("large", large, limits={"timeout": "5 s"})
    site.settings["devices"][0]["scan_groups"] = [{"every": "60 s", "tags_from": table.name}]
    site.add_counter("fast", every="100 ms")
    gateway = site.gateway()
    site.wait_for_status(lambda status: all(device.state == "up" for device in status.devices), "both to be up")
    site.wait_for_scans(10)
    before, waited_ns = missed(site), waited_for_a_processor_ns(gateway.pid)
    write(2)

    # Not in this process, where it would keep the simulated devices from answering.
    command = site.command("apply", str(site.directory / "gateway.yaml"), "--why", WHY, name="apply")

    assert command.wait() == 0, command.log()
    assert "10,000 differences" in command.log()
    assert command.log().endswith("applied\n")
    site.wait_for_scans(20)
    # What others on this machine cost is not held against it.
    waited_ns = waited_for_a_processor_ns(gateway.pid) - waited_ns
    assert missed(site)["fast"] - before["fast"] <= waited_ns // (100 * 10**6)
    assert [device.connects for device in devices(site)] == [1, 1]
    assert gateway.stop() == 0


def test_a_device_with_other_settings_is_connected_anew_and_one_that_goes_is_closed(site: Site) -> None:
    for name in "abc":
        site.add_counter(name)
    gateway = site.gateway()
    site.wait_for_scans(5)
    before = {device.name: device.connects for device in devices(site)}
    del site.settings["devices"][0]
    site.settings["devices"][0]["scan_groups"][0]["every"] = "50 ms"

    said = apply(site, "--why", WHY).output

    assert "devices[a] removed" in said
    assert "every from 20 ms to 50 ms" in said
    assert "b, 50 ms: 1 tag -> 1 request" in said
    wait_for_scans(site, "bc")
    assert {device.name: (device.connects, device.scan_groups[0].every_ns) for device in devices(site)} == {
        "b": (1, 50 * 10**6), "c": (before["c"], 20 * 10**6),
    }  # fmt: skip
    assert gateway.stop() == 0
    assert_whole(site, "bc", gone="a")
    gaps = site.told(site.buffered()).gaps("b")
    assert "its settings were changed, and it was not connected anew yet" in [gap.detail for gap in gaps]


def test_a_renamed_device_is_another_one(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    site.wait_for_scans(5)
    site.settings["devices"][0]["name"] = "b"
    site.devices["b"] = site.devices["a"]

    apply(site, "--why", WHY)

    site.wait_for_scans(5)
    assert gateway.stop() == 0
    told = site.told(site.buffered())
    values = told.values("a") + told.values("b")
    assert values == sorted(set(values))
    assert [path for path, _, _ in changes(site)[-1].changes] == ["devices[b]", "devices[a]"]


@pytest.mark.requirement("REQ-CONF-03")
def test_the_configuration_before_returns_where_a_changed_device_does_not_come_up(site: Site) -> None:
    site.add_counter("a", every="500 ms")
    site.add_counter("b")
    gateway = site.gateway()
    site.wait_for_scans(2)
    was = changes(site)[-1].new_hash
    before = missed(site)
    right = site.settings["devices"][1]["port"]
    site.settings["devices"][1]["port"] = free_port()

    said = apply(site, "--why", WHY, "--within", "1 s", code=1).output

    assert "the configuration before runs again: b did not come up within 1 s: " in said
    assert "refused" in said
    assert "--previous 0 writes those that run" in said
    site.wait_for_scans(2)
    assert_as_before(site, before, "a")
    there, back = changes(site)[-2:]
    assert (there.role, there.old_hash) == ("apply", was)
    assert (back.role, back.old_hash, back.new_hash) == ("roll back", there.new_hash, was)
    assert back.why.startswith("b did not come up within 1 s")
    assert [(path, new) for path, _, new in back.changes] == [("devices[b].port", str(right))]
    site.wait(lambda: gateway.said("config.differs"), "the gateway to see that its file is another")
    assert [event["reason"] for event in gateway.said("config.rolled_back")]
    assert gateway.stop() == 0
    assert_whole(site, "ab")


def test_a_device_that_is_not_there_yet_can_be_added_all_the_same(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    site.wait_for_scans(5)
    site.add_device("later", DeadPort())

    assert apply(site, "--why", WHY, "--within", "0").output.endswith("applied\n")

    assert [device.name for device in devices(site)] == ["a", "later"]
    assert gateway.stop() == 0


def test_an_open_gap_goes_on_under_the_new_number_of_its_group(site: Site) -> None:
    """A reader pairs beginning and end by the number, which means another device in another catalogue."""
    for name in "ab":
        site.add_counter(name)
    gateway = site.gateway()
    site.wait_for_scans(5)
    site.plant.do(site.devices["b"].stop())
    site.wait_for_status(lambda status: status.devices[1].state == "down", "b to be down")
    del site.settings["devices"][0]

    apply(site, "--why", WHY, "--within", "0")

    site.plant.do(site.devices["b"].start())
    wait_for_scans(site, "b")
    assert gateway.stop() == 0
    told = site.told(site.buffered())
    begun, ended = told.outages("b", is_open=True), told.outages("b")
    assert [gap.from_ns for gap in begun] == [gap.from_ns for gap in ended]
    assert len(ended) == 2
    assert ended[0].to_ns == ended[1].from_ns
    assert_whole(site, "b", gone="a")


def test_what_is_no_device_waits_for_the_next_start_with_who_and_why(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    site.settings["seal"] = {"heartbeat": "5 s"}

    said = apply(site, "--why", WHY).output

    assert "seal cannot change while it runs: the next start takes all of it into use" in said
    assert len(changes(site)) == 1
    assert gateway.stop() == 0
    site.gateway()
    site.wait_for_scans(1)
    assert [(each.role, each.why) for each in changes(site)] == [("start", "first start"), ("apply", WHY)]


def test_a_file_that_changes_after_it_was_shown_is_not_taken(site: Site) -> None:
    site.add_counter("a")
    site.gateway()
    path = site.write("gateway", site.settings)
    path.write_text(path.read_text() + "\n")

    asked(site, Request(ask="apply", device="", digest="00", why=WHY))

    progress = site.wait(lambda: ended(site), "the apply to end")
    assert (progress["state"], progress["text"]) == (
        "refused", "the files have changed since they were shown; look at them again"
    )  # fmt: skip
    path.write_text(path.read_text()[:200])  # As one that is being written.
    asked(site, Request(ask="apply", device="", digest="00", why=WHY))
    progress = site.wait(lambda: ended(site), "the apply to end")
    assert progress["state"] == "refused"
    assert str(path) in progress["problems"][0]
    assert len(changes(site)) == 1


def test_a_driver_that_fails_over_the_new_configuration_does_not_end_the_gateway(site: Site) -> None:
    program = """
import edge.gateway.apply
def plan_site(*_):
    raise KeyError("a bug")
edge.gateway.apply.plan_site = plan_site
from edge.cli import main
main()
"""
    site.add_counter("a")
    path = site.write("gateway", site.settings)
    gateway = site.start("gateway", [*under_the_filter(), sys.executable, "-c", program, "run", str(path)])
    site.wait(lambda: gateway.said("running"), "the gateway to run")
    site.settings["devices"][0]["retry"] = "150 ms"

    assert "it cannot be used: KeyError: 'a bug'" in apply(site, "--why", WHY, code=1).output

    site.wait_for_scans(5)
    assert len(changes(site)) == 1
    assert gateway.stop() == 0


def test_two_at_once_and_reasons_that_hide_something_are_refused(site: Site) -> None:
    site.add_counter("a")
    site.gateway()
    site.add_device("later", DeadPort())
    digest = check(site.write("gateway", site.settings)).digest.hex()
    for why in ("line\nbreak", "abc\u202edef", "x" * 501, "\x1b[31m"):
        assert "the reason must be one line" in apply(site, "--why", why, code=2).output
        with pytest.raises(GatewayRefuses, match="the reason must be one line"):
            asked(site, Request(ask="apply", device="", digest=digest, why=why))

    asked(site, Request(ask="apply", device="", digest=digest, why=WHY, within="20"))
    with pytest.raises(GatewayRefuses, match="another apply is under way, asked for by "):
        asked(site, Request(ask="apply", device="", digest=digest, why=WHY))


def test_a_full_disk_refuses_the_change_and_nothing_changes(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    site.wait_for_scans(5)
    kept = site.state / "configurations"
    shutil.rmtree(kept)
    kept.write_text("")  # Nothing can be made in it: as on a full disk.
    site.settings["devices"][0]["retry"] = "150 ms"

    path = site.write("gateway", site.settings)
    asked(site, Request(ask="apply", device="", digest=check(path).digest.hex(), why=WHY))

    progress = site.wait(lambda: ended(site), "the apply to end")
    assert progress["state"] == "refused"
    assert progress["text"].startswith("the change cannot be put on record, and nothing was changed")
    assert len(changes(site)) == 1
    assert gateway.stop() == 0


def test_an_earlier_configuration_returns_byte_for_byte(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    site.wait_for_scans(2)
    first = site.write("gateway", site.settings).read_bytes()
    for retry in ("150 ms", "160 ms"):
        site.settings["devices"][0]["retry"] = retry
        apply(site, "--why", WHY)
    path = site.directory / "gateway.yaml"

    shown = run("apply", path, "--previous", 2, "--dry-run")
    assert "retry from 160 ms to 100 ms" in shown.output
    assert path.read_bytes() != first
    said = run("apply", path, "--previous", 2, "--why", "taken back")

    assert said.exit_code == 0, said.output
    assert path.read_bytes() == first
    assert changes(site)[-1].new_hash == changes(site)[0].new_hash
    assert run("diff", path).output == "no differences\n"
    assert "3 earlier" not in run("apply", path, "--previous", 9).output
    assert "no number 9" in run("apply", path, "--previous", 9).output
    assert gateway.stop() == 0


def test_a_configuration_that_an_earlier_version_kept_without_its_files_can_be_changed(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    for kept in (site.state / "configurations").glob("*.tar.gz"):
        kept.unlink()
    site.settings["devices"][0]["retry"] = "150 ms"

    assert apply(site, "--why", WHY).output.endswith("applied\n")

    said = run("apply", site.directory / "gateway.yaml", "--previous", 1)
    assert said.exit_code == 1
    assert "are not kept whole" in said.output
    assert gateway.stop() == 0


def test_a_regulated_gateway_wants_to_know_why(site: Site) -> None:
    site.settings["gateway"]["regulated"] = True
    site.add_counter("a")
    gateway = site.gateway()
    site.settings["devices"][0]["retry"] = "150 ms"
    for why in ("", "change"):
        assert "give a reason of more than one word" in apply(site, "--why", why, code=2).output
    assert gateway.stop() == 0

    refused = site.gateway(is_awaited=False)
    assert refused.wait() == 78
    assert "the files are not those on record, and nobody said why" in refused.log()

    assert "no gateway runs: the next start takes it into use" in apply(site, "--why", WHY).output
    site.gateway()
    site.wait_for_scans(1)
    assert (changes(site)[-1].role, changes(site)[-1].why) == ("apply", WHY)


def test_a_file_edited_by_hand_is_an_event_and_stands_in_the_status(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    path = site.directory / "gateway.yaml"
    before = path.read_bytes()

    path.write_bytes(before + b"\n")

    site.wait(lambda: gateway.said("config.differs"), "the gateway to see it")
    shown = run("status", path).output
    assert "gateway.yaml is not what runs" in shown
    assert run("apply", path, "--previous", 0).output.endswith("this configuration runs already\n")
    assert path.read_bytes() == before
    site.wait_for_status(lambda status: status.gateway.unapplied_age_ns is None, "the gateway to see that it is back")


def test_a_signal_is_on_record_and_changes_no_device(site: Site) -> None:
    site.add_counter("a")
    gateway = site.gateway()
    site.settings["devices"][0]["retry"] = "150 ms"
    site.write("gateway", site.settings)

    gateway.send(signal.SIGHUP)

    site.wait(lambda: site.told(site.buffered()).events("signal"), "the signal to be on record")
    assert len(changes(site)) == 1
