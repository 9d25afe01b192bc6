from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice, ModbusLimits, ModbusTag
from edge.clock import SystemClock
from edge.config.docstrings import schema_of
from edge.errors import ConfigError
from edge.model import DataType


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"address": "holding 1"}, "needs a type"),
        ({"address": "holding 1", "type": "bool"}, "needs its bit"),
        ({"address": "holding 1.2", "type": "uint16"}, "is one bit"),
        ({"address": "coil 1", "type": "float32"}, "is one bit"),
        ({"address": "holding 1", "type": "uint8"}, "go with uint8 and int8"),
        ({"address": "holding 1.low", "type": "uint16"}, "go with uint8 and int8"),
        ({"address": "holding 1", "type": "text"}, "needs its length"),
        ({"address": "holding 1", "type": "uint16", "length": 3}, "only a text has one"),
        ({"address": "holding 1", "type": "text", "length": 3, "word_order": "little"}, "always read in their order"),
        ({"address": "holding 65535", "type": "float32"}, "beyond the last address"),
        ({"address": "40101", "type": "float32"}, "more than one way"),
        ({"address": "holding 1", "type": "float"}, "float32"),
    ],
)
def test_a_tag_that_makes_no_sense_is_refused(settings: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        ModbusTag.model_validate({"name": "tag"} | settings)


@pytest.mark.parametrize(
    ("settings", "data_type", "count"),
    [
        ({"address": "coil 1"}, DataType.BOOL, 1),
        ({"address": "holding 1.4"}, DataType.BOOL, 1),
        ({"address": "holding 1.high", "type": "int8"}, DataType.INT8, 1),
        ({"address": "holding 1", "type": "bcd16"}, DataType.UINT16, 1),
        ({"address": "holding 1", "type": "bcd32"}, DataType.UINT32, 2),
        ({"address": "holding 1", "type": "float64"}, DataType.FLOAT64, 4),
        ({"address": "holding 1", "type": "text", "length": 5}, DataType.TEXT, 3),
    ],
)
def test_a_tag_knows_its_type_and_registers(settings: dict[str, Any], data_type: DataType, count: int) -> None:
    tag = ModbusTag.model_validate({"name": "tag"} | settings)

    assert (tag.data_type, tag.count) == (data_type, count)
    assert tag.address_text == settings["address"]


def test_every_tag_that_is_out_of_limits_is_told_by_its_name(make_device: Any) -> None:
    """The check of a configuration then names the line of each."""
    limits = {"forbidden": ["holding 200-210"], "registers": 2}
    device = make_device([("holding 199", "float32"), ("holding 5", "uint16"), ("holding 1", "float64")], limits=limits)

    with pytest.raises(ConfigError) as refused:
        ModbusKind().driver(device, SystemClock()).plan(device.scan_groups[0].tags)

    assert [(problem.path, problem.message) for problem in refused.value.problems] == [
        ("tag-0", "'holding 199' lies in the forbidden range holding 200-210"),
        ("tag-2", "'holding 1' takes 4 registers, the limit is 2"),
    ]


def test_a_gap_and_several_in_flight_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="exclude each other"):
        ModbusLimits.model_validate({"gap": "10 ms", "in_flight": 2})


def test_a_number_in_quotes_is_no_port(make_device: Any) -> None:
    with pytest.raises(ValidationError, match="port"):
        make_device([("coil 1", None)], port="502")


def test_the_settings_have_a_schema() -> None:
    schema = schema_of(ModbusDevice)

    assert schema["properties"]["unit"]["description"]
    assert "ModbusTag" in schema["$defs"]
