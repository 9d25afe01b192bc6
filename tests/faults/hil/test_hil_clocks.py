"""The clock of the simulated rig loses its reference, and is set; each criterion fails where it is not so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from edge.clock import TimeQuality, TimeState
from edge.seal import Data, Event, TimeChange
from hil.evidence import Evidence, Observed, gather
from hil.scenarios import clock_source_lost, clock_step
from hil.timekeeping import TRUE_TIMES, compare, every_bound_covers_the_true_error, records
from tests.faults.hil.conftest import hil

pytestmark = [pytest.mark.exclusive, pytest.mark.timeout(400)]

S = 10**9
MS = 10**6


def play(scenario: str, folder: Path) -> Evidence:
    ran = hil("run", "hil/rigs/simulated.yaml", scenario, "--seconds", "1.5", "--report", folder)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return gather(folder / scenario)


@pytest.fixture(scope="module")
def lost(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return play("clock_source_lost", tmp_path_factory.mktemp("clocks") / "lost")


@pytest.fixture(scope="module")
def stepped(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return play("clock_step", tmp_path_factory.mktemp("clocks") / "stepped")


def with_qualities(evidence: Evidence, change: Callable[[TimeQuality], TimeQuality]) -> Evidence:
    """The evidence, with another time quality in each record of readings."""
    chain = [replace(each, time=change(each.time)) if isinstance(each, Data) else each for each in evidence.chain]
    return replace(evidence, chain=chain)


def without(evidence: Evidence, is_left_out: Callable[[object], object]) -> Evidence:
    return replace(evidence, chain=[each for each in evidence.chain if not is_left_out(each)])


def is_step(record: object) -> bool:
    return isinstance(record, TimeChange) and bool(record.step_ns)


def test_ptp_and_chrony_were_lost_one_after_the_other(lost: Evidence) -> None:
    kinds = {(each.time.source.name, each.time.state.name) for each in records(lost)}

    assert {("PTP4L", "SYNCHRONIZED"), ("CHRONY", "SYNCHRONIZED"), ("CHRONY", "HOLDOVER")} <= kinds


@pytest.mark.parametrize("scenario", ["lost", "stepped"])
def test_the_plot_shows_bound_and_true_error(scenario: str, request: pytest.FixtureRequest) -> None:
    [plot] = every_bound_covers_the_true_error(request.getfixturevalue(scenario)).plots

    assert [line.name for line in plot.lines] == ["true error", "stated bound"]
    assert plot.spans


def test_the_true_error_is_known_of_many_records(lost: Evidence, stepped: Evidence) -> None:
    assert len(compare(lost)) > 100
    assert max(each.error_ns for each in compare(lost)) > 10_000  # The clock drifts by 5 ppm.
    assert max(each.error_ns for each in compare(stepped)) > 2 * S


@pytest.mark.parametrize("scenario", ["lost", "stepped"])
def test_a_bound_that_does_not_cover_the_true_error_is_named(
    scenario: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    evidence = request.getfixturevalue(scenario)
    last_ns = orjson.loads((evidence.folder / TRUE_TIMES).read_bytes())[-1][0]
    one = max((each for each in records(evidence) if each.boot_ns < last_ns and each.time.bound_ns is not None),
              key=lambda each: each.boot_ns).time  # fmt: skip
    tight = with_qualities(evidence, lambda quality: replace(quality, bound_ns=1) if quality == one else quality)
    nothing = with_qualities(evidence, lambda quality: replace(quality, bound_ns=None))

    assert every_bound_covers_the_true_error(evidence).holds
    assert not every_bound_covers_the_true_error(tight).holds
    assert not every_bound_covers_the_true_error(nothing).holds
    assert not every_bound_covers_the_true_error(replace(evidence, folder=tmp_path)).holds


def test_a_clock_that_is_compared_from_afar_may_be_off_by_what_is_not_known(lost: Evidence, tmp_path: Path) -> None:
    """On hardware the true time is known between two moments, and the gateway's boot time is not."""
    rows = orjson.loads((lost.folder / TRUE_TIMES).read_bytes())

    def judged(blur_ns: int, ahead_ns: int) -> bool:
        seen = [[None, utc_ns, least_ns + ahead_ns - blur_ns, most_ns + ahead_ns + blur_ns]
                for _, utc_ns, least_ns, most_ns in rows]  # fmt: skip
        (tmp_path / TRUE_TIMES).write_bytes(orjson.dumps(seen))
        return every_bound_covers_the_true_error(replace(lost, folder=tmp_path)).holds

    assert [judged(0, 0), judged(0, 30 * MS), judged(30 * MS, 30 * MS)] == [True, False, True]


