"""Proof from outside: over a whole run with reconnects the gateway never subscribes, and never asks but to read."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from drivers.modbus.codec import READ_DEVICE_IDENTIFICATION
from edge.testing.proxy import RecordingProxy
from tests.faults.gateway.site_under_test import Site
from tests.support.faulty_broker import FaultyBroker

READS = {1, 2, 3, 4}


def functions(sent: bytes) -> list[int]:
    """The function codes of a stream of Modbus TCP requests; a last one that was cut counts for nothing."""
    found, at = [], 0
    while at + 8 <= len(sent):
        [length] = struct.unpack_from(">H", sent, at + 4)
        found.append(sent[at + 7])
        at += 6 + length
    return found


@pytest.mark.requirement("REQ-SAFE-01")
def test_it_never_subscribes_and_never_writes(site: Site) -> None:
    device = site.add_counter("mixer")
    proxy: Any = site.plant.enter(RecordingProxy("127.0.0.1", device.port))
    tags = [
        {"name": f"{table}-{kind}", "address": f"{table} 0", "type": kind, "word_order": "big"}
        for table, kind in (("holding", "uint32"), ("input", "float32"))
    ] + [{"name": table, "address": f"{table} 7"} for table in ("coil", "discrete")]
    site.settings["devices"].clear()
    site.add_device("mixer", proxy, tags=tags)
    broker: Any = site.plant.enter(FaultyBroker(port=site.broker_port))
    gateway = site.gateway()

    for connects in (1, 2, 3):
        site.wait_for_status(lambda status, n=connects: status.uplink.connects == len(proxy.recordings) == n,
                             "both sides to be connected")  # fmt: skip
        site.wait_for_scans()
        site.plant.call(proxy.cut)
        site.plant.call(broker.disconnect_clients)
    site.wait_for_status(lambda status: status.uplink.connects == len(proxy.recordings) == 4, "the last of it")
    code = gateway.stop()

    asked = [functions(recording.sent) for recording in proxy.recordings]
    assert code == 0
    assert {function for connection in asked for function in connection} == {*READS, READ_DEVICE_IDENTIFICATION}
    assert device.refused_functions == []
    assert set(broker.received) == {"CONNECT", "PUBLISH", "DISCONNECT"}
    assert broker.received["CONNECT"] == 4
    assert set(broker.received_from) == {"urn:tidegate:line-4"}
