"""A Telegraf of your own beside a gateway, in the same minutes: `python -m bench.peers --telegraf PATH`.

Both read the same Modbus devices, on the same core one after the other, and publish to the same mosquitto with QoS 1;
so does the C poller of this folder, which only reads. Telegraf has inputs.modbus with one metric a device, as JSON,
unsigned and kept in memory; it flushes once an interval. The figures are medians of the rounds, the share is that of
each round.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import orjson

from bench.gateway import insist_on_clean, measure
from bench.loads import LOADS, Cost, c_poller
from bench.results import Row, store
from bench.rig import Rig, usage
from bench.sites import process
from bench.subscriber import read

_SETTLE_S = 4.0
_TOPIC = "telegraf"
_GOALS = {"10@1s": "a half", "100@1s": "a quarter", "10@100ms": "a quarter"}
_AGENT = """
[agent]
  interval = "{every}"
  flush_interval = "{every}"
  round_interval = true
  metric_batch_size = 1000
  metric_buffer_limit = 10000
  omit_hostname = true

[[outputs.mqtt]]
  servers = ["tcp://127.0.0.1:{broker}"]
  topic = "{topic}"
  qos = 1
  data_format = "json"
"""
_DEVICE = """
[[inputs.modbus]]
  name = "{name}"
  controller = "tcp://127.0.0.1:{port}"
  configuration_type = "metric"
  [[inputs.modbus.metric]]
    slave_id = 1
    byte_order = "ABCD"
    fields = [{fields}]
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """What a Telegraf took, and the readings a second that arrived at a subscriber."""

    cost: Cost
    readings_per_s: float
    resident_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """One round: shares of a core."""

    gateway: float
    telegraf: Peer
    c_poller: float


def found(telegraf: str) -> tuple[Path, str]:
    """Where a Telegraf is, and its version; ends the benchmark where there is none."""
    why = "there is no such program"
    if path := shutil.which(telegraf):
        try:
            said = subprocess.run([path, "version"], capture_output=True, text=True, timeout=60, check=False).stdout
            if said.startswith("Telegraf "):
                return Path(path).resolve(), said.split()[1]
            why = f"it does not answer `{telegraf} version` with its name"
        except (OSError, subprocess.TimeoutExpired) as error:
            why = str(error)
    raise SystemExit(f"{telegraf} is no Telegraf: {why}; give the path of the program telegraf")


def configuration(rig: Rig) -> str:
    """The devices of a rig for a Telegraf."""
    load = rig.load
    fields = ", ".join(f'{{address={2 * tag}, name="t{tag}", type="FLOAT32"}}' for tag in range(load.tags))
    devices = (_DEVICE.format(name=f"d{number}", port=port, fields=fields) for number, port in enumerate(rig.ports))
    agent = _AGENT.format(every=load.every.replace(" ", ""), broker=rig.broker_port, topic=_TOPIC)
    return agent + "".join(devices)


def peer(rig: Rig, telegraf: Path, seconds: float) -> Peer:
    """A Telegraf on a rig."""
    file, log, records = (rig.directory / name for name in ("telegraf.conf", "telegraf.log", "telegraf.bin"))
    file.write_text(configuration(rig))
    command = [str(telegraf), "--config", str(file)]
    with rig.subscriber(_TOPIC, records), process(command, core=rig.load.gateway_core, log=log) as running:
        time.sleep(_SETTLE_S)
        before = usage(running.pid) if running.poll() is None else None
        time.sleep(seconds)
        if before is None or running.poll() is not None:
            raise SystemExit(f"{telegraf} ended; it needs inputs.modbus, outputs.mqtt and JSON:\n{log.read_text()}")
        after = usage(running.pid)
    arrived = sum(len(orjson.loads(message)["fields"]) for at_ns, message in read(records)
                  if before.at_s <= at_ns / 1e9 <= after.at_s)  # fmt: skip
    if not arrived:
        raise SystemExit(f"no value of {telegraf} arrived:\n{log.read_text()}")
    return Peer(
        cost=Cost.between(before, after), readings_per_s=arrived / (after.at_s - before.at_s),
        resident_bytes=after.resident_bytes,
    )  # fmt: skip


def one_round(name: str, telegraf: Path, seconds: float) -> Pair:
    """One load, measured once with each."""
    load, _ = LOADS[name]
    with tempfile.TemporaryDirectory(prefix="tidegate-bench-") as directory, Rig(load, Path(directory)) as rig:
        run = measure(rig, seconds)
        insist_on_clean(run)
        beside = peer(rig, telegraf, seconds)
        pair = Pair(gateway=run.core, telegraf=beside, c_poller=c_poller(rig, seconds, is_volley=False).core)
    print(
        f"{name:10} {pair.gateway:7.2%} Telegraf {beside.cost.core:7.2%} C {pair.c_poller:7.2%}; readings/s "
        f"{run.per_s:,.0f} and {beside.readings_per_s:,.0f}, MiB {run.resident_bytes / 2**20:.0f} and "
        f"{beside.resident_bytes / 2**20:.0f}", flush=True,
    )  # fmt: skip
    return pair


def row(name: str, version: str, pairs: list[Pair]) -> Row:
    """The medians of some rounds."""
    ours, theirs, bare, share, arrived = (
        statistics.median(figures)
        for figures in zip(
            *((pair.gateway, pair.telegraf.cost.core, pair.c_poller, pair.gateway / pair.telegraf.cost.core,
               pair.telegraf.readings_per_s) for pair in pairs), strict=True,
        )
    )  # fmt: skip
    return Row(
        figure=f"Load {name} beside Telegraf", goal=f"at most {_GOALS[name]} of its CPU",
        command="python -m bench.peers --telegraf PATH",
        measured=f"{share:.2f} x: {ours:.2%} of one core against {theirs:.2%} of Telegraf {version}, whose values "
        f"arrive at {arrived:,.0f}/s (C poller {bare:.2%}); medians of {len(pairs)} rounds",
    )  # fmt: skip


def main(arguments: list[str]) -> None:
    """Print each round, and store the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("loads", nargs="*", choices=[*_GOALS, []], help="by default all of them")
    parser.add_argument("--telegraf", metavar="PATH", required=True, help="the program; it is not part of Tidegate")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=15.0, help="of each measurement")
    asked = parser.parse_args(arguments)
    telegraf, version = found(asked.telegraf)
    store([
        row(name, version, [one_round(name, telegraf, asked.seconds) for _ in range(asked.rounds)])
        for name in asked.loads or _GOALS
    ])  # fmt: skip


if __name__ == "__main__":
    main(sys.argv[1:])
