"""What a device gives when it is asked properly is never BAD; what it refuses is BAD at once, with its reason.

And what `tidegate read` reads, `tidegate run` reads too, or both say which setting is missing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pytest

from edge.model import StatusCode
from tests.support.field.case import FieldCase
from tests.support.field.run import OddDevice, Ran, Read, Started, read, run, site_in
from tests.support.field.tables import CASES

WITHIN_NS = 10 * 10**9
BARE = "-without-the-setting"
NEEDING = [case for case in CASES if case.needs]

pytestmark = [pytest.mark.timeout(900)]
each_case = pytest.mark.parametrize("case", CASES, ids=[case.id for case in CASES])
each_needing = pytest.mark.parametrize("case", NEEDING, ids=[case.id for case in NEEDING])


@dataclass(frozen=True)
class Found:
    """What came of every case; those that need a setting also without it."""

    read: dict[str, Read]
    ran: dict[str, Ran]
    delay_ns: int


def merged(device: Any, needs: Any) -> dict[str, Any]:
    """The device with the settings that it needs, section by section."""
    both = dict(device)
    for key, value in needs.items():
        both[key] = merged(both.get(key, {}), value) if isinstance(value, dict) else value
    return both


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    folder = tmp_path_factory.mktemp("field")
    wanted = [(case.id, case, case.needs) for case in CASES] + [(case.id + BARE, case, {}) for case in NEEDING]
    with site_in(folder) as site:

        def start(started: Started, which: str) -> list[OddDevice]:
            devices = []
            for name, case, needs in wanted:
                own = folder / which / name
                own.mkdir(parents=True)
                devices.append(OddDevice(name, merged(started.enter(case.start(own)), needs)))
            return devices

        with closing(Started(site)) as started:
            answers = {device.name: read(device, folder) for device in start(started, "read")}
        with closing(Started(site)) as started:
            awaited = {case.id: len(case.refused) for case in CASES}
            ran, delay_ns = run(site, start(started, "run"), awaited)
        yield Found(answers, ran, delay_ns)


@each_case
def test_read_reads_it(found: Found, case: FieldCase) -> None:
    answer = found.read[case.id]

    assert answer.values.keys() == case.values.keys(), answer.said
    assert answer.bad == {tag: int(code) for tag, code in case.refused.items()}, answer.said
    for tag, value in case.values.items():
        assert value is None or answer.values[tag] == value, (tag, answer.said)


@each_case
def test_run_reads_it_within_ten_seconds(found: Found, case: FieldCase) -> None:
    ran = found.ran[case.id]

    assert ran.first_good_ns.keys() >= case.values.keys(), ran.log
    late = {tag: at_ns for tag, at_ns in ran.first_good_ns.items() if at_ns > WITHIN_NS + found.delay_ns}
    assert late == {}, ran.log


@each_case
def test_what_it_gives_is_never_bad(found: Found, case: FieldCase) -> None:
    """Before it was asked for alone it is not known; from its first value on it stays."""
    ran = found.ran[case.id]
    accused = {tag: codes for tag, codes in ran.bad_before.items()
               if tag in case.values and codes & {StatusCode.BAD_ADDRESS, StatusCode.BAD_DECODING_ERROR}}  # fmt: skip

    assert accused == {}, ran.log
    assert {tag: codes for tag, codes in ran.bad_after.items() if tag in case.values} == {}, ran.log
    assert ran.outages == [], ran.log


@each_case
def test_what_it_refuses_is_bad_with_its_reason(found: Found, case: FieldCase) -> None:
    ran = found.ran[case.id]

    for tag, code in case.refused.items():
        assert tag not in ran.first_good_ns, ran.log
        assert int(code) in ran.bad_before[tag], ran.log
        named = [event for event in ran.events if event.kind in ("device.address", "device.protocol")]
        assert named, ran.log


@each_needing
def test_without_its_setting_both_say_so(found: Found, case: FieldCase) -> None:
    answer, ran = found.read[case.id + BARE], found.ran[case.id + BARE]

    assert case.says
    assert case.says in answer.said, answer.said
    assert case.says in ran.log, ran.log
