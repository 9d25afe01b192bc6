"""Messages that somebody with an account at the broker may publish, made from the records of a plant."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import NamedTuple

from edge.seal import parse
from tests.peers.relay.conftest import Plant

NO_NAMES = ("../escaped", "/tmp/absolute", "a/b", "..", "quarantine.cbor", "waiting.cbor", "x" * 65, "-x", "line-4\n")
LARGEST = 60_000


class Message(NamedTuple):
    """Who publishes what."""

    account: str
    topic: str
    data: bytes


@dataclass
class Attack:
    """Endless messages of the account of one gateway against the others, and against its own archive."""

    random: Random
    own: Plant
    others: list[Plant]

    def messages(self) -> Iterator[Message]:
        """One kind after the other, at random."""
        kinds = (
            self.unknown_key, self.unknown_key, self.unknown_place, self.large_unknown_key, self.other_name,
            self.other_gateway, self.other_gateway, self.on_other_topic, self.replay, self.altered, self.cut,
            self.noise, self.odd_epoch,
        )  # fmt: skip
        while True:
            kind: Callable[[], Message] = self.random.choice(kinds)
            yield kind()

    def unknown_key(self) -> Message:
        """Well-formed, of its own name, and of a chain that nobody knows."""
        return self._own(self._of_new_chain(self._record(self.own), self.own))

    def large_unknown_key(self) -> Message:
        """As large as a record may be."""
        message = self.unknown_key()
        frame = parse(message.data)
        head, _, _ = message.data.partition(frame.payload)
        payload = b"\xa1\x01\x59" + (LARGEST - 6).to_bytes(2, "big") + os.urandom(LARGEST - 6)
        tail = b"\x59" + len(payload).to_bytes(2, "big") + payload + b"\x58\x40" + os.urandom(64)
        return self._own(head[: -_head_bytes(len(frame.payload))] + tail)

    def unknown_place(self) -> Message:
        """Of its own chain, with a key that a later record may still introduce."""
        data = self._record(self.own)
        return self._own(data.replace(parse(data).kid, self.random.randbytes(8)))

    def other_name(self) -> Message:
        """A name that no gateway has, or one that was invented."""
        name = self.random.choice([*NO_NAMES, f"invented-{self.random.randrange(10**6)}"])
        issuer, named = (f"urn:tidegate:{each}".encode() for each in (self.own.name, name))
        data = self._record(self.own)
        protected = data[4 : 4 + data[3]]  # After the tag, and the head of array and byte string.
        other = protected.replace(_text(issuer), _text(named))
        return self._own(data[:2] + _bytes(other) + data[4 + len(protected) :])

    def other_gateway(self) -> Message:
        """A true record of another gateway, or one with its name, on its own topic."""
        other = self.random.choice(self.others)
        data = self._record(other)
        return self._own(self.random.choice([data, self._of_new_chain(data, other)]))

    def on_other_topic(self) -> Message:
        """On the topic of another gateway, which the broker has to refuse."""
        other = self.random.choice(self.others)
        return Message(
            self.own.name, f"tidegate/v1/{other.name}/r/data", self._of_new_chain(self._record(other), other)
        )

    def replay(self) -> Message:
        """Once more, what was sent long ago: by the gateway itself."""
        plant = self.random.choice([self.own, *self.others])
        return Message(plant.name, f"tidegate/v1/{plant.name}/r/event", self._record(plant))

    def altered(self) -> Message:
        """One bit of a true record is another one."""
        data = bytearray(self._record(self.own))
        data[self.random.randrange(len(data))] ^= 1 << self.random.randrange(8)
        return self._own(bytes(data))

    def cut(self) -> Message:
        """A part of a record, or more than one."""
        data = self._record(self.own)
        return self._own((data * 2)[: self.random.randrange(2 * len(data))])

    def noise(self) -> Message:
        """Any bytes, of any size."""
        return self._own(self.random.randbytes(int(LARGEST ** self.random.random())))

    def odd_epoch(self) -> Message:
        """An EPOCH of a chain that does not exist, under a key that is trusted."""
        data = self.own.records[0].data
        return self._own(data.replace(self.own.records[0].epoch, self.random.randbytes(8)))

    def _record(self, plant: Plant) -> bytes:
        return self.random.choice(plant.records[1:]).data

    def _of_new_chain(self, data: bytes, plant: Plant) -> bytes:
        data = data.replace(plant.records[0].epoch, self.random.randbytes(8))
        return data.replace(parse(data).kid, self.random.randbytes(8))

    def _own(self, data: bytes) -> Message:
        kind = self.random.choice(["r/data", "r/event", "r/loss", "checkpoint"])
        return Message(self.own.name, f"tidegate/v1/{self.own.name}/{kind}", data)


def _head(major: int, size: int) -> bytes:
    return bytes([major + size]) if size < 24 else bytes([major + 24, size])


def _text(content: bytes) -> bytes:
    return _head(0x60, len(content)) + content


def _bytes(content: bytes) -> bytes:
    return _head(0x40, len(content)) + content


def _head_bytes(size: int) -> int:
    return 1 if size < 24 else 2 if size < 256 else 3
