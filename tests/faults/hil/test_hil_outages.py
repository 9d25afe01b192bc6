"""Outages on the simulated rig: they pass, and each of their own criteria fails where what it asks for is not so.

All are played with `python -m hil run hil/rigs/simulated.yaml all`; three of them in every run of the tests.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from edge.seal import Event, Gap, Loss
from hil.criteria import it_was_not_restarted
from hil.devices import Served
from hil.evidence import Archived, Declared, Evidence, Observed, gather
from hil.interruptions import (
    each_interruption_was_real,
    every_device_came_back,
    every_value_is_accounted_for,
    the_others_were_read_on,
    value_plot,
)
from hil.scenarios import certificate_renewal, disk_full, gateway_power_cut, half_open, relay_outage, soak
from hil.scenarios.device_power_cycle import it_is_the_same_device
from tests.faults.hil.conftest import hil

pytestmark = [pytest.mark.exclusive, pytest.mark.timeout(400)]

S = 10**9
CUT = "bioreactor-1"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outages") / "report"
    ran = hil("run", "hil/rigs/simulated.yaml", "cable_pulled", "gateway_power_cut", "disk_full", "--seconds",
              "1.5", "--report", folder)  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return folder


@pytest.fixture(scope="module")
def pulled(report: Path) -> Evidence:
    return gather(report / "cable_pulled")


@pytest.fixture(scope="module")
def cut(report: Path) -> Evidence:
    return gather(report / "gateway_power_cut")


def moment(evidence: Evidence, device: str = CUT) -> tuple[int, int]:
    """When a device's cable was out, in boot time."""
    (span,) = (each for each in evidence.observed.disturbances if each.text.startswith(f"{device}: "))
    return evidence.clock.of(span.from_ns), evidence.clock.of(span.to_ns)


def with_archived(evidence: Evidence, device: str, keep: Sequence[tuple[int, int]] = ()) -> Evidence:
    """The evidence, of a device only what lies in these stretches of boot time."""
    archived = {name: [each for each in values if not name.startswith(f"{device}/")
                       or any(first <= each.to_ns <= last for first, last in keep)]
                for name, values in evidence.archived.items()}  # fmt: skip
    return replace(evidence, archived=archived)


def with_figures(evidence: Evidence, figures: dict[str, float]) -> Evidence:
    return replace(evidence, observed=replace(evidence.observed, figures=figures))


def test_the_report_says_what_the_simulated_rig_cannot_show(report: Path) -> None:
    document = orjson.loads((report / "report.json").read_bytes())

    assert [each["verdict"] for each in document["scenarios"]] == ["PASSED"] * 3
    [deviation] = document["scenarios"][1]["deviations"]
    assert "which a real power cut can lose" in deviation
    assert all(each["plots"] for each in document["scenarios"][:1])


def test_a_cable_that_was_not_pulled_proves_nothing(pulled: Evidence) -> None:
    first_ns, last_ns = moment(pulled)
    step_ns = (last_ns - first_ns) // 10
    ghosts = [Archived(at, at, 1) for at in range(first_ns, last_ns, step_ns)]
    archived = {**pulled.archived, f"{CUT}/cycles": [*pulled.archived[f"{CUT}/cycles"], *ghosts]}

    assert each_interruption_was_real(pulled).holds
    assert not each_interruption_was_real(replace(pulled, archived=archived)).holds
    assert not each_interruption_was_real(replace(pulled, observed=Observed())).holds


def test_an_interruption_without_a_gap_is_named(pulled: Evidence) -> None:
    found = each_interruption_was_real(replace(pulled, declared=()))

    assert not found.holds
    assert "no GAP says so" in found.found


def test_a_device_that_does_not_come_back_or_late_is_named(pulled: Evidence) -> None:
    first_ns, last_ns = moment(pulled)
    gone = with_archived(pulled, CUT, [(0, first_ns)])
    too_late = [Archived(last_ns + 121 * S, last_ns + 121 * S, 1)]
    late = replace(gone, archived={**gone.archived, f"{CUT}/cycles": too_late})

    assert every_device_came_back(pulled).holds
    assert f"{CUT}: not at all" in every_device_came_back(gone).found
    assert not every_device_came_back(gone).holds
    assert not every_device_came_back(late).holds


def test_another_device_that_stands_still_is_named(pulled: Evidence) -> None:
    first_ns, last_ns = moment(pulled)

    found = the_others_were_read_on(with_archived(pulled, "meter-1", [(0, first_ns), (last_ns, 2**62)]))

    assert not found.holds
    assert f"while {CUT} was silent" in found.found


