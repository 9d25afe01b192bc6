"""Gateway roles, relay and broker are killed at random moments, again and again; then every value is accounted for.

The devices hand out counters and keep what they served. A seed gives the same victims and the same pauses again; what a
process was doing in that moment is up to the machine.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from tests.faults.gateway.site_under_test import Account, Process, Site, Told

DEVICES = ("mixer", "filler", "dryer")
_AT_WORK = {"acquire": "running", "forward": "running", "relay": "subscribed", "broker": " running"}
"""What a process says when its start is over."""

_PAUSE_S, _PAUSE_AT_START_S, _AWAY_S = 1.2, 0.7, 0.6
_CATCH_UP_S = 240.0  # What a relay that is always killed has not archived waits at the broker.


@dataclass(kw_only=True)
class Outcome:
    """What the loop found.

    Attributes:
        kills: by victim, and whether it was at work or starting.
        told: what the archive says in the end.
        accounts: by device.
        findings: what should not be; empty when every promise held.
    """

    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    told: Told = field(default_factory=lambda: Told([]))
    accounts: dict[str, Account] = field(default_factory=dict)
    records: int = 0
    findings: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The outcome for people."""
        lines = [f"{victim:8} killed {count:4} times {phase}" for (victim, phase), count in sorted(self.kills.items())]
        for name, each in self.accounts.items():
            lines.append(f"{name:8} {each.served:,} values served, {each.kept:,} archived, {each.in_gaps:,} in gaps")
        lines.append(f"archive  {self.records:,} records, each once; {len(self.told.losses)} losses declared")
        return "\n".join([*lines, *(f"FOUND    {each}" for each in self.findings or ["nothing"])])


class KillLoop:
    """The processes of a site, and the one that ends them."""

    def __init__(self, site: Site, seed: int) -> None:
        self._site, self._dice = site, random.Random(seed)
        self._outcome = Outcome()
        database = site.directory / "mosquitto"
        database.mkdir()
        lines = f"allow_anonymous true\npersistence true\npersistence_location {database}/\nautosave_interval 1\n"
        # It covers what the broker acknowledged and had not saved: an interval, and how long the save took.
        site.settings["uplink"]["mqtt"]["resend_window"] = "10 s"
        site.settings["seal"] = {"checkpoint": "1 s", "key_records": 50}
        for name in DEVICES:
            site.add_counter(name)
        self._starts: dict[str, Callable[[], Process]] = {
            "broker": lambda: site.mosquitto(lines, is_awaited=False),
            "relay": lambda: site.command("relay", str(site.directory / "relay.yaml"), "--json", name="relay"),
            "acquire": lambda: site.gateway("acquire", is_awaited=False),
            "forward": lambda: site.gateway("forward", is_awaited=False),
        }
        broker = site.mosquitto(lines)
        self._processes = {"broker": broker, "relay": site.relay()}
        self._processes |= {role: site.gateway(role) for role in ("acquire", "forward")}

    def run(self, kills: int) -> Outcome:
        """Kill so many times, let all come to rest, and account for everything."""
        victim = "acquire"
        for _ in range(kills):
            if self._dice.random() < 0.25:  # The same one again, while it starts.
                self._pause(_PAUSE_AT_START_S)
            else:
                victim = self._dice.choice(sorted(self._processes))
                self._wait_until_at_work([victim])
                self._pause(_PAUSE_S)
            self._kill(victim)
            if self._dice.random() < 0.3:
                self._pause(_AWAY_S)
            self._processes[victim] = self._starts[victim]()
        self._come_to_rest()
        self._account()
        return self._outcome

    def _pause(self, limit_s: float) -> None:
        threading.Event().wait(self._dice.uniform(0, limit_s))

    def _kill(self, victim: str) -> None:
        process = self._processes[victim]
        self._note_end(victim)
        phase = "at work" if self._is_at_work(victim) else "starting"
        process.kill()
        self._outcome.kills[victim, phase] += 1
        self._note_log(victim)

    def _wait_until_at_work(self, names: Collection[str]) -> None:
        self._site.wait(lambda: all(map(self._is_at_work, names)), f"{', '.join(names)} to be at work")

    def _is_at_work(self, name: str) -> bool:
        return _AT_WORK[name] in self._processes[name].log()

    def _note_end(self, name: str) -> None:
        if self._processes[name].has_ended:
            self._outcome.findings.append(f"{name} ended by itself: {self._processes[name].log()[-500:]}")

    def _note_log(self, name: str) -> None:
        if "Traceback" in (log := self._processes[name].log()):
            self._outcome.findings.append(f"{name} raised: {log[-1000:]}")

    def _come_to_rest(self) -> None:
        site = self._site
        self._wait_until_at_work(self._processes)
        site.wait_for_scans()
        codes = {"acquire": self._processes["acquire"].stop()}
        site.wait_until_archived(limit_s=_CATCH_UP_S)
        codes |= {name: self._processes[name].stop() for name in ("forward", "relay")}
        self._outcome.findings += [f"{name} stopped with {code}" for name, code in codes.items() if code]
        for name in codes:
            self._note_log(name)

    def _account(self) -> None:
        site, outcome = self._site, self._outcome
        archived = site.archived()
        outcome.records, outcome.told = len(archived), site.told(archived)
        if len(set(archived)) < len(archived):
            outcome.findings.append(f"{len(archived) - len(set(archived))} records are archived twice")
        if set(archived) != set(site.buffered()):
            outcome.findings.append("the archive and the buffer hold other records")
        report = site.verify(site.archive)
        if len(report["epochs"]) != 1 or report["epochs"][0]["tail"] != "CLOSED":
            outcome.findings.append(f"{len(report['epochs'])} chains, the last is {report['epochs'][-1]['tail']}")
        for name in DEVICES:
            account = outcome.accounts[name] = site.account(outcome.told, name)
            outcome.findings += [f"{name}: {finding}" for finding in account.findings()]
