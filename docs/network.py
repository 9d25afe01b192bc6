"""The network picture of docs/how-to/ports-and-firewall.md, for light and for dark pages: `make docs`.

An arrow begins at the machine that opens a connection; the words on it say where the data go.
"""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

_TITLE = "Who opens connections to whom: the gateway to devices and broker, relay and users to the broker"
_WIDTH, _HEIGHT = 980, 476
# Background, text, labels, lines, and what is refused: each that is read has a contrast of 4.5 to 1 and more.
_COLOURS = {
    "light": ("#ffffff", "#1f2328", "#59636e", "#afb8c1", "#b42318"),
    "dark": ("#0d1117", "#f0f6fc", "#9198a1", "#484f58", "#ff8a80"),
}
_STYLE = """text {{ font-family: system-ui, "Segoe UI", "DejaVu Sans", sans-serif; font-size: 13px; fill: {text}; }}
.zone {{ font-size: 15px; font-weight: 600; }} .name {{ font-weight: 600; }}
.label {{ font-size: 12px; fill: {label}; paint-order: stroke; stroke: {background}; stroke-width: 5; }}
.refused {{ fill: {refused}; }} rect, line, path {{ stroke: {line}; fill: none; }} rect {{ stroke: {label}; }}
line.opens {{ stroke: {text}; marker-end: url(#head); }} .never {{ stroke: {refused}; stroke-dasharray: 5 4; }}
.cross {{ stroke: {refused}; stroke-width: 2.5; }} .border {{ stroke-dasharray: 2 4; }}"""
_ZONES = (
    (16, 372, "OT", "plant floor and gateway"), (388, 600, "DMZ", "broker"), (616, 964, "IT", "relay and users"),
)  # fmt: skip
# Left, top, width, height, and the lines in it.
_MACHINES = (
    (32, 96, 128, 48, ("Modbus", "502, TLS 802")),
    (32, 164, 128, 48, ("OPC UA", "4840")),
    (32, 232, 128, 48, ("EtherNet/IP", "44818")),
    (240, 96, 116, 184, ("Gateway", "192.0.2.20", "gateway.nft")),
    (434, 88, 124, 216, ("Broker", "198.51.100.10", "broker.nft")),
    (800, 88, 152, 68, ("Relay", "203.0.113.20", "relay.nft")),
    (800, 172, 152, 48, ("Historian", "a user of the values")),
    (800, 236, 152, 68, ("Enterprise broker", "203.0.113.30", "bridge.conf")),
    (404, 388, 180, 64, ("Names, time, ssh", "all machines ask 53, 123", "maintenance opens 22")),
)
# From, to, at what height, where the words are, what goes over it, and the port where it is the same for all.
_OPENS = (
    (240, 164, 120, 202, "reads", ""),
    (240, 164, 188, 202, "reads", ""),
    (240, 164, 256, 202, "reads", ""),
    (356, 430, 188, 393, "records →", "8883"),
    (800, 562, 122, 712, "records →, ← values", "8883"),
    (800, 562, 196, 712, "values →", "8883"),
    (800, 562, 270, 712, "values →", "8883"),
)


def picture(shade: str) -> str:
    """The picture as SVG; `shade` is light or dark."""
    background, text, label, line, refused = _COLOURS[shade]
    parts = [
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" xmlns="http://www.w3.org/2000/svg" role="img" aria-label="{_TITLE}">',
        f"<style>{_STYLE.format(background=background, text=text, label=label, line=line, refused=refused)}</style>",
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="8" markerHeight="8" orient="auto">',
        f'<path d="M0 0 8 4 0 8z" style="fill:{text};stroke:none"/></marker></defs>',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" rx="6" style="fill:{background};stroke:none"/>',
    ]
    for left, right, name, meaning in _ZONES:
        parts.append(_text(left + 16, 40, name, "zone") + _text(left + 16, 60, meaning, "label"))
        if right < _WIDTH - 16:
            parts.append(f'<line class="border" x1="{right + 8}" y1="16" x2="{right + 8}" y2="{_HEIGHT - 16}"/>')
    for start, end, y, words, above, below in _OPENS:
        parts.append(f'<line class="opens" x1="{start}" y1="{y}" x2="{end}" y2="{y}"/>')
        parts += [_text(words, y - 8, above, "label", "middle"), _text(words, y + 18, below, "label", "middle")]
    for left, top, width, height, lines in _MACHINES:
        parts.append(f'<rect x="{left}" y="{top}" width="{width}" height="{height}" rx="4"/>')
        first = top + height / 2 + 5 - 10 * (len(lines) - 1)
        for number, said in enumerate(lines):
            parts.append(_text(left + width / 2, first + 20 * number, said, "label" if number else "name", "middle"))
    parts += [
        '<line class="never" x1="948" y1="346" x2="390" y2="346"/>',
        '<path class="cross" d="M373 339 387 353M387 339 373 353"/>',
        _text(790, 338, "no connection, and no packet", "refused", "middle"),
        _text(32, 351, "nothing listens, unless a device dials in", "label"),
        _text(32, 432, "An arrow begins at the machine that opens", "label"),
        _text(32, 450, "the connection. All use TLS, but for devices without.", "label"),
    ]
    return "\n".join([*parts, "</svg>", ""])


def _text(x: float, y: float, said: str, kind: str, anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x:g}" y="{y:g}" text-anchor="{anchor}">{escape(said)}</text>'


if __name__ == "__main__":
    for shade in _COLOURS:
        (Path(__file__).parent / f"pictures/network-{shade}.svg").write_text(picture(shade), "utf-8")
