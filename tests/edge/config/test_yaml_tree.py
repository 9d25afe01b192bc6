from __future__ import annotations

import pytest

from edge.config.yaml_tree import parse, scalar_of


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (b"a:\tb", "f:1:3: a tab stands here; YAML is indented with spaces only"),
        (b"a: 1\n\tb: 2", "f:2:1: a tab stands here; YAML is indented with spaces only"),
        (b"a: b: c", "f:1:5: this colon starts a second value; quote the text or check the indentation"),
        (b"a: 'b\nc: d", "f:2:5: a quote is opened and never closed"),
        (b"a: [1, 2", "f:1:9: the list in [ ] is not closed, or a comma is missing"),
        (b"- a\nb: c", "f:2:1: this line does not fit the indentation of the lines above"),
        (b"--- a\n--- b", "f:2:1: a second document starts here; one file holds one"),
        (b"ok\nc: \x01", "f:2:4: the character U+0001 may not be in a YAML file"),
        ("ok: 1\né: ü".encode("latin-1"), "f:2:1: the file is not in UTF-8 here; save it as UTF-8"),
        ("a: b".encode("utf-16"), "f:1:1: the file is in UTF-16; save it as UTF-8"),
        (b"a: *nope", "f:1:4: a: no &nope is complete before this *nope"),
        (b"a: &a [*a]", "f:1:8: a[0]: no &a is complete before this *a"),
        (b'a: "\\ud800"', "f:1:4: a: half a surrogate pair is not a character"),
        (b"[" * 100_000, "f:1:34: nested deeper than 32 levels"),
    ],
)
def test_a_file_that_cannot_be_read_says_where_and_why(text: bytes, problem: str) -> None:
    root, problems = parse(text, "f")

    assert root is None
    assert list(map(str, problems)) == [problem]


def test_a_mistake_of_writing_does_not_hide_the_others() -> None:
    root, problems = parse(b"a: 1\na: 2\nb: {c: 1, c: 2}\nd: !!str 5\n? [e]\n: f\ng: 7", "f")

    assert [str(problem).partition(": ")[0] for problem in problems] == ["f:2:1", "f:3:11", "f:4:4", "f:5:3"]
    assert root is not None
    assert root.plain() == {"a": 1, "b": {"c": 1}, "d": 5, "g": 7}


def test_anchors_that_multiply_are_given_up_early() -> None:
    """Ten lines could otherwise stand for ten thousand million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]

    root, problems = parse("\n".join(lines).encode(), "f")

    assert root is None
    assert "anchors multiplying" in problems[0].message


def test_an_anchor_stands_for_what_it_names() -> None:
    root, problems = parse(b"a: &tags [{x: 1}]\nb: *tags", "f")

    assert (root and root.plain(), problems) == ({"a": [{"x": 1}], "b": [{"x": 1}]}, [])


def test_every_key_and_value_knows_its_place() -> None:
    root, _ = parse(b"a:\n  - b: 1\n    cd:  {e: x}\n", "f")

    assert root is not None
    item = root["a"].items[0]  # type: ignore[union-attr]
    assert (item.keys["cd"].line, item.keys["cd"].column) == (3, 5)
    assert (item["cd"].mark.line, item["cd"].mark.column) == (3, 10)  # type: ignore[union-attr]
    assert item["cd"]["e"].path == "a[0].cd.e"  # type: ignore[index, union-attr]


@pytest.mark.parametrize(
    ("text", "value"),
    [("yes", "yes"), ("off", "off"), ("010", 10), ("0o10", 8), ("0x1F", 31), ("1_000", "1_000"),
     ("12:30:00", "12:30:00"), ("2024-01-01", "2024-01-01"), ("1e3", 1000.0), ("~", None), ("True", True),
     ("-.inf", float("-inf")),
     ("9" * 5000, "9" * 5000)],
)  # fmt: skip
def test_words_mean_what_yaml_1_2_says(text: str, value: object) -> None:
    """YAML 1.1 made a country code false and a time of day a number."""
    assert scalar_of(text) == value
