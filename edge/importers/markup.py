"""XML of other programs: without entities, and with the row of each element."""

from __future__ import annotations

from typing import Any
from xml.etree.ElementTree import Element, TreeBuilder

from edge.driver import Origin
from edge.importers.found import unreadable
from edge.importers.tables import EXTRA

_ROW = ""  # The key of an attribute that no file can have.


class _Rows(TreeBuilder):
    """Remembers the row of each element."""

    expat: Any = None

    def start(self, tag: str, attributes: dict[str, Any]) -> Element:
        attributes[_ROW] = self.expat.CurrentLineNumber
        return super().start(tag, attributes)


def is_xml(data: bytes) -> bool:
    """Whether a file begins as XML does, in any encoding."""
    return data[:400].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith(b"<")


def parse_xml(data: bytes, file: str) -> Element:
    """The root element. Raises ConfigError."""
    try:
        from defusedxml.common import DefusedXmlException
        from defusedxml.ElementTree import DefusedXMLParser, ParseError
    except ImportError as error:
        raise unreadable(file, EXTRA) from error
    rows = _Rows()
    try:
        parser = DefusedXMLParser(target=rows)
        rows.expat = parser.parser
        parser.feed(data)
        root: Element = parser.close()
    except DefusedXmlException as error:
        raise unreadable(file, "it defines entities, which no list of tags needs; it is not read") from error
    except (ParseError, ValueError, LookupError) as error:  # The last is of an unknown encoding.
        raise unreadable(file, f"this is not XML: {error}") from error
    return root


def origin_of(element: Element, file: str) -> Origin:
    """Where an element begins."""
    return Origin(file, "", int(element.get(_ROW, 0)))
