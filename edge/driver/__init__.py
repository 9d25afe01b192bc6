"""The API for driver authors: interfaces, settings and the registry of drivers."""

from __future__ import annotations

from edge.driver.imports import ImportsTags, Origin, SourceTag
from edge.driver.interface import (
    Browsable,
    BrowseEntry,
    Discoverable,
    Discovered,
    Driver,
    DriverKind,
    Explains,
    Forgets,
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
    found_at,
    plan_group,
)  # fmt: skip
from edge.driver.pause import pause
from edge.driver.registry import GROUP, installed, load
from edge.driver.settings import DeviceSettings, IdentityMode, ScanGroupSettings, TagSettings, TagT

__all__ = ["GROUP", "Browsable", "BrowseEntry", "DeviceSettings", "Discoverable", "Discovered", "Driver",
           "DriverKind", "Explains", "Forgets", "HasTagMetadata", "IdentityMode", "ImportsTags",
           "Inspectable", "Origin", "Plan", "PlanCost", "PlanT", "Reconnecting", "ScanGroupSettings",
           "Session", "SharesConnection", "SimulatedDevice", "Simulates", "Simulation", "SourceTag",
           "Subscribable", "SubscriptionPlanner", "TagSettings", "TagT", "Target", "UsesCertificates",
           "found_at", "installed", "load", "pause", "plan_group"]  # fmt: skip
