"""What a changed configuration is shown as: its difference, and what its plan costs."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

from edge.approval.change import body
from edge.config.check import Checked
from edge.config.devices import GroupPlan
from edge.config.kept import changed, unpack
from edge.config.written import differences
from edge.units import counted, format_duration


def cost_line(plans: Sequence[GroupPlan]) -> str:
    """What one scan of these groups costs."""
    tags = sum(plan.cost.tags for plan in plans)
    requests = sum(plan.cost.requests for plan in plans)
    took_ns = sum(plan.cost.took_ns for plan in plans)
    return f"{counted(tags, 'tag')} -> {counted(requests, 'request')}, about {format_duration(took_ns)}"


def plan_line(plan: GroupPlan) -> str:
    """What one scan of a group costs, with its device."""
    return f"{plan.device}, {plan.group}: {cost_line([plan])} every {format_duration(plan.every_ns)}"


def plans_that_differ(checked: Checked, paths: Iterable[str]) -> list[GroupPlan]:
    """The plans of the devices below which one of these paths is."""
    paths = list(paths)
    names = {plan.device for plan in checked.plans}
    differ = {name for name in names if any(_is_of(each, name) for each in paths)}
    return [plan for plan in checked.plans if plan.device in differ]


def _is_of(path: str, device: str) -> bool:
    start = f"devices[{device}]"
    return path == start or path.startswith((f"{start}.", f"{start}["))


def proposal_body(checked: Checked, old: Any) -> str:
    """The second part of the text by which a configuration is proposed in place of another; no value is cut."""
    found = list(differences(old, unpack(checked.pack()), limit=sys.maxsize))
    plans = plans_that_differ(checked, (path for path, _, _ in found))
    return body((changed(*each, longest=sys.maxsize) for each in found), map(plan_line, plans))
