"""One plan in one session: its packets as the controller takes them, and what their answers look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drivers.ethernetip.cip import MULTIPLE, Sendable
from drivers.ethernetip.connection import Link
from drivers.ethernetip.decode import NOT_SUPPORTED, NOTHING, Decoder, Place, Shape, Verdict, judge, reply_of
from drivers.ethernetip.plan import EtherNetIpPlan, Packet, Read, members_of, packets
from edge.model import StatusCode, StatusRun, Vector, status_runs

_APART_NS_FIRST, _APART_NS_LIMIT = 10 * 10**9, 3600 * 10**9


class Scan:
    """What is known about one plan from scan to scan.

    Attributes:
        messages: what is asked in each scan, and brings one answer each.
        generation: how much was known of the controller when this was laid out.
        long: packets whose answers need several.
        is_apart: whether some of them was refused, and is asked in parts.
        is_mismatch: whether something was of another type than expected since this was last looked at.
    """

    def __init__(self, plan: EtherNetIpPlan, name: str, link: Link) -> None:
        self.plan = plan
        self.generation = 0
        self.is_mismatch = False
        self._together_at_ns, self._apart_ns = 0, _APART_NS_FIRST
        self._name, self._link = name, link
        self._packet_reads = plan.packet_reads
        self._long: set[Read] = set()
        self._told: set[str] = set()
        self.lay_out(plan.reads)

    def lay_out(self, reads: Sequence[Read]) -> None:
        """Read these from now on; what tells that whole structures count comes last."""
        self._laid_out = tuple(reads)
        self.is_apart = False
        self._ask(self._laid_out)

    def ask_together_again(self, now_ns: int) -> None:
        """Ask once more for what was refused, ever less often: it may have been so for a while only."""
        if self._together_at_ns == 0:
            self._together_at_ns = now_ns + self._apart_ns
        elif now_ns >= self._together_at_ns:
            self._together_at_ns, self._apart_ns = 0, min(2 * self._apart_ns, _APART_NS_LIMIT)
            self.lay_out(self._laid_out)

    def _ask(self, reads: Sequence[Read]) -> None:
        self._reads = tuple(reads)
        found = [
            replace(packet, is_long=True) if packet.reads[0] in self._long else packet
            for part in self._apart(self._reads)
            for packet in packets(part, self._link.message_bytes, self._packet_reads)
        ]
        short = [packet for packet in found if not packet.is_long]
        self.long: tuple[Packet, ...] = tuple(packet for packet in found if packet.is_long)
        self._packets = (*short, *self.long)
        self.messages: tuple[Sendable, ...] = tuple(self._link.wrapped(packet.question) for packet in short)
        self._shapes: list[Shape | None] = [None] * len(self._packets)
        self._bodies: list[bytes] = []
        self._decoder: Decoder | None = None
        self._vectors: tuple[Vector, ...] = ()
        self._status: tuple[StatusRun, ...] = ()

    def _apart(self, reads: Sequence[Read]) -> list[Sequence[Read]]:
        """Reads together, and each long one for itself: those are read before."""
        return [[read for read in reads if read not in self._long], *([read] for read in reads if read in self._long)]

    def take(self, bodies: list[bytes]) -> tuple[str, ...] | None:
        """Take the answers of a scan; what is refused, as sentences, or None when it has to be asked in other words.

        Raises:
            ProtocolViolation: something is not the answer.
        """
        if bodies == self._bodies:
            return ()
        if self._packet_reads > 1 and self._takes_one_only(bodies):
            self._packet_reads = 1
            self._ask(self._reads)
            return None
        told: list[str] = []
        for at, body in enumerate(bodies):
            shape = self._shapes[at]
            if shape is None or not shape.fits(body):
                told += self._learn(at, body)
        if self._rearrange():
            return None
        if self._decoder is None:
            self._compile(bodies)
        assert self._decoder is not None
        self._bodies = bodies
        self._vectors, wrong = self._decoder.decode(b"".join((*bodies, NOTHING)))
        self._status = self._status_of(wrong)
        return tuple(told)

    def reading(self) -> tuple[tuple[Vector, ...], tuple[StatusRun, ...]]:
        """Vectors and status of the last scan, the very same tuple as before when no byte changed."""
        return self._vectors, self._status

    def _takes_one_only(self, bodies: Sequence[bytes]) -> bool:
        """Whether the device does not know packets of several reads."""
        return any(
            packet.question.data[0] == MULTIPLE and reply_of(body, MULTIPLE).status == NOT_SUPPORTED
            for packet, body in zip(self._packets, bodies, strict=True)
        )

    def _learn(self, at: int, body: bytes) -> list[str]:
        verdict = judge(self._packets[at], body, self._name)
        self._shapes[at] = Shape(body, verdict)
        self._decoder = None
        self.is_mismatch |= verdict.is_mismatch or verdict.is_changed
        new = [sentence for sentence in verdict.sentences if sentence not in self._told]
        self._told.update(new[: max(0, 10_000 - len(self._told))])
        return new

    def _verdicts(self) -> list[Verdict]:
        return [shape.verdict for shape in self._shapes if shape is not None]

    def _rearrange(self) -> bool:
        """Ask what was refused in parts, what does not fit in fragments; whether there is any such thing.

        Under another program than that which a structure is known from, members are asked by their names.
        """
        verdicts = self._verdicts()
        if any(verdict.is_changed for verdict in verdicts):
            self._ask([part for read in self._reads for part in members_of(read)])
            return True
        long = {read for verdict in verdicts for read in verdict.long} - self._long
        refused = {read for verdict in verdicts for read in verdict.refused} - long
        if not long and not refused:
            return False
        self._long |= long
        self.is_apart |= bool(refused)
        self._ask([part for read in self._reads for part in (read.parts if read in refused else (read,))])
        return True

    def _compile(self, bodies: Sequence[bytes]) -> None:
        """Where each tag is in the image of all answers."""
        places: dict[int, Place] = {}
        offset = 0
        for verdict, body in zip(self._verdicts(), bodies, strict=True):
            places |= {place.field.tag: replace(place, at=offset + place.at) for place in verdict.places}
            offset += len(body)
        self._decoder = Decoder(self.plan.layout, places, offset)

    def _status_of(self, wrong: Sequence[int]) -> tuple[StatusRun, ...]:
        bad = {tag: status for verdict in self._verdicts() for tag, status in verdict.bad.items()}
        bad.update(dict.fromkeys(wrong, StatusCode.BAD_DECODING_ERROR))
        if not bad:
            return ()
        codes = np.zeros(len(self.plan.layout), np.uint32)
        codes[list(bad)] = list(bad.values())
        return status_runs(codes)
