"""The way to a device behind others: which port to leave by, and which link to take there."""

from __future__ import annotations

Route = tuple[tuple[int, int | str], ...]
_PORT_MAX = 14
_LINK_MAX = 255


def parse_route(text: str) -> Route:
    """Ports and links of a route such as "1,4,2,192.168.1.5,1,0", or ValueError."""
    steps = [step.strip() for step in text.split(",")]
    if len(steps) % 2 or not all(steps):
        raise ValueError(f'{text!r} is not a route; write port and link in turn, as in "1,0" for slot 0')
    return tuple((_port(port, text), _link(link, text)) for port, link in zip(steps[::2], steps[1::2], strict=True))


def _port(port: str, text: str) -> int:
    if not port.isdecimal() or not 1 <= int(port) <= _PORT_MAX:
        raise ValueError(f"{text!r}: {port!r} is not a port; 1 is the backplane, 2 the network of most modules")
    return int(port)


def _link(link: str, text: str) -> int | str:
    if link.isdecimal():
        if int(link) > _LINK_MAX:
            raise ValueError(f"{text!r}: a slot or node goes up to {_LINK_MAX}, not {link}")
        return int(link)
    if not link.isascii() or len(link) > 64 or " " in link:
        raise ValueError(f"{text!r}: {link!r} is neither a slot nor an address")
    return link
