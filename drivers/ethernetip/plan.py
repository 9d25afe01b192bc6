"""A scan group as packets: many reads in one Multiple Service Packet, as many as fit both ways."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from drivers.ethernetip import codec
from drivers.ethernetip.address import TagAddress
from drivers.ethernetip.codec import Question, Routed
from drivers.ethernetip.reads import Read, merge, singles
from drivers.ethernetip.settings import EtherNetIpDevice, EtherNetIpTag
from edge.driver import PlanCost
from edge.errors import ConfigError, Problem
from edge.model import Layout

SEQUENCE_BYTES = 2
_FRAME_BYTES = 44
_REQUEST_BYTES = 24  # Whatever is in a request beside its path.
_ANSWER_NS = 5 * 10**6  # What an ordinary controller takes for a packet; plans are estimated with it.
_NAMES_SHOWN = 3
_MEMBERS_WORTH_ASKING = 3  # From so many members on, reading the whole structure may be cheaper.


@dataclass(frozen=True, slots=True, eq=False)
class Packet:
    """One request: a read alone, or many in one packet; `is_long` where the answer needs several."""

    reads: tuple[Read, ...]
    question: Question
    is_long: bool = False

    @property
    def answer_bytes(self) -> int:
        """Most bytes of the answer."""
        together = sum(read.answer_bytes for read in self.reads)
        return together if len(self.reads) == 1 else codec.MULTIPLE_ANSWER_BYTES + 2 * len(self.reads) + together

    def __str__(self) -> str:
        names = ", ".join(map(str, self.reads[:_NAMES_SHOWN])) + (", ..." if len(self.reads) > _NAMES_SHOWN else "")
        how = "in fragments" if self.is_long else f"{len(self.reads)} read{'s' if len(self.reads) > 1 else ''}"
        return f"{names} ({how}, {len(self.question.data)} bytes asked, up to {self.answer_bytes} answered)"


class EtherNetIpPlan:
    """One scan group of one device as reads that need nothing known from the device."""

    def __init__(self, tags: Sequence[EtherNetIpTag], device: EtherNetIpDevice) -> None:
        self.tags = tuple(tags)
        self.device = device
        self.layout = Layout(tuple(tag.data_type for tag in tags))
        # A smaller connection may be all that there is to have.
        path_bytes_max = min(self.message_bytes, Routed.question_bytes(codec.route_path(device.way))) - _REQUEST_BYTES
        problems = [Problem(why, path=tag.name) for tag in tags if (why := _why_not(tag, device, path_bytes_max))]
        if problems:
            raise ConfigError(problems)
        self.reads = tuple(self.merged(self.singles(enumerate(self.tags))))

    def singles(self, tags: Iterable[tuple[int, EtherNetIpTag]]) -> list[Read]:
        """Some of the tags by their numbers, what is the same read once."""
        return singles(tags, is_logix=self.device.family == "logix")

    def merged(self, reads: Iterable[Read]) -> list[Read]:
        """Neighbouring elements read together, as many as fit in the smaller kind of connection too."""
        data_bytes_max = min(self.message_bytes, codec.UNCONNECTED_BYTES) - SEQUENCE_BYTES - 20
        return merge(reads, hole=self.device.limits.hole, data_bytes_max=data_bytes_max)

    @property
    def message_bytes(self) -> int:
        """Most bytes of a message, as far as the settings say."""
        if self.device.is_connected:
            return self.device.limits.connection_bytes
        return Routed.question_bytes(codec.route_path(self.device.way))

    @property
    def packet_reads(self) -> int:
        """Most reads in one packet: only Logix controllers are known to take several."""
        return self.device.limits.packet_tags if self.device.family == "logix" else 1

    @cached_property
    def structured(self) -> frozenset[str]:
        """Tags of which several members are read, in lower case: knowing their structure may pay."""
        members: Counter[str] = Counter()
        if self.device.family != "logix" or self.device.limits.structures != "auto":
            return frozenset()
        for tag in self.tags:
            if isinstance(tag.place, TagAddress) and len(tag.place.parts) > scope_parts(tag.place):
                members[base_name(tag.place)] += 1
        return frozenset(name for name, count in members.items() if count >= _MEMBERS_WORTH_ASKING)

    def cost(self) -> PlanCost:
        """See `edge.driver.Plan.cost`."""
        found = list(packets(self.reads, self.message_bytes, self.packet_reads))
        requests = sum(-(-packet.answer_bytes // self.message_bytes) for packet in found)
        return PlanCost(
            tags=len(self.tags),
            requests=requests,
            request_bytes=sum(_FRAME_BYTES + len(packet.question.data) for packet in found),
            answer_bytes=sum(_FRAME_BYTES + packet.answer_bytes for packet in found),
            took_ns=requests * _ANSWER_NS + max(0, requests - 1) * self.device.limits.gap,
        )

    def describe(self) -> Sequence[str]:
        """See `edge.driver.Plan.describe`."""
        return [str(packet) for packet in packets(self.reads, self.message_bytes, self.packet_reads)]


def scope_parts(where: TagAddress) -> int:
    """How many names say which tag it is; what follows are members."""
    return 2 if where.parts[0].name.lower().startswith("program:") else 1


def base_name(where: TagAddress) -> str:
    """The tag that an address is in, without elements and members, in lower case."""
    return ".".join(part.name for part in where.parts[: scope_parts(where)]).lower()


def packets(reads: Iterable[Read], message_bytes: int, packet_reads: int) -> Iterator[Packet]:
    """Reads in their order, in the fewest packets that hold them."""
    room = message_bytes - SEQUENCE_BYTES
    together: list[Read] = []
    asked = answered = 0
    for read in reads:
        if read.answer_bytes > room:
            yield Packet((read,), read.question, is_long=True)
            continue
        ask, answer = 2 + len(read.question.data), 2 + read.answer_bytes
        is_full = codec.MULTIPLE_REQUEST_BYTES + asked + ask > room or (
            codec.MULTIPLE_ANSWER_BYTES + answered + answer > room
        )
        if together and (is_full or len(together) == packet_reads):
            yield _packet(together)
            together, asked, answered = [], 0, 0
        together.append(read)
        asked, answered = asked + ask, answered + answer
    if together:
        yield _packet(together)


def _packet(reads: Sequence[Read]) -> Packet:
    if len(reads) == 1:
        return Packet(tuple(reads), reads[0].question)
    return Packet(tuple(reads), codec.multiple([read.question for read in reads]))


def _why_not(tag: EtherNetIpTag, device: EtherNetIpDevice, path_bytes_max: int) -> str:
    where = tag.place
    if not isinstance(where, TagAddress):
        return ""
    if device.family == "generic":
        return (
            f'{tag.address!r} is a tag of a controller; a generic device has attributes, such as "cip 1/1/7", and a '
            "controller has family logix or micro800"
        )
    if where.bit is None and tag.is_bool and len(where.indices) > 1:
        return f"{tag.address!r}: an array of BOOL has one dimension; write one index"
    if len(codec.symbolic_path(where.parts)) > path_bytes_max:
        return f"{tag.address!r} is too long: names and indices take more than {path_bytes_max} bytes"
    return ""
