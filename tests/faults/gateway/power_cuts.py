"""Power cuts under the real processes: a gateway and a relay, each with a disk that forgets what was not synced.

The power of one machine is cut before a disk operation that dice choose, at work or while it starts; in some rounds
only the process dies. The disk comes back with what survived, and the processes start on it. A gateway sees another
boot after each cut. The broker is a third machine, whose power stays. At the end every value is accounted for, what was
durable in the moment of a cut is archived, and a subscriber beside the relay has never seen two contents of one place
in a chain. Acknowledged records are not sent again (`resend_window: 0 s`), which would hide what an archive forgot.
"""

from __future__ import annotations

import random
import sys
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import subscriber
from edge.buffer.disk import PosixDisk
from edge.buffer.segment import list_segments, read_records
from edge.seal import parse
from edge.testing.disk import Crash
from tests.faults.gateway.site_under_test import NAME, Account, Process, Site
from tests.support.forgetful_disk import ForgetfulDisk, forgetful_disk

DEVICES = ("mixer", "filler")
_AT_WORK = {"gateway": "running", "relay": "subscribed"}
_OPERATIONS = {
    ("gateway", "at work"): 120,
    ("relay", "at work"): 30,
    ("gateway", "starting"): 60,
    ("relay", "starting"): 20,
}
"""Changes of the disk that about a second makes."""
_ANOTHER_BOOT = 'mount --bind "$0" /proc/sys/kernel/random/boot_id && exec "$@"'


@dataclass(kw_only=True)
class Outcome:
    """What the cuts found; `findings` is empty when every promise held."""

    cuts: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    accounts: dict[str, Account] = field(default_factory=dict)
    records: int = 0
    durable: int = 0
    findings: list[str] = field(default_factory=list)

    @property
    def power_cuts(self) -> int:
        """How many of the cuts took what was not synced."""
        return sum(count for (_, _, crash), count in self.cuts.items() if crash != Crash.KILLED.value)

    def add(self, other: Outcome) -> None:
        """Count another site's outcome too."""
        self.cuts += other.cuts
        self.records, self.durable = self.records + other.records, self.durable + other.durable
        self.findings += other.findings

    def text(self) -> str:
        """The outcome for people."""
        lines = [f"{machine:8} {phase:9} {crash:12} {count:4}" for (machine, phase, crash), count
                 in sorted(self.cuts.items())]  # fmt: skip
        lines.append(f"{self.records:,} records archived; {self.durable:,} were durable in a moment of a cut")
        return "\n".join([*lines, *(f"FOUND {each}" for each in self.findings or ["nothing"])])


class Machine:
    """Processes that have one disk and one power supply."""

    def __init__(self, name: str, disk: ForgetfulDisk) -> None:
        self.name, self.disk = name, disk
        self.processes: list[Process] = []

    @property
    def pids(self) -> list[int]:
        """Of the processes that the power feeds."""
        return [process.pid for process in self.processes]

    def is_at_work(self) -> bool:
        """Whether all have said that their start is over."""
        return all(_AT_WORK[self.name] in process.log() for process in self.processes)


