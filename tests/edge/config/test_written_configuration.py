"""What is kept of a configuration, and what is said to have changed."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.config.check import check
from edge.config.kept import (
    FILES_KEPT,
    KeptConfiguration,
    digest_on_record,
    digests_kept,
    file_of,
    is_held,
    keep_configuration,
    put_on_record,
    unpack,
)
from edge.config.written import NOT_KEPT, compare, device_text, differences, document, keep
from edge.config.yaml_tree import Mark, Node, parse

_SITE = """\
# Comments are not kept: the password is hunter2.
gateway: {name: line-4, path: acme/basel, state: state}
clock: {require: any}
devices:
  - name: mixer
    driver: simulator
    scan_groups:
      - every: 50 ms
        tags: [{name: count, signal: counter, period: 50 ms, type: uint32}]
      - {every: 1 s, tags_from: tags.csv}
"""
_TABLE = "name,signal,period,type,every\nT1,counter,1 s,uint32,\nT2,counter,1 s,uint32,2 s\n"


def _site(folder: Path, text: str = _SITE, table: str = _TABLE) -> Path:
    (folder / "tags.csv").write_text(table)
    path = folder / "line.yaml"
    path.write_text(text)
    return path


def test_what_is_kept_is_the_configuration_with_its_tables_and_without_its_comments(tmp_path: Path) -> None:
    """As lines of YAML it can be checked, and then it is the same."""
    checked = check(_site(tmp_path))
    kept = unpack(checked.pack())

    (tmp_path / "again.yaml").write_text("\n".join(document(kept)))
    again = check(tmp_path / "again.yaml")

    assert again.errors == ()
    assert again.plans == checked.plans
    assert again.settings is not None
    assert unpack(again.pack()) == kept
    assert b"hunter2" not in gzip.decompress(checked.pack())


def test_a_change_is_said_where_it_is_with_both_values_as_written(tmp_path: Path) -> None:
    """A tag of a table has a path like any other, and a new interval is no new scan group."""
    old = unpack(check(_site(tmp_path)).pack())
    text = _SITE.replace("every: 1 s", "every: 1500 ms").replace("acme/basel", "acme/visp")
    new = unpack(check(_site(tmp_path, text, _TABLE.replace("T1,counter,1 s", "T1,counter,3 s"))).pack())

    assert list(differences(old, new)) == [
        ("gateway.path", "acme/basel", "acme/visp"),
        ("devices[mixer].scan_groups[1 s].every", "1 s", "1500 ms"),
        ("devices[mixer].scan_groups[1 s].tags[T1].period", "1 s", "3 s"),
    ]
    assert list(differences(old, old)) == []


def test_what_is_new_and_what_is_gone_is_one_change(tmp_path: Path) -> None:
    """Not one for each of its values."""
    old = {"devices": [{"name": "plc", "tags": ["a"] * 500}, {"name": "boiler"}], "log": {"level": "info"}}
    new = {"devices": [{"name": "boiler"}, {"name": "pump", "host": "10.0.0.1"}]}

    added, removed, section = differences(old, new)

    assert added == ("devices[pump]", "", "{name: pump, host: 10.0.0.1}")
    assert removed[0::2] == ("devices[plc]", "")
    assert len(removed[1]) == 200
    assert section == ("log", "{level: info}", "")


_words = st.from_regex(r"[a-z]{1,5}", fullmatch=True)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_words, inner, max_size=3),
    max_leaves=8,
)
_sections = st.dictionaries(_words, _values, max_size=3)


def _node(value: Any) -> Node:
    if isinstance(value, dict):
        return Node({key: _node(item) for key, item in value.items()}, Mark(""))
    return Node([_node(item) for item in value] if isinstance(value, list) else value, Mark(""))


@given(_sections, _sections)
def test_whatever_is_written_can_be_kept_compared_and_read_again(old: dict[str, Any], new: dict[str, Any]) -> None:
    """Numbers beyond 64 bits, infinities, empty keys and odd texts are YAML too."""
    before, after = (unpack(keep(_node(each).content, [])) for each in (old, new))  # type: ignore[arg-type]

    tree, problems = parse("\n".join(document(after)).encode(), "kept.yaml")

    assert problems == []
    assert tree is not None
    assert tree.plain() == after
    assert (list(differences(before, after)) == []) == (before == after or _same_names(before, after))


def _same_names(before: Any, after: Any) -> bool:
    """Items of a list are told apart by their names: the order in which they are written is no change."""
    return bool(list(differences(before, after)) == list(differences(after, before)) == [])


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ({"password": "hunter2"}, {"password": NOT_KEPT}),
        ({"password": "file:/etc/password"}, {"password": "file:/etc/password"}),
        ({"api_key": "hunter2"}, {"api_key": NOT_KEPT}),
        ({"key_period": "15 min"}, {"key_period": "15 min"}),
        ({"url": "opc.tcp://me:hunter2@plc:4840/a"}, {"url": f"opc.tcp://{NOT_KEPT}@plc:4840/a"}),
        ({"spaces": [{"x": "http://me@plc/x"}]}, {"spaces": [{"x": f"http://{NOT_KEPT}@plc/x"}]}),
        ({"note": "-----BEGIN PRIVATE KEY-----"}, {"note": NOT_KEPT}),
        ({"secret": ["a", 5]}, {"secret": [NOT_KEPT, NOT_KEPT]}),
    ],
)
def test_what_looks_like_a_secret_is_not_kept(written: dict[str, Any], kept: dict[str, Any]) -> None:
    """Our settings take references only; a driver of others may take anything."""
    assert device_text(_node(written)) == device_text(_node(kept))
    assert "hunter2" not in device_text(_node(written)).decode()


def test_ten_thousand_changes_leave_room_in_a_record_and_are_counted(tmp_path: Path) -> None:
    """The configurations themselves, which are on record too, hold the rest."""
    header, row = "name,signal,period,type\n", "T{0},counter,{1} s,uint32\n"
    old, new = (header + "".join(row.format(tag, period) for tag in range(10_000)) for period in (1, 2))
    before = check(_site(tmp_path, table=old))
    keep_configuration(tmp_path, before.digest, KeptConfiguration(packed=before.pack()))
    put_on_record(tmp_path, before.digest)

    kept = compare(check(_site(tmp_path, table=new)).pack(), tmp_path, digest_on_record(tmp_path))

    assert kept.count == 10_000
    assert 200 < len(kept.changes) < 10_000
    assert sum(len(text) for change in kept.changes for text in change) < 20_000


def test_what_was_kept_last_stays_and_damage_is_no_configuration(tmp_path: Path) -> None:
    """The state directory does not grow for ever, and a file that rotted must not stop a start."""
    for number in range(FILES_KEPT + 3):
        digest, packed = bytes([number]) * 32, keep({"n": _node(number)}, [])
        keep_configuration(tmp_path, digest, KeptConfiguration(packed=packed, files=b"tar"))
        put_on_record(tmp_path, digest)

    last = bytes([FILES_KEPT + 2]) * 32
    assert len(list(file_of(tmp_path, last).parent.iterdir())) == 2 * FILES_KEPT
    assert digests_kept(tmp_path)[:2] == [last, bytes([FILES_KEPT + 1]) * 32]
    assert digest_on_record(tmp_path) == last
    assert compare(keep({"n": _node(1)}, []), tmp_path, last).changes == (("n", "102", "1"),)
    file_of(tmp_path, last).write_bytes(b"\x1f\x8brubbish")
    assert compare(keep({"n": _node(1)}, []), tmp_path, last).count is None


def test_a_disk_that_does_not_answer_holds_no_configuration(tmp_path: Path) -> None:
    unanswered = tmp_path / ("x" * 300)
    with pytest.raises(OSError, match="too long"):
        unanswered.exists()

    assert not is_held(unanswered, b"\x01")
