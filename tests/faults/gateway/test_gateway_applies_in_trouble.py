"""What may go wrong with an apply: disks, files, devices, broker, the command, and the gateway itself."""

from __future__ import annotations

import errno
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.config.check import check
from edge.gateway.control import GatewayRefuses, Request
from edge.testing.disk import Crash
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
from tests.faults.gateway.site_under_test import Process, Site
from tests.support.forgetful_disk import ForgetfulDisk, forgetful_disk


def retry(site: Site, value: str) -> None:
    """Another setting of the first device."""
    site.settings["devices"][0]["retry"] = value


def begin(site: Site, *options: str) -> Process:
    """The command as a process of its own, once the gateway has taken it up."""
    command = site.command("apply", str(site.directory / "gateway.yaml"), "--why", WHY, *options, name="apply")
    site.wait(lambda: command.has_ended or progress(site)["state"] == "running", "the apply to be under way")
    assert not command.has_ended, command.log()
    return command


def progress(site: Site) -> dict[str, Any]:
    return asked(site, Request(ask="progress", device="")) or {}


def problems(site: Site) -> str:
    """The line of `tidegate status` on the configuration."""
    shown = run("status", site.directory / "gateway.yaml", "--problems").output
    return " ".join(shown.split())


@pytest.fixture
def disk(site: Site) -> Iterator[ForgetfulDisk]:
    """State and buffer of the site are on a disk that fails on order."""
    with forgetful_disk(site.directory / "disk") as disk:
        site.state, site.buffer = disk.path / "state", disk.path / "buffer"
        site.settings["gateway"]["state"] = str(site.state)
        site.settings["buffer"]["directory"] = str(site.buffer)
        yield disk
        site.close()


# The broker


def test_an_apply_during_an_outage_of_the_broker_reaches_the_archive_after_it(site: Site) -> None:
    site.add_counter("a")
    broker = site.mosquitto()
    site.relay()
    gateway = site.gateway()
    site.wait_for_scans(5)
    broker.kill()
    site.wait_for_status(lambda status: status.uplink.state == "down", "the outage to be seen")
    site.add_counter("b")

    assert apply(site, "--why", WHY).output.endswith("applied\n")

    site.wait_for_scans(5)
    assert site.status().uplink.state == "down"
    site.mosquitto()
    told = site.stop_and_archive(gateway)
    for name in "ab":
        site.assert_accounted_for(told, name)
    shown = run("history", site.archive, "--trust", site.trust, "--path", "devices[b]*")
    assert shown.exit_code == 0, shown.output
    assert WHY in shown.output


# A pair


def test_the_device_side_of_a_pair_applies_devices_and_says_what_waits(site: Site) -> None:
    site.add_counter("a", every="500 ms")
    site.mosquitto()
    site.relay()
    acquire, forward = site.gateway("acquire"), site.gateway("forward")
    site.wait_for_scans(2)
    before = missed(site)
    site.add_counter("b")

    assert apply(site, "--why", WHY).output.endswith("applied\n")

    wait_for_scans(site, "ab", 2)
    assert_as_before(site, before, "a")
    site.settings["uplink"]["mqtt"]["keep_alive"] = "20 s"
    shown = run("diff", site.write("gateway", site.settings))
    assert shown.output.endswith("uplink cannot change while it runs: the next start takes all of it into use\n")
    assert "uplink cannot change while it runs" in apply(site, "--dry-run").output
    said = apply(site, "--why", WHY, "--json").stdout
    assert (orjson.loads(said)["state"], orjson.loads(said)["waits_for_start"]) == ("restart", ["uplink"])
    site.wait_for_status(lambda status: status.gateway.waits_for_start == ("uplink",), "the status to say so")
    assert "uplink cannot change while it runs the next start takes all of it into use" in problems(site).replace(
        "; ", " ").replace(": the", " the")  # fmt: skip
    assert [acquire.stop(), forward.stop()] == [0, 0]
    acquire, forward = site.gateway("acquire"), site.gateway("forward")
    site.wait_for_scans(2)
    assert [acquire.stop()] == [0]
    site.wait_until_archived()
    assert forward.stop() == 0
    told = site.told(site.archived())
    for name in "ab":
        site.assert_accounted_for(told, name)
    assert run("history", site.archive, "--trust", site.trust).exit_code == 0


# Disks