class PowerCuts:
    """A site of two machines whose power is cut, and a broker.

    Args:
        is_lying: the gateway's disk says of segments that they are synced, and they are not: it must be found.
    """

    def __init__(self, site: Site, seed: int, *, is_lying: bool = False) -> None:
        self._site, self._dice, self.outcome = site, random.Random(seed), Outcome()
        self._is_lying = is_lying
        self._roles = ("all",) if seed % 2 else ("acquire", "forward")
        self._stack = ExitStack()
        self._durable: set[bytes] = set()
        self._heard = site.directory / "heard"

    def run(self, cuts: int) -> Outcome:
        """Cut so many times, let all come to rest, and account for everything."""
        site = self._site
        with self._stack:
            # Short names: their sockets lie on it.
            gateway = Machine("gateway", self._stack.enter_context(forgetful_disk(site.directory / "gw")))
            relay = Machine("relay", self._stack.enter_context(forgetful_disk(site.directory / "it")))
            self._stack.callback(site.close)
            self._prepare(gateway.disk.path, relay.disk.path)
            trust = site.directory / "trusted.pem"  # Not on the disk of the gateway, which is off now and then.
            trust.write_bytes(site.make_identity().read_bytes())
            relay.processes = [site.relay(trust=[str(trust)])]
            listener = self._listen()
            if self._is_lying:
                gateway.disk.ignore_syncs(".seg")
            self._start(gateway)
            for _ in range(cuts):
                self._cut(gateway if self._is_lying else self._dice.choice([gateway, gateway, relay]))
            self._come_to_rest(gateway, relay)
            listener.stop()
            self._account()
        return self.outcome

    def _prepare(self, gateway: Path, relay: Path) -> None:
        site = self._site
        site.state, site.buffer, site.archive = gateway / "gateway", gateway / "buffer", relay / "archive"
        site.settings["gateway"]["state"] = str(site.state)
        site.settings["buffer"]["directory"] = str(site.buffer)
        site.settings["uplink"]["mqtt"]["resend_window"] = "0 s"
        site.settings["seal"] = {"checkpoint": "1 s", "key_records": 50}
        for name in DEVICES:
            site.add_counter(name)
        site.mosquitto()

    def _listen(self) -> Process:
        site = self._site
        command = [
            sys.executable,
            "-m",
            "bench.subscriber",
            str(site.broker_port),
            str(self._heard),
            f"tidegate/v1/{NAME}/#",
        ]
        process = site.start("subscriber", command)
        site.wait(lambda: "ready" in process.log(), "the subscriber to be ready")
        return process

    def _start(self, machine: Machine) -> None:
        site = self._site
        if machine.name == "relay":
            machine.processes = [site.command("relay", str(site.directory / "relay.yaml"), "--json", name="relay")]
        else:
            with another_boot(site, self._dice):
                machine.processes = [site.gateway(role, is_awaited=False) for role in self._roles]

    def _cut(self, machine: Machine) -> None:
        site, dice, disk = self._site, self._dice, machine.disk
        crash = Crash.LOST if self._is_lying else dice.choice(list(Crash))
        phase = "starting" if dice.random() < 0.4 and not machine.is_at_work() else "at work"
        if phase == "at work":
            site.wait(machine.is_at_work, f"{machine.name} to be at work")
        disk.arm(dice.randrange(_OPERATIONS[machine.name, phase]), machine.pids)
        site.wait(lambda: all(each.has_ended for each in machine.processes), f"the power of {machine.name} to be cut")
        if not disk.is_off():
            self.outcome.findings += [f"{each.name} ended by itself: {each.log()[-800:]}" for each in machine.processes]
        if machine.name == "gateway":
            self._durable |= set(durable_records(disk, site.directory / "durable"))
        for process in machine.processes:
            process.kill()
            self._note_log(process)
        disk.come_back(crash, dice.randrange(1 << 30))
        self.outcome.cuts[machine.name, phase, crash.value] += 1
        self._start(machine)

    def _note_log(self, process: Process) -> None:
        if "Traceback" in (log := process.log()):
            self.outcome.findings.append(f"{process.name} raised: {log[-1500:]}")
        self.outcome.findings += [f"a new chain: {line}" for line in process.said("chain.new")]

    def _come_to_rest(self, gateway: Machine, relay: Machine) -> None:
        site = self._site
        for machine in (gateway, relay):
            site.wait(machine.is_at_work, f"{machine.name} to be at work")
        site.wait_for_scans()
        codes = [gateway.processes[0].stop()]
        if self._roles[0] == "all":  # What it had not sent when it stopped is sent by the next.
            gateway.processes = [site.gateway("forward")]
        site.wait_until_archived(limit_s=120)
        codes += [process.stop() for process in [gateway.processes[-1], relay.processes[0]]]
        if any(codes):
            self.outcome.findings.append(f"stopped with {codes}")
        for process in [*gateway.processes, *relay.processes]:
            self._note_log(process)

    def _account(self) -> None:
        site, outcome = self._site, self.outcome
        archived = site.archived()
        outcome.records, outcome.durable = len(archived), len(self._durable)
        if len(set(archived)) < len(archived):
            outcome.findings.append(f"{len(archived) - len(set(archived))} records are archived twice")
        if forgotten := self._durable - set(archived):
            places = sorted(parse(data).seq for data in forgotten)[:10]
            outcome.findings.append(f"{len(forgotten)} durable records are not archived: seq {places}")
        if set(archived) != set(site.buffered()):
            outcome.findings.append("the archive and the buffer hold other records")
        contents: defaultdict[tuple[bytes, int], set[bytes]] = defaultdict(set)
        for _, data in subscriber.read(self._heard):
            frame = parse(data)
            contents[frame.epoch, frame.seq].add(data)
        outcome.findings += [f"seq {seq} was sent with two contents"
                             for (_, seq), each in contents.items() if len(each) > 1]  # fmt: skip
        report = site.verify(site.archive, is_fine=None)
        if not report["is_admitted"]:
            outcome.findings.append(f"the verifier does not admit the archive: {report['shortfalls']}")
        if len(report["epochs"]) != 1 or report["epochs"][0]["tail"] != "CLOSED":
            outcome.findings.append(f"{len(report['epochs'])} chains, the last is {report['epochs'][-1]['tail']}")
        told = site.told(archived)
        for name in DEVICES:
            account = outcome.accounts[name] = site.account(told, name)
            outcome.findings += [f"{name}: {finding}" for finding in account.findings()]


