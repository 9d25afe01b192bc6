from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from edge.config.check import check
from edge.config.reference import reference
from edge.config.schema import gateway_schema, relay_schema
from edge.config.yaml_tree import parse
from edge.driver import installed, load

CONFIGS = Path(__file__).parents[3] / "configs"
EXAMPLES = sorted(path for path in CONFIGS.rglob("*.yaml") if not path.name.endswith(".rules.yaml"))


def gateway() -> dict[str, Any]:
    return gateway_schema((name, load(name)) for name in installed())


@pytest.mark.parametrize(("name", "schema"), [("tidegate", gateway()), ("relay", relay_schema())])
def test_the_schemas_for_editors_are_current(name: str, schema: dict[str, Any]) -> None:
    """Make them again with `tidegate schema > configs/tidegate.schema.json`, and with --relay."""
    assert json.loads((CONFIGS / f"{name}.schema.json").read_text()) == json.loads(json.dumps(schema))
    Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: str(path.relative_to(CONFIGS)))
def test_every_example_passes_the_check_and_its_schema(path: Path) -> None:
    root, problems = parse(path.read_bytes(), path.name)
    assert root is not None
    schema = relay_schema() if root["relay"] else gateway()

    assert [error.message for error in Draft202012Validator(schema).iter_errors(root.plain())] == []
    assert (problems, check(path).errors) == ([], ())


def test_the_schema_knows_which_keys_belong_to_which_driver() -> None:
    def device(**keys: Any) -> dict[str, Any]:
        tags = [{"name": "a", "address": "holding 1", "type": "uint16"}]
        groups = [{"every": "1 s", "tags": tags}]
        return {"gateway": {"name": "g", "path": "a/b"}, "devices": [{"name": "d", "scan_groups": groups, **keys}]}

    validator = Draft202012Validator(gateway())

    assert validator.is_valid(device(driver="modbus", host="h"))
    assert not validator.is_valid(device(driver="modbus", host="h", nodes=1))
    assert not validator.is_valid(device(driver="opcua", host="h"))
    assert not validator.is_valid(device(driver="unheard-of", host="h"))
    assert not validator.is_valid(device(host="h"))


def test_the_first_tag_takes_at_most_twelve_lines() -> None:
    assert len((CONFIGS / "minimal.yaml").read_text().splitlines()) <= 12


def test_the_page_of_all_settings_is_current() -> None:
    """Make it again with `python -m edge.config.reference > docs/reference/settings.md`."""
    page = Path(__file__).parents[3] / "docs" / "reference" / "settings.md"

    assert page.read_text() == reference((name, load(name)) for name in installed())
