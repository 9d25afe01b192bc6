"""A copy of a configuration whose devices are elsewhere; everything else stays as it is written, comments too."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML


def with_places(path: Path, places: Mapping[str, Mapping[str, Any]]) -> str:
    """The text of a valid configuration with other keys in the sections of devices, by name; None takes a key out."""
    yaml = YAML(typ="rt")
    yaml.preserve_quotes = True
    yaml.width = 2**16
    yaml.indent(mapping=2, sequence=4, offset=2)
    root = yaml.load(path.read_text(encoding="utf-8"))
    for section in root["devices"]:
        for key, value in places.get(section["name"], {}).items():
            if key in section and value is not None:
                section[key] = value
            elif key in section:
                del section[key]
            elif value is not None:
                section.insert(list(section).index("driver") + 1, key, value)
    text = StringIO()
    yaml.dump(root, text)
    return text.getvalue()