def test_a_full_disk_refuses_an_apply_and_takes_it_once_there_is_room(site: Site, disk: ForgetfulDisk) -> None:
    site.add_counter("a", every="500 ms")
    gateway = site.gateway()
    site.wait_for_scans(2)
    before, kept = missed(site), sorted((site.state / "configurations").iterdir())
    site.add_counter("b")
    disk.fill()

    said = apply(site, "--why", WHY, code=1).output

    assert "the change cannot be put on record, and nothing was changed: " in said
    assert "No space left on device" in said
    assert [device.name for device in devices(site)] == ["a"]
    assert len(changes(site)) == 1
    disk.fail("create", error=errno.ENOSPC, name="/configurations/")  # The last of the room goes in the middle.
    disk.fill(1 << 20)
    assert "No space left on device" in apply(site, "--why", WHY, code=1).output
    assert sorted((site.state / "configurations").iterdir()) == kept
    assert not (site.state / "configuration.pending").exists()
    disk.heal()
    assert apply(site, "--why", WHY).output.endswith("applied\n")
    wait_for_scans(site, "ab", 2)
    assert_as_before(site, before, "a")
    assert len(changes(site)) == 2
    assert gateway.stop() == 0
    assert_whole(site, "ab")


def test_no_configuration_is_taken_while_its_record_would_be_in_memory_only(site: Site, disk: ForgetfulDisk) -> None:
    """The state is on a disk that works, and the buffer on one that does not."""
    site.state = site.directory / "state"
    site.settings["gateway"]["state"] = str(site.state)
    site.add_counter("a")
    site.gateway()
    site.wait_for_scans(5)
    disk.fail("write", error=errno.EIO)
    site.wait_for_status(lambda status: status.buffer.state == "memory", "the disk to fail")
    retry(site, "150 ms")

    assert "nothing was changed: records are in memory only: " in apply(site, "--why", WHY, code=1).output

    disk.heal()
    site.wait_for_status(lambda status: status.buffer.state == "ok", "the disk to work")
    assert apply(site, "--why", WHY).output.endswith("applied\n")
    assert len(changes(site)) == 2


def test_a_configuration_goes_back_on_a_disk_that_filled_meanwhile(site: Site, disk: ForgetfulDisk) -> None:
    """Also its file: the one before has a name still, and a name takes no room."""
    site.directory = disk.path
    site.add_counter("a")
    gateway = site.gateway()
    site.wait_for_scans(5)
    path = site.directory / "gateway.yaml"
    site.settings["devices"][0]["port"], right = DeadPort().port, site.settings["devices"][0]["port"]
    apply(site, "--why", WHY, "--within", "0")
    site.settings["devices"][0]["port"] = right
    apply(site, "--why", WHY)
    before = path.read_bytes()
    command = begin(site, "--previous", "1", "--within", "4 s")
    site.wait(lambda: progress(site).get("waiting_for"), "the device to be waited for")

    disk.fill()

    assert command.wait() == 1
    assert "the configuration before runs again: a did not come up within 4 s" in command.log()
    assert path.read_bytes() == before
    assert not [each for each in disk.path.iterdir() if each.suffix in (".before", ".put", ".new")]
    site.wait_for_scans(5)
    disk.heal()
    assert [each.role for each in changes(site)] == ["start", "apply", "apply", "apply", "roll back"]
    assert gateway.stop() == 0
    site.gateway()  # Which configuration is on record could not be noted; it is told once more.
    site.wait_for_scans(5)
    assert run("history", site.buffer, "--trust", site.trust).exit_code == 0


def test_files_that_find_no_room_are_as_they_were(site: Site, disk: ForgetfulDisk) -> None:
    site.add_counter("a")
    folder = disk.path / "config"
    folder.mkdir()
    write_parts(site, folder)
    start(site, folder)
    with (folder / "a.yaml").open("a") as file:
        file.write("# " + "x" * 100 + "\n")
    with (folder / "gateway.yaml").open("a") as file:
        file.write("# " + "x" * 100 + "\n")
    before = held(folder)
    disk.fail("create", error=errno.ENOSPC, name="/config/gateway.yaml")

    said = run("apply", folder, "--previous", "0")

    assert said.exit_code == 1
    assert "cannot be written, and nothing was changed: No space left on device" in said.output
    assert held(folder) == before


# Files


