"""A scan group that its server watches for us: which nodes, how often and how closely."""

from __future__ import annotations

from collections.abc import Sequence

from drivers.opcua.plan import Node, OpcuaPlan
from drivers.opcua.settings import OpcuaDevice, OpcuaScanGroup, OpcuaSubscription, OpcuaTag
from edge.driver import PlanCost
from edge.units import format_duration

_LIFETIME_NS = 120 * 10**9
_LIFETIME_LIMIT = 2**31


class WatchPlan:
    """One subscribed scan group; see `edge.driver.Plan`.

    Attributes:
        nodes: one monitored item each, however many tags are in it; its client handle is its number here.
        deadbands: for each node, how far the server lets its value drift untold; 0 where it tells every change.
    """

    def __init__(self, group: OpcuaScanGroup, device: OpcuaDevice) -> None:
        polled = OpcuaPlan(group.tags, device)
        self.nodes, self.layout, self.limits = polled.nodes, polled.layout, polled.limits
        self.every_ns = group.every
        self._how = how = group.subscribe or OpcuaSubscription()
        self.sampling_ns = group.every if how.sampling is None else how.sampling
        self.queue = how.queue
        watched = how.deadband == "server"
        self.deadbands = tuple(_deadband(node, group.tags) if watched else 0.0 for node in self.nodes)
        self._polled = polled

    @property
    def keep_alive_count(self) -> int:
        """Publishing intervals without news after which the server says that it lives."""
        return max(1, round(self._how.keep_alive / self.every_ns))

    @property
    def lifetime_count(self) -> int:
        """Publishing intervals for which the server keeps values for us while we are away; it outlasts our retries."""
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
    """In raw values; of several tags in one node the closest watched counts."""
    wanted = [tags[want.tag] for want in node.wants]
    if not all(tag.data_type.is_number and tag.type != "datetime" and not tag.members for tag in wanted):
        return 0.0
    return min(tag.deadband_in_unit / abs(tag.scale) for tag in wanted)