@contextmanager
def another_boot(site: Site, dice: random.Random) -> Iterator[None]:
    """What starts meanwhile finds that the machine was started again."""
    boot = site.directory / "boot_id"
    boot.write_text(f"{uuid.UUID(int=dice.getrandbits(128))}\n")
    site.prefix = ("unshare", "--mount", "sh", "-c", _ANOTHER_BOOT, str(boot))
    try:
        yield
    finally:
        site.prefix = ()


class FirstStarts:
    """A gateway whose power is cut in its first start of all, when its key, its directories and its chain are made."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site, self._dice, self.outcome = site, random.Random(seed), Outcome()

    def run(self, starts: int) -> Outcome:
        """So many first starts, each followed by one that must be at work and leave one whole chain."""
        site = self._site
        site.add_counter(DEVICES[0])
        with forgetful_disk(site.directory / "disk") as disk:
            for number in range(starts):
                place = disk.path / f"gateway-{number}"
                site.state, site.buffer = place / "state", place / "buffer"
                site.settings["gateway"]["state"] = str(site.state)
                site.settings["buffer"]["directory"] = str(site.buffer)
                self._cut(disk)
                self._start_again()
            site.close()
        return self.outcome

    def _cut(self, disk: ForgetfulDisk) -> None:
        crash = self._dice.choice(list(Crash))
        gateway = self._site.gateway("acquire", is_awaited=False)
        disk.arm(self._dice.randrange(60), [gateway.pid])
        self._site.wait(lambda: gateway.has_ended, "the power to be cut")
        gateway.kill()
        disk.come_back(crash, self._dice.randrange(1 << 30))
        self.outcome.cuts["gateway", "first", crash.value] += 1

    def _start_again(self) -> None:
        site = self._site
        with another_boot(site, self._dice):
            gateway = site.gateway("acquire")
        site.wait_for_scans()
        code = gateway.stop()
        report = site.verify(site.buffer)
        self.outcome.records += len(site.buffered())
        if code or len(report["epochs"]) != 1 or report["epochs"][0]["tail"] != "CLOSED":
            self.outcome.findings.append(f"after a first start stopped with {code}, {report['epochs']}")


def durable_records(disk: ForgetfulDisk, directory: Path) -> Iterator[bytes]:
    """The records in segments that no power cut can take; they are copied to a directory to be read."""
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    for path, content in disk.durable().items():
        if path.endswith(".seg"):
            (directory / Path(path).name).write_bytes(content)
    files = PosixDisk(directory)
    for segment in list_segments(files):
        yield from (data for _, data in read_records(files, segment, 1 << 62))
