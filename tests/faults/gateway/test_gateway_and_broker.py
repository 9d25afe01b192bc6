"""Whatever the broker does, the gateway reads on, says what is wrong once, and delivers when it is put right."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Callable
from urllib.request import urlopen

import pytest
from click.testing import CliRunner, Result

from edge.cli import cli
from edge.health import StatusSnapshot
from edge.health.problems import StatusAnswer
from tests.faults.gateway.site_under_test import NAME, Site, is_delivered
from tests.support.ports import free_port

PASSWORD = "correct horse"


def test_what_mosquitto_took_and_lost_with_its_memory_is_sent_again(site: Site) -> None:
    """A PUBACK says that the broker took a record, not that anybody will ever get it."""
    site.add_counter("mixer")
    broker = site.mosquitto()
    site.relay().kill()  # The broker keeps its session, and queues for it in memory.
    gateway = site.gateway()
    site.wait_for_status(lambda status: status.uplink.acknowledged > 50, "records to be acknowledged")

    broker.kill()
    site.wait_for_status(lambda status: status.uplink.state == "down", "the loss of the broker to be noticed")
    site.wait_for_scans()
    site.mosquitto()
    site.relay()
    site.wait_for_status(lambda status: status.uplink.connects == 2, "the broker to be found again")
    told = site.stop_and_archive(gateway)

    site.assert_accounted_for(told, "mixer")
    assert not told.gaps(None)
    assert site.verify(site.archive)["is_wholly_authentic"]


def test_mosquitto_killed_again_and_again_under_a_relay_costs_nothing(site: Site) -> None:
    site.add_counter("mixer", every="10 ms")
    broker = site.mosquitto()
    site.relay()
    gateway = site.gateway()

    for connects in (1, 2):
        site.wait_for_status(lambda status, n=connects: status.uplink.connects == n, "the broker to be found again")
        site.wait_for_scans()
        broker.kill()
        broker = site.mosquitto()
    told = site.stop_and_archive(gateway)

    site.assert_accounted_for(told, "mixer")
    assert site.verify(site.archive)["is_wholly_authentic"]


def test_what_waits_from_before_a_start_is_in_the_first_status(site: Site) -> None:
    """A status that says at first that nothing waits lets whoever waits for it stop the gateway too early."""
    site.add_counter("mixer")
    first = site.gateway()
    site.wait_for_scans(30)
    assert first.stop() == 0

    site.gateway()

    status: StatusSnapshot = site.wait(site.status, "its first status")
    assert (status.buffer.undelivered_records or 0) > 30


def allow(site: Site) -> None:
    path = site.directory / "passwords"
    accounts = (NAME, "relay") if path.exists() else ("relay",)
    path.unlink(missing_ok=True)
    path.touch(mode=0o600)
    for account in accounts:
        subprocess.run(["mosquitto_passwd", "-b", path, account, PASSWORD], check=True, capture_output=True)


def protected(site: Site) -> tuple[str, Callable[[], None]]:
    """A broker that does not know the gateway, until its password is added."""
    site.settings["uplink"]["mqtt"] |= {"username": NAME, "password": f"file:{site.directory}/password"}
    (site.directory / "password").write_text(PASSWORD)
    (site.directory / "password").chmod(0o600)
    allow(site)
    return f"allow_anonymous true\npassword_file {site.directory}/passwords\n", lambda: allow(site)


def forbidden(site: Site) -> tuple[str, Callable[[], None]]:
    """A broker that takes no records, until its list says otherwise."""
    path = site.directory / "acl"

    def write(rights: str) -> None:
        path.write_text(f"topic read tidegate/#\n{rights}")
        path.chmod(0o600)

    write("topic write tidegate/+/+/status\n")
    return f"allow_anonymous true\nacl_file {path}\n", lambda: write("topic write tidegate/#\n")


@pytest.mark.parametrize("prepare", [protected, forbidden], ids=["its password", "its topics"])
def test_a_broker_that_refuses_is_told_of_once_and_served_when_it_consents(
    site: Site, prepare: Callable[[Site], tuple[str, Callable[[], None]]]
) -> None:
    site.add_counter("mixer")
    lines, put_right = prepare(site)
    broker = site.mosquitto(lines)
    site.relay()
    gateway = site.gateway()
    site.wait_for_scans(100)
    status = site.wait_for_status(lambda status: status.uplink.state == "refused", "the refusal to show")
    refusals = gateway.said("uplink.refused")

    put_right()
    broker.send(signal.SIGHUP)
    told = site.stop_and_archive(gateway)

    assert status.uplink.acknowledged == 0
    assert status.buffer.undelivered_records
    assert len(refusals) == 1
    assert refusals[0]["level"] == "error"
    assert told.events("uplink.refused")[0].data["reason"] == refusals[0]["reason"]
    assert "refuse" in refusals[0]["reason"] or "does not authorize" in refusals[0]["reason"]
    assert site.verify(site.archive)["is_wholly_authentic"]
    site.assert_accounted_for(told, "mixer")


def test_a_new_password_counts_after_a_reload_and_one_that_is_missing_changes_nothing(site: Site) -> None:
    """`systemctl reload`: devices are read all the while."""
    site.add_counter("mixer")
    lines, put_right = protected(site)
    put_right()
    site.mosquitto(lines)
    site.relay()
    password = site.directory / "password"
    password.write_text("outdated")
    gateway = site.gateway()
    site.wait_for_status(lambda status: status.uplink.state == "refused", "the refusal to show")

    password.unlink()
    gateway.send(signal.SIGHUP)
    site.wait(lambda: gateway.said("not reloaded"), "the reload to be refused")
    password.write_text(PASSWORD)
    password.chmod(0o600)
    gateway.send(signal.SIGHUP)
    site.wait_for_status(lambda status: status.uplink.state == "up", "the broker to take the new password")
    gateway.send(signal.SIGHUP)
    site.wait_for_status(lambda status: status.uplink.connects == 2, "the connection to be made anew")
    told = site.stop_and_archive(gateway)

    assert "password does not exist" in gateway.said("not reloaded")[0]["reason"]
    assert len(gateway.said("reloaded")) == 2
    assert site.verify(site.archive)["is_wholly_authentic"]
    site.assert_accounted_for(told, "mixer")


def test_a_broker_that_refuses_the_records_is_not_up_for_anybody_who_looks(site: Site) -> None:
    """Status, metrics, log and `systemctl status` name the topic, the reason code and what would help."""
    site.add_counter("mixer")
    site.settings["status"] = {"metrics": f"127.0.0.1:{(metrics := free_port())}"}
    broker = site.mosquitto(forbidden(site)[0])
    with site.service_manager() as (environment, line_with):
        gateway = site.gateway(environment=environment)
        line = line_with("refused")
        status = site.wait_for_status(lambda status: status.uplink.state == "refused", "the refusal to show")
        with urlopen(f"http://127.0.0.1:{metrics}/metrics") as page:
            samples = page.read().decode()
        gateway.stop()
    broker.kill()

    data, remedy = f"tidegate/v1/{NAME}/r/data", "check its password and the broker's access list (0x87)"
    assert line.startswith("STATUS=1 of 1 devices answer; uplink refused: ")
    for shown in (line, status.uplink.reason):
        assert remedy in shown
        assert data in shown
    assert "tidegate_uplink_up 0.0" in samples
    assert f'reason_code="0x87",topic="{data}"' in samples
    assert remedy in gateway.said("uplink.refused")[0]["reason"]
    assert gateway.said("uplink.refused")[0]["topic"].startswith(f"tidegate/v1/{NAME}/")


@pytest.mark.requirement("REQ-OPER-01")
def test_the_status_is_not_ok_while_nothing_is_delivered_and_says_what_would_help(site: Site) -> None:
    """The broker is away, then nobody subscribes, then all is well."""
    site.add_counter("mixer")
    site.settings["clock"] = {"require": "any"}
    gateway = site.gateway()

    def shown_once(verdict: str, words: str) -> Result:
        def is_so(status: StatusSnapshot) -> bool:
            answer = StatusAnswer.of(status)
            return answer.verdict == verdict and words in " ".join(problem.text for problem in answer.problems)

        site.wait_for_status(is_so, words)
        return CliRunner().invoke(cli, ["status", str(site.directory / "gateway.yaml"), "--problems"])

    away = shown_once("DEGRADED", "cannot be reached")
    site.mosquitto()
    alone = shown_once("DEGRADED", "the broker takes records and nobody subscribes")
    site.relay()
    well = shown_once("OK", "")
    gateway.stop()

    assert [each.exit_code for each in (away, alone, well)] == [1, 1, 0]
    assert "kept); start the broker, or correct uplink.mqtt" in " ".join(away.stdout.split())
    assert "kept); start the relay" in " ".join(alone.stdout.split())
    assert "problem" not in well.stdout


def test_a_person_at_a_terminal_reads_the_log_as_sentences(site: Site) -> None:
    site.add_counter("mixer")
    site.settings["log"] = {"format": "console"}
    site.settings["devices"][0] |= {"port": free_port()}
    gateway = site.gateway(is_awaited=False)
    needed = ("Gateway line-4 runs", "mixer does not answer: ", "The uplink is down and records wait in the buffer: ")
    site.wait(lambda: all(words in gateway.log() for words in needed), "the log to tell all")
    gateway.stop()

    day, *lines = gateway.log().splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d, (times in UTC|local time .+ \(UTC[+-]\d\d:\d\d\))", day)
    assert all(re.match(r"\d\d:\d\d:\d\d (INFO |WARN |ERROR) \w", line) for line in lines)
    assert "WARN  mixer does not answer: 127.0.0.1:" in gateway.log()
    assert "=" not in "".join(lines)
    assert "\x1b" not in gateway.log()
    assert "Gateway line-4 stops" in lines[-1] or "The gateway was asked to stop" in lines[-1]


def test_a_broker_that_is_not_there_yet_is_waited_for(site: Site) -> None:
    site.add_counter("mixer")
    gateway = site.gateway()
    site.wait_for_scans(100)
    status = site.wait_for_status(lambda status: status.uplink.reason, "the outage to show")
    downs = gateway.said("uplink.down")

    site.mosquitto()
    site.relay()
    told = site.stop_and_archive(gateway)

    assert status.uplink.state == "down"
    assert len(downs) == 1
    assert told.events("uplink.down")[0].data["reason"] == downs[0]["reason"] == status.uplink.reason
    assert site.verify(site.archive)["is_wholly_authentic"]
    site.assert_accounted_for(told, "mixer")


def test_records_that_nobody_subscribes_to_stay_until_somebody_does(site: Site) -> None:
    site.add_counter("mixer")
    site.mosquitto()
    gateway = site.gateway()
    status = site.wait_for_status(lambda status: status.uplink.no_subscriber, "the broker to say so")
    site.wait_for_scans(100)
    told_once = gateway.said("uplink.no_subscriber")

    site.relay()
    last = site.wait_for_status(is_delivered, "everything to be delivered")
    told = site.stop_and_archive(gateway)

    assert status.uplink.state == "no_subscriber"
    assert "start the relay" in status.uplink.reason
    assert status.uplink.acknowledged == 0
    assert last.uplink.connects == 1
    assert len(told_once) == 1
    assert "start the relay" in str(told.events("uplink.no_subscriber")[0].data["reason"])
    assert gateway.said("uplink.accepted")[0]["level"] == "info"
    assert site.verify(site.archive)["is_wholly_authentic"]
    site.assert_accounted_for(told, "mixer")
