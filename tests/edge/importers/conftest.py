"""A Modbus device whose tags are in a table, and a file to import."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.config.devices import tag_model
from edge.driver import DriverKind, load
from edge.importers.formats import read_file
from edge.importers.found import Found
from edge.tags.prepare import PreparedTag, prepare

SITE = """\
# Line 4
gateway: {name: line-4, path: acme/basel, state: state}
devices:
  - name: plc  # in cabinet 3
    driver: DRIVER
    REACHED
    scan_groups:
      # what the recipe needs
      - every: 1 s  # agreed with production
        tags_from: tags.csv
"""
REACHED = {
    "modbus": "host: 127.0.0.1",
    "ethernetip": "host: 127.0.0.1",
    "opcua": "url: opc.tcp://127.0.0.1\n    security: none",
}


class Plant:
    """A configuration of one device, and `tidegate import` on it."""

    def __init__(self, folder: Path, driver: str = "modbus") -> None:
        self.folder = folder
        self.config, self.table = folder / "gateway.yaml", folder / "tags.csv"
        self.config.write_text(SITE.replace("DRIVER", driver).replace("REACHED", REACHED[driver]))

    def file(self, data: bytes | str, name: str = "list.csv") -> Path:
        path = self.folder / name
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def run(self, file: Path, *options: str) -> tuple[int, dict[str, Any]]:
        """The exit code and the answer."""
        arguments = ["import", str(self.config), str(file), "--device", "plc", "--json", *options]
        result = CliRunner().invoke(cli, arguments)
        if not result.stdout:
            raise result.exception or AssertionError(result.output)
        return result.exit_code, json.loads(result.stdout)

    def text(self, file: Path, *options: str) -> str:
        """What it prints for people."""
        return CliRunner().invoke(cli, ["import", str(self.config), str(file), "--device", "plc", *options]).output


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    return Plant(tmp_path)


Read = Callable[..., tuple[dict[str, dict[str, Any]], Found]]


@pytest.fixture
def read() -> Read:
    """The keys of the tags in a file, by name, and what else was found."""

    def _read(data: bytes | str, driver: str = "modbus", file: str = "list") -> tuple[dict[str, dict[str, Any]], Found]:
        kind: DriverKind[Any] = load(driver)
        model = tag_model(kind.settings)
        found = read_file(data.encode() if isinstance(data, str) else data, file, model)
        tags: list[PreparedTag] = prepare(found, model, kind)
        return {tag.settings.name: {**tag.keys, **({"every": tag.every} if tag.every else {})} for tag in tags}, found

    return _read
