"""What a status says of the newest records: in the order of their times, bounded, and gaps of groups as one."""

from __future__ import annotations

from edge.recent import EVENTS_KEPT, GAPS_KEPT, Recent, joined
from edge.seal import ConfigChange, Event, Gap, Loss, LossReason, Severity
from edge.seal.payloads import KeptPart

S = 10**9


def event(at_s: int, kind: str = "device.up", subject: str = "mixer", **data: str) -> Event:
    return Event(at_ns=at_s * S, kind=kind, subject=subject, data=data, severity=Severity.WARNING)


def loss(first: int, last: int, to_s: int) -> Loss:
    return Loss(first=first, last=last, from_ns=1 * S, to_ns=to_s * S, records=last - first + 1, readings=None,
                reason=LossReason.BUFFER_FULL)  # fmt: skip


def gap(from_s: int, to_s: int | None, group: int | None = 0) -> Gap:
    return Gap(group=group, from_ns=from_s * S, to_ns=None if to_s is None else to_s * S, status=0, detail="no answer")


def test_events_are_sentences_in_the_order_of_their_times() -> None:
    recent = Recent(5 * S, "line-4")
    recent.note(event(20, "device.down", reason="x" * 2000), "", 0)
    recent.note(event(10), "", 0)
    recent.note(event(30, "uplink.down", "uplink", reason="refused"), "", 0)
    first, second, third = recent.status().events

    assert (first.at_ns, first.severity, first.device, first.text) == (10 * S, "warning", "mixer", "mixer answers")
    assert first.issuer == "line-4"
    assert second.text.startswith("mixer does not answer: xxx")
    assert len(second.text) == 500
    assert (third.device, third.text) == ("", "The uplink is down and records wait in the buffer: refused")
    for number in range(2 * EVENTS_KEPT):
        recent.note(event(100 + number), "", 0)
    assert [each.at_ns // S for each in recent.status().events] == list(range(200, 300))


def test_a_loss_that_grows_is_told_once() -> None:
    recent = Recent(0)
    recent.note(loss(1, 10, 20), "", 99 * S)
    recent.note(event(30), "", 0)
    recent.note(loss(1, 300, 40), "", 99 * S)

    assert [each.text for each in recent.status().events][1:] == [
        (
            "300 records (seq 1 to 300) were lost before delivery, from 1970-01-01 00:00:01 UTC to 00:00:40 UTC: "
            "the buffer was full"
        )
    ]


def test_gaps_of_the_groups_of_a_device_are_one_and_have_ended() -> None:
    recent = Recent(0)
    recent.note(gap(10, None), "mixer", 0)
    recent.note(gap(10, 20), "mixer", 0)
    recent.note(gap(11, 22, 1), "mixer", 0)
    recent.note(gap(11, 21, 2), "press", 0)
    recent.note(gap(30, 31), "mixer", 0)
    recent.note(gap(1, 5, None), "", 0)
    status = recent.status()

    assert [(each.device, each.from_ns // S, each.to_ns // S) for each in status.gaps] == [
        ("", 1, 5), ("press", 11, 21), ("mixer", 10, 22), ("mixer", 30, 31)
    ]  # fmt: skip
    [told] = status.events
    assert told.text.startswith("All scan groups were not read for 4 s")


def test_since_when_all_gaps_are_known_moves_on_where_there_are_too_many() -> None:
    recent = Recent(0)
    for number in range(GAPS_KEPT + 10):
        recent.note(gap(10 * number, 10 * number + 1), "mixer", 0)
    status = recent.status()

    assert len(status.gaps) == GAPS_KEPT
    assert status.gaps_since_ns == 91 * S


def test_a_configuration_is_told_once_with_who_why_and_what() -> None:
    recent = Recent(0)
    change = ConfigChange(
        at_ns=7 * S, account="anna", role="apply", why="new range", old_hash=b"\1" * 32, new_hash=b"\2" * 32,
        changes=(("a", "1", "2"), ("b", "", "3"), ("c", "4", ""), ("d", "5", "6")), kept=KeptPart(0, 2, b"x", 9),
    )  # fmt: skip
    part = ConfigChange(at_ns=7 * S, account="anna", role="apply", why="new range", old_hash=b"\1" * 32,
                        new_hash=b"\2" * 32, kept=KeptPart(1, 2, b"x", 9))  # fmt: skip
    recent.note(change, "", 0)
    recent.note(part, "", 0)
    [told] = recent.status().configurations

    assert (told.at_ns, told.who, told.why, told.changes) == (
        7 * S,
        "account anna, with tidegate apply",
        "new range",
        9,
    )
    assert told.shown == ("a from 1 to 2", "b added: 3", "c removed, was 4")


def test_of_many_gateways_each_has_its_newest_and_none_hides_another() -> None:
    noisy, quiet = Recent(0, "noisy"), Recent(0, "quiet")
    for number in range(EVENTS_KEPT):
        noisy.note(event(100 + number), "", 0)
    quiet.note(event(50), "", 0)
    told = joined([noisy.status(), quiet.status()], 3 * S, 20)

    assert told.since_ns == 3 * S
    assert [each.issuer for each in told.events] == ["quiet"] + 10 * ["noisy"]
