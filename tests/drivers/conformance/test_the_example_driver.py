"""The driver of docs/how-to/write-a-driver.md: it fulfils the rules, and each rule detects a mutation."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from edge.testing.conformance import RULES, NotOffered, Subject, keep, losing, watch

ROOT = Path(__file__).parents[3]
PAGE = ROOT / "docs/how-to/write-a-driver.md"
CODE = re.compile(r"`((?:greenhouse/)?\w+\.py)`[^\n]*:\n\n```python\n(.*?)```", re.DOTALL)
FILES = dict(CODE.findall(PAGE.read_text()))

DRIVER, SUBJECT = "greenhouse/__init__.py", "greenhouse/conformance.py"
OFFERED = [
    rule_id
    for rule_id in RULES
    if rule_id
    not in (
        "changes-are-told",
        "silent-subscription-is-unreachable-in-time",
        "subscribing-only-reads",
        "browsing-finds-what-can-be-read",
        "facts-fit-the-tags",
        "inspection-shows-each-way",
        "certificates-tell-their-end",
        "discovery-is-gentle",
        "shared-connections-are-named",
    )
]

MUTATIONS = {
    "plan-is-pure": (
        DRIVER,
        "        self.layout = ",
        "        __import__('socket').socket().close()\n        self.layout = ",
    ),
    "plan-is-deterministic": (DRIVER, "GET of {len(self.layout)} values", "GET of {id(self)}"),
    "cost-is-sensible": (DRIVER, "requests=1", "requests=0"),
    "bad-address-has-its-line": (DRIVER, "if not address.", "if False and not address."),
    "settings-are-described": (DRIVER, '    """TCP port."""\n', ""),
    "library-is-lazy": (SUBJECT, "libraries = ()", "libraries = ('asyncio',)"),
    "values-fit-the-layout": (DRIVER, "return vectors, status_runs", "return vectors[::-1], status_runs"),
    "partial-answer-keeps-the-good": (DRIVER, "codes[tag] = StatusCode.BAD_ADDRESS", "codes[:] = 0x80340000"),
    "identity-is-read": (DRIVER, "vendor=vendor, product=product", "vendor=product, product=vendor"),
    "two-devices-share-nothing": (
        DRIVER,
        "host, port = self._device.host, self._device.port",
        "host = self._device.host\n        port = globals().setdefault('_port', self._device.port)",
    ),
    "sessions-follow-each-other": (
        DRIVER,
        "            writer.transport.abort()\n",
        "            writer.transport.abort()\n            del self._clock\n",
    ),
    "only-reading-on-the-wire": (DRIVER, 'self._ask("WHO")', 'self._ask("SETTIME")'),
    "both-event-loops": (
        DRIVER,
        "        host, port = ",
        "        assert 'uvloop' not in repr(asyncio.get_running_loop())\n        host, port = ",
    ),
    "cancelled-anywhere-leaves-nothing-open": (DRIVER, "        finally:\n", "        except DeviceUnreachable:\n"),
    "memory-is-bounded": (
        DRIVER,
        "        cells = await self._ask(plan.request)\n",
        "        cells = await self._ask(plan.request)\n        globals().setdefault('_k', []).append(bytes(4096))\n",
    ),
    "absent-device-is-unreachable": (DRIVER, "except (OSError, TimeoutError) as error", "except TimeoutError as error"),
    "silent-device-is-unreachable-in-time": (
        DRIVER,
        "asyncio.timeout(self._device.timeout / 1e9):\n                self._writer",
        "asyncio.timeout(None):\n                self._writer",
    ),
    "lost-device-comes-back": (
        DRIVER,
        'raise DeviceUnreachable("it closed the connection")',
        "await asyncio.Event().wait()",
    ),
}
"""For each rule, a mutation that breaks it: (file, original, replacement)."""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with the example's files, on the import path."""
    (tmp_path / "greenhouse").mkdir()
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    yield tmp_path
    for name in [name for name in sys.modules if name.partition(".")[0] == "greenhouse"]:
        del sys.modules[name]


def subject() -> Subject:
    loaded: Subject = import_module("greenhouse.conformance").GreenhouseSubject()
    return loaded


def test_the_page_holds_a_driver_in_one_folder_and_two_hundred_lines() -> None:
    assert sorted(FILES) == [DRIVER, SUBJECT, "test_greenhouse.py"]
    assert len(FILES[DRIVER].splitlines()) <= 200
    assert len(FILES["test_greenhouse.py"].split("\n\n")) == 2


def test_a_third_party_runs_the_suite_in_three_lines(folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-W", "error",
         folder / "test_greenhouse.py"],
        cwd=folder, env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}, check=False, capture_output=True, text=True,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(OFFERED)} passed, {len(RULES) - len(OFFERED)} skipped" in done.stdout


@pytest.mark.parametrize("rule_id", [rule_id for rule_id in RULES if rule_id not in OFFERED])
def test_rules_about_interfaces_that_the_example_lacks_are_skipped(folder: Path, rule_id: str) -> None:
    with pytest.raises(NotOffered):
        keep(rule_id, subject())


def test_every_rule_has_a_mutation() -> None:
    assert sorted(MUTATIONS) == sorted(OFFERED)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
@pytest.mark.parametrize("rule_id", MUTATIONS)
def test_a_rule_fails_for_its_mutation(folder: Path, rule_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A suite that finds nothing proves nothing."""
    name, right, wrong = MUTATIONS[rule_id]
    text = FILES[name]
    assert text.count(right) == 1, f"{right!r} is in {name} {text.count(right)} times"
    (folder / name).write_text(text.replace(right, wrong))
    for module in (losing, watch):
        monkeypatch.setattr(module, "EVENT_TIMEOUT_S", 0.5)

    with pytest.raises((Exception, ExceptionGroup)) as caught:
        keep(rule_id, subject())

    assert not isinstance(caught.value, NotOffered)


TYPED = """\
from greenhouse import GreenhouseDevice, GreenhouseKind

from edge.driver import DriverKind

kind: DriverKind[GreenhouseDevice] = GreenhouseKind()
"""


def test_a_driver_uses_its_settings_by_their_declared_type(folder: Path) -> None:
    """Settings have no methods of the validation library; mypy reports their use."""
    (folder / "spoilt.py").write_text(
        FILES[DRIVER].replace("self._device.timeout / 1e9)", "self._device.model_dump())")
    )
    (folder / "typed.py").write_text(TYPED)

    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", folder / "cache", folder / "greenhouse", "spoilt.py",
         "typed.py"],
        cwd=folder, env={**os.environ, "MYPYPATH": str(ROOT)}, check=False, capture_output=True, text=True,
    )  # fmt: skip

    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert errors, done.stderr
    assert all("spoilt.py" in line and '"GreenhouseDevice" has no attribute "model_dump"' in line for line in errors)
