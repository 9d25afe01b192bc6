from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from pydantic import ValidationError

from drivers.modbus import ModbusKind
from drivers.modbus.settings import ModbusDevice, ModbusLimits, ModbusTag
from edge.clock import SystemClock
from edge.config.schema import schema_of
from edge.config.validate import settings_from
from edge.errors import ConfigError
from edge.model import DataType


@pytest.mark.parametrize(
    ("settings", "message"),
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
def test_an_inconsistent_tag_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings_from(ModbusTag, {"name": "tag"} | settings)


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
    tag = settings_from(ModbusTag, {"name": "tag"} | settings)

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
        settings_from(ModbusLimits, {"gap": "10 ms", "in_flight": 2})


def test_a_number_in_quotes_is_no_port(make_device: Any) -> None:
    with pytest.raises(ValidationError, match="port"):
        make_device([("coil 1", None)], port="502")


def test_the_settings_have_a_schema() -> None:
    schema = schema_of(ModbusDevice)

    assert schema["properties"]["unit"]["description"]
    assert "ModbusTag" in schema["$defs"]


SERIAL = {"port": "/dev/serial/by-id/usb-1"}
LISTEN = {"address": "127.0.0.1", "port": 5020, "peers": ["192.0.2.7"]}
TLS = {"ca": "ca.pem"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"host": None}, "got none of them"),
        ({"serial": SERIAL}, "one of them, got host and serial"),
        ({"host": None, "serial": SERIAL, "listen": LISTEN}, "got serial and listen"),
        ({"host": None, "serial": SERIAL, "port": 502}, "port goes with host"),
        ({"host": None, "serial": SERIAL, "framing": "tcp"}, "does not go over a serial line"),
        ({"host": None, "serial": SERIAL, "unit": 0}, "units of a line are 1 to 247"),
        ({"host": None, "serial": SERIAL, "limits": {"in_flight": 2}}, "has no transaction ids"),
        ({"framing": "rtu", "limits": {"connections": 2}}, "has no transaction ids"),
        ({"tolerate": ["transaction"], "limits": {"in_flight": 2}}, "tolerate relies on no transaction ids"),
        ({"tolerate": ["length"], "framing": "rtu"}, "tolerate is about the header of Modbus TCP"),
        ({"tls": TLS, "framing": "ascii"}, "tls goes with a host, and with framing tcp"),
        ({"host": None, "listen": LISTEN, "tls": TLS}, "tls goes with a host"),
        ({"host": None, "listen": LISTEN, "limits": {"connections": 2}}, "one connection"),
        ({"host": None, "listen": LISTEN, "limits": {"in_flight": 2}}, "limits.in_flight is 1 with listen"),
        ({"host": None, "listen": LISTEN | {"peers": []}}, "at least 1 item"),
        ({"host": None, "listen": LISTEN | {"peers": ["plc.example"]}}, "does not appear to be an IPv4 or IPv6"),
        ({"tls": TLS | {"certificate": "gateway.pem"}}, "certificate and key come together"),
        ({"tls": TLS | {"certificate": "gateway.pem", "key": "secret"}}, "never the value itself"),
        ({"host": None, "serial": SERIAL | {"baud": 12345}}, "19200"),
        ({"host": None, "serial": {"port": "COM3"}}, "should match pattern"),
    ],
)
def test_an_inconsistent_endpoint_is_refused(make_device: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        make_device([("coil 1", None)], **settings)


def test_what_is_not_said_about_a_way_follows_from_it(make_device: Any) -> None:
    plain, secure, line, converter = (
        make_device([("coil 1", None)], **settings)
        for settings in ({}, {"tls": TLS}, {"host": None, "serial": SERIAL}, {"framing": "rtu", "port": 4001})
    )

    assert [device.effective_framing for device in (plain, secure, line, converter)] == ["tcp", "tcp", "rtu", "rtu"]
    assert (plain.tcp_port, secure.tcp_port, converter.tcp_port) == (502, 802, 4001)
    assert str(line.serial) == "19200 baud, parity even, 1 stop bit"
    assert replace(line.serial, parity="none").stops == 2


def test_units_of_one_line_say_the_same_about_it(make_device: Any) -> None:
    kind, clock = ModbusKind(), SystemClock()
    lines = [
        make_device([("coil 1", None)], host=None, unit=unit, name=f"unit-{unit}", serial=SERIAL | {"baud": baud})
        for unit, baud in ((1, 9600), (2, 9600), (3, 19200))
    ]
    drivers = [kind.driver(device, clock) for device in lines]

    for driver, device in zip(drivers[:2], lines, strict=False):
        assert driver.plan(device.scan_groups[0].tags).cost().requests == 1
    with pytest.raises(ConfigError, match="is shared with unit-1, which says otherwise: 19200 baud"):
        drivers[2].plan(lines[2].scan_groups[0].tags)
    assert len({kind.connection(device) for device in lines}) == 1


def test_units_of_one_host_tolerate_the_same_and_something_tells_their_answers_apart(make_device: Any) -> None:
    def second(unit: int, first: list[str], other: list[str]) -> str:
        kind = ModbusKind()
        devices = [
            make_device([("coil 1", None)], unit=each, name=f"unit-{each}", tolerate=tolerate)
            for each, tolerate in ((1, first), (unit, other))
        ]
        drivers = [kind.driver(device, SystemClock()) for device in devices]
        try:
            drivers[1].plan(devices[1].scan_groups[0].tags)
        except ConfigError as error:
            return str(error)
        return ""

    assert "tolerate ['unit'] and []" in second(2, [], ["unit"])
    assert "unit 2 and 1, whose answers nothing would tell apart" in second(2, *2 * [["transaction", "unit"]])
    assert second(2, *2 * [["transaction", "length"]]) == second(1, *2 * [["transaction", "unit"]]) == ""


def test_a_slow_line_makes_a_plan_slow(make_device: Any) -> None:
    """125 registers take a quarter of a second at 9600 baud, and the check warns about an interval of 100 ms."""
    tags = [(f"holding {i}", "uint16") for i in range(125)]
    fast, slow = (
        ModbusKind().driver(device, SystemClock()).plan(device.scan_groups[0].tags).cost()
        for device in (
            make_device(tags),
            make_device(tags, host=None, serial=SERIAL | {"baud": 9600, "parity": "none"}),
        )
    )

    assert (fast.request_bytes, fast.answer_bytes) == (12, 259)
    assert (slow.request_bytes, slow.answer_bytes) == (8, 255)
    assert slow.took_ns - fast.took_ns == round(263 * 11 / 9600 * 1e9)
