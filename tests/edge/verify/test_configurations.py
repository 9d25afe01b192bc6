"""Which configurations ran one after the other, and which of them has no record."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from edge.seal import ConfigChange, Epoch, Event
from edge.seal.keys import SigningKey
from edge.seal.payloads import Head, KeptPart
from edge.verify.configurations import History, KeptConfigurations
from edge.verify.logbook import Place
from tests.support.chains import TIME, UTC_NS

_S = 10**9


def _digest(letter: str) -> bytes:
    return letter.encode() * 32 if letter else b""


def _change(old: str, new: str, at_s: float = 0, **more: object) -> ConfigChange:
    return replace(ConfigChange(at_ns=UTC_NS + int(at_s * _S), account="anna", old_hash=_digest(old),
                                new_hash=_digest(new)), **more)  # type: ignore[arg-type]  # fmt: skip


def _start(configuration: str, at_s: float = 0) -> Event:
    return Event(at_ns=UTC_NS + int(at_s * _S), kind="start", data={"configuration": _digest(configuration).hex()})


def _place(seq: int, epoch: int = 0, issuer: str = "urn:tidegate:line-4") -> Place:
    return Place(issuer, epoch.to_bytes(8), seq)


def _told(history: History) -> str:
    """AB for a change from A to B, and b for a configuration B without a record."""
    return " ".join(
        (each.change.old_hash[:1] + each.change.new_hash[:1]).decode() if each.change else
        each.unrecorded[:1].decode().lower() or "?" for each in history.steps()
    )  # fmt: skip


def _history(*contents: ConfigChange | Event) -> History:
    history = History()
    for seq, content in enumerate(contents):
        history.note(_place(seq), content)
    return history


def test_a_configuration_of_which_the_record_is_missing_is_named() -> None:
    """By the record after it, by the start with it, and by further parts; each time once."""
    ab, bc, cd = _change("A", "B"), _change("B", "C"), _change("C", "D")
    second_part = _change("A", "B", kept=KeptPart(1, 2, b"", None))

    assert _told(_history(ab, bc, cd)) == "AB BC CD"
    assert _told(_history(ab, cd)) == "AB c CD"
    assert _told(_history(ab, _start("C"), cd)) == "AB c CD"
    assert _told(_history(ab, _start("C"), bc, _start("D"))) == "AB BC d"
    assert _told(_history(_change("", "A"), second_part, bc)) == "A b BC"
    assert _told(_history(ab, second_part, bc)) == "AB BC"
    assert _told(_history(_start("A"), _change("", "A"), _start("A"), _start("B"), ab)) == "A AB"


def test_a_configuration_that_a_full_disk_kept_off_the_record_is_named_where_it_ran() -> None:
    """The next record then follows the one before it, so that only the start tells."""
    assert _told(_history(_change("", "A"), _start("X"), _start("B"), _change("A", "B"))) == "A x AB"


def test_a_change_that_a_killed_gateway_put_on_record_twice_is_two_records_and_hides_nothing() -> None:
    ab = _change("A", "B")

    assert _told(_history(_change("", "A"), ab, _start("B"), ab, _change("B", "C"))) == "A AB AB BC"
    assert _told(_history(_change("", "A"), ab, _start("A"), ab)) == "A AB a AB"


def test_what_came_before_the_first_record_held_is_not_held_against_it() -> None:
    """A buffer has the newest records only, and retention removes the oldest."""
    assert _told(_history(_start("B"), _change("B", "C"))) == "BC"
    assert _told(_history(_start("B"))) == ""


def test_a_gateway_that_lost_its_state_begins_anew_and_that_is_said() -> None:
    """Its record names no configuration before it."""
    assert _told(_history(_change("A", "B"), _change("", "C"))) == "AB ? C"


def test_the_order_is_that_of_the_chains_and_not_of_the_clock() -> None:
    """A clock whose battery failed says 1970 at the start of a new chain; records may come in any order."""
    epoch = Epoch(session=SigningKey.generate().public, time=replace(TIME, offset_ns=0), counter=2,
                  previous=Head((7).to_bytes(8), 9, bytes(32)), config_hash=_digest("C"))  # fmt: skip
    history = History()
    history.note(_place(1, 3), _change("B", "C", at_s=-(UTC_NS // _S)))
    history.note(_place(0, 3), epoch)
    history.note(_place(5, 7), _change("A", "B", at_s=1))

    assert _told(history) == "AB BC"


def test_gateways_are_told_by_time_and_each_follows_from_its_own_records() -> None:
    """Two lines may have the same configuration."""
    history = History()
    for issuer, at_s in (("urn:tidegate:a", 1), ("urn:tidegate:b", 2)):
        history.note(_place(0, issuer=issuer), _change("", "A", at_s))
        history.note(_place(1, issuer=issuer), _change("A", "B", at_s + 5))

    assert [each.place.issuer[-1] for each in history.steps()] == ["a", "b", "a", "b"]
    assert _told(history) == "A A AB AB"


@given(st.lists(st.sampled_from("ABCD"), min_size=2, max_size=12), st.data())
def test_each_record_that_is_taken_out_shows_unless_nothing_changed_over_it(
    names: list[str], data: st.DataObject
) -> None:
    """A configuration and its return hide each other: then the missing places show, and no hash can."""
    names = [names[0], *(new for old, new in pairwise(names) if old != new)]
    changes = [_change(old, new, at_s) for at_s, (old, new) in enumerate(pairwise(["", *names]))]
    removed = data.draw(st.integers(1, len(changes) - 1)) if len(changes) > 1 else 0
    history, whole = History(), History()
    for seq in data.draw(st.permutations(range(len(changes)))):
        whole.note(_place(seq), changes[seq])
        if seq != removed:
            history.note(_place(seq), changes[seq])

    assert [each.change for each in whole.steps()] == changes
    lost = [each.unrecorded for each in history.steps() if each.change is None]
    is_last, is_first = removed == len(changes) - 1, removed == 0
    assert lost == ([] if is_last or is_first else [changes[removed].new_hash])


def test_parts_of_two_recordings_of_one_configuration_are_not_mixed() -> None:
    """A later version may pack the same configuration in another way."""
    kept = KeptConfigurations()
    for seq, (at_s, number, packed) in enumerate([(0, 0, b"old-0"), (9, 0, b"new-0"), (9, 1, b"new-1")]):
        kept.note(_place(seq), _change("A", "B", at_s, kept=KeptPart(number, 2, packed, None)))

    assert kept.packed(_digest("B")) == b"new-0new-1"
    assert kept.held(_digest("B")) == (2, 2)
    kept.withdraw(_place(2))
    assert kept.packed(_digest("B")) is None
    assert kept.held(_digest("B")) == (1, 2)
    assert kept.digests("4242") == [_digest("B")]
    assert kept.digests("43") == []