def test_one_late_answer_after_each_interruption_is_known_and_a_second_is_lost(pulled: Evidence) -> None:
    _, last_ns = moment(pulled)
    counter = f"{CUT}/cycles"
    everything = [Declared(None, 0, last_ns), Declared(None, last_ns + S, 2**62)]

    def judged(late: int) -> bool:
        served = [each for each in pulled.served[counter] if not last_ns < each.boot_ns < last_ns + S]
        served += [Served(last_ns + 1, "cycles", 10**6 + number) for number in range(late)]
        changed = replace(pulled, served={counter: served}, declared=everything)
        return every_value_is_accounted_for(changed).holds

    assert [judged(late) for late in (0, 1, 2)] == [True, True, False]


def test_the_plot_shows_no_value_where_the_cable_was_out(pulled: Evidence) -> None:
    plot = value_plot(pulled, CUT)

    assert plot is not None
    measured, truth = plot.lines
    assert any(value is None for _, value in measured.points)
    assert truth.kind == "truth"
    assert plot.spans


def test_a_clean_stop_is_no_power_cut(cut: Evidence) -> None:
    stopped = [Event(at_ns=1, kind=kind) for kind in ("start", "stop", "start", "stop")]

    assert gateway_power_cut.it_did_not_stop_cleanly(cut).holds
    assert not gateway_power_cut.it_did_not_stop_cleanly(replace(cut, records=stopped)).holds


def test_a_power_cut_without_a_gap_or_without_a_reading_is_named(cut: Evidence) -> None:
    no_gaps = [each for each in cut.records if not isinstance(each, Gap)]
    starts = [Event(at_ns=at_ns, kind="start") for at_ns in (1, 2**62)]

    assert gateway_power_cut.the_outage_is_declared(cut).holds
    assert gateway_power_cut.it_reads_again_soon(cut).holds
    assert not gateway_power_cut.the_outage_is_declared(replace(cut, records=no_gaps)).holds
    assert not gateway_power_cut.it_reads_again_soon(replace(cut, records=starts)).holds


def test_a_record_that_was_dropped_and_is_not_declared_lost_is_named(report: Path) -> None:
    full = gather(report / "disk_full")
    prepared = orjson.loads((report / "disk_full/gateway.yaml").read_bytes())
    first = next(each for each in full.records if isinstance(each, Loss))
    less = [each for each in full.records if not isinstance(each, Loss)]

    assert prepared["buffer"]["segment"] == "1 MiB"
    assert disk_full.the_loss_is_on_record(full).holds
    assert disk_full.it_recovered_soon(full).holds
    assert not disk_full.the_loss_is_on_record(replace(full, records=[*less, replace(first, last=first.first)])).holds


def test_each_other_scenario_asks_for_its_disturbance(cut: Evidence) -> None:
    """Without anything that was observed, and with events of a quiet run, no criterion of theirs holds."""
    quiet = replace(cut, observed=Observed(), records=[Event(at_ns=1, kind="start")] * 2)
    other = replace(quiet, records=[Event(at_ns=1, kind="device.identity", subject=CUT)])

    for judge in (
        half_open.every_connection_was_made_again, relay_outage.the_gateway_was_not_held_up,
        relay_outage.the_archive_stood_still, disk_full.it_was_full_and_read_on, disk_full.the_loss_is_on_record,
        disk_full.it_recovered_soon,
        certificate_renewal.new_certificates_are_used, it_was_not_restarted,
        soak.every_scan_is_counted, soak.nothing_grew,
    ):  # fmt: skip
        assert not judge(quiet).holds, judge
    assert not it_is_the_same_device(other).holds


def test_a_scan_that_is_not_counted_and_growth_are_named(cut: Evidence) -> None:
    def counted(count: int) -> bool:
        figures = {"scans due by the clock: mixer/fast": 1000.0, "scans done, skipped and failed: mixer/fast": count}
        return soak.every_scan_is_counted(with_figures(cut, figures)).holds

    def grown(share: float, seconds: int) -> bool:
        points = [(at * S, 100.0 * (1 + share * at / seconds)) for at in range(0, seconds + 1, 10)]
        level = [(at_ns, 20.0) for at_ns, _ in points]
        samples = {"resident memory, MB": points, "open handles": level}
        return soak.nothing_grew(replace(cut, observed=Observed(samples=samples))).holds

    assert [counted(each) for each in (1000, 998, 997, 1003)] == [True, True, False, False]
    assert [grown(0.01, 3600), grown(0.1, 3600), grown(0.1, 300)] == [True, False, True]
