"""Each alert rings for the fault it is for, and for no other, over what real processes really say meanwhile.

Gateways and relays run as the processes they are, each with faults of its own; every scrape stands for a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from hil.wall_clock import WallClock
from tests.faults.gateway.site_under_test import sites
from tests.faults.gateway.test_gateway_damage import ends, overwrite
from tests.faults.monitoring.plant import Plant, build, device, flood
from tests.support.prometheus import rules, shown

HERE = Path(__file__).parent
KEEPS_UP = 'alertname=~"TidegateScansMissed|TidegateBufferFailing", instance="line-6"'
"""Whether that gateway, and its disk, can keep up with its flood depends on the machine."""

RECEIVING = {"TidegateRecordsRejected", "TidegateRecordsMissing", "TidegateArchiveBehind", "TidegateClockAhead"}
RINGING = {
    "line-2": {
        "TidegateDeviceDown", "TidegateScansMissed", "TidegateTagsNotGood", "TidegateDeviceViolations",
        "TidegateCertificateEnds", "TidegateCertificateExpiring",
    },
    "line-3": {"TidegateAllDevicesDown", "TidegateRestarting", "TidegateRecordsDamaged"},
    "line-4": {
        "TidegateTopicRefused", "TidegateClockNotSynchronized", "TidegateClockStepped", "TidegateCertificateExpiring",
    },
    "line-5": {"TidegateClockStepped", "TidegateDiskFails", "TidegateBufferFailing"},
    "line-6": {"TidegateUplinkDown", "TidegateBufferFilling", "TidegateRecordsLost"},
    "line-7": {"TidegateNothingRecorded"},
    "relay-1": RECEIVING,
    "relay-2": {"TidegateRelayNotReceiving", "TidegateSinkBehind", "TidegateViewBehind"},
    "relay-3": {"TidegateArchiveFilling", "TidegateArchiveNotWritable", "TidegateRecordsMissing"},
}  # fmt: skip
"""What rings after all the faults; line-1 is healthy."""
LATER = RINGING | {
    "line-3": {"TidegateNotAnswering"},
    "line-4": RINGING["line-4"] - {"TidegateClockStepped"},
    "line-5": {"TidegateBufferFailing"},
    "line-6": {"TidegateNotAnswering"},
    "relay-1": RECEIVING | {"TidegateGatewaySilent"},
    "relay-3": {"TidegateNotAnswering"},
}
"""What rings a quarter of an hour after line-3, line-6 and relay-3 died and line-1 was stopped as planned."""

LAG = 'tidegate_relay_archive_lag_seconds{issuer="urn:tidegate:line-4"}'
AHEAD = 'tidegate_relay_clock_ahead_seconds{issuer="urn:tidegate:line-5"}'


@pytest.fixture
def plant(tmp_path: Path) -> Iterator[Plant]:
    for site in sites(tmp_path):
        yield Plant(site)


@pytest.mark.timeout(400)
def test_each_fault_rings_its_alerts_and_a_healthy_gateway_or_a_planned_stop_none(plant: Plant) -> None:
    wall_clocks = {name: WallClock(folder(plant, f"clock-{name}")) for name in ("line-4", "line-5")}
    library = build(plant.directory / "failing_disk.so", HERE / "failing_disk.c")
    disks = {name: plant.directory / f"disk-{name}" for name in ("line-5", "line-7")}
    environments = {name: dict(clock.environment) for name, clock in wall_clocks.items()}
    environments["line-5"] |= {"LD_PRELOAD": f"{environments['line-5']['LD_PRELOAD']} {library}"}
    environments["line-7"] = {"LD_PRELOAD": str(library)}
    for name, disk in disks.items():
        environments[name]["FAILING_DISK"] = str(disk)
    start(plant, environments)
    prometheus, processes = plant.prometheus, plant.processes

    prometheus.watch(*range(5))
    plant.wait_for("line-6", "tidegate_buffer_dropped_records_total")
    plant.wait_for("relay-3", "tidegate_relay_archive_up", 0)
    disks["line-7"].write_text("hangs")
    prometheus.watch(*range(5))
    while prometheus.resets("line-3", "tidegate_uptime_seconds") < 3:
        plant.site.wait(lambda: (plant.value("line-3", "tidegate_uptime_seconds") or 0) > 3, "line-3 to run a while")
        prometheus.watch(*range(1))
        processes["line-3"].kill()
        damage(plant.directory / "line-3/buffer")
        plant.start("line-3")
        plant.site.wait(lambda: plant.is_answering("line-3"), "line-3 to run again")
        prometheus.watch(*range(1))
    prometheus.watch(*range(10))
    for name, seconds in (("line-4", -120), ("line-5", 30)):
        wall_clocks[name].shift(seconds)
        plant.wait_for(name, "tidegate_clock_steps_total")
    for metric in (LAG, AHEAD):
        plant.site.wait(lambda metric=metric: (plant.value("relay-1", metric) or 0) > 20, f"relay-1 to show {metric}")
    disks["line-5"].write_text("refuses")
    plant.wait_for("line-5", "tidegate_buffer_sync_failures_total")
    prometheus.watch(*range(13))
    prometheus.expect(RINGING, but=KEEPS_UP)
    minute = len(prometheus.minutes) - 1

    processes["line-1"].stop()
    for name in ("line-3", "line-6", "relay-3"):
        processes[name].kill()
    plant.wait_for("relay-1", 'tidegate_relay_gateway_stopped{issuer="urn:tidegate:line-1"}', 1)
    plant.wait_for("relay-1", 'tidegate_relay_gateway_silent{issuer="urn:tidegate:line-3"}', 1)
    prometheus.watch(*range(17))
    prometheus.expect(LATER, but=KEEPS_UP)

    assert prometheus.judge(plant.directory) == []
    assert prometheus.empty(plant.directory, shown(), minute) == []


def start(plant: Plant, environments: dict[str, dict[str, str]]) -> None:
    """Everything, until it is at work."""
    good, slow, wrong = (plant.devices[name].port for name in ("good", "slow", "wrong"))
    plant.broker("tidegate/v1/line-4/r/event")
    plant.trust_in("line-1", "line-3", "line-4", "line-5", "line-6", "line-7")
    clock, free = plant.clock(), {"require": "any", "chrony": "off"}
    broker = plant.site.broker_port
    small = 'mount -t tmpfs -o size=4m tidegate-test "$0" && exec prlimit --fsize=50000 "$@"'
    plant.relay("relay-1", port=broker, view_port=broker)
    nothing = plant.nothing_here
    plant.relay("relay-2", port=nothing, view_port=nothing, sink_port=nothing)
    plant.relay("relay-3", port=broker, view_port=broker,
                prefix=("unshare", "--mount", "sh", "-c", small, str(plant.directory / "relay-3")))  # fmt: skip
    for name in ("relay-1", "relay-3"):
        plant.wait_for(name, "tidegate_relay_up")

    plant.gateway("line-1", device("mixer", good), device("tank", good), clock=clock)
    plant.gateway(
        "line-2", device("mixer", good), device("off", plant.nothing_here), device("slow", slow),
        device("wrong", wrong), device("elsewhere", good, "holding 900"), clock=clock, uplink=plant.uplink("tomorrow"),
    )  # fmt: skip
    # Heartbeats are all that it records.
    plant.gateway("line-3", device("off", plant.nothing_here), clock=clock, seal={"heartbeat": "1 s"})
    plant.gateway("line-4", device("mixer", good), clock=free, uplink=plant.uplink("this_month"),
                  environment=environments["line-4"])  # fmt: skip
    plant.gateway("line-5", device("mixer", good), clock=clock, environment=environments["line-5"])
    plant.gateway("line-6", flood(), clock=clock, uplink=plant.uplink(port=plant.nothing_here),
                  seal={"compression": "off"})  # fmt: skip
    plant.gateway("line-7", device("mixer", good), clock=clock, environment=environments["line-7"],
                  uplink=plant.uplink("lasting", crl=str(plant.revocation_list("crl", days=20))))  # fmt: skip
    for name in ("line-1", "line-2", "line-3", "line-5", "line-6", "line-7"):
        plant.wait_for(name, "tidegate_clock_synchronized")


def damage(buffer: Path) -> None:
    """A few bytes of a record in the middle are others now."""
    path = max(buffer.glob("*.seg"))
    places = ends(path)
    overwrite(path, places[len(places) // 2] - 9, bytes(8))


def folder(plant: Plant, name: str) -> Path:
    path = plant.directory / name
    path.mkdir()
    return path


def test_every_rule_is_tried() -> None:
    assert {rule["alert"] for rule in rules()} == set().union(*RINGING.values(), *LATER.values())
