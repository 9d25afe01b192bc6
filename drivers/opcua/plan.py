"""Tags to nodes: one node is read once, however many of its elements and members are tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.opcua.address import Address
from drivers.opcua.settings import Member, OpcuaDevice, OpcuaTag, TypeName, check_namespaces
from edge.driver import PlanCost
from edge.model import Layout

NODES_PER_READ = 1000
"""Most nodes in one request to a server that sets no limit."""

_REQUEST_BYTES = 100
_ANSWER_NS = 5 * 10**6  # What an ordinary server takes; plans are estimated with it.
_NODE_BYTES = 40
_RESULT_BYTES = 18


@dataclass(frozen=True, slots=True)
class Want:
    """What one tag is of a node's value.

    Attributes:
        tag: its number in the scan group.
        name: its name, for sentences.
        element: index in an array, one number for each dimension; None where the value is the whole.
        members: the way into a structure; empty where the value is the whole.
        text_bytes: most bytes of a text.
    """

    tag: int
    name: str
    type: TypeName
    element: tuple[int, ...] | None
    members: tuple[Member, ...]
    text_bytes: int


@dataclass(frozen=True, slots=True)
class Node:
    """One node, and what is wanted of its value."""

    address: Address
    wants: tuple[Want, ...]

    @property
    def is_steady(self) -> bool:
        """Whether its value takes as many bytes in each answer; texts and structures do not."""
        return not any(want.type == "text" or want.members for want in self.wants)


class OpcuaPlan:
    """One scan group of one server as nodes to be read or watched."""

    def __init__(self, tags: Sequence[OpcuaTag], device: OpcuaDevice) -> None:
        for tag in tags:
            check_namespaces(tag, device.namespaces)
        wants: dict[Address, list[Want]] = {}
        for number, tag in enumerate(tags):
            want = Want(number, tag.name, tag.type, tag.element, tag.members, tag.length)
            wants.setdefault(tag.place.within(device.namespaces), []).append(want)
        self.tags = tuple(tags)
        self.limits = device.limits
        self.layout = Layout(tuple(tag.data_type for tag in tags))
        self.nodes = tuple(Node(address, tuple(of_node)) for address, of_node in wants.items())

    @property
    def nodes_per_read(self) -> int:
        """Most nodes in one request, as far as it is known without the server."""
        return self.limits.nodes_per_read or NODES_PER_READ

    def cost(self) -> PlanCost:
        """See `edge.driver.Plan.cost`."""
        requests = -(-len(self.nodes) // self.nodes_per_read)
        turns = -(-requests // self.limits.in_flight)
        return PlanCost(
            tags=len(self.layout),
            requests=requests,
            request_bytes=_REQUEST_BYTES * requests + _NODE_BYTES * len(self.nodes),
            answer_bytes=_REQUEST_BYTES * requests + _RESULT_BYTES * len(self.nodes),
            took_ns=turns * _ANSWER_NS + max(0, requests - 1) * self.limits.gap,
        )

    def describe(self) -> Sequence[str]:
        """See `edge.driver.Plan.describe`."""
        size = self.nodes_per_read
        chunks = [self.nodes[first : first + size] for first in range(0, len(self.nodes), size)]
        return [_described(chunk) for chunk in chunks]


def _described(nodes: Sequence[Node]) -> str:
    tags = sum(len(node.wants) for node in nodes)
    ends = f"{nodes[0].address}" if len(nodes) == 1 else f"{nodes[0].address} to {nodes[-1].address}"
    return f"Read {ends} ({_counted(len(nodes), 'node')}, {_counted(tags, 'tag')})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")
