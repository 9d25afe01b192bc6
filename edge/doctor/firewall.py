"""The rules of nftables on this machine: whether packets to addresses that no rule names are dropped."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from edge.doctor.findings import Finding, Severity
from edge.doctor.service import run

_REMEDY = "load the rules of the page on ports and firewall, with policy drop in both directions"
_DROPS = ("drop", "reject")
_WITHIN_S = 3.0


def examine(*, is_limited_by_unit: bool) -> Iterator[Finding]:
    """What the rules drop. `is_limited_by_unit`: the unit keeps the service to named addresses without them."""
    severity: Severity = "notice" if is_limited_by_unit else "warning"
    listed = run("nft", "--json", "list", "ruleset")
    if listed is None:
        text = "nftables is not installed: no rule of it limits what this machine reaches"
        yield Finding(severity=severity, area="firewall", text=text, remedy=_REMEDY)
        return
    if listed.returncode:
        why = "only root may read them" if os.geteuid() else listed.stderr.strip().partition("\n")[0]
        text = f"the rules of nftables were not looked at: {why}"
        yield Finding(severity="unseen", area="firewall", text=text, remedy="run it as root")
        return
    rules = json.loads(listed.stdout)["nftables"]
    if not any("chain" in each for each in rules):
        text = "no firewall rules are loaded: this machine reaches every address, and is reached from every one"
        yield Finding(severity=severity, area="firewall", text=text, remedy=_REMEDY)
        return
    if is_dropped(rules, "output"):
        yield Finding(severity="ok", area="firewall", text="packets to addresses that no rule names are dropped")
    else:
        text = "this machine reaches addresses that no rule names: nothing drops outgoing packets"
        yield Finding(severity=severity, area="firewall", text=text, remedy=_REMEDY)
    if is_dropped(rules, "input"):
        yield Finding(severity="ok", area="firewall", text="packets from addresses that no rule names are dropped")
    else:
        text = "this machine is reached from addresses that no rule names: nothing drops incoming packets"
        yield Finding(severity="warning", area="firewall", text=text, remedy=_REMEDY)


def is_dropped(rules: Sequence[Mapping[str, Any]], hook: str) -> bool:
    """Whether a packet that no rule names is dropped at a hook, for IPv4 and IPv6; jumps are not followed."""
    families = {
        family
        for each in rules
        if (chain := each.get("chain")) and chain.get("hook") == hook and chain.get("type") == "filter"
        if _verdict(chain, rules) in _DROPS
        for family in (("ip", "ip6") if chain["family"] == "inet" else (chain["family"],))
    }
    return {"ip", "ip6"} <= families


def _verdict(chain: Mapping[str, Any], rules: Sequence[Mapping[str, Any]]) -> str:
    """What happens to a packet that no condition of the chain fits."""
    for each in rules:
        rule = each.get("rule")
        if rule and all(rule[key] == chain[other] for key, other in _SAME.items()):
            verdicts = [name for part in rule["expr"] for name in part]
            decided = [name for name in verdicts if name in ("accept", *_DROPS)]
            if decided and not set(verdicts) - {"accept", *_DROPS, "counter", "log"}:
                return str(decided[0])
    return str(chain.get("policy", "accept"))


_SAME = {"family": "family", "table": "table", "chain": "name"}


def probe(host: str, port: int) -> Finding:
    """Try to reach an address that must not be reachable from this machine."""
    try:
        socket.create_connection((host, port), _WITHIN_S).close()
        said = "it accepts a connection"
    except ConnectionRefusedError:
        said = "it refuses the connection, so packets arrive"
    except OSError as error:
        return Finding(severity="ok", area="firewall", text=f"{host}:{port} is not reached: {error.strerror or error}")
    return Finding(severity="warning", area="firewall", text=f"{host}:{port} is reached from this machine: {said}",
                   remedy=_REMEDY)  # fmt: skip
