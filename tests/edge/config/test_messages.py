from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest

from edge.config.check import check
from edge.config.validate import validate
from edge.config.yaml_tree import parse
from edge.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Choice(Settings):
    policy: Literal["strong", "stronger"]
    """How strong."""


@dataclass(frozen=True, kw_only=True)
class Choices(Settings):
    security: Literal["none"] | Choice
    """How it is protected: by a policy, or the word none, which lets anyone
    read it. The rest of this is for the reference page."""
    baud: Literal[1200, 2400] = 1200
    """Bits per second."""
    slot: int | None = None
    """Which slot."""
    route: str | None = None
    """Or the way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slot is not None and self.route is not None:
            raise ValueError("slot and route exclude each other")


MEANT = "How it is protected: by a policy, or the word none, which lets anyone read it"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{}", f"f:1:1: security: is missing: {MEANT}"),
        ("{security: off}", f"f:1:12: security: 'off' does not fit: {MEANT}"),
        ("{security: {policy: strongest}}",
         "f:1:21: security.policy: must be one of strong, stronger, got 'strongest'; did you mean stronger?"),
        ("{security: {}}", "f:1:12: security.policy: is missing: How strong"),
        ("{security: none, baud: 1201}", "f:1:24: baud: must be one of 1200, 2400, got 1201"),
        ("{security: none, slot: 1, route: a}", "f:1:24: slot: slot and route exclude each other"),
    ],
)  # fmt: skip
def test_a_choice_is_explained_in_one_whole_sentence(text: str, problem: str) -> None:
    """A value that can be a word or keys is one mistake, and what is wrong in the keys says more."""
    root, _ = parse(text.encode(), "f")
    assert root is not None

    _, problems = validate(Choices, root, None)

    assert [str(each) for each in problems] == [problem]


FILE = """\
gateway: {name: g, path: p}
devices:
  - {name: d, driver: %(driver)s, host: 192.0.2.7%(device)s, scan_groups: [{every: 1 s, tags: [%(tags)s]}]}
