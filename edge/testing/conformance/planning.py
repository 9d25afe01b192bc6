"""Rules that need no device: settings, plans and imports."""

from __future__ import annotations

import json
import pickle
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from edge.config.check import Checked, check
from edge.config.fields import fields_of, settings_in
from edge.driver import DriverKind
from edge.errors import ConfigError
from edge.settings import Settings
from edge.testing.conformance.rule import offline
from edge.testing.conformance.stand import NOWHERE, settings_of
from edge.testing.conformance.subject import Subject
from edge.testing.conformance.watch import network_events


def _planned(subject: Subject) -> Any:
    kind = subject.kind()
    checked = settings_of(subject, kind, 0, NOWHERE, subject.tags)
    # As in a gateway: one process checks, another one plans.
    settings = pickle.loads(pickle.dumps(checked))  # noqa: S301 - packed in the same line
    assert type(settings) is kind.settings, f"{type(settings).__name__} is not {kind.settings.__name__}"
    assert settings == checked, f"{settings} was checked as {checked}"
    return kind.driver(settings, subject.clock).plan(settings.scan_groups[0].tags)


@offline("plan-is-pure")
def plan_is_pure(subject: Subject) -> None:
    """Planning uses no network, and needs no device."""
    with network_events() as events:
        plan = _planned(subject)
        plan.cost()
        plan.describe()

    assert events == [], f"planning asked the network: {events}"


@offline("plan-is-deterministic")
def plan_is_deterministic(subject: Subject) -> None:
    """The same tags give the same plan: layout, cost and requests."""
    one, other = _planned(subject), _planned(subject)

    for what in (lambda plan: plan.layout, lambda plan: plan.cost(), lambda plan: list(plan.describe())):
        assert what(one) == what(other), f"one plan has {what(one)}, the other {what(other)}"


@offline("cost-is-sensible")
def cost_is_sensible(subject: Subject) -> None:
    """The cost of a plan is plausible, and its requests are described in printable lines."""
    plan = _planned(subject)
    cost, lines = plan.cost(), list(plan.describe())

    assert cost.tags == len(plan.layout) == len(subject.tags), f"{cost.tags} tags for {len(subject.tags)}"
    assert 1 <= cost.requests <= cost.tags, f"{cost.requests} requests for {cost.tags} tags"
    assert min(cost.request_bytes, cost.answer_bytes, cost.took_ns) >= 0, f"less than nothing: {cost}"
    assert lines, "nothing says what is asked"
    for line in lines:
        assert line.strip(), "a line that says nothing"
        assert line.isprintable(), f"more than a line: {line!r}"


@offline("bad-address-has-its-line")
def bad_address_has_its_line(subject: Subject) -> None:
    """`tidegate check` reports an invalid address without the device, with file, line and column."""
    bad, words = subject.misspelled
    tags = [*subject.tags, bad]
    checked, lines = _checked(subject, tags)

    assert [problem.line for problem in checked.errors] == [lines[-1]], f"line {lines[-1]} is wrong: {checked.errors}"
    (problem,) = checked.errors
    assert problem.file.endswith("site.yaml")
    assert problem.column > 0
    assert words in problem.message, f"{words!r} is not in {problem.message!r}"
    good, _ = _checked(subject, subject.tags)
    assert good.errors == (), f"good tags are refused: {good.errors}"


def _checked(subject: Subject, tags: Any) -> tuple[Checked, list[int]]:
    lines = ["gateway: {name: g, path: a/b/c/g, state: ./state}", "devices:", "  - name: device"]
    lines.append(f"    driver: {subject.driver}")
    lines += [f"    {key}: {json.dumps(value)}" for key, value in subject.device(0, NOWHERE).items()]
    lines += ["    scan_groups:", "      - every: 1 h", "        tags:"]
    first = len(lines) + 1
    lines += [f"          - {json.dumps(dict(tag))}" for tag in tags]

    def find(name: str) -> DriverKind[Any]:
        if name != subject.driver:
            raise ConfigError(f"no driver is called {name!r}")
        return subject.kind()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "site.yaml")
        path.write_text("\n".join(lines) + "\n")
        return check(path, find), list(range(first, first + len(tags)))


@offline("settings-are-described")
def settings_are_described(subject: Subject) -> None:
    """Every setting has a description: pages, messages and editors show it."""
    nameless = [f"{model.__name__}.{name}" for model, name, text in _fields(subject.kind().settings) if not text]

    assert nameless == [], f"without a description: {', '.join(nameless)}"


def _fields(model: type[Settings], seen: set[type[Settings]] | None = None) -> Iterator[tuple[type, str, str]]:
    seen = set() if seen is None else seen
    if model in seen:
        return
    seen.add(model)
    for name, field in fields_of(model).items():
        yield model, name, field.description
        for below in settings_in(field.annotation):
            yield from _fields(below, seen)


_LOADED = """
import json, sys
sys.path[:] = json.loads(sys.argv[1])
from importlib import import_module
from pathlib import Path
from edge.clock import SystemClock
from edge.config.validate import settings_from
job = json.load(sys.stdin)
kind = getattr(import_module(job["module"]), job["kind"])()
settings = settings_from(kind.settings, job["device"], Path())
plan = kind.driver(settings, SystemClock()).plan(settings.scan_groups[0].tags)
plan.cost(), plan.describe()
print(json.dumps([name for name in job["libraries"] if name in sys.modules]))
"""


@offline("library-is-lazy")
def library_is_lazy(subject: Subject) -> None:
    """Checking and planning do not import the protocol library."""
    kind = type(subject.kind())
    device: Mapping[str, Any] = {
        "name": "device",
        "driver": subject.driver,
        **subject.device(0, NOWHERE),
        "scan_groups": [{"every": "1 h", "tags": [dict(tag) for tag in subject.tags]}],
    }
    job = {"module": kind.__module__, "kind": kind.__qualname__, "device": device, "libraries": [*subject.libraries]}
    done = subprocess.run(  # noqa: S603 - this very Python, on a program of our own
        [sys.executable, "-c", _LOADED, json.dumps(sys.path)],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [], f"planning imports {done.stdout}"
