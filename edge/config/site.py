"""What is allowed, and probably not meant on a plant: warnings over the whole configuration."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address

from edge.config.settings import Broker, GatewaySettings, RelaySettings, Status, host_and_port
from edge.config.source import Node
from edge.errors import Problem
from edge.units import format_size


def gateway_warnings(settings: GatewaySettings, root: Node) -> Iterator[Problem]:
    """Warnings for a gateway."""
    yield from _room(settings, root)
    yield from _status(settings.status, root)
    if settings.uplink is None and "uplink" not in root.dropped:
        yield _warning(root, "no uplink is written: records stay in the buffer and go nowhere")
    elif settings.uplink is not None:
        yield from _broker(settings.uplink.mqtt, root, "uplink", "mqtt")


def relay_warnings(settings: RelaySettings, root: Node) -> Iterator[Problem]:
    """Warnings for a relay."""
    yield from _status(settings.relay.status, root, "relay")
    yield from _broker(settings.relay.mqtt, root, "relay", "mqtt")
    namespace = settings.relay.views.unified_namespace
    if namespace is not None and namespace.mqtt is not None:
        yield from _broker(namespace.mqtt, root, "relay", "views", "unified_namespace", "mqtt")


def _room(settings: GatewaySettings, root: Node) -> Iterator[Problem]:
    directory = settings.buffer_directory.absolute()
    try:
        existing = next(parent for parent in (directory, *directory.parents) if parent.exists())
        disk_bytes = shutil.disk_usage(existing).total
    except OSError:  # A folder we may not look into, where the service may.
        return
    buffer = settings.buffer
    if buffer.limit + buffer.free_space > disk_bytes:
        message = (
            f"{format_size(buffer.limit)} and {format_size(buffer.free_space)} left free are more than the disk of "
            f"{existing} has ({format_size(disk_bytes)}); the oldest records will go earlier"
        )
        yield _warning(root, message, "buffer", "limit")


def _status(status: Status, root: Node, *above: str) -> Iterator[Problem]:
    if status.metrics is not None and not _is_loopback(host_and_port(status.metrics)[0]):
        yield _warning(root, "metrics are served beyond this machine", *above, "status", "metrics")


def _broker(broker: Broker, root: Node, *path: str) -> Iterator[Problem]:
    if broker.tls == "off" and not _is_loopback(broker.host):
        yield _warning(root, "readings and the password travel unprotected", *path, "tls")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _warning(root: Node, message: str, *path: str) -> Problem:
    """A warning at a key, or at what is above it when the key is not written."""
    node = root
    for key in path:
        if (below := node[key]) is None:
            break
        node = below
    return replace(node.problem(message), path=".".join(path), severity="warning")
