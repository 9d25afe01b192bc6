"""Publishing of many messages at once: topics and payloads in columns, one write for many, and no call per message."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager
from operator import add

import numpy as np

from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import MalformedPacket, PacketType, Property, decode_puback, encode_varint
from edge.mqtt.reason_codes import explain
from edge.relay.connection import Connection, connected

_AT_ONCE = 1_000
_ANSWERS_GATHER_S = 0.006
_HEAD_BYTES = 8  # Most bytes of a PUBLISH besides topic and payload.
_IDS = [number.to_bytes(2, "big") + b"\0" for number in range(0x4000)]
"""Packet identifiers in use, each with the empty properties that follow it in a PUBLISH; 0 is none."""
_PUBACK = PacketType.PUBACK << 4
_PUBLISH, _QOS_1, _RETAIN = PacketType.PUBLISH << 4, 0x02, 0x01


class _Heads(dict[int, bytes]):
    """First byte and remaining length of a PUBLISH, by the bytes of its topic and payload."""

    def __init__(self, first_byte: int) -> None:
        super().__init__()
        self._first_byte = bytes((first_byte,))
        self._more_bytes = len(_IDS[0]) if first_byte & _QOS_1 else len(b"\0")

    def __missing__(self, content_bytes: int) -> bytes:
        head = self[content_bytes] = self._first_byte + encode_varint(content_bytes + self._more_bytes)
        return head


_HEADS = {qos | retain: _Heads(_PUBLISH | qos | retain) for qos in (0, _QOS_1) for retain in (0, _RETAIN)}


class ViewConnection(Connection):
    """An open connection on which views are published, by one task.

    Attributes:
        refusal: what the broker refused of the last `publish`, and why; empty when it accepted everything.
    """

    def __init__(self, access: BrokerAccess) -> None:
        super().__init__(access)
        self.refusal = ""
        self._packet_id = 0
        self._unacknowledged: dict[int, bytes] = {}
        self._is_prompt = self._is_due = False

    async def publish(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], *, qos: int = 1, is_retained: bool = True
    ) -> None:
        """Publish messages; with QoS 1 also wait until the broker has answered them all.

        Args:
            topics: encoded with their length, as `encode_text` gives them.

        Raises:
            BrokerUnreachable: the connection was lost.
            BrokerRefused: the broker has ended the connection.
        """
        self.refusal = ""
        sizes = list(map(add, map(len, topics), map(len, payloads)))
        if max(sizes, default=0) > self.limits.packet_bytes - _HEAD_BYTES:
            topics, payloads, sizes = self._without_too_large(topics, payloads, sizes)
        heads = _HEADS[(_QOS_1 if qos else 0) | (_RETAIN if is_retained and self.limits.is_retaining else 0)]
        at = 0
        while at < len(topics):
            await asyncio.sleep(0)
            await self.wait_until_writable()
            end = at + (await self._room() if qos else _AT_ONCE)
            self._send(map(heads.__getitem__, sizes[at:end]), topics[at:end], payloads[at:end], qos)
            at = end
        while self._unacknowledged:
            await self.wait_for_change()
        self.check()

    def _send(self, heads: Iterable[bytes], topics: Sequence[bytes], payloads: Sequence[bytes], qos: int) -> None:
        parts = [b"\0"] * (4 * len(topics))
        parts[0::4] = heads
        parts[1::4] = topics
        parts[3::4] = payloads
        if qos:
            first, self._packet_id = self._packet_id + 1, self._packet_id + len(topics)
            parts[2::4] = _IDS[first : self._packet_id + 1]
            self._unacknowledged.update(zip(range(first, self._packet_id + 1), topics, strict=True))
        self.write(b"".join(parts))

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        super().data_received(data)
        if self._unacknowledged and not self._is_due:
            self._is_due = True
            asyncio.get_running_loop().call_later(_ANSWERS_GATHER_S, self._hurry)

    def _hurry(self) -> None:
        """Have TCP acknowledge: until then mosquitto holds back all answers after the first, which else takes 40 ms."""
        self._is_due = False
        if self.transport is not None and not self.ended.done():
            self.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)

    async def _room(self) -> int:
        """How many messages may be sent now, at least one: by Receive Maximum, and by the identifiers that are left."""
        # Few writes of many messages; but the first answer after a full window is followed at once, see `_hurry`: what
        # is sent acknowledges too.
        half = self.limits.receive_maximum // 2
        while len(self._unacknowledged) > (half if self._is_prompt else self.limits.receive_maximum - 1):
            await self.wait_for_change()
        if self._packet_id == len(_IDS) - 1:
            while self._unacknowledged:  # An identifier is used again only after its answer (section 2.2.1).
                await self.wait_for_change()
            self._packet_id = 0
        free = self.limits.receive_maximum - len(self._unacknowledged)
        self._is_prompt = free < half
        return min(free, _AT_ONCE, len(_IDS) - 1 - self._packet_id)

    def _without_too_large(
        self, topics: Sequence[bytes], payloads: Sequence[bytes], sizes: list[int]
    ) -> tuple[Sequence[bytes], Sequence[bytes], list[int]]:
        limit = self.limits.packet_bytes - _HEAD_BYTES
        kept = [at for at, size in enumerate(sizes) if size <= limit]
        largest = topics[max(range(len(sizes)), key=sizes.__getitem__)]
        self.refusal = (
            f"the broker takes at most {limit:,} bytes, too few for the topic {_name(largest)}; raise its limit"
        )
        return [topics[at] for at in kept], [payloads[at] for at in kept], [sizes[at] for at in kept]

    def take_at_once(self, data: bytes) -> bool:
        """See `Connection.take_at_once`: PUBACKs of one size, all of them of success."""
        size = 2 + data[1] if len(data) > 1 else 0
        if size not in (4, 5) or len(data) % size:
            return False
        packets = np.frombuffer(data, np.uint8).reshape(-1, size)
        packet_ids = packets[:, 2].astype(np.intp) << 8 | packets[:, 3]
        is_plain = (packets[:, 0] == _PUBACK) & (packets[:, 1] == size - 2) & (packets[:, 4:] < 0x80).all(axis=1)
        if not (is_plain & (packet_ids > 0) & (packet_ids < len(_IDS))).all():
            return False
        for packet_id in packet_ids.tolist():
            self._unacknowledged.pop(packet_id, None)
        return True

    def take(self, first_byte: int, body: bytes) -> None:
        """See `Connection.take`."""
        if first_byte != _PUBACK:
            super().take(first_byte, body)
        packet_id, code = decode_puback(body)
        topic = self._unacknowledged.pop(packet_id, None)
        if topic is None and not 0 < packet_id < len(_IDS):
            raise MalformedPacket(f"PUBACK for {packet_id}, which was never sent")
        if topic is not None and code >= 0x80:
            self.refusal = f"the broker refuses the topic {_name(topic)}: it {explain(code)}"


def _name(topic: bytes) -> str:
    return topic[2:].decode()


@asynccontextmanager
async def connect_view(access: BrokerAccess) -> AsyncIterator[ViewConnection]:
    """Connect for publishing. Raises as `connected`."""
    properties: dict[int, int] = {
        Property.SESSION_EXPIRY: 0,
        Property.RECEIVE_MAXIMUM: 1,
        Property.MAXIMUM_PACKET_SIZE: ViewConnection.packet_bytes,
        Property.REQUEST_PROBLEM_INFORMATION: 0,
    }
    async with connected(ViewConnection(access), properties, is_clean=True) as connection:
        yield connection