def test_a_loss_that_is_not_recognized_or_late_is_named(lost: Evidence) -> None:
    judge = clock_source_lost.the_loss_was_recognized
    pulled = lost.observed.disturbances[0]
    earlier = replace(lost.observed, disturbances=[replace(pulled, from_ns=pulled.from_ns - 20 * S)])

    assert judge(lost).holds
    assert not judge(with_qualities(lost, lambda quality: replace(quality, state=TimeState.SYNCHRONIZED))).holds
    assert not judge(with_qualities(lost, lambda quality: replace(quality, state=TimeState.FREE_RUNNING))).holds
    assert not judge(replace(lost, observed=earlier)).holds
    assert not judge(replace(lost, records=[each for each in lost.records if not isinstance(each, Event)])).holds
    assert not judge(replace(lost, observed=Observed())).holds


def test_a_bound_that_grows_only_from_when_the_loss_was_noticed_is_named(lost: Evidence) -> None:
    """As it once did where PTP and chronyd were lost together."""
    judge = clock_source_lost.the_bound_grows_from_the_last_update
    noticed_ns = _noticed_ns(lost)

    def late(quality: TimeQuality) -> TimeQuality:
        return replace(quality, bound_ns=max(0, quality.as_of_ns - noticed_ns) * quality.drift_ppb // S)

    assert judge(lost).holds
    assert not judge(with_qualities(lost, late)).holds
    assert not judge(with_qualities(lost, lambda quality: replace(quality, bound_ns=None))).holds
    assert not judge(replace(lost, observed=Observed())).holds


def _noticed_ns(evidence: Evidence) -> int:
    return min(each.boot_ns for each in records(evidence) if each.time.state is TimeState.HOLDOVER)


def test_values_that_do_not_say_what_their_time_is_worth_are_named(lost: Evidence) -> None:
    judge = clock_source_lost.the_values_say_so

    assert judge(lost).holds
    for state in (TimeState.SYNCHRONIZED, TimeState.HOLDOVER):
        assert not judge(with_qualities(lost, lambda quality, state=state: replace(quality, state=state))).holds


def test_a_clock_that_is_not_synchronized_again_is_named(lost: Evidence) -> None:
    judge = clock_source_lost.it_is_synchronized_again
    plugged_ns = lost.clock.of(lost.observed.disturbances[0].to_ns)
    gone = without(lost, lambda each: isinstance(each, Data) and each.boot_ns > plugged_ns)

    assert judge(lost).holds
    assert not judge(gone).holds
    assert not judge(with_qualities(lost, lambda quality: replace(quality, bound_ns=S))).holds


def test_a_step_that_is_not_on_record_or_of_another_size_is_named(stepped: Evidence) -> None:
    judge = clock_step.each_step_is_on_record
    other = [replace(each, step_ns=each.step_ns // 2) if is_step(each) else each for each in stepped.chain]

    assert judge(stepped).holds
    assert not judge(without(stepped, is_step)).holds
    assert not judge(replace(stepped, chain=other)).holds
    assert not judge(replace(stepped, observed=Observed())).holds


def test_a_step_that_is_recognized_after_the_next_record_is_named(stepped: Evidence) -> None:
    judge = clock_step.each_step_is_known_before_the_next_record
    chain = list(stepped.chain)
    at = next(at for at, each in enumerate(chain) if is_step(each))
    after = [at for at, each in enumerate(chain[at:], at) if isinstance(each, Data)]
    late = [*chain[:at], *chain[at + 1 : after[1] + 1], chain[at], *chain[after[1] + 1 :]]

    assert judge(stepped).holds
    assert not judge(replace(stepped, chain=late)).holds
    assert not clock_step.the_order_is_kept(replace(stepped, chain=late)).holds
    assert not judge(without(stepped, is_step)).holds
    assert not judge(replace(stepped, observed=Observed())).holds


def test_readings_that_change_places_without_a_record_between_are_named(stepped: Evidence, lost: Evidence) -> None:
    judge = clock_step.the_order_is_kept

    assert judge(stepped).holds
    assert not judge(without(stepped, is_step)).holds
    assert not judge(lost).holds  # UTC never went back there: nothing was tried.


def test_a_gateway_that_did_not_go_on_is_named(stepped: Evidence) -> None:
    judge = clock_step.the_gateway_went_on
    twice = [*stepped.records, Event(at_ns=1, kind="start")]

    assert judge(stepped).holds
    assert not judge(replace(stepped, records=twice)).holds
    assert not judge(with_qualities(stepped, lambda quality: replace(quality, bound_ns=None))).holds
