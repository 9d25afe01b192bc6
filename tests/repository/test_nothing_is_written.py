"""There is no verb for writing to a device, and none for listening to the broker."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.modbus import codec
from edge.driver import Driver, Session

ROOT = Path(__file__).parents[2]
READING = {1, 2, 3, 4, 43}
WRITING_WORDS = {"write", "set", "put", "send_command", "force", "execute", "call", "operate"}


def functions(folder: str) -> list[tuple[Path, ast.FunctionDef | ast.AsyncFunctionDef]]:
    """All but those of simulated devices: a device answers, and has no part in the gateway."""
    return [
        (path.relative_to(ROOT), node)
        for path in sorted((ROOT / folder).rglob("*.py"))
        if not {"simulator", "simulator.py"} & set(path.relative_to(ROOT / folder).parts[1:])
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def test_a_session_and_a_driver_have_no_other_verb_than_reading() -> None:
    verbs = {name for surface in (Driver, Session) for name in vars(surface) if not name.startswith("_")}

    assert verbs == {"plan", "connect", "read", "identity"}


def test_the_request_builder_allows_reading_function_codes_only() -> None:
    assert set(codec.ALLOWED_FUNCTIONS) == READING


@pytest.mark.requirement("REQ-SAFE-01")
@given(unit=st.integers(0, 255), function=st.integers(0, 255), first=st.integers(0, 65535), count=st.integers(1, 125))
def test_no_request_with_another_function_code_can_be_built(unit: int, function: int, first: int, count: int) -> None:
    if function in READING:
        request = codec.read_request(unit, function, first, count)
        assert request.wire_suffix[5] == function
    else:
        with pytest.raises(ValueError, match="not one of the reading ones"):
            codec.read_request(unit, function, first, count)


def test_requests_are_made_in_one_place() -> None:
    """Whoever packs a Modbus header elsewhere passes by the allow-list."""
    makers = {
        str(path)
        for path, function in functions("drivers")
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "Request"
    }

    assert makers == {"drivers/modbus/codec.py"}


@pytest.mark.requirement("REQ-SAFE-01")
def test_no_driver_has_a_function_that_sounds_like_writing() -> None:
    written = {
        f"{path}: {function.name}"
        for path, function in functions("drivers")
        if set(function.name.strip("_").split("_")) & WRITING_WORDS
    }

    assert written == set()


@pytest.mark.requirement("REQ-SAFE-02")
def test_the_gateway_never_subscribes() -> None:
    """Only the relay, on the IT side, with its client of Kafka, and the brokers of our tests know how."""
    subscribing = {
        f"{path}:{node.lineno}"
        for path in sorted((ROOT / "edge").rglob("*.py"))
        if not any(path.is_relative_to(ROOT / place) for place in ("edge/relay", "edge/kafka", "edge/demo"))
        for node in ast.walk(ast.parse(path.read_text()))
        if (isinstance(node, ast.Attribute) and node.attr.lower() in ("subscribe", "unsubscribe"))
        or (isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.lower() == "subscribe")
    }

    assert subscribing == set()
