"""Operation qualification: the installed program does here what it promises, with a simulated plant on loopback.

One run of a gateway and a relay, as a user starts them, between simulated devices and the embedded broker, all in a
directory that is removed afterwards. One thing after the other is done to it; what came of it is judged from what a
user has: the status, the archive, and what the commands say of it. A check that breaks has failed, and the others go
on.
"""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import struct
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import orjson

from edge.accounts import account_name
from edge.demo.broker import Broker
from edge.demo.broker_packets import Message
from edge.demo.plant import known_devices
from edge.demo.processes import ProcessPair, SnapshotCallback, has_archived, is_drained
from edge.health import StatusSnapshot
from edge.mqtt.reason_codes import Reason
from edge.qualify import approval, components
from edge.qualify.checks import Check, Outcome, Task, broken, judged, named
from edge.relay.archive import records_of
from edge.units import counted

NAME = "qualification"
_WITHIN_S = 60.0
_LASTS_S = 1.5  # An outage.
_WHY = "operation qualification"


class _Guarded(Broker):
    """The embedded broker, as a `DemoBroker`; it can refuse to take what is published, as an access list does."""

    name = "the embedded broker"
    refuses = False

    def publish(self, client_id: str, message: Message) -> int | None:
        """See `Broker.publish`."""
        return Reason.NOT_AUTHORIZED if self.refuses else super().publish(client_id, message)

    def kill(self) -> None:
        """See `DemoBroker.kill`: it ends with this process."""