"""


def problems_of(folder: Path, device: str = "", driver: str = "modbus", tag: str = "", tags: str = "") -> list[str]:
    tags = tags or f"{{name: t, address: holding 1, type: int16{tag}}}"
    (folder / "g.yaml").write_text(FILE % {"device": device, "driver": driver, "tags": tags})
    found = check(folder / "g.yaml").problems
    return [f"{each.path.rpartition('.')[2]}: {each.message}" for each in found if "uplink" not in each.message]


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("float", "float32"), ("real", "float32"), ("REAL", "float32"), ("int", "int16"), ("INT", "int16"),
        ("dint", "int32"), ("uint", "uint16"), ("word", "uint16"), ("udint", "uint32"), ("dword", "uint32"),
        ("lreal", "float64"), ("double", "float64"), ("string", "text"), ("lint", "int64"), ("ulint", "uint64"),
        ("boolean", "bool"), ("bcd", "bcd16"), ("MOD10", "mod10k32"), ("Float32", "float32"), ("flaot32", "float32"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("driver", ["modbus", "opcua"])
def test_a_word_of_a_plc_is_answered_with_the_type_that_it_is(
    word: str, meant: str, driver: str, tmp_path: Path
) -> None:
    """By spelling alone, float would be float64 and int uint8, and every value wrong."""
    tags = {
        "modbus": f"{{name: t, address: holding 1, type: {word}}}",
        "opcua": f"{{name: t, address: i=1, type: {word}}}",
    }
    if driver == "opcua" and meant in ("bcd16", "mod10k32"):
        return

    [problem] = [each for each in problems_of(tmp_path, driver=driver, tags=tags[driver]) if each.startswith("type")]

    assert problem.endswith(f"got {word!r}; did you mean {meant}?")


ORDERS = "must be one of big, little, got"
UNIT = "unknown key; the unit identifier is unit of the device"
PAUSES = "unknown key; a pause after connecting is limits.connect_delay, one between requests limits.gap"
FRAMINGS = "must be one of tcp, rtu, ascii, got"
DURATION = 'needs a number with a unit, such as "100 ms", got'
DEADBAND = 'is a number or a share of range such as "2 %", got'


@pytest.mark.parametrize(
    ("place", "written", "answer"),
    [
        ("device", "word_order: CDAB", f"{ORDERS} 'CDAB'; it is word_order: little"),
        ("device", "byte_order: swapped", f"{ORDERS} 'swapped'; it is word_order: little"),
        ("tag", "word_order: BADC", f"{ORDERS} 'BADC'; it is byte_order: little"),
        ("tag", "word_order: dcba", f"{ORDERS} 'dcba'; it is word_order: little and byte_order: little"),
        ("tag", "word_order: litle", f"{ORDERS} 'litle'; did you mean little?"),
        ("device", "slave: 5", UNIT),
        ("tag", "slave_id: 5", UNIT),
        ("device", "delay: 1 s", PAUSES),
        ("device", "framing: rtuovertcp", f"{FRAMINGS} 'rtuovertcp'; did you mean rtu?"),
        ("tag", "gain: 10", "unknown key; did you mean divisor?"),
        ("tag", "scale: '0,1'", "must be a number, got '0,1'; write 0.1"),
        ("tag", "deadband: '0,5'", f"{DEADBAND} '0,5'; write 0.5"),
        ("tag", "at_least_every: '0,5 s'", f"{DURATION} '0,5 s'; write 0.5 s"),
        ("tag", "scale: '1,2,3'", "must be a number, got '1,2,3'"),
    ],
)
def test_what_others_write_is_answered_with_what_to_write_here(
    place: str, written: str, answer: str, tmp_path: Path
) -> None:
    assert problems_of(tmp_path, **{place: f", {written}"}) == [f"{written.partition(':')[0]}: {answer}"]


def test_five_digits_are_answered_with_both_that_they_can_mean(tmp_path: Path) -> None:
    """The most frequent address of all, and YAML reads it as a number."""
    [problem] = problems_of(tmp_path, tags="{name: t, address: 40001, type: int16}")

    assert problem.endswith('write "4x00001" (holding 0, counted from zero) or "holding 40001"')


TWO = """\
  - {name: e, driver: modbus, host: %s, unit: %s, scan_groups: [{every: 2 s, tags: [{name: t, address: coil 1}]}]}
"""


@pytest.mark.parametrize(("host", "unit", "count"), [("192.0.2.7", 1, 1), ("192.0.2.7", 2, 0), ("192.0.2.8", 1, 0)])
def test_two_devices_that_are_one_unit_are_told(host: str, unit: int, count: int, tmp_path: Path) -> None:
    tag = "{name: t, address: holding 1, type: int16}"
    (tmp_path / "g.yaml").write_text(FILE % {"device": "", "driver": "modbus", "tags": tag} + TWO % (host, unit))

    found = [each for each in check(tmp_path / "g.yaml").problems if "too, and is asked for each" in each.message]

    assert [(each.line, each.severity) for each in found] == [(4, "warning")] * count
    assert all(each.message.startswith("unit 1 at 192.0.2.7:502 is 'd' on line 3 too") for each in found)


@pytest.mark.parametrize(("unit", "code"), [("°C", "Cel"), ("m³/h", "m3/h"), ("Cel", ""), ("bar", "")])
def test_a_unit_that_has_a_code_is_told_once(unit: str, code: str, tmp_path: Path) -> None:
    """Half of a plant with °C and half with Cel is two units for whoever reads the archive."""
    tags = [f"{{name: t{n}, address: holding {n}, type: int16, unit: '{unit}'}}" for n in range(3)]

    problems = problems_of(tmp_path, tags=", ".join(tags))

    wanted = f"unit: {unit} is {code} as a UCUM code; written in both ways, it is two units"
    assert problems == ([wanted] if code else [])


@pytest.mark.parametrize("address", ["Holding 100", "415010", "'415010'", "4x00101", "holding 5.0-3"])
def test_an_address_that_means_one_thing_is_accepted(address: str, tmp_path: Path) -> None:
    kind = "uint16" if "." in address else "int16"

    assert problems_of(tmp_path, tags=f"{{name: t, address: {address}, type: {kind}}}") == []
