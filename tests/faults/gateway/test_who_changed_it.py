"""Who changed the configuration, and why: what is on record is what the kernel vouches for, and what was only said."""

from __future__ import annotations

import asyncio
import signal
from getpass import getuser
from typing import Any

import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.config.check import check
from edge.config.kept import Pending, set_pending
from edge.gateway.control import GatewayRefuses, Request, ask
from edge.seal import ConfigChange
from tests.faults.gateway.site_under_test import Process, Site
from tests.support.machine import run_delay_ns

WHY = "change request 1207: a new pump"
WITHIN_NS = 10 * 10**9


def asked(site: Site, **question: Any) -> dict[str, Any]:
    answer = asyncio.run(ask(site.state / "control.sock", Request(device="", **question)))
    assert answer is not None
    return answer


def edit(site: Site, retry: str) -> str:
    """Change the file, as an editor does; its digest."""
    site.settings["devices"][0]["retry"] = retry
    return check(site.write("gateway", site.settings)).digest.hex()


def apply(site: Site, *options: str) -> None:
    ran = CliRunner().invoke(cli, ["apply", str(site.directory / "gateway.yaml"), "--why", WHY, *options])
    assert ran.exit_code == 0, ran.output


def changes(site: Site) -> list[ConfigChange]:
    return site.told(site.buffered()).all(ConfigChange)


def ended(site: Site) -> bool:
    return asked(site, ask="progress")["state"] != "running"


def running(site: Site) -> Process:
    gateway = site.gateway()
    site.wait_for_scans(1)
    return gateway


@pytest.mark.requirement("REQ-TRAIL-03")
def test_on_record_is_who_the_kernel_knows_and_a_claimed_name_as_claimed(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DOAS_USER", raising=False)
    site.add_counter("a")
    gateway = running(site)
    for number, claimed in enumerate(("", "anna", getuser())):
        monkeypatch.setenv("SUDO_USER", claimed)
        edit(site, f"{150 + number} ms")
        apply(site)
    # A question may say whatever it likes of who asks.
    asked(site, ask="apply", digest=edit(site, "160 ms"), why=WHY, user=4242)
    site.wait(lambda: ended(site), "the apply to end")
    assert gateway.stop() == 0
    monkeypatch.setenv("SUDO_USER", "berta")
    edit(site, "170 ms")
    apply(site)
    running(site)

    me = getuser()
    accounts = [(each.role, each.account) for each in changes(site)]
    assert accounts == [("start", me), *(("apply", each) for each in (me, f"{me} (claims to be anna)", me, me)),
                        ("apply", f"{me} (claims to be berta)")]  # fmt: skip
    assert {each.why for each in changes(site)[1:]} == {WHY}


def test_a_signal_puts_on_record_that_it_came_and_nothing_else(site: Site) -> None:
    site.add_counter("a")
    gateway = running(site)
    before = asked(site, ask="configuration")["digest"]
    edit(site, "150 ms")

    gateway.send(signal.SIGHUP)

    [event] = site.wait(lambda: site.told(site.buffered()).events("signal"), "the signal to be on record")
    site.wait_for_scans(5)
    assert (event.subject, event.data) == ("SIGHUP", {})  # Who sent it is not known, and so is not said.
    assert len(changes(site)) == 1
    assert asked(site, ask="configuration")["digest"] == before
    status = site.status()
    assert status is not None
    assert [device.connects for device in status.devices] == [1]


@pytest.mark.requirement("REQ-CONF-04")
def test_a_file_edited_by_hand_is_on_record_within_ten_seconds(site: Site) -> None:
    site.add_counter("a")
    gateway = running(site)
    digest, path = asked(site, ask="configuration")["digest"], site.directory / "gateway.yaml"
    delayed_ns = run_delay_ns(gateway.pid)
    edit(site, "150 ms")
    edited_ns = path.stat().st_mtime_ns

    [event] = site.wait(lambda: site.told(site.buffered()).events("config.differs"), "the event to be on record")

    delayed_ns = run_delay_ns(gateway.pid) - delayed_ns
    assert (event.subject, event.data) == ("gateway.yaml", {"configuration": digest})
    assert 0 <= event.at_ns - edited_ns <= WITHIN_NS + delayed_ns
    shown = CliRunner().invoke(cli, ["status", str(path)]).output
    assert "gateway.yaml is not what runs" in shown


def test_a_regulated_gateway_takes_no_reason_of_one_word_whoever_asks_it(site: Site) -> None:
    site.settings["gateway"]["regulated"] = True
    site.add_counter("a")
    running(site)
    digest = edit(site, "150 ms")

    for why in ("", "change", "  change  "):
        with pytest.raises(GatewayRefuses, match="give a reason of more than one word"):
            asked(site, ask="apply", digest=digest, why=why)

    assert asked(site, ask="progress")["state"] == "none"
    assert len(changes(site)) == 1


@pytest.mark.parametrize(("why", "of_it"), [("", True), ("change", True), (WHY, False)])
def test_a_regulated_gateway_starts_with_no_change_that_has_no_reason(site: Site, why: str, *, of_it: bool) -> None:
    """A word was left for the next start before it was regulated, or for another file."""
    site.add_counter("a")
    assert running(site).stop() == 0
    site.settings["gateway"]["regulated"] = True
    digest = edit(site, "150 ms")
    set_pending(site.state, Pending(digest=digest if of_it else "00" * 32, account="anna", why=why))

    refused = site.gateway(is_awaited=False)

    assert refused.wait() == 78
    assert ("give a reason of more than one word" if of_it else "nobody said why") in refused.log()
    assert len(changes(site)) == 1
    apply(site)
    running(site)
    assert changes(site)[-1].new_hash.hex() == digest


@pytest.mark.parametrize("is_regulated", [False, True])
def test_a_regulated_gateway_does_not_run_what_cannot_be_put_on_record(site: Site, *, is_regulated: bool) -> None:
    site.settings["gateway"]["regulated"] = is_regulated
    site.add_counter("a")
    site.state.mkdir()
    (site.state / "configurations").write_text("")  # Nothing can be made in it: as on a full disk.

    gateway = site.gateway(is_awaited=not is_regulated)

    if is_regulated:
        assert gateway.wait() == 78
        assert "gateway.regulated: this configuration cannot be put on record, so no device is read" in gateway.log()
        assert not site.served("a")
        (site.state / "configurations").unlink()
        gateway = site.gateway()
    site.wait_for_scans(1)
    assert len(changes(site)) == is_regulated