def write_parts(site: Site, folder: Path, *others: str) -> None:
    """The configuration in two files, the device of the second one with a table, and more files of devices."""
    rest = {key: value for key, value in site.settings.items() if key != "devices"}
    (folder / "gateway.yaml").write_bytes(orjson.dumps(rest, option=orjson.OPT_INDENT_2))
    for device in site.settings["devices"]:
        if device["name"] in ("a", *others):
            written = orjson.dumps({"devices": [device]}, option=orjson.OPT_INDENT_2)
            (folder / f"{device['name']}.yaml").write_bytes(written)


def start(site: Site, folder: Path) -> Process:
    gateway = site.command("run", str(folder), name="gateway")
    site.wait(lambda: gateway.has_ended or gateway.said("running"), "the gateway to run")
    assert not gateway.has_ended, gateway.log()
    site.wait_for_scans(2)
    return gateway


def held(folder: Path) -> dict[str, bytes]:
    return {each.name: each.read_bytes() for each in folder.iterdir() if each.is_file()}


@pytest.fixture
def folder(site: Site) -> Path:
    """A directory with a configuration in two files."""
    site.add_counter("a")
    folder = site.directory / "config"
    folder.mkdir()
    write_parts(site, folder)
    return folder


@pytest.mark.requirement("REQ-CONF-01")
def test_a_directory_that_is_half_written_is_refused_and_what_editors_leave_in_it_is_no_part(
    site: Site, folder: Path
) -> None:
    gateway = start(site, folder)
    device = folder / "a.yaml"
    whole = device.read_bytes()
    digest = check(folder).digest.hex()

    device.write_bytes(whole[: len(whole) // 2])
    said = run("apply", folder, "--why", WHY)
    assert f"{device}:" in str(said.exception)
    asked(site, Request(ask="apply", device="", digest=digest, why=WHY))  # It was whole when it was shown.
    assert f"{device}:" in site.wait(lambda: ended(site), "the apply to end")["problems"][0]
    device.unlink()
    said = run("apply", folder, "--why", WHY)
    assert "devices" in str(said.exception)
    site.wait(lambda: gateway.said("config.differs"), "the gateway to see it")
    device.write_bytes(whole)
    site.wait_for_status(lambda status: status.gateway.unapplied_age_ns is None, "the gateway to see that it is back")

    for name in (".a.yaml.swp", "a.yaml~", "#a.yaml#", "4913", ".goutputstream-X1", "a.yaml.new"):
        (folder / name).write_bytes(whole[:40])
    (folder / ".#a.yaml").symlink_to("root@host.1234:1")
    (folder / "compose.yaml").write_text("image: postgres\n")
    assert run("apply", folder, "--why", WHY).output.endswith("this configuration runs already\n")
    site.wait_for_scans(450)  # 9 s: it has looked meanwhile.
    assert site.status().gateway.unapplied == ""
    (folder / "b.yaml").write_text("devices: []\n")
    site.wait_for_status(lambda status: status.gateway.unapplied == "config", "a part that has come to be seen")
    assert len(changes(site)) == 1
    assert gateway.stop() == 0


def test_files_that_came_or_went_are_taken_back_and_nothing_is_left_where_none_was(site: Site, folder: Path) -> None:
    gateway = start(site, folder)
    site.add_counter("b")
    write_parts(site, folder, "b")
    assert run("apply", folder, "--why", WHY).output.endswith("applied\n")
    with_b = held(folder)

    said = run("apply", folder, "--previous", "1", "--why", WHY)

    assert said.output.endswith("applied\n"), said.output
    assert "devices[b] removed" in said.output
    assert held(folder) == {name: data for name, data in with_b.items() if name != "b.yaml"}
    without_b = held(folder)
    site.plant.do(site.devices["b"].stop())
    said = run("apply", folder, "--previous", "1", "--why", WHY, "--within", "1 s")
    assert said.exit_code == 1
    assert "b did not come up within 1 s" in said.output
    assert held(folder) == without_b
    assert run("diff", folder).output == "no differences\n"
    assert [device.name for device in devices(site)] == ["a"]
    assert gateway.stop() == 0


# The command


def test_what_becomes_of_an_apply_whose_command_is_gone_is_said_by_the_next(site: Site) -> None:
    site.add_counter("a")
    site.gateway()
    site.wait_for_scans(5)
    path = site.write("gateway", site.settings)
    runs = path.read_bytes()
    site.add_device("later", DeadPort())
    site.write("gateway", site.settings)

    for number in (signal.SIGINT, signal.SIGKILL):
        command = begin(site, "--within", "600 ms")
        command.send(number)
        command.wait()
        if number is signal.SIGINT:
            assert "the gateway goes on with it, and tidegate status says what comes of it" in command.log()
        site.wait(lambda: ended(site), "the gateway to go back")
        assert ended(site)["state"] == "rolled_back"
    with socket.socket(socket.AF_UNIX) as closed:  # It hangs up with the question, and before any answer.
        closed.connect(str(site.state / "control.sock"))
        closed.sendall(orjson.dumps({"ask": "apply", "device": "", "digest": check(path).digest.hex(), "why": WHY,
                                     "within": "20"}) + b"\n")  # fmt: skip
        site.wait(lambda: progress(site)["state"] == "running", "the gateway to take it up")
    site.wait(lambda: progress(site)["waiting_for"], "the device to be waited for")
    said = problems(site)
    assert "root applies it" in said
    assert "waiting for later" in said
    with pytest.raises(GatewayRefuses, match="another apply is under way, asked for by root; wait for its end"):
        asked(site, Request(ask="apply", device="", digest="00", why=WHY))
    assert "another apply is under way, asked for by root" in run("apply", path, "--why", WHY).output
    assert path.read_bytes() != runs
    assert [each.role for each in changes(site)] == ["start", *["apply", "roll back"] * 2, "apply"]


def test_what_was_taken_back_and_why_stands_in_the_status(site: Site) -> None:
    """A device may say anything, also in the reason."""
    site.add_counter("a")
    site.gateway()
    site.add_device("later", DeadPort())
    apply(site, "--why", WHY, "--within", "500 ms", code=1)

    site.wait_for_status(lambda status: status.gateway.unapplied_age_ns is not None, "the file to be another")

    assert "what root applied was taken back: later did not come up within 0.5 s: " in problems(site)
    site.settings["devices"].pop()
    assert apply(site, "--why", WHY).output.endswith("this configuration runs already\n")


def test_files_stay_when_the_command_that_wrote_them_is_stopped(site: Site) -> None:
    """The gateway goes on with the apply: files put back then would not be what runs."""
    site.add_counter("a")
    gateway = site.gateway()
    first = site.write("gateway", site.settings).read_bytes()
    site.wait_for_scans(5)
    retry(site, "150 ms")
    apply(site, "--why", WHY)
    command = begin(site, "--previous", "1")
    command.send(signal.SIGINT)
    command.wait()

    site.wait(lambda: (ended(site) or {}).get("state") == "applied", "the apply to end")

    assert (site.directory / "gateway.yaml").read_bytes() == first
    assert run("diff", site.directory / "gateway.yaml").output == "no differences\n"
    assert gateway.stop() == 0


# The gateway


@pytest.mark.parametrize(
    ("cut_at", "by"),
    [
        ("configuration.pending", ("start", "found at the start")),
        ("create /state/configurations/", ("apply", WHY)),
        ("rename /state/configuration.sha256", ("apply", WHY)),
        ("unlink /state/configuration.pending", ("apply", WHY)),
    ],
)
def test_a_power_cut_in_the_middle_leaves_one_configuration_that_is_on_record(
    site: Site, disk: ForgetfulDisk, cut_at: str, by: tuple[str, str]
) -> None:
    """The one that the files have, which the next start takes, for whom and why as far as that had come."""
    site.settings["gateway"]["regulated"] = by[0] == "apply"  # Then it would not start without the reason.
    site.add_counter("a")
    gateway = site.gateway()
    site.wait_for_scans(5)
    digest = check(site.directory / "gateway.yaml").digest
    retry(site, "150 ms")
    path = site.write("gateway", site.settings)
    disk.arm(0, [gateway.pid], cut_at)
    command = site.command("apply", str(path), "--why", WHY, name="apply")
    site.wait(lambda: gateway.has_ended, "the power cut")
    assert command.wait() == 1
    assert "the gateway ended meanwhile" in command.log()
    disk.come_back(Crash.LOST, seed=1)

    gateway = site.gateway()

    site.wait_for_scans(5)
    *_, last = changes(site)
    assert (last.role, last.why, last.old_hash, last.new_hash) == (*by, digest, check(path).digest)
    assert run("diff", path).output == "no differences\n"
    history = CliRunner().invoke(cli, ["history", str(site.buffer), "--trust", str(site.trust)])
    assert history.exit_code == 0, history.output
    assert gateway.stop() == 0
