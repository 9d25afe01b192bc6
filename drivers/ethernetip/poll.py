"""One plan in one session: its requests as the controller accepts them, and what their answers look like."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from drivers.ethernetip.cip import MULTIPLE, NOT_SUPPORTED, Sendable, reply_of
from drivers.ethernetip.connection import CipSession
from drivers.ethernetip.decode import PADDING, AnswerPattern, Decoder, PacketResult, ValueLocation, check_answer
from drivers.ethernetip.plan import EtherNetIpPlan, Packet, Read, members_of, packets
from edge.model import StatusCode, StatusRun, Vector, status_runs

_RETRY_NS_FIRST, _RETRY_NS_LIMIT = 10 * 10**9, 3600 * 10**9


class PollState:
    """What is known about one plan from scan to scan.

    Attributes:
        messages: requests of each scan that have one answer each.
        generation: `BackgroundQueries.generation` that the reads were chosen for.
        fragmented: packets whose answers need several requests.
        is_split: whether some read was refused and is read in parts.
        is_mismatch: whether something had another type than expected; the session resets it.
        vectors: values of the last scan, the very same tuple as before when no byte changed.
        status: the tags of the last scan that are not GOOD.
    """

    def __init__(self, plan: EtherNetIpPlan, name: str, session: CipSession) -> None:
        self.plan = plan
        self.generation = 0
        self.is_mismatch = False
        self._retry_at_ns, self._retry_after_ns = 0, _RETRY_NS_FIRST
        self._name, self._session = name, session
        self._packet_reads = plan.packet_reads
        self._fragmented_reads: set[Read] = set()
        self._reported: set[str] = set()
        self.use_reads(plan.reads)

    def use_reads(self, reads: Sequence[Read]) -> None:
        """Use these reads from now on; a check for program changes is the last of them."""
        self._unsplit_reads = tuple(reads)
        self.is_split = False
        self._build_requests(self._unsplit_reads)

    def retry_unsplit(self, now_ns: int) -> None:
        """Try the refused reads again at growing intervals: the refusal may have been temporary."""
        if self._retry_at_ns == 0:
            self._retry_at_ns = now_ns + self._retry_after_ns
        elif now_ns >= self._retry_at_ns:
            self._retry_at_ns, self._retry_after_ns = 0, min(2 * self._retry_after_ns, _RETRY_NS_LIMIT)
            self.use_reads(self._unsplit_reads)

    def _build_requests(self, reads: Sequence[Read]) -> None:
        self._reads = tuple(reads)
        together = [read for read in self._reads if read not in self._fragmented_reads]
        alone = [read for read in self._reads if read in self._fragmented_reads]
        found = [
            replace(packet, is_fragmented=True) if packet.reads[0] in self._fragmented_reads else packet
            for group in (together, *([read] for read in alone))
            for packet in packets(group, self._session.message_bytes, self._packet_reads)
        ]
        short = [packet for packet in found if not packet.is_fragmented]
        self.fragmented: tuple[Packet, ...] = tuple(packet for packet in found if packet.is_fragmented)
        self._packets = (*short, *self.fragmented)
        self.messages: tuple[Sendable, ...] = tuple(self._session.routed(packet.question) for packet in short)
        self._patterns: list[AnswerPattern | None] = [None] * len(self._packets)
        self._bodies: list[bytes] = []
        self._decoder: Decoder | None = None
        self.vectors: tuple[Vector, ...] = ()
        self.status: tuple[StatusRun, ...] = ()

    def take(self, bodies: list[bytes]) -> tuple[str, ...] | None:
        """Take the answers of a scan: new violations as sentences, or None when the requests changed and go out again.

        Raises:
            ProtocolViolation: something is not the answer.
        """
        if bodies == self._bodies:
            return ()
        if self._packet_reads > 1 and self._is_multiple_unsupported(bodies):
            self._packet_reads = 1
            self._build_requests(self._reads)
            return None
        violations: list[str] = []
        for at, body in enumerate(bodies):
            pattern = self._patterns[at]
            if pattern is None or not pattern.matches(body):
                violations += self._check(at, body)
        if self._rearrange():
            return None
        if self._decoder is None:
            self._compile(bodies)
        assert self._decoder is not None
        self._bodies = bodies
        self.vectors, wrong = self._decoder.decode(b"".join((*bodies, PADDING)))
        self.status = self._status_of(wrong)
        return tuple(violations)

    def _is_multiple_unsupported(self, bodies: Sequence[bytes]) -> bool:
        """Whether the device does not know packets of several reads."""
        return any(
            packet.question.data[0] == MULTIPLE and reply_of(body, MULTIPLE).status == NOT_SUPPORTED
            for packet, body in zip(self._packets, bodies, strict=True)
        )

    def _check(self, at: int, body: bytes) -> list[str]:
        """Check an answer in full and remember its pattern; its violations, each reported once."""
        result = check_answer(self._packets[at], body, self._name)
        self._patterns[at] = AnswerPattern(body, result)
        self._decoder = None
        self.is_mismatch |= result.is_mismatch or result.is_changed
        new = [sentence for sentence in result.violations if sentence not in self._reported]
        self._reported.update(new[: max(0, 10_000 - len(self._reported))])
        return new

    def _results(self) -> list[PacketResult]:
        return [pattern.result for pattern in self._patterns if pattern is not None]

    def _rearrange(self) -> bool:
        """Split what was refused into parts, and read what does not fit in fragments; True if the requests changed.

        After a program change, structures are read member by member, by name.
        """
        results = self._results()
        if any(result.is_changed for result in results):
            self._build_requests([part for read in self._reads for part in members_of(read)])
            return True
        fragmented = {read for result in results for read in result.fragmented} - self._fragmented_reads
        refused = {read for result in results for read in result.refused} - fragmented
        if not fragmented and not refused:
            return False
        self._fragmented_reads |= fragmented
        self.is_split |= bool(refused)
        self._build_requests([part for read in self._reads for part in (read.parts if read in refused else (read,))])
        return True

    def _compile(self, bodies: Sequence[bytes]) -> None:
        """Find each tag in the image of all answers."""
        locations: dict[int, ValueLocation] = {}
        offset = 0
        for result, body in zip(self._results(), bodies, strict=True):
            locations |= {one.field.tag: replace(one, at=offset + one.at) for one in result.locations}
            offset += len(body)
        self._decoder = Decoder(self.plan.layout, locations, offset)

    def _status_of(self, wrong: Sequence[int]) -> tuple[StatusRun, ...]:
        bad = {tag: status for result in self._results() for tag, status in result.bad.items()}
        bad.update(dict.fromkeys(wrong, StatusCode.BAD_DECODING_ERROR))
        if not bad:
            return ()
        codes = np.zeros(len(self.plan.layout), np.uint32)
        codes[list(bad)] = list(bad.values())
        return status_runs(codes)
