"""The document, its page, its plots and its JUnit XML: they say the same, and a trouble is the first thing seen."""

from __future__ import annotations

import contextlib
import re
from dataclasses import replace
from xml.etree.ElementTree import fromstring

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.report.times import Times
from hil.document import POINTS_MAX, Criterion, Line, Plot, Point, Report, thinned
from hil.junit import junit_xml
from hil.page import headline, report_page
from hil.plots import plot_svg
from tests.hil.conftest import BEGIN_NS, FAILED, PASSED, PLOT, REPORT, SKIPPED, S

ALL = replace(REPORT, scenarios=(PASSED, FAILED, SKIPPED))
VALUES = st.one_of(st.none(), st.floats(-1e12, 1e12), st.just(0.0))
POINTS = st.lists(VALUES, max_size=1200).map(lambda values: [(BEGIN_NS + i * S, v) for i, v in enumerate(values)])


def test_the_document_is_read_as_it_was_written() -> None:
    assert Report.from_json(ALL.to_json()) == ALL


@pytest.mark.parametrize(
    ("before", "after"),
    [(b'"verdict": "FAILED"', b'"verdict": "PASSED"'), (b'"holds": false', b'"holds": true'),
     (b'"not_played": "the rig names no switch for the clock"', b'"not_played": ""')],
)  # fmt: skip
def test_a_document_whose_verdict_is_not_what_its_criteria_say_is_refused(before: bytes, after: bytes) -> None:
    changed = ALL.to_json().replace(before, after)

    assert changed != ALL.to_json()
    with pytest.raises(ConfigError, match="contradicts itself"):
        Report.from_json(changed)


@given(st.one_of(st.binary(), st.tuples(st.integers(0, 5000), st.binary(min_size=1, max_size=3)).map(
    lambda cut: ALL.to_json()[: cut[0]] + cut[1] + ALL.to_json()[cut[0] + len(cut[1]) :])))  # fmt: skip
def test_damage_is_one_sentence(data: bytes) -> None:
    with contextlib.suppress(ConfigError):  # Anything else fails the test; a changed word may be a good document.
        Report.from_json(data)


def test_a_report_passes_only_when_everything_did() -> None:
    assert REPORT.verdict == "PASSED"
    assert ALL.verdict == "FAILED"
    assert replace(REPORT, scenarios=(PASSED, SKIPPED)).verdict == "NOT PLAYED"
    assert replace(REPORT, scenarios=()).verdict == "NOT PLAYED"


def test_a_scenario_without_a_criterion_or_with_a_step_in_trouble_proves_nothing() -> None:
    (step,) = PASSED.steps

    assert replace(PASSED, criteria=()).verdict == "FAILED"
    assert replace(PASSED, steps=(replace(step, trouble="the cable is stuck"),)).verdict == "FAILED"


def test_the_headline_names_what_failed() -> None:
    assert headline(ALL) == (
        "1 of 3 scenarios failed: Device power cycle; 1 of 3 scenarios not played: Clock step; 1 deviation to judge."
    )
    assert headline(REPORT) == "1 scenario played, and all of 1 criterion hold; no deviations."


def test_the_page_shows_the_trouble_before_the_details() -> None:
    page = report_page(ALL, "00" * 32)

    assert page.index("no value within") < page.index("The switch took") < page.index('id="cable_pulled"')


def test_everything_that_a_person_needs_is_on_the_page() -> None:
    page = re.sub("<[^>]*>|\N{NO-BREAK SPACE}", " ", report_page(ALL, "5e" * 32))

    for words in (
        "bench-2", "Tidegate 0.7.1", "Basel, laboratory 4", "hardware", "Siemens S7-1215C", "V4.6", "12" * 32,
        "34" * 32, "5e" * 32, "ab" * 32, "chrony, synchronized, at most 1.2 ms off", "cd" * 32, "add3:7aa3",
        "Pull the cable.", "after 2.1 s", "the rig names no switch for the clock", REPORT.requirements["R9"],
        "Device power cycle FAILED", "not signed",
    ):  # fmt: skip
        assert words in page, words


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    page = report_page(ALL, "00" * 32)

    assert "default-src 'none'" in page
    assert not re.search(r"<script|<img|<link|\b(src|href)=\"(?!#)", page)


def test_what_a_device_says_is_text_on_the_page_and_in_the_xml() -> None:
    hostile = "</td><script>alert(1)</script>\x1b[2J\x00&amp;"
    result = replace(FAILED, criteria=(Criterion(text=hostile, holds=False, found=hostile),), title=hostile)

    page, xml = report_page(replace(ALL, scenarios=(result,)), "00"), junit_xml(replace(ALL, scenarios=(result,)))

    assert "<script" not in page
    assert "\x1b" not in page
    assert len(fromstring(xml).findall(".//failure")) == 1


def test_junit_counts_what_the_report_says() -> None:
    root = fromstring(junit_xml(ALL))

    assert root.tag == "testsuites"
    assert {key: root.get(key) for key in ("tests", "failures", "skipped", "errors")} == {
        "tests": "6", "failures": "1", "skipped": "2", "errors": "0"
    }  # fmt: skip
    for suite in root:
        cases = suite.findall("testcase")
        assert suite.get("tests") == str(len(cases))
        assert suite.get("failures") == str(sum(case.find("failure") is not None for case in cases))
        assert suite.get("skipped") == str(sum(case.find("skipped") is not None for case in cases))
        assert all(case.get("name") and case.get("classname") for case in cases)
    assert [each.get("message") for each in root.iter("failure")] == ["no value within 60 s"]
    assert [each.get("value") for each in root[0].iter("property")] == ["R9", "ALCOA+ complete"]


@given(POINTS)
def test_a_thinned_line_is_short_and_keeps_its_extremes_and_its_holes(points: list[Point]) -> None:
    kept = thinned(points)

    known = [value for _, value in points if value is not None]
    assert len(kept) <= POINTS_MAX * 1.5 + 2
    assert set(kept) <= set(points)
    assert list(kept) == sorted(kept, key=lambda each: each[0])
    if known:
        assert {min(known), max(known)} <= {value for _, value in kept}
    assert any(value is None for _, value in points) == any(value is None for _, value in kept)


@given(st.lists(POINTS, min_size=1, max_size=3))
def test_a_plot_stays_inside_its_frame(lines: list[list[Point]]) -> None:
    plot = replace(PLOT, lines=tuple(Line(name="a", points=thinned(points)) for points in lines))

    drawn = plot_svg(plot, Times())

    if "nothing was measured" in drawn:
        return
    (_, _, width, height) = map(float, re.search(r'viewBox="([^"]*)"', drawn)[1].split())  # type: ignore[index]
    for points in re.findall(r'points="([^"]*)"', drawn):
        for x, y in (map(float, pair.split(",")) for pair in points.split()):
            assert 0 <= x <= width
            assert 0 <= y <= height
    assert len(fromstring(f"<a>{drawn}</a>")) == 1


def test_a_hole_is_hatched_and_never_drawn_through() -> None:
    drawn = plot_svg(PLOT, Times())

    assert drawn.count('<rect class="declared"') == 3  # Of both lines, and in the legend.
    assert drawn.count("<polyline") == 4


def test_a_plot_without_a_value_says_so() -> None:
    assert "nothing was measured" in plot_svg(Plot(title="x", unit="", lines=()), Times())
