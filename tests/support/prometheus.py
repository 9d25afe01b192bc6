"""Prometheus without a server: what real processes serve is scraped, and promtool judges our rules over it.

Its time is not that of the machine: a scrape stands for a minute, so that half an hour of a fault takes seconds.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from threading import Event
from urllib.error import URLError
from urllib.request import urlopen

import orjson
import yaml  # type: ignore[import-untyped]
from prometheus_client.parser import text_string_to_metric_families

ROOT = Path(__file__).parents[2]
RULES = ROOT / "configs/monitoring/tidegate.rules.yaml"
DASHBOARD = ROOT / "configs/monitoring/tidegate-dashboard.json"
OF_SHARED_LOAD = ROOT / "configs/scale-out/dashboard.json"
MINUTE_S = 60
_SCRAPE_WITHIN_S = 5.0
_PAUSE_S = 0.1  # A quarter of an hour is long enough for a gateway to do something.

_EXPECTED = re.compile(r"time: (\w+),\s+exp: (.*)")
_GOT = re.compile(r"got: (.*)")
_RINGING = re.compile(r'alertname="(\w+)", instance="([^"]+)"')

Series = tuple[tuple[str, str], ...]
"""Labels of a time series, its name among them, in order."""


def rules() -> list[dict[str, object]]:
    """The alert rules that are shipped."""
    return [rule for group in yaml.safe_load(RULES.read_text())["groups"] for rule in group["rules"]]


def shown(dashboard: Path = DASHBOARD) -> list[tuple[str, str]]:
    """(title of the panel, expression for all gateways and relays) of all that a dashboard shows."""
    found = []
    for panel in orjson.loads(dashboard.read_bytes())["panels"]:
        for target in panel.get("targets", ()):
            expression = re.sub(r'"\$[\w|$]+"', '".*"', target["expr"].replace("$__rate_interval", "5m"))
            found.append((panel["title"], expression))
    return found


@dataclass(frozen=True)
class Target:
    """Something that is scraped."""

    job: str
    instance: str
    port: int


@dataclass
class Prometheus:
    """What was scraped, minute by minute, and what is to ring when."""

    targets: list[Target] = field(default_factory=list)
    minutes: list[dict[Series, float]] = field(default_factory=list)
    _expected: dict[int, tuple[dict[str, Collection[str]], str]] = field(default_factory=dict)

    def watch(self, *minutes: object) -> None:
        """Scrape every target once for each of `minutes`."""
        for _ in minutes:
            Event().wait(_PAUSE_S)
            scraped: dict[Series, float] = {}
            for target in self.targets:
                scraped |= _scrape(target, len(self.minutes) * MINUTE_S)
            self.minutes.append(scraped)

    def resets(self, instance: str, metric: str) -> int:
        """How often a value was lower than the one before."""
        labels = {("instance", instance), ("__name__", metric)}
        found = [next((scraped[each] for each in scraped if labels <= set(each)), None) for scraped in self.minutes]
        values = [value for value in found if value is not None]
        return sum(later < earlier for earlier, later in pairwise(values))

    def expect(self, ringing: Mapping[str, Collection[str]], *, but: str) -> None:
        """Exactly these alerts ring at the minute that was watched last: names of alerts, by instance.

        `but` are the labels of one that may ring or not.
        """
        self._expected[len(self.minutes) - 1] = dict(ringing), but

    def judge(self, folder: Path) -> list[str]:
        """Have promtool compare; what does not ring that should, and what rings that should not."""
        said = self._test(folder, [_test(minute, *expected) for minute, expected in self._expected.items()])
        results = list(zip(_EXPECTED.findall(said), _GOT.findall(said), strict=True))
        assert not said or results, said
        return [
            f"minute {minute}: {alert} of {instance} {words}"
            for (minute, expected), got in results
            for ours, others, words in ((expected, got, "does not ring"), (got, expected, "rings"))
            for alert, instance in set(_RINGING.findall(ours)) - set(_RINGING.findall(others))
        ]

    def empty(self, folder: Path, panels: Sequence[tuple[str, str]], minute: int) -> list[str]:
        """The titles of panels whose expression has no value at that minute."""
        counts = {f"count({expression}) > bool 0": title for title, expression in panels}
        one = {"labels": "{}", "value": 1}
        tests = [{"expr": count, "eval_time": f"{minute}m", "exp_samples": [one]} for count in counts]
        said = self._test(folder, tests)
        found = [title for count, title in counts.items() if orjson.dumps(count).decode() in said]
        assert not said or found, said
        return found

    def _test(self, folder: Path, tests: Sequence[Mapping[str, object]]) -> str:
        """What promtool says of the tests; nothing where all are as expected."""
        document = {
            "rule_files": [str(RULES)],
            "evaluation_interval": "1m",
            "tests": [{"interval": "1m", "input_series": self._series(), "promql_expr_test": list(tests)}],
        }
        path = folder / "alerts.test.yaml"
        path.write_bytes(orjson.dumps(document))  # JSON is YAML too.
        done = subprocess.run(["promtool", "test", "rules", path], capture_output=True, text=True, check=False)
        return "" if done.returncode == 0 else done.stdout + done.stderr

    def _series(self) -> list[dict[str, str]]:
        every = dict.fromkeys(series for scraped in self.minutes for series in scraped)
        return [{"series": _written(series), "values": self._values(series)} for series in every]

    def _values(self, series: Series) -> str:
        words, was_there = [], False
        for scraped in self.minutes:
            value = scraped.get(series)
            words.append(("stale" if was_there else "_") if value is None else f"{value:.17g}")
            was_there = value is not None
        return " ".join(words)


def _scrape(target: Target, now_s: int) -> dict[Series, float]:
    """What Prometheus would store of one scrape; dates are moved to its own time, which begins with zero."""
    where = {"job": target.job, "instance": target.instance}
    up = _labels({"__name__": "up", **where})
    try:
        with urlopen(f"http://127.0.0.1:{target.port}/metrics", timeout=_SCRAPE_WITHIN_S) as answer:
            text = answer.read().decode()
    except (URLError, TimeoutError, ConnectionError):
        return {up: 0.0}
    scraped = {up: 1.0}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            is_date = sample.name.endswith("_timestamp_seconds")
            value = sample.value - time.time() + now_s if is_date else sample.value
            # As with honor_labels: false.
            labels = {f"exported_{name}" if name in where else name: text for name, text in sample.labels.items()}
            scraped[_labels({"__name__": sample.name, **labels, **where})] = value
    return scraped


def _labels(labels: Mapping[str, str]) -> Series:
    return tuple(sorted(labels.items()))


def _written(series: Series) -> str:
    labels = dict(series)
    name = labels.pop("__name__")
    return name + "{" + ", ".join(f"{key}={orjson.dumps(text).decode()}" for key, text in labels.items()) + "}"


def _test(minute: int, ringing: Mapping[str, Collection[str]], but: str) -> dict[str, object]:
    samples = [
        {"labels": f'{{alertname="{alert}", instance="{instance}"}}', "value": 1}
        for instance, alerts in ringing.items()
        for alert in sorted(alerts)
    ]
    expression = f'group by (alertname, instance) (ALERTS{{alertstate="firing"}} unless ALERTS{{{but}}})'
    return {"expr": expression, "eval_time": f"{minute}m", "exp_samples": samples}
