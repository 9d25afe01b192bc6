"""With a driver that is delivered: what is browsed passes the check as it is printed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import Result

DEVICE = "devices:\n  - name: mixer\n    driver: simulator\n"


@pytest.mark.parametrize("form", ["--yaml", "--csv"])
def test_the_tags_of_a_simulated_device_pass_the_check(
    tidegate: Callable[..., Result], site: Callable[..., Path], form: str
) -> None:
    printed = tidegate("browse", site(DEVICE), "mixer", "--depth", 0, form)

    if form == "--yaml":
        path = site(DEVICE + printed.stdout)
    else:
        path = site(DEVICE + "    scan_groups: [{every: 1 s, tags_from: tags.csv}]\n", tags_csv=printed.stdout)
    checked = tidegate("check", path)

    assert (printed.exit_code, checked.exit_code) == (0, 0), checked.output
    assert checked.stdout.startswith("mixer: 7 tags -> ")
