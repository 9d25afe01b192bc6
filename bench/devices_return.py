"""R9: how soon a device is read again after a fault: `python -m bench.devices_return`.

Modbus, EtherNet/IP and OPC UA devices are unplugged, or rebooted behind half-open connections, the OPC UA server also
with its namespaces in another order. Each fault lasts until the gateway waits its longest delay between attempts; then
the time from the end of the fault to the next scan of each device is measured against that delay.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from bench.results import Row, store
from hil.namespaces import Machine
from tests.faults.network.devices_cut_off import Plant, cut_off

LIMIT_S = 4
RETRY = {"retry": "500 ms", "retry_limit": f"{LIMIT_S} s"}
FAULTS = ("unplugged", "rebooted", "rebooted, namespaces in another order")


def main() -> None:
    """Measure, and store the row."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=10)
    rounds = parser.parse_args().rounds
    worst: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="return-") as place, Machine(Path(place) / "machine") as machine:
        plant = Plant(machine, RETRY)
        for number in range(rounds):
            for fault in FAULTS:
                took_s = _return_after(plant, fault)
                print(f"round {number + 1}, {fault}: {took_s:.2f} s", flush=True)
                worst[fault] = max(worst.get(fault, 0.0), took_s)
        plant.gateway.terminate()
        plant.gateway.wait()
    store([
        Row(figure="R9 devices come back", goal="data flows again by itself within 2 x the retry limit, always",
            command=f"python -m bench.devices_return --rounds {rounds}",
            measured=f"{rounds} times each, 3 protocols, retry limit {LIMIT_S} s: longest "
            + ", ".join(f"{took_s / LIMIT_S:.2f} x after {fault}" for fault, took_s in worst.items())),
    ])  # fmt: skip


def _return_after(plant: Plant, fault: str) -> float:
    """Seconds from the end of the fault until the last device was read again."""
    plant.wait_until_read()
    with cut_off(plant):
        if fault != FAULTS[0]:
            plant.switch_off()
            plant.switch_on(in_other_order=fault == FAULTS[2])
        time.sleep(3 * LIMIT_S)
    began_s, before = time.monotonic(), plant.scans()
    plant.wait(lambda: (now := plant.scans()) and all(now[group] > count for group, count in before.items()))
    return time.monotonic() - began_s


if __name__ == "__main__":
    main()
