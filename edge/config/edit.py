"""A YAML file changed in place: comments, order and every other byte stay.

`edited` is told what the file shall hold, and changes its text only where that differs. A value takes the place of the
old one. A new key goes below the last key that has its value on its own line, a new item behind the last; in brackets
both go behind the last. A key or an item that is gone goes with its lines. Items of a list are known by their name, a
scan group without one by its interval. What came of it is parsed again and compared with what it shall hold; where it
is something else, as behind an anchor that several places share, nothing is changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.nodes import CollectionNode, MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as TextNode

from edge.config.export import quoted, yaml
from edge.config.written import differences
from edge.config.yaml_tree import parse
from edge.errors import ConfigError, Problem


def edited(data: bytes, file: str, old: Mapping[str, Any], wanted: Mapping[str, Any]) -> bytes:
    """The text of a file that holds `old`, with what is wanted. Raises ConfigError where it cannot be changed so."""
    text = data.decode("utf-8-sig")
    editor = _Editor(text)
    editor.change(YAML(typ="safe", pure=True).compose(text), old, wanted)
    new = data[: len(data) - len(text.encode())] + editor.text.encode()
    again, problems = parse(new, file)
    if again is None or problems or again.plain() != wanted:
        path, *_ = next(differences(wanted, old if again is None or problems else again.plain()), ("it", "", ""))
        why = "cannot be changed in its text, because of an anchor or of how it is laid out; change it by hand"
        raise ConfigError([Problem(why, file, path=path)])
    return new


class _Editor:
    def __init__(self, text: str) -> None:
        self._text = text
        self._line_end = "\r\n" if "\r\n" in text else "\n"
        self._cuts: list[tuple[int, int, str]] = []

    @property
    def text(self) -> str:
        """The text with all changes."""
        parts, at = list[str](), 0
        # Of two at one place the first stays first.
        for start, end, new in sorted(self._cuts, key=lambda cut: cut[:2]):
            parts += [self._text[at:start], new]
            at = end
        return "".join([*parts, self._text[at:]])

    def change(self, node: TextNode, old: Any, new: Any) -> None:
        """Change what differs."""
        if (
            isinstance(node, MappingNode)
            and isinstance(old, dict)
            and isinstance(new, dict)
            and old.keys() & new.keys()
        ):
            self._change_keys(node, old, new)
        elif isinstance(node, SequenceNode) and _is_of_sections(old) and _is_of_sections(new):
            self._change_items(node, old, new)
        elif old != new or type(old) is not type(new):
            self._replace(node, new)

    def _change_keys(self, node: MappingNode, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        for key, value in node.value:
            if key.value in new:
                self.change(value, old[key.value], new[key.value])
        self._remove(node, [key.value not in new for key, _ in node.value])
        added = [f"{key}: {yaml(value)}" for key, value in new.items() if key not in old]
        if node.flow_style:
            self._add_in_brackets(node, added)
        elif added:
            on_lines = [value for _, value in node.value if not isinstance(value, CollectionNode) or value.flow_style]
            at = self._below(self._end(on_lines[-1])) if on_lines else self._line(node.value[0][0].start_mark.index)
            self._add_lines(at, node.value[0][0].start_mark.column, added)

    def _change_items(self, node: SequenceNode, old: Sequence[Any], new: Sequence[Any]) -> None:
        wanted = {_identity(item): item for item in new}
        known = [_identity(item) for item in old]
        for item, before, name in zip(node.value, old, known, strict=True):
            if name in wanted:
                self.change(item, before, wanted[name])
        self._remove(node, [name not in wanted for name in known])
        added = [yaml(item) for name, item in wanted.items() if name not in known]
        if node.flow_style:
            self._add_in_brackets(node, added)
        elif added:
            column = node.start_mark.column
            at = self._below(self._end(node.value[-1]), column)
            self._add_lines(at, column, [f"- {item}" for item in added])

    def _replace(self, node: TextNode, value: Any) -> None:
        start, end = node.start_mark.index, self._end(node)
        is_quoted = isinstance(node, ScalarNode) and node.style == '"' and isinstance(value, str)
        new = quoted(value) if is_quoted else yaml(value)
        self._cuts.append((start, max(start, end), f" {new}" if self._text[start - 1 : start] == ":" else new))

    def _remove(self, node: CollectionNode, gone: Sequence[bool]) -> None:
        """Cut keys or items out."""
        parts = [each if isinstance(each, tuple) else (each, each) for each in node.value]
        starts, ends = [first.start_mark.index for first, _ in parts], [self._end(last) for _, last in parts]
        kept = gone.index(False) if False in gone else len(gone)
        for number in (number for number, is_gone in enumerate(gone) if is_gone):
            is_last = number == len(gone) - 1
            if node.flow_style and number > kept:
                self._cuts.append((ends[number - 1], ends[number], ""))
            elif node.flow_style or (isinstance(node, MappingNode) and not self._is_first_on_line(starts[number])):
                self._cuts.append((starts[number], ends[number] if is_last else starts[number + 1], ""))
            else:
                column = node.start_mark.column if isinstance(node, SequenceNode) else None
                self._cut_lines(self._line(starts[number]), self._below(ends[number], column), is_last=is_last)

    def _cut_lines(self, start: int, end: int, *, is_last: bool) -> None:
        is_apart = self._text[:start].endswith(("\n\n", "\n\r\n"))
        if is_apart and not is_last and not self._text[end:].partition("\n")[0].strip():
            end = self._below(end)  # Of two blank lines one stays.
        self._cuts.append((start, end, ""))

    def _add_in_brackets(self, node: CollectionNode, added: Iterable[str]) -> None:
        text = ", ".join(added)
        if not text:
            return
        if node.value:
            last = node.value[-1]
            at = self._end(last[1] if isinstance(last, tuple) else last)
            self._cuts.append((at, at, f", {text}"))
        else:
            self._cuts.append((node.start_mark.index + 1, node.start_mark.index + 1, text))

    def _add_lines(self, at: int, column: int, lines: Iterable[str]) -> None:
        is_open = at > 0 and self._text[at - 1] != "\n"
        block = "".join(f"{' ' * column}{line}{self._line_end}" for line in lines)
        self._cuts.append((at, at, self._line_end * is_open + block))

    def _end(self, node: TextNode) -> int:
        """Behind its last character; of a block the parser tells where the next one begins."""
        if isinstance(node, CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            return self._end(last[1] if isinstance(last, tuple) else last)
        return len(self._text[: node.end_mark.index].rstrip())

    def _line(self, at: int) -> int:
        return self._text.rfind("\n", 0, at) + 1

    def _is_first_on_line(self, at: int) -> bool:
        return not self._text[self._line(at) : at].strip()

    def _below(self, at: int, column: int | None = None) -> int:
        """Where the next line begins; with the column of a dash below comments that belong to the item, too."""
        end = self._text.find("\n", at) + 1 or len(self._text)
        line = self._text[end:].partition("\n")[0]
        is_inside = column is not None and len(line) - len(line.lstrip()) > column and line.lstrip().startswith("#")
        return self._below(end, column) if is_inside else end


def _is_of_sections(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _identity(item: Mapping[str, Any]) -> str:
    return str(item.get("name") or item.get("every") or yaml(item))
