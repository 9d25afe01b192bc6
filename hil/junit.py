"""A report as JUnit XML, as continuous integration reads it: a suite for each scenario, a case for each criterion."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from edge.terminal import printable
from edge.units import format_utc
from hil.document import Report, ScenarioResult


def junit_xml(report: Report) -> bytes:
    """The report as XML."""
    root = Element("testsuites", name=f"tidegate hil on rig {report.rig.name}")
    for result in report.scenarios:
        _suite(root, result, report.rig.name)
    for key in ("tests", "failures", "skipped"):
        root.set(key, str(sum(int(suite.attrib[key]) for suite in root)))
    root.set("errors", "0")
    indent(root)
    return b'<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(root) + b"\n"


def _suite(root: Element, result: ScenarioResult, rig: str) -> None:
    cases = [(each.text, each.holds, each.found) for each in result.criteria]
    troubles = [step.trouble for step in result.steps if step.trouble]
    cases.insert(0, ("Every step came to its end.", not troubles, "; ".join(troubles)))
    if not result.criteria:
        cases.append(("It has a criterion.", False, "a scenario without a criterion proves nothing"))
    skipped = bool(result.not_played)
    seconds = (result.ended_ns - result.started_ns) / 1e9
    failures = 0 if skipped else sum(not holds for _, holds, _ in cases)
    suite = SubElement(
        root, "testsuite", name=result.name, tests=str(len(cases)), failures=str(failures), errors="0",
        skipped=str(len(cases) if skipped else 0), time=f"{seconds:.3f}", hostname=rig,
        timestamp=format_utc(result.started_ns).removesuffix("Z"),
    )  # fmt: skip
    properties = SubElement(suite, "properties")
    for each in result.requirements:
        SubElement(properties, "property", name="requirement", value=each)
    for text, holds, found in cases:
        case = SubElement(suite, "testcase", classname=f"hil.{result.name}", name=printable(text), time="0")
        if skipped:
            SubElement(case, "skipped", message=printable(result.not_played))
        elif not holds:
            SubElement(case, "failure", message=printable(found)).text = printable(found)
