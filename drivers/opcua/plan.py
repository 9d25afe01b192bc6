"""Tags to nodes that are read or monitored: one node once, however many of its elements and members are tags."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from drivers.opcua.address import Address
from drivers.opcua.settings import (
    Member,
    OpcuaDevice,
    OpcuaScanGroup,
    OpcuaSubscription,
    OpcuaTag,
    TypeName,
    check_namespaces,
)
from edge.driver import PlanCost
from edge.model import Layout
from edge.units import format_duration

NODES_PER_READ = 1000
"""Most nodes in one request to a server that sets no limit."""

_REQUEST_BYTES = 100
_ANSWER_NS = 5 * 10**6  # Of an ordinary server, for estimates.
_NODE_BYTES = 40
_RESULT_BYTES = 18


@dataclass(frozen=True, slots=True)
class ValueSelector:
    """Which part of a node's value is a tag.

    Attributes:
        tag: its number in the scan group.
        name: its name, for sentences.
        element: index in an array, one number for each dimension; None where the value is the whole.
        members: the way into a structure; empty where the value is the whole.
        text_bytes: most bytes of a text.
        address: of the node.
    """

    tag: int
    name: str
    type: TypeName
    element: tuple[int, ...] | None
    members: tuple[Member, ...]
    text_bytes: int
    address: Address | None = None


@dataclass(frozen=True, slots=True)
class Node:
    """One node, and which parts of its value are tags."""

    address: Address
    selectors: tuple[ValueSelector, ...]

    @property
    def has_fixed_size(self) -> bool:
        """Whether its value has the same size in each response; texts and structures do not."""
        return not any(selector.type == "text" or selector.members for selector in self.selectors)


class OpcuaPlan:
    """One scan group of one server as nodes to be read or monitored."""

    def __init__(self, tags: Sequence[OpcuaTag], device: OpcuaDevice) -> None:
        for tag in tags:
            check_namespaces(tag, device.namespaces)
        selectors: dict[Address, list[ValueSelector]] = {}
        for number, tag in enumerate(tags):
            address = tag.parsed_address.within(device.namespaces)
            selector = ValueSelector(number, tag.name, tag.type, tag.element, tag.members, tag.length, address)
            selectors.setdefault(address, []).append(selector)
        self.tags = tuple(tags)
        self.limits = device.limits
        self.layout = Layout(tuple(tag.data_type for tag in tags))
        self.nodes = tuple(Node(address, tuple(of_node)) for address, of_node in selectors.items())

    @property
    def nodes_per_read(self) -> int:
        """Most nodes in one request, before the server has stated its own limit."""
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
    tags = sum(len(node.selectors) for node in nodes)
    ends = f"{nodes[0].address}" if len(nodes) == 1 else f"{nodes[0].address} to {nodes[-1].address}"
    return f"Read {ends} ({_counted(len(nodes), 'node')}, {_counted(tags, 'tag')})"


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}" + ("s" if count != 1 else "")


_LIFETIME_NS = 120 * 10**9
_LIFETIME_LIMIT = 2**31


class SubscriptionPlan:
    """One subscribed scan group; see `edge.driver.Plan`.

    Attributes:
        nodes: one monitored item each, however many tags are in it; its client handle is its number here.
        deadbands: for each node, the deadband of the server; 0 where it reports every change.
    """

    def __init__(self, group: OpcuaScanGroup, device: OpcuaDevice) -> None:
        polled = OpcuaPlan(group.tags, device)
        self.nodes, self.layout, self.limits = polled.nodes, polled.layout, polled.limits
        self.every_ns = group.every
        self._how = how = group.subscribe or OpcuaSubscription()
        self.sampling_ns = group.every if how.sampling is None else how.sampling
        self.queue = how.queue
        is_filtered = how.deadband == "server"
        self.deadbands = tuple(_deadband(node, group.tags) if is_filtered else 0.0 for node in self.nodes)
        self._polled = polled

    @property
    def keep_alive_count(self) -> int:
        """Publishing intervals without a change after which the server sends a keep-alive."""
        return max(1, round(self._how.keep_alive / self.every_ns))

    @property
    def lifetime_count(self) -> int:
        """Publishing intervals for which the server keeps a subscription without a session; longer than our retries."""
        return min(max(3 * self.keep_alive_count, -(-_LIFETIME_NS // self.every_ns)), _LIFETIME_LIMIT)

    def cost(self) -> PlanCost:
        """See `edge.driver.Plan.cost`: that of a notification in which every value changed."""
        cost = self._polled.cost()
        return PlanCost(
            tags=cost.tags, requests=1, request_bytes=cost.request_bytes // max(1, cost.requests),
            answer_bytes=cost.answer_bytes, took_ns=cost.took_ns // max(1, cost.requests),
        )  # fmt: skip

    def describe(self) -> Sequence[str]:
        """See `edge.driver.Plan.describe`."""
        every = format_duration(self.every_ns)
        sampled = f"every {format_duration(self.sampling_ns)}" if self.sampling_ns else "as fast as the server can"
        how = f"sampled {sampled}, told every {every}, up to {self.queue} values a node"
        return [line.replace("Read ", "Watch ", 1) + f", {how}" for line in self._polled.describe()]


def _deadband(node: Node, tags: Sequence[OpcuaTag]) -> float:
    """In raw values; the smallest of a node with several tags."""
    wanted = [tags[selector.tag] for selector in node.selectors]
    if not all(tag.data_type.is_number and tag.type != "datetime" and not tag.members for tag in wanted):
        return 0.0
    return min(tag.deadband_in_unit / abs(tag.factor) for tag in wanted)
