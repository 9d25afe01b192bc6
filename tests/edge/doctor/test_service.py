"""Which peers of a configuration a unit does not let its service reach."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.config.check import check
from edge.doctor.service import Unit, examine

RELAY = """\
relay:
  name: basel
  archive: archive
  trust: [trusted]
  mqtt: {host: 192.0.2.5, tls: off}
  views: {unified_namespace: {mqtt: {host: VIEW, tls: off}}}
"""


@pytest.mark.parametrize(
    ("view", "allowed", "kept_away"),
    [("203.0.113.9", "127.0.0.0/8 192.0.2.0/28", ["203.0.113.9"]), ("203.0.113.9", "192.0.2.5 203.0.113.0/24", []),
     ("127.0.0.1", "192.0.2.5/32", []), ("2001:db8::7", "192.0.2.5 2001:db8::/64", []),
     ("203.0.113.9", "", ["192.0.2.5", "203.0.113.9"])],
)  # fmt: skip
def test_each_broker_has_to_be_named(tmp_path: Path, view: str, allowed: str, kept_away: list[str]) -> None:
    (tmp_path / "trusted").mkdir()
    (tmp_path / "relay.yaml").write_text(RELAY.replace("VIEW", f'"{view}"'))
    properties = {"IPAddressDeny": "::/0 0.0.0.0/0", "IPAddressAllow": allowed, "User": "tidegate-relay"}
    unit = Unit("tidegate-relay.service", properties)

    found = [each.text for each in examine([unit], check(tmp_path / "relay.yaml").settings, is_running=True)
             if each.severity == "critical"]  # fmt: skip

    assert [text.split(" may not speak to ")[1].split(" ")[0] for text in found] == kept_away
