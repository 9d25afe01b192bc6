"""One plan in one session: its requests as the controller accepts them, and what their answers look like."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from drivers.ethernetip.cip import MULTIPLE, NOT_SUPPORTED, REPLY, Sendable
from drivers.ethernetip.connection import CipSession
from drivers.ethernetip.decode import PADDING, AnswerPattern, Decoder, PacketResult, ValueLocation, check_answer
from drivers.ethernetip.plan import EtherNetIpPlan, Packet, Read, Suspects, members_of, packet_of, packets
from edge.model import StatusCode, StatusRun, Vector, status_runs

_SUSPECTED = 2
_RETRY_NS_FIRST, _RETRY_NS_LIMIT = 10 * 10**9, 3600 * 10**9


class PollState:
    """What is known about one plan from scan to scan.

    Attributes:
        messages: requests of each scan that have one answer each.
        generation: `BackgroundQueries.generation` that the reads were chosen for.
        short: packets that are answered at once, in the order of `messages`.
        fragmented: packets whose answers need several requests.
        is_split: whether some read was refused and is read in parts, alone or not at all.
        is_mismatch: whether something had another type than expected; the session resets it.
        vectors: values of the last scan, the very same tuple as before when no byte changed.
        status: the tags of the last scan that are not GOOD.
    """

    def __init__(self, plan: EtherNetIpPlan, name: str, session: CipSession, suspects: Suspects) -> None:
        self.plan = plan
        self.generation = 0
        self.is_mismatch = False
        self._retry_at_ns, self._retry_after_ns = 0, _RETRY_NS_FIRST
        self._name, self._session, self._suspects = name, session, suspects
        self._packet_reads = plan.packet_reads if suspects.has_packets else 1
        self._reads: tuple[Read, ...] = ()
        self._packets: tuple[Packet, ...] = ()
        self._fragmented_reads: set[Read] = set()
        self._alone: set[Read] = set()  # Their answers are malformed.
        self._reported: set[str] = set()
        self._is_provisional = self._puts_off = self._has_new_culprit = self._was_read = False
        self._is_unexplained = False
        self.use_reads(plan.reads)

    def use_reads(self, reads: Sequence[Read]) -> None:
        """Use these reads from now on; a check for program changes is the last of them."""
        self._unsplit_reads = tuple(reads)
        self.is_split = False
        self._end_trial()
        self._build_requests(self._unsplit_reads)

    def ask_together_again(self, now_ns: int) -> None:
        """Ask together what is not to blame, and at growing intervals all of it: the refusal may have been temporary.

        Of the reads that are left out only one is tried at a time: it may cost the session.
        """
        if self._is_provisional:
            self._end_trial()
            self._build_requests(self._reads)
        elif self._retry_at_ns == 0:
            self._retry_at_ns = now_ns + self._retry_after_ns
        elif now_ns >= self._retry_at_ns:
            self._retry_at_ns, self._retry_after_ns = 0, min(2 * self._retry_after_ns, _RETRY_NS_LIMIT)
            self._was_read = self._is_unexplained = False
            self._alone.clear()
            self._suspects.halved.clear()
            if self._left_out:
                tried = next(data for data in self._suspects.left_out if data in self._left_out)
                del self._suspects.left_out[tried]
                self._suspects.losses[tried] = _SUSPECTED
            self.use_reads(self._unsplit_reads)

    def _end_trial(self) -> None:
        """End that reads are asked one by one to find the one to blame."""
        if self._is_provisional:
            self._is_unexplained = not self._has_new_culprit
            if self._has_new_culprit:
                self._suspects.halved.clear()
            self._is_provisional = self._puts_off = self._has_new_culprit = self._was_read = False

    def clear(self, answered: Sequence[Packet]) -> None:
        """Note that these packets were answered: no read that was asked alone is suspected any more."""
        for packet in answered:
            if len(packet.reads) == 1:
                self._suspects.losses.pop(packet.question.data, None)

    def suspect(self, packet: Packet, why: str, *, is_alive: bool, puts_off: bool) -> bool:
        """Note that the session was lost at a packet; whether to read on in another session.

        `is_alive` says that the device answered other reads in this session, `puts_off` to leave what is suspected to
        the next scan: the first values do not wait for it.
        """
        suspects, first = self._suspects, packet.reads[0]
        before = self._losses(packet)
        is_outage = self._was_read and not before
        for read in packet.reads:
            suspects.losses[read.question.data] = 1 if is_outage else max(before + 1, _SUSPECTED)
        if is_outage:
            return False
        # Without structures, no value depends on a check for program changes that may be what is lost.
        self._reads = tuple(part for read in self._reads for part in members_of(read))
        if len(packet.reads) > 1:
            if self._is_unexplained:  # No read of the packet before was to blame: it is that there are several.
                suspects.has_packets, self._packet_reads = False, 1
            suspects.halved.add(packet.question.data)
        elif first.parts or first.expected_bytes:
            self._reads = tuple(part for read in self._reads for part in (first.parts if read is first else (read,)))
        elif before and is_alive:
            suspects.left_out[first.question.data] = why
            self._has_new_culprit = True
        elif len(self._packets) == 1:
            return False
        self.is_split = self._is_provisional = True
        self._puts_off = puts_off
        self._build_requests(self._reads)
        return bool(self._packets)

    def is_suspect(self, packet: Packet) -> bool:
        """Whether the session was lost at a part of this packet."""
        return self._losses(packet) >= _SUSPECTED

    def _losses(self, packet: Packet) -> int:
        return max(self._suspects.losses[read.question.data] for read in packet.reads)

    def rebuild(self) -> None:
        """Make the requests again, for a session with another connection."""
        self._was_read = False
        self._build_requests(self._reads)

    def _build_requests(self, reads: Sequence[Read]) -> None:
        self._reads = tuple(reads)
        self._absent: dict[int, StatusCode] = {}
        self._absences: list[str] = []
        self._left_out = {read.question.data for read in self._reads} & self._suspects.left_out.keys()
        for read in self._reads:
            if read.question.data in self._left_out:
                why = self._suspects.left_out[read.question.data]
                self._leave_out(read, f"{self._name}: {read} is left out, because it costs the session: {why}")
        asked = [read for read in self._reads if read.question.data not in self._left_out]
        losses = self._suspects.losses
        apart = self._fragmented_reads | self._alone | {one for one in asked if losses[one.question.data] >= _SUSPECTED}
        alone = [read for read in asked if read in apart]
        together = [read for read in asked if read not in apart]
        found = [
            replace(part, is_fragmented=self.plan.has_fragments)
            if part.is_fragmented or part.reads[0] in self._fragmented_reads
            else part
            for group in (*([read] for read in alone), together)
            for packet in packets(group, self._session.message_bytes, self._packet_reads)
            for part in self._in_parts(packet)
        ]
        if losses:
            found = self._suspects_last(found)
        self.short: tuple[Packet, ...] = tuple(packet for packet in found if not packet.is_fragmented)
        self.fragmented: tuple[Packet, ...] = tuple(packet for packet in found if packet.is_fragmented)
        self._packets = (*self.short, *self.fragmented)
        self.messages: tuple[Sendable, ...] = tuple(self._session.routed(packet.question) for packet in self.short)
        self._patterns: list[AnswerPattern | None] = [None] * len(self._packets)
        self._bodies: list[bytes] | None = None
        self._decoder: Decoder | None = None
        self.is_split |= bool(self._absent or self._alone or self._suspects.halved)
        self.vectors: tuple[Vector, ...] = ()
        self.status: tuple[StatusRun, ...] = ()

    def _in_parts(self, packet: Packet) -> Iterator[Packet]:
        if packet.question.data not in self._suspects.halved:
            yield packet
            return
        middle = len(packet.reads) // 2
        for half in (packet.reads[:middle], packet.reads[middle:]):
            yield from self._in_parts(packet_of(half))

    def _suspects_last(self, found: Sequence[Packet]) -> list[Packet]:
        """The packets, those last at which the session was lost; a check for program changes remains the very last."""
        suspected = sorted(filter(self.is_suspect, found), key=self._losses)
        others = [packet for packet in found if packet not in suspected]
        if self._puts_off:
            for read in (read for packet in suspected for read in packet.reads):
                self._leave_out(read, f"{self._name}: {read} waits for the next scan: the session was lost at it")
            return others
        return sorted((*others, *suspected), key=lambda packet: bool(packet.reads[-1].expected_bytes))

    def _leave_out(self, read: Read, why: str) -> None:
        self._absent.update((one.tag, StatusCode.BAD_DEVICE_FAILURE) for one in read.fields)
        self._absences.append(why)

    def take(self, bodies: list[bytes]) -> tuple[str, ...] | None:
        """Take the answers of a scan: new violations as sentences, or None where changed requests go out again."""
        if bodies == self._bodies:
            return ()
        if self._packet_reads > 1 and self._is_multiple_unsupported(bodies):
            self._packet_reads = 1
            self._build_requests(self._reads)
            return None
        for at, body in enumerate(bodies):
            pattern = self._patterns[at]
            if pattern is None or not pattern.matches(body):
                self._check(at, body)
        if self._rearrange():
            return None
        violations: tuple[str, ...] = ()
        if self._decoder is None:
            violations = self._settle(bodies)
        assert self._decoder is not None
        self._bodies = bodies
        self.vectors, wrong = self._decoder.decode(b"".join((*bodies, PADDING)))
        self.status = self._status_of(wrong)
        return violations

    def _is_multiple_unsupported(self, bodies: Sequence[bytes]) -> bool:
        """Whether the device does not know packets of several reads."""
        refused = bytes((MULTIPLE | REPLY, NOT_SUPPORTED))
        return any(body[:3:2] == refused for body in bodies)

    def _check(self, at: int, body: bytes) -> None:
        """Check an answer in full and remember its pattern."""
        packet, read = self._packets[at], self._packets[at].reads[0]
        result = check_answer(packet, body, self._name)
        if result.malformed is not None:
            if len(packet.reads) > 1:
                self._suspects.halved.add(packet.question.data)
            elif read.parts:
                result.refused.append(read)
            elif read.expected_bytes:
                result.is_changed = True
            else:
                result.bad.update((one.tag, StatusCode.BAD_DECODING_ERROR) for one in read.fields)
                result.violations.append(f"{self._name}: the answer to {read} is malformed: {result.malformed}")
                self._ask_alone(read)
        elif len(packet.reads) == 1 and result.bad and self._suspects.halved:
            self._ask_alone(read)  # For it a packet was refused as a whole.
        self._patterns[at] = AnswerPattern(body, result)
        self._decoder = None
        self.is_mismatch |= result.is_mismatch or result.is_changed

    def _ask_alone(self, read: Read) -> None:
        if read not in self._alone:
            self.is_split = self._is_provisional = self._has_new_culprit = True
            self._alone.add(read)

    def _settle(self, bodies: Sequence[bytes]) -> tuple[str, ...]:
        """Take the answers to requests that remain as they are: new violations, each reported once."""
        results = self._results()
        self._compile(bodies)
        self._was_read = True
        for packet in self._packets if self._suspects.losses else ():
            for read in packet.reads:
                self._suspects.losses.pop(read.question.data, None)
        said = [*self._absences, *(sentence for result in results for sentence in result.violations)]
        new = [sentence for sentence in dict.fromkeys(said) if sentence not in self._reported]
        self._reported.update(new[: max(0, 10_000 - len(self._reported))])
        return tuple(new)

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
        is_packet_refused = any(
            result.malformed is not None and len(packet.reads) > 1
            for packet, result in zip(self._packets, results, strict=True)
        )
        if not fragmented and not refused and not is_packet_refused:
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
        bad = self._absent | {tag: status for result in self._results() for tag, status in result.bad.items()}
        bad.update(dict.fromkeys(wrong, StatusCode.BAD_DECODING_ERROR))
        if not bad:
            return ()
        codes = np.zeros(len(self.plan.layout), np.uint32)
        codes[list(bad)] = list(bad.values())
        return status_runs(codes)
