"""The code of a failure: one for each kind, the same for ever, and known to `tidegate explain`."""

from __future__ import annotations

import ast
import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner

import drivers
import edge
from drivers.opcua.connection import ServiceRefused
from edge.cli import cli
from edge.errors import (
    BrokerRefused,
    DeviceRefused,
    DeviceUnreachable,
    ErrorCode,
    ProtocolViolation,
    TidegateError,
    code_of,
    copied,
    unreachable,
)

ROOT = Path(__file__).parents[2]
IDS = """
D01 DEVICE_UNREACHABLE D02 DEVICE_SILENT D03 DEVICE_LOST D04 DEVICE_REFUSED D05 DEVICE_OCCUPIED D06 DEVICE_NOT_TRUSTED
D07 DEVICE_LOGIN D08 DEVICE_PROTOCOL D09 DEVICE_BEHIND_GATEWAY D10 DEVICE_SERIAL_PORT D11 DEVICE_ADDRESS
D12 DEVICE_BAD_VALUES D13 DEVICE_LATE D14 DEVICE_CLOCK D15 CALIBRATION_DUE
U01 BROKER_UNREACHABLE U02 BROKER_LOST U03 BROKER_NOT_TRUSTED U04 BROKER_REFUSED U05 BROKER_TOPIC_REFUSED
U06 BROKER_NO_SUBSCRIBER U07 BROKER_PROTOCOL U08 SENDER_SILENT U09 BROKER_OPEN
B01 BUFFER_FULL B02 BUFFER_FILLING B03 BUFFER_DISK B04 BUFFER_DAMAGED B05 NOTHING_STORED
C01 CLOCK_NOT_KEPT C02 CLOCK_UNMET C03 CLOCK_SOURCE
K01 CHAIN_BROKEN K02 RECORD_UNREADABLE K03 CERTIFICATE_ENDS K04 CERTIFICATE_EXCEPTION
F01 CONFIGURATION F02 VERSION_DIFFERS F03 NOT_APPLIED F04 APPROVAL_REFUSED
X01 NOT_RUNNING X02 MAY_NOT_ASK X03 GATEWAY_REFUSES X04 DEMO X05 FOREIGN_SOCKET
R01 ARCHIVE_DISK R02 ARCHIVE_REMOVED R03 RECORDS_MISSING R04 RECORDS_REFUSED R05 GATEWAY_SILENT R06 CLOCKS_DIFFER
R07 VIEW_BEHIND R08 SINK_BEHIND R09 KAFKA_UNREACHABLE R10 KAFKA_REFUSED R11 KAFKA_TOPIC R12 KAFKA_PARTITIONS
R13 KAFKA_TOO_LARGE R14 KAFKA_LOST_RECORDS
M01 UNIT M02 FIREWALL M03 FILE_MODES
"""


def error_classes() -> Iterator[type[TidegateError]]:
    """Every class of the product, drivers included."""
    for package in (edge, drivers):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
    below = [TidegateError]
    while below:
        found = below.pop().__subclasses__()
        below += found
        yield from (each for each in found if each.__module__.startswith(("edge.", "drivers.")))


def test_a_code_keeps_its_id_and_its_meaning_for_ever() -> None:
    """Scripts and tickets hold them: add at the end, and never change or take one that was used."""
    words = IDS.split()

    assert {code.name: code.id for code in ErrorCode} == {
        name: f"TG-{id_}" for id_, name in zip(words[::2], words[1::2], strict=True)
    }


def test_every_class_of_errors_has_a_code() -> None:
    classes = set(error_classes())

    assert {DeviceUnreachable, BrokerRefused, ServiceRefused} <= classes
    assert {each for each in classes if not isinstance(getattr(each, "default_code", None), ErrorCode)} == set()


def test_every_code_is_given_by_something() -> None:
    """A page about what never happens leads astray."""
    files = [path for folder in ("edge", "drivers") for path in (ROOT / folder).rglob("*.py")]
    given = {
        node.attr
        for path in files
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "ErrorCode"
    }

    assert {code.name for code in ErrorCode} - given == set()


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_is_explained(code: ErrorCode) -> None:
    ran = CliRunner().invoke(cli, ["explain", code.id])

    said = " ".join(ran.output.split())
    assert ran.exit_code == 0
    assert said.startswith(f"{code.id}: ")
    for part in (code.happened, code.meanwhile, code.remedy):
        assert part in said
        assert part[0].isupper() or part.startswith("tidegate ")
        assert part.endswith(".")


def test_an_error_has_the_code_of_its_class_or_a_narrower_one() -> None:
    assert DeviceRefused("no").code is ErrorCode.DEVICE_REFUSED
    assert DeviceRefused("no", code=ErrorCode.DEVICE_LOGIN).code is ErrorCode.DEVICE_LOGIN
    assert unreachable("h:502", ConnectionRefusedError(111, "refused")).code is ErrorCode.DEVICE_UNREACHABLE
    assert BrokerRefused("no", 0x87).code is ErrorCode.BROKER_REFUSED


def test_a_cause_gives_its_code_to_what_was_raised_from_it() -> None:
    outer = ValueError("plc: no")
    outer.__cause__ = DeviceUnreachable("no", code=ErrorCode.DEVICE_SILENT)

    assert code_of(outer) is ErrorCode.DEVICE_SILENT
    assert code_of(ValueError("no")) is None
    assert code_of(None) is None


@pytest.mark.parametrize(
    "error",
    [DeviceRefused("full", code=ErrorCode.DEVICE_OCCUPIED), ProtocolViolation("length", 4, 5, b"x"),
     ServiceRefused("no", 0x80)],
)  # fmt: skip
def test_a_copy_says_the_same_without_the_traceback(error: TidegateError) -> None:
    with pytest.raises(type(error)) as caught:
        raise error

    made = copied(caught.value)

    assert type(made) is type(error)
    assert (str(made), vars(made)) == (str(error), vars(error))
    assert (error.__traceback__ is None, made.__traceback__) == (False, None)
