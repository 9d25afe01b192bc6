"""Rules of nftables, loaded by nft itself into a network of their own: are unlisted addresses reached?"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.timeout(60)

DMZ = Path(__file__).parents[3] / "configs/dmz"
LOOK = """
import json
from dataclasses import asdict
from edge.doctor.firewall import examine
print(json.dumps([asdict(each) for each in examine(is_limited_by_unit=LIMITED)]))
"""
OUT, IN = "type filter hook output priority 0; policy", "type filter hook input priority 0; policy"


def look(rules: str, *, is_limited: bool = False) -> list[tuple[str, str]]:
    """(severity, text) of what is found with these rules."""
    if "\n" not in rules:
        rules = rules.replace("; }", ";\n}").replace("} ", "}\n")  # As nft takes it from a file.
    program = LOOK.replace("LIMITED", str(is_limited))
    command = [
        "unshare",
        "--net",
        "sh",
        "-euc",
        'echo "$1" | nft -f -; exec "$2" -c "$3"',
        "look",
        rules,
        sys.executable,
    ]
    done = subprocess.run([*command, program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [(each["severity"], each["text"]) for each in json.loads(done.stdout)]


@pytest.mark.parametrize("name", ["gateway", "broker", "relay"])
def test_the_shipped_rules_keep_unlisted_addresses_away(name: str) -> None:
    assert [severity for severity, _ in look((DMZ / f"{name}.nft").read_text())] == ["ok", "ok"]


def test_a_machine_without_rules_reaches_everything() -> None:
    [(severity, text)] = look("")

    assert severity == "warning"
    assert "no firewall rules are loaded" in text
    assert look("", is_limited=True)[0][0] == "notice"


@pytest.mark.parametrize(
    ("rules", "is_out_dropped", "is_in_dropped"),
    [
        (f"table inet t {{ chain i {{ {IN} drop; }} }}", False, True),
        (f"table inet t {{ chain o {{ {OUT} accept; counter drop; }} }}", True, False),
        (f"table inet t {{ chain o {{ {OUT} accept; ip daddr 192.0.2.1 drop; }} }}", False, False),
        (f"table inet t {{ chain o {{ {OUT} drop; accept; }} }}", False, False),
        (f"table inet t {{ chain o {{ {OUT} accept; log reject; }} }}", True, False),
        (f"table ip t {{ chain o {{ {OUT} drop; }} }}", False, False),
        (f"table ip t {{ chain o {{ {OUT} drop; }} }} table ip6 t {{ chain o {{ {OUT} drop; }} }}", True, False),
        ("table inet t { chain o { drop; } }", False, False),
    ],
)
def test_what_no_rule_names_is_followed_to_its_end(rules: str, *, is_out_dropped: bool, is_in_dropped: bool) -> None:
    (outgoing, _), (incoming, _) = look(rules)

    assert (outgoing == "ok", incoming == "ok") == (is_out_dropped, is_in_dropped)
