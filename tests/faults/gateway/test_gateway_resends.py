"""What a broker acknowledged and lost for good comes back by `tidegate resend`, and is on record."""

from __future__ import annotations

import getpass
import re
import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.ranges import RecordRange, ranges_from_text
from edge.seal import Data, decode_frame, parse
from tests.faults.gateway.site_under_test import Process, Site

PAGE = Path(__file__).parents[3] / "docs/how-to/relay.md"


def resend(site: Site, *options: str) -> Result:
    return CliRunner().invoke(cli, ["resend", str(site.buffer), *options])


def type_from_the_page(site: Site, option: str, **instead: str) -> Result:
    """The command of the page that has an option, with the values of this site."""
    [line] = re.findall(rf"^sudo tidegate (resend .*{option}.*)$", PAGE.read_text(), re.MULTILINE)
    words = line.replace("/var/lib/tidegate/buffer", str(site.buffer)).split()
    for name, value in instead.items():
        words[words.index(f"--{name}") + 1] = value
    return CliRunner().invoke(cli, words)


def disk_of_the_broker(site: Site) -> tuple[Path, str]:
    """A broker that keeps what it takes on a disk."""
    database = site.directory / "mosquitto"
    database.mkdir(exist_ok=True)
    return database, f"allow_anonymous true\npersistence true\npersistence_location {database}/\nautosave_interval 1\n"


def lose_what_the_broker_took(site: Site, *roles: str) -> tuple[Process, list[Process]]:
    """The relay is away while the broker takes records, is killed and loses its disk; then all are back."""
    site.settings["uplink"]["mqtt"]["resend_window"] = 0  # What the window covers is not what this is about.
    site.settings["seal"] = {"checkpoint": "1 s", "key_records": 20}
    site.add_counter("mixer")
    database, lines = disk_of_the_broker(site)
    broker = site.mosquitto(lines)
    relay = site.relay()
    gateways = [site.gateway(role) for role in roles]
    site.wait(lambda: len(site.archived()) > 20, "the relay to archive")
    relay.kill()
    site.wait_for_scans(100)
    site.wait(lambda: any(database.iterdir()), "the broker to save")
    sealed = len(site.buffered())
    broker.kill()
    shutil.rmtree(database)
    disk_of_the_broker(site)
    site.mosquitto(lines)
    relay = site.relay("--missing-to", str(missing_file(site)))
    site.wait(lambda: is_settled(site, sealed), "the file of missing ranges")
    return relay, gateways


def missing_file(site: Site) -> Path:
    return site.directory / "missing.txt"


def missing(site: Site) -> list[RecordRange]:
    """What the relay misses now."""
    path = missing_file(site)
    return ranges_from_text(path.read_text()) if path.exists() else []


def is_settled(site: Site, sealed: int) -> bool:
    """Whether of what was sealed before the broker was killed all is archived or missing, and nothing else is."""
    lacking = {seq for each in missing(site) for seq in range(each.first, each.last + 1)}
    # The end of the archive may be half a record: the relay is writing.
    held = {parse(data).seq for data in set(site.buffered()) & set(site.archived())}
    return bool(lacking) and max(lacking) < sealed and lacking | held >= set(range(sealed))


@pytest.mark.requirement("REQ-SEND-04", "REQ-TRAIL-04")
@pytest.mark.parametrize("roles", [("all",), ("acquire", "forward")], ids=["one process", "two processes"])
def test_what_a_broker_lost_with_its_disk_is_sent_again_by_the_file_of_missing_ranges(
    site: Site, roles: tuple[str, ...]
) -> None:
    relay, gateways = lose_what_the_broker_took(site, *roles)
    ranges = missing(site)

    asked = type_from_the_page(site, "--missing", missing=str(missing_file(site)))
    site.wait(lambda: not missing(site), "the records to come")
    site.wait(lambda: not [*site.buffer.glob("resend-*")], "the request to be finished")
    codes = [gateways[0].stop()]
    site.wait_until_archived()
    codes += [each.stop() for each in gateways[1:]]

    assert asked.exit_code == 0, asked.output
    assert all(
        "on the gateway: tidegate resend BUFFER --epoch" in said["remedy"] for said in relay.said("records missing")
    )
    assert set(codes) == {0}
    assert site.verify(site.archive, "--missing-to", str(missing_file(site)))["is_wholly_authentic"]
    assert missing(site) == []
    told = site.told(site.archived())
    site.assert_accounted_for(told, "mixer")
    [event] = told.events("resend")
    assert event.data["account"] == getpass.getuser()
    assert event.data["records"] == sum(each.last - each.first + 1 for each in ranges)
    assert event.data["ranges"] == ", ".join(f"{each.epoch.hex()} {each.first} to {each.last}" for each in ranges)


def test_records_are_named_by_time_and_by_seq_too(site: Site) -> None:
    relay, [gateway] = lose_what_the_broker_took(site, "all")
    ranges = missing(site)
    records = {parse(data).seq: parse(data) for data in site.buffered()}
    times = [content.utc_ns for each in ranges for seq in range(each.first, each.last + 1)
             if isinstance(content := decode_frame(records[seq]), Data)]  # fmt: skip
    middle_ns = sorted(times)[len(times) // 2]
    middle, end = (datetime.fromtimestamp(ns / 1e9, UTC).isoformat() for ns in (middle_ns, times[-1]))

    later = type_from_the_page(site, "--from 2026", **{"from": middle, "to": end})
    site.wait(lambda: missing(site) and missing(site) != ranges, "the later half")
    left = missing(site)
    answers = [
        type_from_the_page(site, "--epoch", epoch=each.epoch.hex(), **{"from": str(each.first), "to": str(each.last)})
        for each in left
    ]
    site.wait(lambda: not missing(site), "the other half")
    told = site.stop_and_archive(gateway)

    assert [each.exit_code for each in (later, *answers)] == [0] * (1 + len(answers)), later.output
    assert left[0].first == ranges[0].first
    assert sum(each.last - each.first + 1 for each in left) < sum(each.last - each.first + 1 for each in ranges)
    assert site.verify(site.archive)["is_wholly_authentic"]
    assert len(told.events("resend")) == 1 + len(left)
    assert relay.said("records no longer missing")


def test_what_is_not_held_or_no_request_is_refused(site: Site) -> None:
    site.add_counter("mixer")
    site.mosquitto()
    site.relay()
    gateway = site.gateway()
    site.wait_for_scans()
    (site.buffer / "resend-1.request").write_text("urn:tidegate:line-4 5d1c0a9be7f24c31 7 up to 9\n")
    (site.buffer / "resend-2.request").symlink_to("/etc/passwd")
    site.wait(lambda: len(gateway.said("resend refused")) == 2, "the refusals")
    answers = [
        resend(site, "--from", "1000000"),
        resend(site, "--epoch", "5d1c0a9be7f24c31", "--from", "0"),
        resend(site),
        resend(site, "--from", "1", "--missing", str(site.trust)),
        resend(site, "--missing", str(site.trust)),
    ]
    told = site.stop_and_archive(gateway)

    assert [each.exit_code for each in answers] == [1, 1, 2, 2, 2]
    assert "holds none of these records" in answers[0].output
    assert "line 1 is not a gateway, an epoch" in answers[4].output
    assert "line 1 is not" in gateway.said("resend refused")[0]["reason"]
    assert gateway.said("resend refused")[1]["reason"] == "it is a link"
    assert not [*site.buffer.glob("resend-*")]
    assert told.events("resend") == []
