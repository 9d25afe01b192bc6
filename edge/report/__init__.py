"""The report on a range of an archive: what is true of it, as text, as JSON and as a page to sign."""

from edge.report.collect import Collector
from edge.report.facts import GatewayAnswer, RangeReport

__all__ = ["Collector", "GatewayAnswer", "RangeReport"]
