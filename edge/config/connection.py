"""How one device of a configuration is reached, whatever else is in the file: it need not read anything yet."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edge.config.devices import Find, Kinds
from edge.config.files import read
from edge.config.source import Node
from edge.config.validate import validate
from edge.driver import DeviceSettings, DriverKind, load
from edge.errors import ConfigError, Problem


def connection(path: Path, name: str, find: Find = load) -> tuple[DriverKind[Any], DeviceSettings]:
    """The driver and the settings of a device, without its scan groups.

    Raises:
        ConfigError: the file cannot be read, or it does not say how the device is reached.
        LookupError: no device has this name.
    """
    source = read(path)
    written = source.root["devices"] if source.root else None
    if written is None:
        raise ConfigError(source.problems or f"{path}: there are no devices in it")
    named = {node["name"].text: node for node in written.items if node["name"] is not None}
    if name not in named:
        raise LookupError(f"no device is called {name!r}; there are {', '.join(filter(None, named))}")
    node, problems = named[name], list[Problem]()
    kind = Kinds(find).of(node, problems)
    if kind is None or problems:
        raise ConfigError(problems)
    assert isinstance(node.content, dict)
    group = Node({"every": Node("1 h", node.mark)}, node.mark)
    node.content["scan_groups"] = Node([group], node.mark)
    settings, found = validate(kind.settings, node, source.context)
    if settings is None or found:
        raise ConfigError(found)
    return kind, settings
