"""YAML in; settings, or every problem with its line, out."""

from edge.config.catalogue import catalogue
from edge.config.check import Checked, check, load, load_relay
from edge.config.settings import GatewaySettings, RelaySettings

__all__ = ["Checked", "GatewaySettings", "RelaySettings", "catalogue", "check", "load", "load_relay"]
