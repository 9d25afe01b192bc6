"""Values of simulated signals by time."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from pydantic import ValidationError

from drivers.simulator.plan import SimulatorPlan
from drivers.simulator.settings import SimulatorDevice, SimulatorTag
from drivers.simulator.signals import draw
from edge.config.validate import settings_from
from edge.model import DataType

MakeDevice = Callable[..., SimulatorDevice]
S = 10**9
WHOLE_TYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "uint64", "int64"]


def device(*tags: Mapping[str, Any], seed: int = 0) -> SimulatorDevice:
    rows = [{"name": f"tag-{number}", **tag} for number, tag in enumerate(tags)]
    groups = [{"every": "1 s", "tags": rows}]
    return settings_from(SimulatorDevice, {"name": "d", "driver": "simulator", "seed": seed, "scan_groups": groups})


def series(tag: Mapping[str, Any], *moments_s: float, seed: int = 0) -> list[Any]:
    settings = device(tag, seed=seed)
    plan = SimulatorPlan(settings.scan_groups[0].tags, settings)
    return [plan.values(round(moment_s * S))[0][0].item() for moment_s in moments_s]


def test_a_sine_begins_in_the_middle_and_goes_up() -> None:
    values = series({"signal": "sine", "low": 20, "high": 80, "period": "40 s"}, 0, 10, 20, 30, 40)

    assert values == pytest.approx([50, 80, 50, 20, 50])


def test_a_ramp_goes_from_low_to_high_and_back_at_once() -> None:
    assert series({"signal": "ramp", "low": 0, "high": 100, "period": "10 s"}, 0, 5, 9.9, 10, 12) == pytest.approx(
        [0, 50, 99, 0, 20]
    )


def test_a_square_is_low_first() -> None:
    assert series({"signal": "square", "low": -1, "high": 1, "period": "2 s", "type": "int8"}, 0, 0.9, 1, 1.9, 2) == [
        -1, -1, 1, 1, -1,
    ]  # fmt: skip


def test_a_phase_shifts_the_start() -> None:
    shifted = series({"signal": "sine", "period": "8 s", "phase": "3 s"}, 0, 1, 2)

    assert shifted == series({"signal": "sine", "period": "8 s"}, 3, 4, 5)


@pytest.mark.parametrize("type_name", WHOLE_TYPES)
def test_a_counter_is_exact_and_begins_again(type_name: str) -> None:
    limits = np.iinfo(type_name)
    tag = {"signal": "counter", "low": 3, "high": 5, "period": "1 s", "type": type_name}
    over_the_end = {"signal": "counter", "period": "1 s", "type": type_name, "low": 0}

    assert series(tag, 0, 1, 2, 2.9, 3, 4) == [3, 4, 5, 5, 3, 4]
    if limits.max <= np.iinfo("uint16").max:
        assert series(over_the_end, limits.max, limits.max + 1) == [limits.max, 0]


def test_texts_rotate() -> None:
    assert series_of_text({"signal": "text", "texts": ["a", "b", "c"], "period": "1 s"}, 0, 1, 2.5, 3) == [
        "a", "b", "c", "a",
    ]  # fmt: skip


def series_of_text(tag: Mapping[str, Any], *moments_s: float) -> list[str]:
    settings = device(tag)
    plan = SimulatorPlan(settings.scan_groups[0].tags, settings)
    return [plan.values(round(moment_s * S))[0][0] for moment_s in moments_s]


@pytest.mark.parametrize(
    ("value", "type_name"),
    [(True, "bool"), (2**64 - 1, "uint64"), (-(2**63), "int64"), (37.25, "float32"), (42, "float64"), (7, None)],
)
def test_a_constant_is_exactly_what_was_written(value: float, type_name: str | None) -> None:
    typed: dict[str, Any] = {"signal": "constant", "value": value, "type": type_name}

    assert series(typed, 0, 9) == [value, value]


@given(elapsed_ns=st.integers(0, 10**18), seed=st.integers(0, 2**63 - 1), signal=st.sampled_from(["walk", "sine"]))
def test_random_values_are_repeatable(elapsed_ns: int, seed: int, signal: str) -> None:
    """A value does not depend on earlier reads."""
    tag = {"signal": signal, "low": -5, "high": 5, "noise": 0.5}
    settings = device(tag, seed=seed)
    one, other = (SimulatorPlan(settings.scan_groups[0].tags, settings) for _ in range(2))
    one.values(elapsed_ns // 2)

    assert one.values(elapsed_ns)[0] == other.values(elapsed_ns)[0]
    assert -5.5 <= one.values(elapsed_ns)[0][0] <= 5.5


def test_walks_differ_by_tag_and_seed() -> None:
    moments = [float(moment) for moment in range(0, 3000, 10)]
    settings = device({"signal": "walk"}, {"signal": "walk"})
    plan = SimulatorPlan(settings.scan_groups[0].tags, settings)
    pairs = [tuple(plan.values(round(moment * S))[0].tolist()) for moment in moments]

    assert sum(a == b for a, b in pairs) < 10
    assert series({"signal": "walk"}, *moments) != series({"signal": "walk"}, *moments, seed=1)
    assert max(a for a, _ in pairs) > 60
    assert min(a for a, _ in pairs) < 40


def test_draws_are_uniform() -> None:
    drawn = draw(np.array([5], np.uint64), np.arange(100_000))

    assert (drawn >= -1).all()
    assert (drawn < 1).all()
    assert abs(drawn.mean()) < 0.01
    assert drawn.std() == pytest.approx(3**-0.5, rel=0.01)


@given(
    type_name=st.sampled_from([name.label for name in DataType if name is not DataType.TEXT]),
    elapsed_ns=st.integers(0, 10**18),
    signal=st.sampled_from(["sine", "ramp", "square", "walk"]),
    noise=st.floats(0, 1e30),
)
def test_a_wave_stays_within_its_type(type_name: str, elapsed_ns: int, signal: str, noise: float) -> None:
    tag: dict[str, Any] = {"signal": signal, "type": type_name}
    if type_name != "bool":
        tag["noise"] = noise if type_name != "float32" else 1.0
    if type_name.lstrip("u").startswith("int"):
        limits = np.iinfo(type_name)
        tag |= {"low": float(limits.min), "high": np.nextafter(float(limits.max), 0)}
    settings = device(tag)

    (vector,) = SimulatorPlan(settings.scan_groups[0].tags, settings).values(elapsed_ns)

    assert vector.dtype == np.dtype(type_name)


def test_vectors_are_as_the_layout_says() -> None:
    """Signals of several kinds and types in one group fill the positions of their tags."""
    settings = device(
        {"signal": "constant", "value": 1, "type": "uint16"},
        {"signal": "constant", "value": "x"},
        {"signal": "counter", "low": 5, "type": "uint16"},
        {"signal": "constant", "value": 2, "type": "uint16"},
        {"signal": "missing"},
        {"signal": "square", "type": "bool"},
    )
    plan = SimulatorPlan(settings.scan_groups[0].tags, settings)

    assert [vector.tolist() for vector in plan.values(0)[:2]] == [[False], [1, 5, 2]]
    assert [vector.dtype for vector in plan.values(0)] == [kind.numpy for kind in plan.layout.vector_types]
    assert plan.values(0)[3].tolist() == ["x"]


def test_a_thousand_tags_are_one_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    """One evaluation for each signal and vector, however many tags there are."""
    settings = device(*({"signal": "sine", "type": "float32"} for _ in range(1000)))
    plan = SimulatorPlan(settings.scan_groups[0].tags, settings)
    calls: list[int] = []
    sin = np.sin

    def counted(angles: NDArray[np.float64]) -> NDArray[np.float64]:
        calls.append(len(angles))
        return np.asarray(sin(angles))

    monkeypatch.setattr(np, "sin", counted)

    plan.values(5)

    assert calls == [1000]


@pytest.mark.parametrize(
    ("tag", "sentence"),
    [
        ({"signal": "sine", "value": 1}, "value means nothing to the signal sine; it takes high, low, noise"),
        ({"signal": "missing", "noise": 1}, "noise means nothing to the signal missing; it takes no keys of its own"),
        ({"signal": "constant"}, "signal constant needs value"),
        ({"signal": "text", "texts": []}, "texts needs at least one text"),
        ({"signal": "sine", "low": 5, "high": 5}, "low must be below high, got 5 and 5"),
        ({"signal": "sine", "type": "uint8", "high": 300}, r"high 300 does not fit uint8 \(0 to 255\)"),
        ({"signal": "sine", "type": "float32", "high": 1e300}, "high 1.*e[+]300 does not fit float32"),
        ({"signal": "ramp", "low": -1.7e308, "high": 1.7e308}, "low -1.7.*e[+]308 does not fit float64"),
        ({"signal": "sine", "noise": 1e308}, "noise 1.*e[+]308 does not fit float64"),
        ({"signal": "constant", "value": 10**400, "type": "float64"}, "value 1.*e[+]400 does not fit float64"),
        ({"signal": "constant", "value": 1e300, "type": "float32"}, "value 1.*e[+]300 does not fit float32"),
        ({"signal": "counter", "low": -1e30, "high": 1e30}, "low -1.*e[+]30 does not fit float64"),
        ({"signal": "counter", "low": 1e30, "high": 1e31, "type": "bool"}, "low 1.*e[+]30 does not fit bool"),
        ({"signal": "counter", "low": 2**63, "type": "uint64"}, "low 9.*e[+]18 does not fit uint64"),
        ({"signal": "counter", "low": 0.5}, "counts whole numbers, got low 0.5"),
        ({"signal": "ramp", "period": "40000 d"}, "less than or equal to"),
        ({"signal": "ramp", "phase": "300000 d"}, "less than or equal to"),
        ({"signal": "constant", "value": 1.5, "type": "int16"}, "value 1.5 is not of the type int16"),
        ({"signal": "constant", "value": True, "type": "int16"}, "value True is not of the type int16"),
        ({"signal": "constant", "value": 1, "type": "bool"}, "value 1 is not of the type bool"),
        ({"signal": "ramp", "type": "text"}, "type text does not go with the signal ramp"),
        ({"signal": "text", "texts": ["a"], "type": "bool"}, "type bool does not go with the signal text"),
        ({"signal": "square", "type": "bool", "noise": 1}, "noise means nothing to the type bool"),
    ],
)
def test_contradicting_keys_are_refused_with_a_message(tag: Mapping[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError, match=sentence):
        settings_from(SimulatorTag, {"name": "t", **tag})


def test_an_address_is_a_readable_text() -> None:
    tags: list[dict[str, Any]] = [
        {"signal": "sine", "low": 20, "high": 80, "period": "30 s"},
        {"signal": "constant", "value": "R-17"},
        {"signal": "replay", "column": "uv"},
        {"signal": "text", "texts": ["a"]},
    ]

    assert [settings_from(SimulatorTag, {"name": "t", **tag}).address_text for tag in tags] == [
        "sine 20..80 30 s", "constant R-17", "replay uv", "text 10 s",
    ]  # fmt: skip


NUMBERS = st.one_of(st.none(), st.integers(-(10**40), 10**40), st.floats())


@given(
    signal=st.sampled_from(["sine", "ramp", "square", "walk", "counter", "constant"]),
    data_type=st.sampled_from([*WHOLE_TYPES, "float32", "float64", "bool"]),
    low=NUMBERS, high=NUMBERS, value=NUMBERS, noise=NUMBERS,
    period_d=st.integers(0, 10**6), phase_d=st.integers(0, 10**6), moment=st.integers(0, 10**18),
)  # fmt: skip
def test_any_numbers_are_refused_or_give_values(
    *, signal: str, data_type: str, low: Any, high: Any, value: Any, noise: Any, period_d: int, phase_d: int,
    moment: int,
) -> None:  # fmt: skip
    """Numbers that cannot be calculated with would end the gateway, or cause a numpy warning at every scan."""
    keys = {"low": low, "high": high, "value": value, "noise": noise}
    tag = {key: number for key, number in keys.items() if number is not None}
    if signal != "constant":
        tag |= {"period": f"{period_d} d", "phase": f"{phase_d} d"}
    try:
        settings = device({"signal": signal, "type": data_type, **tag})
    except ValidationError:
        return
    plan = SimulatorPlan(settings.scan_groups[0].tags, settings)

    (vector,) = plan.values(moment)

    assert vector.dtype == DataType[data_type.upper()].numpy
