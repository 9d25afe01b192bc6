"""The pages for IT operations, typed from top to bottom at fresh Debian machines, each with its own systemd and users.

The authority, the broker, the relay and the gateway share nothing but a cable; what a page asks to carry is carried.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import debian
from tests.support.site import Engineer, Site

pytestmark = pytest.mark.timeout(900)


@pytest.mark.parametrize("release", debian.RELEASES)
def test_the_pages_from_a_fresh_debian_to_an_upgrade_and_back(tmp_path: Path, release: str) -> None:
    packages = debian.packages(release)
    later = debian.later(packages, tmp_path / "later")
    with Site(tmp_path, debian.root(release)) as site:
        for name in ("gateway", "relay"):
            for package in packages:
                site.machines[name].put(package, "packages")
        for package in later:
            site.machines["gateway"].put(package, "packages-0.2.0")
        site.start_device('{name: temperature, address: "holding 100", type: float32}', port=502)
        person = Engineer(site, "gateway")

        person.type_page("docs/how-to/install.md")
        person.type_page("docs/how-to/certificates.md")
        person.type_page("docs/how-to/broker.md")
        person.type_page("docs/how-to/deploy-with-systemd.md")
        person.type_page("docs/how-to/relay.md")
        person.type_page("docs/how-to/change.md")
        person.type_page("docs/how-to/two-processes-or-more-gateways.md")
        person.type_page("docs/how-to/renew-certificates.md")
        person.type_page("docs/how-to/upgrade.md")

        gateway = site.machines["gateway"]
        done = gateway.run("grep", "--extended-regexp", " (upgrade|remove) tidegate:", "/var/log/dpkg.log")
        assert [line.split()[2] for line in done.splitlines()] == ["upgrade", "upgrade", "remove"]
        assert gateway.run("ls", "/etc/tidegate/gateway.yaml", "/var/lib/tidegate/identity.pem")
