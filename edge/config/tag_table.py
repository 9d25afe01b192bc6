"""Tags from a CSV file: the header names the keys, each row is a tag, an empty cell leaves its key out.

A column `every` is the interval of each tag, which is a key of the scan group and not of the tag.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Sequence
from io import StringIO
from typing import Any, get_args, get_origin

from edge.config import messages
from edge.config.fields import Field, fields_of
from edge.config.yaml_tree import Mark, Node, Scalar, decode, problem_at, scalar_of
from edge.driver import ScanGroupSettings
from edge.errors import Problem
from edge.settings import Settings

_NUMBER_SEPARATOR = re.compile(r"\s*(?:\.\.|[;,|\s])\s*")
_TEXT_SEPARATOR = re.compile(r"\s*[;,|]\s*")
INTERVAL = "every"
_LISTS = {tuple, list, Sequence}
_SCALARS = {str, int, float, bool}
_SEPARATORS = (",", ";", "\t")


def tags_of(data: bytes, file: str, model: type[Settings]) -> tuple[list[Node], list[Problem]]:
    """A node for each row, marked with line and column of the table, and the problems of its form.

    Args:
        model: the settings of a tag; a cell is parsed by the type of its field.
    """
    rows, problems = rows_of(data, file)
    if not rows:
        return [], problems
    table = _Table(file, model, rows[0][1])
    nodes = [node for line, cells in rows[1:] if any(cells) and (node := table.row(line, cells))]
    return nodes, table.problems + problems


def rows_of(data: bytes, file: str) -> tuple[list[tuple[int, list[str]]], list[Problem]]:
    """The lines of a table with the cells of each, headings first, and the problems of its form."""
    text = decode(data, file)
    if isinstance(text, Problem):
        return [], [text]
    separator = separator_of(text)
    try:
        return list(cells_of(text, separator)), []
    except csv.Error as error:
        return [], [problem_at(Mark(file), f"this is not CSV: {error}")]


def tag_fields(model: type[Settings]) -> dict[str, Field]:
    """The columns that a table of these tags may have: keys of a tag, and its interval."""
    return {**fields_of(model), INTERVAL: fields_of(ScanGroupSettings)[INTERVAL]}


def separator_of(text: str) -> str:
    """What separates the cells of a table, by its header."""
    return max(_SEPARATORS, key=text.partition("\n")[0].count)


def cells_of(text: str, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Line and cells of each row, the header first. Raises csv.Error."""
    reader = csv.reader(StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    for cells in reader:
        yield line, [cell.strip() for cell in cells]
        line = reader.line_num + 1  # A quoted cell may hold line breaks.


class _Table:
    def __init__(self, file: str, model: type[Settings], header: Sequence[str]) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._misspelled: set[str] = set()
        required = {key for key, field in fields_of(model).items() if field.is_required}
        fields = tag_fields(model)
        known = tuple(fields)
        self._columns: list[tuple[str, Cell] | None] = []
        for column, key in enumerate(header, 1):
            mark = Mark(file, 1, column)
            is_repeated = key in known and key in header[: column - 1]
            if key not in known or is_repeated:
                self._misspelled.add(messages.did_you_mean(key, known))
                message = "this column is there twice" if is_repeated else messages.unknown_key(key, known)
                self.problems.append(problem_at(mark, message, key))
                self._columns.append(None)
            else:
                self._columns.append((key, Cell(fields[key].annotation)))
        self._missing = required - set(header)
        for key in sorted(self._missing - self._misspelled):
            description = messages.missing(fields[key])
            self.problems.append(problem_at(Mark(file), f"the column {key} {description}"))

    def row(self, line: int, cells: Sequence[str]) -> Node | None:
        """The tag in one row; None if the row has more cells than the header."""
        if any(cells[len(self._columns) :]):
            mark = Mark(self._file, line, len(self._columns) + 1)
            message = f"{len(cells)} cells under {len(self._columns)} headings; quote cells that hold the separator"
            self.problems.append(problem_at(mark, message))
            return None
        node = Node({}, Mark(self._file, line), dropped=set(self._missing))
        assert isinstance(node.content, dict)
        for number, (column, cell) in enumerate(zip(self._columns, cells, strict=False), 1):
            if column and cell:
                key, kind = column
                mark = Mark(self._file, line, number)
                node.keys[key] = mark
                node.content[key] = kind.read(cell, mark, key)
        return node


class Cell:
    """Parser for the cells of one column, by the type of its field."""

    def __init__(self, annotation: Any) -> None:
        kinds, inside = set(_kinds(annotation)), set(_kinds(annotation, is_inside=True))
        self._is_list = bool(kinds & _LISTS)
        self._allows_scalar = bool(kinds & _SCALARS)
        self._is_text = str in kinds and not self._is_list
        self._allows_number = bool((kinds | inside) & {int, float, bool})
        self._separator = _TEXT_SEPARATOR if str in inside else _NUMBER_SEPARATOR

    def read(self, cell: str, mark: Mark, path: str) -> Node:
        """The value of a cell, at its place."""
        value = self.value(cell)
        if isinstance(value, list):
            return Node([Node(item, mark, path) for item in value], mark, path)
        return Node(value, mark, path)

    def value(self, cell: str) -> Scalar | list[Scalar]:
        """The value of a cell."""
        if self._is_list:
            items = [item for item in self._separator.split(cell.strip("[]() ")) if item]
            if len(items) > 1 or not self._allows_scalar:
                return list(map(self._scalar, items))
        if self._is_text and cell.startswith("0x"):
            return cell  # The address of a coil, 0x00017, and no number.
        return self._scalar(cell)

    def _scalar(self, cell: str) -> Scalar:
        value = scalar_of(cell) if self._allows_number else cell
        return cell if value is None else value


def _kinds(annotation: Any, *, is_inside: bool = False) -> Iterator[type]:
    """The scalar and list types in an annotation, or the types of the items of its lists."""
    origin = get_origin(annotation)
    if isinstance(annotation, type) and origin is None:
        yield from () if is_inside else (annotation,)
    elif origin in _LISTS:
        if is_inside:
            yield from (kind for argument in get_args(annotation) for kind in _kinds(argument))
        else:
            yield origin
    else:
        for argument in get_args(annotation):
            is_type = get_origin(argument) or isinstance(argument, type)
            yield from _kinds(argument if is_type else type(argument), is_inside=is_inside)
