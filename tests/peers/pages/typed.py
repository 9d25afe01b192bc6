"""The pages whose commands tests type."""

TYPED = (
    "docs/start.md", "docs/how-to/simulate-modbus-devices.md", "docs/how-to/broker-and-relay-on-a-laptop.md",
    "docs/how-to/lab-chain.md", "docs/how-to/metrics-from-another-machine.md", "docs/how-to/replace-a-gateway.md",
    "docs/how-to/backup-and-replace.md", "docs/how-to/ports-and-firewall.md", "docs/how-to/keys.md",
    "docs/how-to/clock.md", "docs/how-to/history.md", "docs/how-to/page.md", "docs/how-to/historian.md",
    "docs/how-to/approve-changes.md",
)  # fmt: skip
"""From top to bottom, in test_typed_pages.py."""

FIRST = (
    "docs/how-to/first-modbus.md", "docs/how-to/first-opc-ua.md", "docs/how-to/first-logix.md",
    "docs/how-to/first-serial.md",
)  # fmt: skip
"""From top to bottom beside a device of each protocol, in test_first_plc_pages.py."""

BOOTED = (
    "docs/how-to/install.md", "docs/how-to/certificates.md", "docs/how-to/broker.md",
    "docs/how-to/deploy-with-systemd.md", "docs/how-to/relay.md", "docs/how-to/change.md",
    "docs/how-to/two-processes-or-more-gateways.md", "docs/how-to/renew-certificates.md", "docs/how-to/upgrade.md",
)  # fmt: skip
"""From top to bottom at machines of their own, in test_pages_on_booted_machines.py."""

ELSEWHERE = ("docs/how-to/install-offline.md",)
"""From top to bottom, in tests of what they are about."""

SHOWN = (
    "docs/how-to/configure.md", "docs/how-to/connect-logix.md", "docs/how-to/find-devices.md", "docs/how-to/verify.md",
    "docs/how-to/export.md", "docs/how-to/carry-by-hand.md", "docs/how-to/lake.md",
)  # fmt: skip
"""Only the samples with a "$", in surroundings that test_shown_samples.py makes."""

PRODUCED = ("docs/how-to/troubleshoot.md",)
"""Each sample, once what it shows has been brought about, in test_troubleshoot_page.py."""
