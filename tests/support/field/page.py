"""Write docs/reference/field-cases.md from the cases: `make docs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tests.support.field.tables import CASES

_PROTOCOLS = {"modbus": "Modbus", "opcua": "OPC UA", "ethernetip": "EtherNet/IP"}
_HEAD = """\
# Devices as they are in the field

<!-- Written by tests/support/field/page.py from the field cases; change them there and run `make docs`. -->

Each kind of device below is a device of the tests: `tidegate read` and `tidegate run` read it within ten seconds, with
the settings of the last column or, where that is empty, with none. What it gives is never BAD; what it refuses is BAD
at once, with its reason. A setting in brackets is not needed and helps.
"""


def page() -> str:
    """The page."""
    parts = [_HEAD]
    for prefix, name in _PROTOCOLS.items():
        cases = [case for case in CASES if case.id.startswith(prefix)]
        parts += [f"## {name}", "", "| device | what Tidegate does | setting |", "| --- | --- | --- |"]
        parts += [f"| {case.device} | {case.does} | {_setting(case.needs, case.helps)} |" for case in cases]
        parts.append("")
    return "\n".join(parts)


def _setting(needs: Mapping[str, Any], helps: str) -> str:
    needed = ", ".join(f"`{path}`" for path in _paths(needs))
    return needed or (f"({helps})" if helps else "")


def _paths(needs: Mapping[str, Any], above: str = "") -> list[str]:
    found = []
    for key, value in needs.items():
        if isinstance(value, Mapping):
            found += _paths(value, f"{above}{key}.")
        else:
            shown = str(value).lower() if isinstance(value, bool) else value
            found.append(f"{above}{key}: {shown}")
    return found


if __name__ == "__main__":
    print(page(), end="")
