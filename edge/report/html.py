"""Pieces of a page that needs nothing else: its frame, facts, tables, and room to sign by hand."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from edge.report.plots import PATTERNS
from edge.report.style import PAPER, STYLE
from edge.terminal import printable, unbroken

_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(head: str, made: str, body: Iterable[str], style: str = "") -> str:
    """A page: its title, when it was made and with what, its lines, and what it adds to the style."""
    return "\n".join([
        "<!doctype html>", '<html lang="en"><head><meta charset="utf-8">',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
        f"<title>{text(head)}</title>", f"<style>{STYLE}{style}{PAPER % (_css(head), _css(made))}</style></head><body>",
        PATTERNS, *body, "</body></html>", "",
    ])  # fmt: skip


def text(words: str) -> str:
    """Words as text of a page, without what could act on it."""
    return escape(unbroken(printable(words)))


def text_block(words: str) -> str:
    """Lines of text."""
    return "\n".join(map(text, words.splitlines()))


def _css(words: str) -> str:
    """A text within quotes of CSS."""
    return "".join(each if each.isalnum() or each in " .,:-" else f"\\{ord(each):x} " for each in printable(words))


def fact(name: str, words: str) -> str:
    """A line of a list of facts."""
    return f"<dt>{text(name)}</dt><dd>{text(words)}</dd>"


def table(
    titles: Iterable[str], lines: Iterable[Iterable[str]], *, numbers: Iterable[int] = (), name: str = ""
) -> Iterator[str]:
    """A table; the columns at `numbers` are numbers."""
    right = frozenset(numbers)

    def style(at: int) -> str:
        return ' class="number"' if at in right else ""

    heads = "".join(f"<th{style(at)}>{title}</th>" for at, title in enumerate(titles))
    yield f"<table{name and f' class={name}'}><thead><tr>{heads}</tr></thead><tbody>"
    for line in lines:
        yield f"<tr>{''.join(f'<td{style(at)}>{text(cell)}</td>' for at, cell in enumerate(line))}</tr>"
    yield "</tbody></table>"


def files(title: str, lines: Iterable[tuple[str, int, str]]) -> Iterator[str]:
    """A table of files: path, bytes, SHA-256."""
    yield f"<h3>{title}</h3>"
    cells = ((path, f"{size_bytes:,}", sha256) for path, size_bytes, sha256 in lines)
    yield from table(("File", "Bytes", "SHA-256"), cells, numbers=(1,))


def room_to_sign() -> Iterator[str]:
    """Lines for signatures by hand."""
    yield '<section class="sign">'
    for role in ("Reviewed by", "Approved by"):
        yield f"<div>{role}: name</div><div>Signature</div><div>Date</div>"
    yield "</section>"
