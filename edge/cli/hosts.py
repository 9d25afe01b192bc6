"""Hosts as an engineer writes them: an address, a name, a network or a range, with ports; or a URL."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from urllib.parse import urlsplit

from edge.driver import Target
from edge.units import check_host

HOSTS_LIMIT = 4096
"""A /20: larger networks are searched in parts."""

_PORT_LAST = 65535
_PORTS_MAX = 16

Address = IPv4Address | IPv6Address


def targets_of(text: str, ports: Sequence[int] = ()) -> list[Target]:
    """Every host of the text, with the ports that it names or else these; ValueError with a sentence as below."""
    if "://" in text:
        return [_target_of_url(text)]
    head, colon, tail = text.rpartition(":")
    if colon and (":" not in head or head.endswith("]")):
        text, ports = head, ports_of(tail)
    return [Target(host, tuple(ports)) for host in hosts_of(text)]


def ports_of(text: str) -> list[int]:
    """The ports of a list such as 502,1502; ValueError with a sentence where it is none."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isdecimal() and 1 <= int(word) <= _PORT_LAST for word in words):
        raise ValueError(f"{text!r} is no port or list of ports; write 192.0.2.10:502, or 192.0.2.10:502,1502")
    if len(words) > _PORTS_MAX:
        raise ValueError(f"{len(words)} ports; at most {_PORTS_MAX} are tried at a host")
    return list(dict.fromkeys(map(int, words)))


def _target_of_url(url: str) -> Target:
    try:
        parts = urlsplit(url)
        port, (host, *_) = parts.port, hosts_of(parts.hostname or "")
    except ValueError as error:
        raise ValueError(f"{url} is no URL of a host: {error}") from error
    return Target(host, (port,) if port else (), url)


def hosts_of(text: str) -> list[str]:
    """Every host of the text; ValueError with a sentence where it names no host or too many."""
    if "/" in text:
        return _network(text)
    low, dash, high = text.partition("-")
    if dash and (first := _address(low)) is not None:
        return _range(text, first, high)
    address = _address(text)
    if address is not None:
        _refuse_many(text, address)
        return [str(address)]
    try:
        is_host = bool(check_host(text)) and not text.replace(".", "").isdecimal()
    except ValueError:
        is_host = False
    if not is_host:
        raise ValueError(f"{text} is no address, name, network (192.0.2.0/28) or range (192.0.2.10-20)")
    return [text]


def _network(text: str) -> list[str]:
    try:
        network = ip_network(text, strict=False)
    except ValueError as error:
        raise ValueError(f"{text} is no network: {error}") from error
    _refuse_too_many(text, network.num_addresses)
    _refuse_many(text, network.network_address)
    return list(map(str, network.hosts()))  # Without the network's own address and its broadcast.


def _range(text: str, first: Address, high: str) -> list[str]:
    start, _, _ = str(first).rpartition(".")
    last = _address(f"{start}.{high}" if high.isdecimal() and first.version == 4 else high)
    if last is None or last.version != first.version or int(last) < int(first):
        raise ValueError(f"{text} is no range; write it as 192.0.2.10-192.0.2.20, or 192.0.2.10-20")
    _refuse_too_many(text, int(last) - int(first) + 1)
    found = [type(first)(number) for number in range(int(first), int(last) + 1)]
    for address in found:
        _refuse_many(text, address)
    return list(map(str, found))


def _address(text: str) -> Address | None:
    try:
        return ip_address(text.strip("[]"))
    except ValueError:
        return None


def _refuse_too_many(text: str, count: int) -> None:
    if count > HOSTS_LIMIT:
        raise ValueError(f"{text} is {count:,} addresses; at most {HOSTS_LIMIT:,} (a /20) are asked at a time")


def _refuse_many(text: str, address: Address) -> None:
    """Refuse addresses that reach many devices at once."""
    if address.is_multicast or address.is_unspecified or str(address) == "255.255.255.255":
        raise ValueError(f"{text} is not one device but many, or none; name hosts or a network")
