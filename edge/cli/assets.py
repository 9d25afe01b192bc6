"""What is known of a device, wherever that was found, and how it is handed on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import orjson

from edge.model import Identity

NOTHING = Identity()
"""Of a device that has not said what it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asset:
    """A device of a gateway.

    Attributes:
        since_ns: UTC since when it says so; None where that is not known.
        record: `<epoch>/<seq>` of the first record that tells it; empty where it does not come from records.
        note: why nothing is known.
    """

    gateway: str
    device: str
    identity: Identity = NOTHING
    since_ns: int | None = None
    record: str = ""
    note: str = ""


def since_text(asset: Asset) -> str:
    """When it began to be so."""
    if asset.since_ns is None:
        return ""
    return f"{datetime.fromtimestamp(asset.since_ns // 10**9, UTC):%Y-%m-%dT%H:%M:%SZ}"


def as_json(assets: Iterable[Asset]) -> list[dict[str, Any]]:
    """For scripts."""
    return [
        {
            "gateway": asset.gateway,
            "device": asset.device,
            **asset.identity.texts,
            "more": dict(asset.identity.more),
            "since": since_text(asset),
            "record": asset.record,
            "note": asset.note,
        }
        for asset in assets
    ]


def cyclonedx(assets: Sequence[Asset]) -> dict[str, Any]:
    """A CycloneDX 1.6 document (ECMA-424); the same assets give the same document."""
    components = [_component(asset) for asset in assets]
    content = orjson.dumps(components, option=orjson.OPT_SORT_KEYS).decode()
    tool = {"type": "application", "name": "tidegate", "version": version("tidegate")}
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid5(NAMESPACE_URL, content)}",
        "version": 1,
        "metadata": {"tools": {"components": [tool]}},
        "components": components,
    }


def _component(asset: Asset) -> dict[str, Any]:
    said = asset.identity
    properties = [
        ("cdx:device:serialNumber", said.serial),
        ("tidegate:gateway", asset.gateway),
        ("tidegate:device", asset.device),
        ("tidegate:since", since_text(asset)),
        ("tidegate:record", asset.record),
        *((f"tidegate:{label}", text) for label, text in said.more),
    ]
    component: dict[str, Any] = {
        "type": "device",
        "bom-ref": f"{asset.gateway}/{asset.device}",
        "manufacturer": {"name": said.vendor},
        "name": said.product or asset.device,
        "version": said.firmware,
        "properties": [{"name": name, "value": value} for name, value in properties if value],
    }
    left_out = {key for key, value in (("manufacturer", said.vendor), ("version", said.firmware)) if not value}
    return {key: value for key, value in component.items() if key not in left_out}
