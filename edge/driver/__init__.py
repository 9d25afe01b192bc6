"""The API for driver authors: interfaces, settings and the registry of drivers."""

from __future__ import annotations

from edge.driver.interface import (
    Browsable,
    BrowseEntry,
    Discoverable,
    Discovered,
    Driver,
    DriverKind,
    Explains,
    HasTagMetadata,
    Inspectable,
    Plan,
    PlanCost,
    PlanT,
    Reconnecting,
    Session,
    SharesConnection,
    SimulatedDevice,
    Simulates,
    Simulation,
    Subscribable,
    SubscriptionPlanner,
    Target,
    UsesCertificates,
    plan_group,
)  # fmt: skip
from edge.driver.registry import GROUP, installed, load
from edge.driver.settings import DeviceSettings, IdentityMode, ScanGroupSettings, TagSettings, TagT

__all__ = ["GROUP", "Browsable", "BrowseEntry", "DeviceSettings", "Discoverable", "Discovered", "Driver",
           "DriverKind", "Explains", "HasTagMetadata", "IdentityMode", "Inspectable", "Plan", "PlanCost", "PlanT",
           "Reconnecting", "ScanGroupSettings", "Session", "SharesConnection", "SimulatedDevice", "Simulates",
           "Simulation", "Subscribable", "SubscriptionPlanner", "TagSettings", "TagT", "Target", "UsesCertificates",
           "installed", "load", "plan_group"]  # fmt: skip
