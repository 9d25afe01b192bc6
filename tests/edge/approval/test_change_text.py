"""The text of a proposed change: what is read is what is signed, whatever names and reasons are made of."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NoReturn
from unicodedata import bidirectional, category

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.approval.change import MEANING, WIDTH, Change, body, names_of, same_person, visible
from edge.approval.sshsig import Refused
from edge.cli.change_file import read_change
from edge.seal.approval import LIMIT_BYTES, Approval
from tests.support.approving import Person

ANY = st.text(st.characters(codec="utf-8"), max_size=200)


def change(**others: str) -> Change:
    usual = {"gateway": "line-4", "proposed_by": "root (claims to be anna)", "at": "2026-11-30T22:00:00Z",
             "why": "CR 1207: a new pump", "files": "/etc/tidegate/line-4.yaml", "old": "0" * 64,
             "new": "1" * 64}  # fmt: skip
    return Change(**usual | others)


@given(why=ANY, files=ANY, proposed_by=ANY)
def test_a_text_says_what_it_was_made_of_and_nothing_in_it_is_hidden(why: str, files: str, proposed_by: str) -> None:
    proposed = change(why=why, files=files, proposed_by=proposed_by)

    head = proposed.head

    assert Change.from_head(head) == Change.from_head(head + body(["x"], [])) == proposed
    for line in head.split("\n"):
        assert len(line) <= WIDTH
        assert not {category(each) for each in line} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Me"}
        assert not {bidirectional(each) for each in line} & {"R", "AL", "AN", "RLO", "LRO", "RLE", "RLI"}


@given(st.lists(ANY, unique=True, max_size=5), st.lists(ANY, unique=True, max_size=5))
def test_two_differences_never_look_the_same(one: list[str], other: list[str]) -> None:
    assert (body(one, []) == body(other, [])) is (one == other)


@pytest.mark.parametrize(("text", "shown"), [
    ("a\u202eb", r"a\u{202e}b"), ("line\nnew hash: 00", r"line\u{a}new hash: 00"), ("\x1b[2Jgone", r"\u{1b}[2Jgone"),
    ("a\u200bb\u2066c", r"a\u{200b}b\u{2066}c"), (r"C:\u{202e}", r"C:\u{5c}u{202e}"),
    ("\u05d0\u05d1", r"\u{5d0}\u{5d1}"),
    ("a\u00a0b\u3164", r"a\u{a0}b\u{3164}"), ("°C µS/cm äöü 温度", "°C µS/cm äöü 温度"), ("\U000e0041", r"\u{e0041}"),
])  # fmt: skip
def test_what_cannot_be_seen_is_a_number(text: str, shown: str) -> None:
    assert visible(text) == shown


@pytest.mark.parametrize("alter", [
    lambda text: text.replace("line-4\n", "line-4 \n \n"), lambda text: text.replace("form 1", "form 2"),
    lambda text: text.replace(MEANING, "I have seen it"), lambda text: text.replace("why: ", "why:  \u202e"),
    lambda text: text.replace("gateway: ", "Gateway: "), lambda text: text.replace("old hash", "new hash"),
    lambda text: text[: len(text) // 2], lambda text: text.replace("CR", r"\u{43}R"), lambda text: "\ufeff" + text,
])  # fmt: skip
def test_a_text_in_another_form_is_no_proposal(alter) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(Refused) as refused:
        Change.from_head(alter(change().head))
    assert refused.value.reason == "altered"


def test_one_person_has_several_names() -> None:
    assert names_of("root (claims to be anna)") == {"root", "anna"}
    assert names_of("anna") == {"anna"}
    for name, other in (("anna@plant.example", "anna"), ("PLANT\\Anna", "anna@x"), ("ANNA", "anna")):
        assert same_person(name, other)
    assert not same_person("anna", "anne")


def test_of_ten_thousand_pending_changes_one_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    berta = Person(tmp_path, "berta")
    text = change().head + body([], [])
    for number in range(10_000):
        (tmp_path / f"{number}.change").write_text(text)
    berta.sign_file(tmp_path / "77.change", "config@tidegate")

    def listed(*_: object) -> NoReturn:
        raise AssertionError("the directory was looked through")

    with monkeypatch.context() as patched:
        for name in ("scandir", "listdir"):
            patched.setattr(os, name, listed)
        found = read_change(tmp_path / "77.change")

    assert found is not None
    assert found.change == change()


def test_an_approval_on_record_is_what_it_was_and_other_bytes_are_not_known() -> None:
    approval = Approval(
        name="berta", role="QA", meaning=MEANING, fingerprint="SHA256:x", proposed_by="anna", proposed_at="now",
        digest=bytes(64), signature=bytes(200), text=b"text\n" * 1000,
    )  # fmt: skip
    assert Approval.from_bytes(approval.to_bytes()) == approval
    for other in (b"", b"approval", b"\xff", approval.to_bytes()[:-1], approval.to_bytes() + b"\0"):
        assert Approval.from_bytes(other) is None


def test_a_text_without_room_in_a_record_is_left_out_and_its_digest_stays() -> None:
    approval = Approval(
        name="berta", role="QA", meaning=MEANING, fingerprint="SHA256:x", proposed_by="anna", proposed_at="now",
        digest=bytes(64), signature=bytes(200), text=os.urandom(20_000),
    )  # fmt: skip
    data = approval.to_bytes()
    assert len(data) <= LIMIT_BYTES
    again = Approval.from_bytes(data)
    assert again is not None
    assert (again.text, again.digest) == (b"", approval.digest)
