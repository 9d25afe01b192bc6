"""When the timeouts of many connections are checked."""

from __future__ import annotations

from math import ceil

_CHECKS_IN_A_TIMEOUT = 10


def check_at_s(due_s: float, timeout_s: float) -> float:
    """When to check what is overdue at a time of the event loop: then, or up to a tenth of the timeout later.

    Checks coincide at tenths of the timeout: all connections that wait wake the event loop up once.
    """
    step_s = timeout_s / _CHECKS_IN_A_TIMEOUT
    return ceil(due_s / step_s) * step_s