class Operation:
    """The checks, in the order in which they are done.

    Args:
        pack: the folder of the pack.
        say: is told what is under way.
        is_swapped: plants a wrong word order in the simulated device, to see that it is found.
    """

    def __init__(self, pack: Path, say: Callable[[str], None], *, is_swapped: bool = False) -> None:
        self._pack, self._say = pack, say
        devices = self._devices = known_devices(is_swapped=is_swapped)
        self._known, self._counting = devices.known, devices.counting
        self._broker = _Guarded()
        self.checks: list[Check] = []

    def run(self, on_check: Callable[[Check], None]) -> None:
        """Do all of them; each is given to `on_check` as soon as it is judged."""
        with tempfile.TemporaryDirectory(prefix="tidegate-qualify-") as folder:
            asyncio.run(self._run(Path(folder), on_check))

    async def _run(self, folder: Path, on_check: Callable[[Check], None]) -> None:
        for task, look in self._of_components(folder):
            await self._perform(task, look, on_check)
        async with AsyncExitStack() as stack:
            for each in (self._known, self._counting, self._broker):
                await each.start()
                stack.push_async_callback(each.stop)
            self._processes = ProcessPair(folder, self._broker, self._devices.sections(), name=NAME)
            stack.push_async_callback(self._processes.stop_all)
            for task, look in self._of_plant():
                await self._perform(task, look, on_check)

    async def _perform(
        self, task: Task, look: Callable[[], Awaitable[Outcome]], on_check: Callable[[Check], None]
    ) -> None:
        self._say(f"{task.id} {task.title}")
        began_ns = time.monotonic_ns()
        try:
            outcome = await look()
        except Exception as error:  # noqa: BLE001 - whatever it is, the other checks are done
            outcome = broken(error)
        on_check(await asyncio.to_thread(judged, task, outcome, time.monotonic_ns() - began_ns, self._pack))

    def _of_components(self, folder: Path) -> list[tuple[Task, Callable[[], Awaitable[Outcome]]]]:
        return [
            (Task(id="OQ-01", title="Verifier", requirements=("REQ-VERIFY-01", "REQ-VERIFY-02", "REQ-VERIFY-04"),
                  done="Gave the installed verifier the published vectors.",
                  expected="Each record has the verdict that was written by hand."), components.vectors),
            (Task(id="OQ-02", title="Clock step", requirements=("REQ-TIME-02", "REQ-TIME-03"),
                  done="Let the timekeeper see a clock that is set back by an hour.",
                  expected="A step of exactly that length is reported, and no bound is claimed any more."),
             components.clock_step),
            (Task(id="OQ-03", title="Full disk", requirements=("REQ-BUF-02", "REQ-BUF-03"),
                  done="Took all room from the disk below the buffer while records were stored, and gave it back.",
                  expected="Records wait in memory meanwhile, and all are on disk afterwards."),
             lambda: components.full_disk(folder / "full")),
        ]  # fmt: skip

    def _of_plant(self) -> list[tuple[Task, Callable[[], Awaitable[Outcome]]]]:
        return [
            (Task(id="OQ-04", title="Start", requirements=("REQ-READ-01", "REQ-ARCH-01"),
                  done="Started a gateway, a relay, a broker and two simulated devices.",
                  expected="Both devices are read, and their records are archived."), self.start),
            (Task(id="OQ-05", title="Device loss", requirements=("REQ-READ-02", "REQ-READ-03"),
                  done="Switched one device off, and on again.",
                  expected="It is down, the other is read on, and it is read again by itself."), self.device_loss),
            (Task(id="OQ-06", title="Uplink loss", requirements=("REQ-SEND-01", "REQ-SEND-02"),
                  done="Stopped the broker, and started it again.",
                  expected="Records wait on disk meanwhile, and all are archived afterwards."), self.uplink_loss),
            (Task(id="OQ-07", title="Access refused by the broker", requirements=("REQ-SEND-02",),
                  done="Let the broker refuse what the gateway publishes, and take it again.",
                  expected="The gateway says that it is refused, counts nothing as delivered, and all arrives "
                  "afterwards."), self.refused),
            (Task(id="OQ-08", title="Access on the machine", requirements=("REQ-SAFE-05",),
                  done="Looked at the modes of the sockets of the running gateway.",
                  expected="Nobody but owner and group may ask it."), self.sockets),
            (Task(id="OQ-09", title="Changed configuration", requirements=("REQ-CONF-02", "REQ-TRAIL-03"),
                  done="Changed an interval with tidegate apply while the gateway ran.",
                  expected="It is in force without a restart."), self.change),
            (Task(id="OQ-10", title="Power cut", requirements=("REQ-BUF-01",),
                  done="Ended the gateway with kill -9, and started it again.",
                  expected="Each record that was on disk is archived, and a new chain goes on from the old one."),
             self.power_cut),
            (Task(id="OQ-11", title="Archive", requirements=("REQ-VERIFY-05", "REQ-SEND-03"),
                  done="Stopped it in order, and had tidegate report judge the archive.",
                  expected="Every record is authentic, none is missing, and what was not read is declared."),
             self.archive),
            (Task(id="OQ-12", title="Values, types and byte orders",
                  requirements=("REQ-TYPE-01", "REQ-TYPE-02", "REQ-ARCH-03"),
                  done="Exported the archived values of a device whose registers are known.",
                  expected=f"Each of {len(self._devices.expected)} tags has exactly the value of the registers."),
             self.values),
            (Task(id="OQ-13", title="Audit trail", requirements=("REQ-TRAIL-01", "REQ-CONF-02"),
                  done="Asked tidegate log and tidegate history what happened.",
                  expected="Start, gap, outage of the broker, change and power cut are on record, the change with its "
                  "account, its reason and both values."), self.audit_trail),
            (Task(id="OQ-14", title="Only reads", requirements=("REQ-SAFE-01",),
                  done="Counted what the simulated devices were asked that is no reading.",
                  expected="Nothing."), self.only_reads),
            (Task(id="OQ-15", title="Restore", requirements=("REQ-ARCH-06",),
                  done="Copied the archive, and verified the copy with the public key alone.",
                  expected="The copy has the verdicts of the original."), self.restore),
            (Task(id="OQ-16", title="Altered archive", requirements=("REQ-VERIFY-01", "REQ-TRAIL-02"),
                  done="Changed one byte of a record in the middle of the copy.",
                  expected="That record is ALTERED, and no other."), self.altered),
            (Task(id="OQ-17", title="Approval", requirements=("REQ-CONF-05", "REQ-CONF-06"),
                  done="Judged signatures over a proposed change: one of a second person, and others.",
                  expected="That one counts. Refused are those of the proposer, of a stranger, over another text, in "
                  "another namespace, with an expired key, for another gateway, and on an older base."),
             approval.approval),
        ]  # fmt: skip

    # What is done to the running plant

    async def start(self) -> Outcome:
        """Gateway and relay."""
        await asyncio.to_thread(self._processes.write)
        await self._processes.start()
        is_up = await self._until(lambda gateway, relay: _up(gateway) == 2 and _is_archived(gateway, relay))
        words = f"{_up(await self._gateway())} of 2 devices are read"
        return Outcome(words + ("" if is_up else ", nothing is archived"), is_up)

    async def device_loss(self) -> Outcome:
        """One device away, and back."""
        await self._known.stop()
        was_lost = await self._until(lambda gateway, _: _state(gateway, "known-values") != "up")
        await asyncio.sleep(_LASTS_S)
        during = await self._gateway()
        lost, other = _state(during, "known-values"), _state(during, "counting")
        await self._known.start()
        is_back = await self._until(lambda gateway, _: _up(gateway) == 2)
        words = f"known-values was {lost}, counting {other}; then {'both are' if is_back else 'not both are'} read"
        return Outcome(words, was_lost and is_back and other == "up")

    async def uplink_loss(self) -> Outcome:
        """The broker away, and back."""
        await self._broker.stop()
        waited = await self._until(lambda gateway, _: _waiting(gateway) >= 5 and _uplink(gateway) == "down")
        waiting = _waiting(await self._gateway())
        await self._broker.start()
        are_sent = await self._until(is_drained)
        return Outcome(f"{waiting} records waited, {_sent(are_sent)}", waited and are_sent)

    async def refused(self) -> Outcome:
        """The broker refuses."""
        self._broker.refuses = True
        was_refused = await self._until(lambda gateway, _: _uplink(gateway) == "refused" and _waiting(gateway) >= 5)
        gateway = await self._gateway()
        reason = gateway.uplink.reason if gateway and gateway.uplink else ""
        self._broker.refuses = False
        are_sent = await self._until(is_drained)
        words = f"{reason or 'it was not refused'}; {_waiting(gateway)} records waited, {_sent(are_sent)}"
        return Outcome(words, was_refused and are_sent)

    async def sockets(self) -> Outcome:
        """Modes of the sockets."""
        modes = await asyncio.to_thread(_modes, self._processes.directory / "gateway")
        words = ", ".join(f"{name} {mode:04o}" for name, mode in sorted(modes.items()))
        return Outcome(words or "there are none", bool(modes) and all(not mode & 0o007 for mode in modes.values()))

    async def change(self) -> Outcome:
        """A scan interval, with apply."""
        file = self._processes.directory / "gateway.yaml"
        await asyncio.to_thread(_read_each_400_ms, file)
        code, said = await self._processes.ask("apply", str(file), "--why", _WHY)
        is_in_force = await self._until(lambda gateway, _: _every_ns(gateway) == 400_000_000)
        words = "it is in force" if is_in_force else "it is not in force"
        return Outcome(f"tidegate apply ended with {code}; {words}", code == 0 and is_in_force, said)

    async def power_cut(self) -> Outcome:
        """The gateway ends without a word."""
        await self._processes.cut_power("gateway")
        durable = await asyncio.to_thread(self._processes.last_stored)
        if durable is None:
            return Outcome("nothing was on disk", held=False)
        epoch, seq = durable
        await self._processes.start_again()
        goes_on = await self._until(lambda gateway, relay: _up(gateway) == 2 and has_archived(relay, epoch, seq + 1))
        last = f"seq {seq} of chain {epoch} was the last one on disk"
        words = "the chain goes on after it in the archive" if goes_on else "what follows it did not come"
        return Outcome(f"{last}; {words}", goes_on)

    # What is judged from the archive

    async def archive(self) -> Outcome:
        """The end, and the report."""
        await self._until(is_drained)
        await self._processes.stop("gateway")
        last = await asyncio.to_thread(self._processes.last_stored)
        if last is not None:
            await self._processes.wait_until(lambda _, relay: has_archived(relay, *last), _WITHIN_S)
        await self._processes.stop("relay")
        _, said = await self._ask("report", "--json")
        [answer] = orjson.loads(said)["gateways"]
        complete, unaltered = answer["complete"], answer["unaltered"]
        gaps = [each for each in complete["gaps"] if each["is_inside"]]
        undeclared = sum(not each["is_declared"] for each in gaps)
        words = (f"{unaltered['valid']} of {unaltered['records']} records are authentic, {complete['missing_records']} "
                 f"missing; {len(gaps)} gaps, {undeclared} of them not declared")  # fmt: skip
        held = unaltered["is_unaltered"] and not complete["missing_records"] and gaps and not undeclared
        return Outcome(words, bool(held), said, "json")

    async def values(self) -> Outcome:
        """What is exported, bit for bit."""
        file = self._processes.directory / "values.csv"
        await self._ask("export", "-o", str(file), "--tags", "known-values/*")
        raw = await asyncio.to_thread(file.read_text, "utf-8")
        found: dict[str, Counter[str]] = {}
        for row in csv.DictReader(raw.splitlines()):
            if row["quality"] == "good":
                found.setdefault(row["tag"], Counter())[row["value"] or row["value_text"]] += 1
        wrong = [f"{name} is {', '.join(found.get(name, {})) or 'not there'}, not {value}"
                 for name, (kind, value) in self._devices.expected.items()
                 if not _is_only(found.get(name), kind, value)]  # fmt: skip
        readings = sum(sum(each.values()) for each in found.values())
        words = named(wrong) or f"{readings} values of {len(found)} tags, all as in the registers"
        return Outcome(words, not wrong, raw, "csv")

    async def audit_trail(self) -> Outcome:
        """Log and history."""
        _, log = await self._ask("log", "--json")
        happened = [orjson.loads(line) for line in log.splitlines() if line.startswith("{")]
        kinds = Counter(each["kind"] for each in happened)
        is_cut_on_record = any(each["kind"] == "gap" and "without a STOP" in each["text"] for each in happened)
        code, history = await self._ask("history", "--json")
        entries = [each for each in orjson.loads(history)["entries"] if each["why"] == _WHY]
        changed = [(value["old"], value["new"]) for each in entries for value in each["changes"]]
        accounts = {each["account"] for each in entries}
        missing = [kind for kind in ("start", "device.down", "uplink.down", "uplink.refused", "config", "stop")
                   if not kinds[kind]] + ["the power cut"] * (not is_cut_on_record)  # fmt: skip
        words = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
        words += f"; {' and '.join(f'{old} to {new}' for old, new in changed)} by {' and '.join(accounts) or 'nobody'}"
        held = code == 0 and not missing and changed == [("500 ms", "400 ms")]
        lacks = f"; not on record: {', '.join(missing)}" if missing else ""
        return Outcome(words + lacks, held and accounts == {account_name(os.getuid())}, f"{log}\n{history}")

    async def only_reads(self) -> Outcome:
        """What was refused by the devices."""
        refused = [*self._known.refused_functions, *self._counting.refused_functions]
        requests = self._known.requests + self._counting.requests
        return Outcome(f"{requests} requests, {len(refused)} of them no reading", not refused and requests > 0)

    async def restore(self) -> Outcome:
        """A copy elsewhere."""
        await asyncio.to_thread(shutil.copytree, self._processes.archive / NAME, self._copy / NAME)
        original, restored = await self._verified(self._processes.archive), await self._verified(self._copy)
        held = sum(sum(each["verdicts"].values()) for each in restored["epochs"])
        authentic = "all authentic" if restored["is_wholly_authentic"] else "not all authentic"
        words = f"{held} records in {counted(len(restored['epochs']), 'chain')}, {authentic}"
        raw = orjson.dumps(restored, option=orjson.OPT_INDENT_2)
        return Outcome(words, restored["is_wholly_authentic"] and restored == original, raw, "json")

    async def altered(self) -> Outcome:
        """One byte of the copy."""
        offset = await asyncio.to_thread(_change_a_byte, self._copy / NAME)
        answer = await self._verified(self._copy)
        places = [(each["verdict"], each["offset"]) for each in answer["refused"]]
        told = ", ".join(f"{verdict} at offset {at}" for verdict, at in places) or "nothing"
        return Outcome(f"the record at offset {offset} was changed; found: {told}", places == [("ALTERED", offset)])

    # What they share

    @property
    def _copy(self) -> Path:
        return self._processes.directory / "restored"

    async def _ask(self, command: str, *more: str, archive: Path | None = None) -> tuple[int, str]:
        processes = self._processes
        return await processes.ask(command, str(archive or processes.archive), "--trust", str(processes.trust), *more)

    async def _verified(self, archive: Path) -> dict[str, Any]:
        answer: dict[str, Any] = orjson.loads((await self._ask("verify", "--json", archive=archive))[1])
        return answer

    async def _gateway(self) -> StatusSnapshot | None:
        return await self._processes.status("gateway")

    async def _until(self, condition: SnapshotCallback) -> bool:
        """Whether it holds in time; a side that does not answer yet is no error."""

        def holds(gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> bool:
            return gateway is not None and bool(condition(gateway, relay))

        return await self._processes.wait_until(holds, _WITHIN_S)


def _modes(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_mode & 0o777 for path in folder.glob("*.sock")}


def _read_each_400_ms(file: Path) -> None:
    settings = orjson.loads(file.read_bytes())
    settings["devices"][0]["scan_groups"][0]["every"] = "400 ms"
    file.write_bytes(orjson.dumps(settings, option=orjson.OPT_INDENT_2))


def _change_a_byte(archive: Path) -> int:
    """Change the last byte of the middle record, and return where that begins."""
    day = min(archive.glob("*.rec"))
    places = [(each.offset, each.length) for each in records_of(day)]
    offset, length = places[len(places) // 2]
    data = bytearray(day.read_bytes())
    data[offset + length - 1] ^= 1
    day.write_bytes(data)
    return offset


def _up(gateway: StatusSnapshot | None) -> int:
    return sum(each.state == "up" for each in gateway.devices) if gateway else 0


def _state(gateway: StatusSnapshot | None, name: str) -> str:
    return next((each.state for each in gateway.devices if each.name == name), "") if gateway else ""


def _waiting(gateway: StatusSnapshot | None) -> int:
    return (gateway.buffer.undelivered_records or 0) if gateway and gateway.buffer else 0


def _uplink(gateway: StatusSnapshot | None) -> str:
    return gateway.uplink.state if gateway and gateway.uplink else ""


def _sent(are_sent: bool) -> str:
    return "and all were sent afterwards" if are_sent else "and they were not sent afterwards"


def _is_archived(gateway: StatusSnapshot | None, relay: StatusSnapshot | None) -> bool:
    return gateway is not None and gateway.chain is not None and has_archived(relay, gateway.chain.epoch, 0)


def _every_ns(gateway: StatusSnapshot | None) -> int:
    devices = [each for each in gateway.devices if each.name == "known-values"] if gateway else []
    return next((group.every_ns for each in devices for group in each.scan_groups), 0)


def _is_only(found: Counter[str] | None, kind: str, expected: float | int | str) -> bool:
    """Whether that is the only value, with the same bits."""
    if found is None or len(found) != 1:
        return False
    [text] = found
    if isinstance(expected, str):
        return text == expected
    if isinstance(expected, float):
        form = ">f" if kind == "float32" else ">d"
        return struct.pack(form, float(text)) == struct.pack(form, expected)
    return int(text) == expected
