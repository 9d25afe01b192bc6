"""What tests of `tidegate apply` share: the command, what the gateway says of it, and what went on record."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from click.testing import CliRunner, Result

from edge.cli import cli
from edge.gateway.control import Request, ask
from edge.health import DeviceStatus
from edge.seal import ConfigChange
from tests.faults.gateway.site_under_test import Site
from tests.support.ports import free_port

WHY = "change request 1207: a new pump"


class DeadPort:
    """Where nothing listens."""

    def __init__(self) -> None:
        self.port = free_port()


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, arguments)))


def apply(site: Site, *options: str, code: int = 0) -> Result:
    """`tidegate apply` of the settings as they are now."""
    ran = run("apply", site.write("gateway", site.settings), *options)
    assert ran.exit_code == code, ran.output
    return ran


def changes(site: Site) -> list[ConfigChange]:
    return site.told(site.buffered()).all(ConfigChange)


def wait_for_scans(site: Site, names: str, more: int = 5) -> None:
    """Until each of these devices was read so often again."""
    wanted = {name: len(site.served(name)) + more for name in names}
    site.wait(lambda: all(len(site.served(name)) >= count for name, count in wanted.items()), "more scans")


def devices(site: Site) -> Sequence[DeviceStatus]:
    status = site.status()
    assert status is not None
    return status.devices


def asked(site: Site, request: Request) -> dict[str, Any] | None:
    """What the gateway answers."""
    return asyncio.run(ask(site.state / "control.sock", request))


def ended(site: Site) -> dict[str, Any] | None:
    """What came of an apply; None while it is under way."""
    progress = asked(site, Request(ask="progress", device=""))
    return None if progress is None or progress["state"] == "running" else progress


def missed(site: Site) -> dict[str, int]:
    """Scans of each device that were due and not done."""
    return {device.name: sum(each.skipped_scans + each.failed_scans for each in device.scan_groups)
            for device in devices(site)}  # fmt: skip


def assert_whole(site: Site, devices: str, gone: str = "") -> None:
    """Every value that these counters served is in the chain, or in a gap that is declared.

    The last value of a device that is read no more may have come after the configuration in which it was.
    """
    told = site.told(site.buffered())
    for name in devices + gone:
        account, (_, last) = site.account(told, name), site.served(name)[-1]
        lost = tuple(count for count in account.lost if name in devices or count != last)
        assert replace(account, lost=lost).findings() == [], (name, site.served(name)[-3:], told.gaps(name)[-3:])


def assert_as_before(site: Site, before: dict[str, int], names: str) -> None:
    """These devices have missed no scan since."""
    assert {name: count for name, count in missed(site).items() if name in names} == {n: before[n] for n in names}
