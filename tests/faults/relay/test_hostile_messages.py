"""Ten thousand hostile messages against a real relay: it keeps every good record once, and nothing else."""

from __future__ import annotations

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import chain, islice
from pathlib import Path
from typing import Any

import aiomqtt
import pytest

from edge.health import IssuerStatus, read_status
from tests.faults.relay.hostile_messages import Attack, Message
from tests.peers.relay.conftest import Plant
from tests.support.chains import archived_records
from tests.support.mosquitto import running_mosquitto

MESSAGES = 10_000
WAITING_BYTES = 4 * 2**20
GROWTH_LIMIT_KB = 160 * 1024
QUARANTINE_LIMIT = 64 * 2**20
SEED = random.SystemRandom().randrange(2**32)
TIDEGATE = [sys.executable, "-c", "from edge.cli import main; main()"]


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A mosquitto that lets each account publish below its own name, as configs/dmz does."""
    access_list = "user relay\ntopic read tidegate/v1/#\n\npattern write tidegate/v1/%u/#\n"
    with running_mosquitto(tmp_path, access_list) as number:
        yield number


@pytest.fixture
def plants(tmp_path: Path) -> list[Plant]:
    """Three gateways with their keys changed now and then; the last one is hostile."""
    (tmp_path / "trusted").mkdir()
    found = [Plant.start(tmp_path, name) for name in ("line-4", "line-5", "line-9")]
    for plant in found:
        (tmp_path / f"trusted/{plant.name}.pem").write_bytes(plant.trust.read_bytes())
        for number in range(200):
            plant.scan(number)
            if number % 50 == 20:
                plant.roll()
            if number % 50 == 40:
                plant.checkpoint()
        plant.stop()
    return found


@pytest.fixture
def relay(tmp_path: Path, port: int) -> Iterator[subprocess.Popen[str]]:
    """A relay that is subscribed."""
    config = tmp_path / "relay.yaml"
    config.write_text(
        f"relay:\n  name: it\n  archive: {tmp_path}/archive\n  trust: [{tmp_path}/trusted]\n"
        f"  waiting_limit: {WAITING_BYTES} B\n"
        f"  mqtt: {{host: 127.0.0.1, port: {port}, tls: off, username: relay}}\n  status: {{socket: {tmp_path}/s}}\n"
    )
    log = (tmp_path / "relay.log").open("w")
    with log, subprocess.Popen([*TIDEGATE, "relay", config, "--json"], stderr=log, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def honest(plants: list[Plant], rng: random.Random) -> Iterator[Message]:
    """The records of all gateways, the fresh ones of each before the backlog that brings their keys.

    Those of the hostile one come in order: what has to wait does so in the room that it fills itself.
    """
    queues = []
    for plant in plants:
        records, stop = plant.records[:-2], plant.records[-2:]
        parts = [records[at : at + 40] for at in range(0, len(records), 40)]
        for at in range(1, len(parts) - 1, 2) if plant is not plants[-1] else ():
            parts[at], parts[at + 1] = parts[at + 1], parts[at]
        queues.append([Message(plant.name, plant.topic(record), record.data) for record in [*chain(*parts), *stop]])
    while queues:
        queue = rng.choice(queues)
        yield queue.pop(0)
        queues = [each for each in queues if each]


@asynccontextmanager
async def accounts(port: int, plants: list[Plant]) -> AsyncIterator[dict[str, aiomqtt.Client]]:
    async with AsyncExitStack() as stack:
        yield {
            plant.name: await stack.enter_async_context(
                aiomqtt.Client("127.0.0.1", port, username=plant.name, protocol=aiomqtt.ProtocolVersion.V5)
            )
            for plant in plants
        }


async def send(port: int, plants: list[Plant], messages: Iterable[Message]) -> None:
    """Publish one after the other."""
    async with accounts(port, plants) as clients:
        for message in messages:
            await clients[message.account].publish(message.topic, message.data, qos=1)


def until(condition: Callable[[], bool]) -> None:
    ends = time.monotonic() + 200
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.1)


def status(path: Path) -> dict[str, IssuerStatus]:
    """What the relay says of each gateway."""
    relay = read_status(path).relay
    assert relay is not None
    return {each.issuer.removeprefix("urn:tidegate:"): each for each in relay.issuers}


def memory_kb(process: subprocess.Popen[str], field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text())
    assert found is not None
    return int(found[1])


def verified(path: Path, trusted: Path) -> list[dict[str, Any]]:
    """What `verify` says of each chain; how many came out of order is about the way, not about the records."""
    answer = subprocess.run([*TIDEGATE, "verify", path, "--trust", trusted, "--json"], capture_output=True, check=True)
    return [{**each, "out_of_order": 0} for each in json.loads(answer.stdout)["epochs"]]


@pytest.mark.timeout(300)
def test_every_good_record_is_archived_once_and_nothing_else(
    tmp_path: Path, port: int, plants: list[Plant], relay: subprocess.Popen[str]
) -> None:
    print("seed", SEED)
    rng = random.Random(SEED)
    good = list(honest(plants, rng))
    messages = list(islice(Attack(rng, plants[-1], plants[:-1]).messages(), MESSAGES))
    for at in sorted(rng.sample(range(MESSAGES), len(good)), reverse=True):
        messages.insert(at, good.pop())
    until(lambda: '"subscribed"' in (tmp_path / "relay.log").read_text())
    before_kb = memory_kb(relay, "VmRSS")

    asyncio.run(send(port, plants, messages))
    archive, wanted = tmp_path / "archive", {plant.name: [each.data for each in plant.records] for plant in plants}
    until(lambda: all(len(archived_records(archive / name)) >= len(wanted[name]) for name in wanted))
    arrives = sum(message.topic.split("/")[2] == message.account for message in messages)
    # The broker refuses the others.
    until(lambda: sum(each.records + each.duplicates for each in status(tmp_path / "s").values()) == arrives)
    said = status(tmp_path / "s")

    grown_kb = memory_kb(relay, "VmHWM") - before_kb
    relay.terminate()
    assert relay.wait(60) == 0
    sizes = {path.name: path.stat().st_size for path in archive.iterdir() if path.is_file()}
    print(f"{arrives} of {len(messages)} arrived; memory grew by {grown_kb:,} kB; {sizes}")
    assert {name: sorted(archived_records(archive / name)) for name in wanted} == {
        name: sorted(records) for name, records in wanted.items()
    }
    assert {path.name for path in archive.iterdir() if path.is_dir()} == set(wanted)
    assert {(said[plant.name].rejected, said[plant.name].waiting) for plant in plants[:-1]} == {(0, 0)}
    assert said["line-9"].rejected > MESSAGES / 4
    assert grown_kb < GROWTH_LIMIT_KB
    assert sizes["quarantine.cbor"] + sizes.get("quarantine.older", 0) <= QUARANTINE_LIMIT
    assert 0 < sizes["waiting.cbor"] <= 2 * WAITING_BYTES * (len(plants) + 1)
    (tmp_path / "good.rec").write_bytes(b"".join(record.data for plant in plants for record in plant.records))
    assert verified(archive, tmp_path / "trusted") == verified(tmp_path / "good.rec", tmp_path / "trusted")
