"""The order of messages, and the bounds of their times."""

from __future__ import annotations

from drivers.opcua.publish import MessageSequencer, ReceivedMessage, SubscriptionMemory
from drivers.opcua.services import read_publish
from edge.model import Notification
from tests.drivers.opcua.notification_messages import Item, published
from tests.drivers.opcua.test_opcua_data_changes import decoder


class Case:
    def __init__(self, nodes: int = 1) -> None:
        self.notifications: list[Notification] = []
        self.memory = SubscriptionMemory(range(nodes), sampled_after_ns=100)
        self.sequencer = MessageSequencer(self.memory, decoder(["float64"] * nodes), nodes, self.notifications.append)
        self.sequencer.restart(None)

    def take(self, data: bytes, asked_at_ns: int, arrived_at_ns: int) -> None:
        _, notification = read_publish(data, 5)
        assert notification is not None
        self.sequencer.accept(ReceivedMessage(notification, asked_at_ns, arrived_at_ns))

    @property
    def times(self) -> list[tuple[int, int]]:
        return [(notification.asked_at_ns, notification.answered_at_ns) for notification in self.notifications]


ONE = [Item(0, 11, 1.0)]


def test_values_are_bounded_by_the_request_of_the_message_before() -> None:
    case = Case()

    case.take(published(1, ONE), 110, 200)
    case.take(published(2, ONE), 120, 300)
    case.take(published(3), 210, 400)
    case.take(published(3, ONE), 310, 500)

    assert case.times == [(100, 200), (110, 300), (400, 400), (210, 500)]


def test_what_a_message_had_no_room_for_was_sampled_before_it() -> None:
    case = Case()

    case.take(published(1, ONE, more=True), 110, 200)
    case.take(published(2, ONE), 120, 201)
    case.take(published(3, ONE), 210, 300)

    assert case.times == [(100, 200), (100, 201), (120, 300)]


def test_a_message_told_before_is_passed_over() -> None:
    case = Case()
    case.take(published(1, ONE), 110, 200)

    case.take(published(1, ONE), 120, 300)

    assert len(case.notifications) == 1


def test_a_missing_message_is_seen_by_the_next_and_by_a_sign_of_life() -> None:
    case = Case()
    case.take(published(1, ONE), 110, 200)

    messages = [_read(data) for data in (published(2, ONE), published(3, ONE), published(2))]
    assert list(map(case.sequencer.has_gap_before, messages)) == [False, True, False]
    assert case.sequencer.has_gap_before(_read(published(3)))


def test_what_is_lost_for_good_is_told_between_its_neighbours() -> None:
    case = Case()
    case.take(published(1, ONE), 110, 200)

    case.sequencer.skip_to(3, 400)
    case.take(published(3, ONE), 210, 400)

    assert [notification.lost_since_ns for notification in case.notifications] == [None, 200, None]
    assert case.times[1] == (400, 400)


def test_the_values_of_now_come_before_a_sign_of_life() -> None:
    case = Case()

    case.take(published(1), 105, 150)
    case.take(published(1, ONE), 110, 200)

    assert [len(notification.vectors[0]) for notification in case.notifications] == [1]


def test_a_server_without_any_value_is_alive_all_the_same() -> None:
    case = Case()

    case.take(published(1), 105, 150)
    case.take(published(1), 110, 250)

    assert case.times == [(250, 250)]


def test_the_end_of_a_subscription_is_noted() -> None:
    case = Case()

    case.take(published(1, None, status=0x800A0000), 105, 150)

    assert case.sequencer.ended == 0x800A0000


def _read(data: bytes):  # type: ignore[no-untyped-def]
    return read_publish(data, 5)[1]
