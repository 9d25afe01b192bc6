"""Warnings for what a configuration says of instruments. They are no errors: values are recorded as they are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from edge.config.yaml_tree import Node
from edge.errors import Problem
from edge.units import parse_date

_ONE_CALIBRATION = ("serial", "calibration_certificate", "calibrated_on", "calibration_due")


def instrument_warnings(devices: Iterable[Node]) -> Iterator[Problem]:
    """Warnings for a calibration that ends before it begins, and for one instrument with several, at their place."""
    first: dict[tuple[str, str], Node] = {}
    for tag in (tag for device in devices for tag in _tags(device)):
        calibrated, due = tag["calibrated_on"], tag["calibration_due"]
        if calibrated is not None and due is not None and _is_before(due.text, calibrated.text):
            yield _warning(due, f"{due.text} is before calibrated_on, which is {calibrated.text}: are they mixed up?")
        if (instrument := tag["instrument"]) is None or not instrument.text:
            continue
        for key in _ONE_CALIBRATION:
            if (node := tag[key]) is not None and node.text:
                before = first.setdefault((instrument.text, key), node)
                if before.text != node.text:
                    yield _warning(node, f"instrument {instrument.text} has {node.text} here and {before.text} in "
                                   f"{_place(before, node)}: is one of them of another instrument?")  # fmt: skip


def _tags(device: Node) -> Iterator[Node]:
    for group in groups.items if (groups := device["scan_groups"]) is not None else ():
        if (tags := group["tags"]) is not None:
            yield from tags.items


def _place(node: Node, seen_from: Node) -> str:
    mark = node.mark
    return f"line {mark.line}" if mark.file == seen_from.mark.file else f"{mark.file}:{mark.line}"


def _is_before(one: str | None, other: str | None) -> bool:
    try:
        first, second = parse_date(one or ""), parse_date(other or "")
    except ValueError:  # Said of the key itself.
        return False
    return first is not None and second is not None and first < second


def _warning(node: Node, message: str) -> Problem:
    return replace(node.problem(message), severity="warning")
