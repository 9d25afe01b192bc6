"""What the page about the simulated controller shows is what it does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from drivers.ethernetip.simulator import Controller

PAGE = (Path(__file__).parents[4] / "docs/how-to/simulate-a-logix-controller.md").read_text()


async def test_the_example_runs() -> None:
    [example] = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    namespace: dict[str, Any] = {}
    exec(example, namespace)

    await namespace["test_something"]()


def test_every_fault_named_is_one() -> None:
    plc = Controller()
    named = re.findall(r"plc\.(\w+)", PAGE)

    assert len(named) > 15
    assert [name for name in named if not hasattr(plc, name)] == []
