"""Devices and tags made of types: a type is written once, and each instance gives its parameters.

Theory of operation. A configuration is expanded as a tree, before anything in it is checked, so that what a driver
checks, what is planned and what stands on record are the devices themselves.

    types:
      motor:                                # a type of tags
        parameters: {base: null, unit: A}   # null: each instance has to give it
        tags:
          - {name: current, address: "holding ${base}", type: float32, unit: "${unit}"}
          - {name: hours, address: "holding ${base+2}", type: uint32}
      filler:                               # a type of devices
        parameters: {host: null}
        device:
          driver: modbus
          host: ${host}
          scan_groups:
            - every: 1 s
              tags:
                - {name: pump, of_type: motor, with: {base: 100}}   # tags pump/current and pump/hours
    devices:
      - {name: filler-1, of_type: filler, with: {host: 192.0.2.11}, limits: {timeout: 2 s}, without: [pump/hours]}
      - {of_type: filler, instances: fillers.csv}     # columns: name, parameters, and keys such as limits.timeout

- `${name}` stands for the value of a parameter, and `${name+2}` or `${name-2}` for a number beside it. A text that is
  only `${name}` becomes the value with its type; in a longer text it is written out. `$${` is a plain `${`.
- What an instance writes besides is laid over the type: keys over keys, scan groups and tags by their name (a scan
  group without one by its interval). What is new is added; `without` takes tags out.
- A type of devices may hold instances of types of tags, and no type holds more than that.
- A problem in a type is reported where it stands in the type, once; one in a value where the instance wrote it.

A reference is a type of whole configurations: a site names a file and gives values, and what it writes besides is laid
over the file.

    reference: ../enterprise.yaml           # with `parameters:` and any other section
    values: {broker: dmz-broker.example}
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edge.config import messages
from edge.config.tag_table import rows_of
from edge.config.validate import PLACEHOLDERS
from edge.config.yaml_tree import Mark, Node, parse, problem_at, scalar_of
from edge.errors import Problem

TYPES, REFERENCE, VALUES, PARAMETERS = "types", "reference", "values", "parameters"
OF_TYPE, WITH, WITHOUT, INSTANCES = "of_type", "with", "without", "instances"

KEYS = {
    "types.NAME.parameters": ("keys", "Parameters and their defaults; null for one that each instance has to give."),
    "types.NAME.device": ("section", "Of a type of devices: what each of them has; `${parameter}` stands for a value."),
    "types.NAME.tags": ("list", "Of a type of tags: what each instance of it has."),
    "devices[].of_type": ("text", "The type of this device; what stands beside it is laid over the type."),
    "devices[].with": ("keys", "Values of parameters of the type."),
    "devices[].without": ("list", "Names of tags of the type that this device does not have."),
    "devices[].instances": ("path", "A CSV file with a device a row: columns are `name`, parameters, and other keys."),
    "devices[].scan_groups[].tags[].of_type": (
        "text",
        "The type of these tags; `with`, `without` and `tags` as above.",
    ),
    "reference": ("path", "A configuration with `parameters`, over which this one is laid."),
    "values": ("keys", "Values of parameters of the reference."),
}
"""What may be written besides the settings: kind and meaning."""

_NODES = 1_000_000  # As many as a file may hold.
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLACE = re.compile(r"\$\$\{|\$\{\s*([^}]*?)\s*\}")
_TERM = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(?:\s*([+-])\s*([0-9]+))?")
_TAG_INSTANCE = ("name", OF_TYPE, WITH, WITHOUT, "tags")


@dataclass(frozen=True, slots=True)
class _Value:
    """The value of a parameter: as a node of its own, and as it stands in a longer text."""

    node: Node
    text: str | None

    @classmethod
    def of(cls, node: Node) -> _Value:
        """A value of a YAML file."""
        content, is_known = node.content, node.placeholders is None
        text = str(content).lower() if isinstance(content, bool) else str(content)
        return cls(node, text if is_known and isinstance(content, str | int | float) else None)


Values = Mapping[str, _Value]
Read = Callable[[str], bytes | str]
"""Reads a file beside the configuration: its bytes, or why it cannot be read."""


def with_reference(root: Node, read: Read, problems: list[Problem]) -> Node:
    """The configuration of a site, laid over the reference that it names; as it is where it names none."""
    named, given = root[REFERENCE], root[VALUES]
    own = _without_keys(root, REFERENCE, VALUES)
    if named is None:
        if given is not None:
            problems.append(given.problem("are values for a reference; name its file in reference"))
        return own
    base = _read_reference(named, read, problems)
    if base is None:
        return own
    values = _values(base[PARAMETERS], _given(given, problems), named, problems)
    # The types of a reference have parameters of their own.
    filled = _Filler(problems).fill(_without_keys(base, PARAMETERS, TYPES), values)
    types = base[TYPES]
    return _overlay(filled if types is None else _with_content(filled, TYPES, types), own)


def _read_reference(named: Node, read: Read, problems: list[Problem]) -> Node | None:
    if not named.text:
        problems.append(named.problem("must be the path of a file"))
        return None
    data = read(named.text)
    if isinstance(data, str):
        problems.append(named.problem(data))
        return None
    base, found = parse(data, named.text)
    problems += found
    if base is None or not isinstance(base.content, dict):
        problems.extend([] if found else [named.problem(f"{named.text} holds no keys and values")])
        return None
    problems += [key.problem("belongs into the file of a site") for name in (REFERENCE, VALUES) if (key := base[name])]
    return _without_keys(base, REFERENCE, VALUES)


def expand(root: Node, read: Read, problems: list[Problem]) -> Node:
    """The configuration with devices and tags in place of their instances, and without types."""
    types = _types(root[TYPES], problems)
    whole, devices = _without_keys(root, TYPES), root["devices"]
    if devices is None or not devices.items:
        return whole
    expander, made = _Expander(types, problems), list[Node]()
    try:
        for item in devices.items:
            made += expander.devices_of(item, read)
    except _TooMany as error:
        problems.append(item.problem(str(error)))
        made = []
    # Of an instance that could not be made, one problem is known already.
    return _with_content(whole, "devices", replace(devices, content=made, dropped={""}))


class _TooMany(Exception):
    """Types make more values than a configuration may hold."""


@dataclass(frozen=True, slots=True)
class _Type:
    """A type, and what its instances are made of."""

    name: str
    node: Node

    @property
    def body(self) -> Node:
        """What is filled: a device, or a list of tags."""
        found = self.node["device"] or self.node["tags"]
        assert found is not None
        return found

    @property
    def is_device(self) -> bool:
        return self.node["device"] is not None


def _types(written: Node | None, problems: list[Problem]) -> dict[str, _Type]:
    if written is None:
        return {}
    if not isinstance(written.content, dict):
        problems.append(
            written.problem("must be types by name, such as motor: {parameters: {base: null}, tags: [...]}")
        )
        return {}
    found = {}
    for name, node in written.content.items():
        problems += _unknown_keys(node, (PARAMETERS, "device", "tags"))
        device, tags = node["device"], node["tags"]
        if (device is None) == (tags is None):
            problems.append(node.problem("a type has either device or tags"))
        elif device is not None and (not isinstance(device.content, dict) or device[OF_TYPE] is not None):
            problems.append(device.problem("must be a device that is not of a type itself"))
        elif tags is not None and not isinstance(tags.content, list):
            problems.append(tags.problem("must be a list of tags"))
        elif inner := next((tag for tag in (tags.items if tags else ()) if tag[OF_TYPE] is not None), None):
            problems.append(inner.problem("a type of tags holds no other type; a type of devices may"))
        else:
            found[name] = _Type(name, node)
    return found


class _Expander:
    """Makes devices and tags of their instances."""

    def __init__(self, types: Mapping[str, _Type], problems: list[Problem]) -> None:
        self._types, self._problems, self._filler = types, problems, _Filler(problems)

    def devices_of(self, item: Node, read: Read) -> Iterator[Node]:
        """The devices of an item of `devices`: itself, an instance, or those of a table."""
        if item[OF_TYPE] is None:
            self._problems += [
                key.problem("is for the instance of a type; name it in of_type")
                for name in (WITH, WITHOUT, INSTANCES) if (key := item[name]) is not None
            ]  # fmt: skip
            yield self._with_tags(_without_keys(item, WITH, WITHOUT, INSTANCES))
        elif (kind := self._type(item, is_device=True)) is None:
            return
        elif (table := item[INSTANCES]) is None:
            yield self._device(kind, item, _given(item[WITH], self._problems))
        else:
            yield from self._devices_in(table, kind, item, read)

    def _type(self, item: Node, *, is_device: bool) -> _Type | None:
        named = item[OF_TYPE]
        assert named is not None
        fitting = [name for name, each in self._types.items() if each.is_device is is_device]
        if named.text in fitting:
            return self._types[named.text]
        what = "devices" if is_device else "tags"
        choice = messages.choices(str(named.content), fitting) if fitting else "none is written in types"
        self._problems.append(named.problem(f"no type of {what} is called {named.content!r}; {choice}"))
        return None

    def _device(self, kind: _Type, item: Node, given: Mapping[str, _Value]) -> Node:
        values = _values(kind.node[PARAMETERS], given, item, self._problems)
        made = self._with_tags(self._filler.fill(kind.body, values))
        own = self._with_tags(_without_keys(item, OF_TYPE, WITH, WITHOUT, INSTANCES))
        return self._without(_overlay(made, own), item[WITHOUT])

    def _with_tags(self, device: Node) -> Node:
        """The device with tags in place of their instances."""
        groups = device["scan_groups"]
        if groups is None or not any(tag[OF_TYPE] is not None for tag in _tags(groups)):
            return device
        made = []
        for group in groups.items:
            if (tags := group["tags"]) is not None and tags.items:
                members = [each for tag in tags.items for each in self._tags_of(tag)]
                group = _with_content(group, "tags", replace(tags, content=members))
            made.append(group)
        return _with_content(device, "scan_groups", replace(groups, content=made))

    def _tags_of(self, item: Node) -> Iterator[Node]:
        if item[OF_TYPE] is None:
            yield item
            return
        self._problems += _unknown_keys(item, _TAG_INSTANCE)
        kind = self._type(item, is_device=False)
        if kind is None:
            return
        values = _values(kind.node[PARAMETERS], _given(item[WITH], self._problems), item, self._problems)
        tags = self._filler.fill(kind.body, values)
        if (own := item["tags"]) is not None:
            tags = _overlay(tags, own)
        left_out = self._left_out(item[WITHOUT], tags.items)
        prefix = _name(item)
        for tag in tags.items:
            if (name := tag["name"]) is None or name.text is None:
                yield tag
            elif name.text not in left_out:
                full = f"{prefix}/{name.text}" if prefix else name.text
                yield _with_content(tag, "name", replace(name, content=full))

    def _left_out(self, without: Node | None, tags: Iterable[Node]) -> set[str]:
        """The names of tags to leave out; one that is not there is a problem."""
        if without is None:
            return set()
        if not isinstance(without.content, list):
            self._problems.append(without.problem("must be a list of names of tags, such as [level]"))
        known = [name for tag in tags if (name := _name(tag))]
        for item in without.items:
            if (name := str(item.content)) not in known:
                self._problems.append(item.problem(f"no tag is called {name!r}; {messages.choices(name, known)}"))
        return {str(item.content) for item in without.items}

    def _without(self, device: Node, without: Node | None) -> Node:
        groups = device["scan_groups"]
        if groups is None or not (names := self._left_out(without, _tags(groups))):
            return device
        made = []
        for group in groups.items:
            if (tags := group["tags"]) is not None and tags.items:
                members = [tag for tag in tags.items if _name(tag) not in names]
                if not members and group["tags_from"] is None:
                    continue
                group = _with_content(group, "tags", replace(tags, content=members))
            made.append(group)
        return _with_content(device, "scan_groups", replace(groups, content=made))

    def _devices_in(self, table: Node, kind: _Type, item: Node, read: Read) -> Iterator[Node]:
        """A device for each row of a table; its columns are parameters, and keys of a device such as limits.timeout."""
        if not table.text:
            self._problems.append(table.problem("must be the path of a CSV file"))
            return
        data = read(table.text)
        if isinstance(data, str):
            self._problems.append(table.problem(data))
            return
        rows, found = rows_of(data, table.text)
        self._problems += found
        if len(rows) < 2 and not found:
            self._problems.append(table.problem(f"{table.text} holds no instances below its headings"))
        parameters, common = _keys(kind.node[PARAMETERS]), _given(item[WITH], self._problems)
        header = rows[0][1] if rows else []
        for line, cells in rows[1:]:
            mark = Mark(table.text, line)
            own, given = Node({}, mark, item.path), dict(common)
            for column, (key, cell) in enumerate(zip(header, cells, strict=False), 1):
                # A number with zeros before it is text: they would be lost.
                is_text = cell[:1] == "0" and cell[1:2].isdigit()
                node = Node(cell if is_text else scalar_of(cell), replace(mark, column=column), key)
                if cell and key in parameters:
                    given[key] = _Value(node, cell)
                elif cell and key:
                    _set(own, key.split("."), node)
            merged = _overlay(_without_keys(item, INSTANCES, WITH), own)
            yield self._device(kind, replace(merged, mark=mark), given)


class _Filler:
    """Puts values in the places of parameters."""

    def __init__(self, problems: list[Problem]) -> None:
        self._problems = problems
        self._nodes = 0

    def fill(self, node: Node, values: Values) -> Node:
        """A copy with values; what is wrong in the text of a type is a problem there."""
        self._nodes += 1
        if self._nodes > _NODES:
            raise _TooMany(f"the types make more than {_NODES:,} values; are there so many instances?")
        content = node.content
        if isinstance(content, dict):
            return _copy(node, {key: self.fill(below, values) for key, below in content.items()})
        if isinstance(content, list):
            return _copy(node, [self.fill(item, values) for item in content])
        if not isinstance(content, str) or "${" not in content:
            return _copy(node, content)
        return self._filled(node, content, values)

    def _filled(self, node: Node, text: str, values: Values) -> Node:
        if (match := _PLACE.fullmatch(text)) and match[1] in values:
            return values[match[1]].node
        parts, end, mark = list[str](), 0, node.mark
        for match in _PLACE.finditer(text):
            part, mark = self._part(node, match, values, mark)
            if part is None:
                return _missing(mark, node.path)
            parts += [text[end : match.start()], part]
            end = match.end()
        filled = "".join([*parts, text[end:]])
        # What is only a sum is a number.
        content = scalar_of(filled) if len(parts) == 2 and not parts[0] and end == len(text) else filled
        return Node(content, mark, node.path)

    def _part(self, node: Node, match: re.Match[str], values: Values, mark: Mark) -> tuple[str | None, Mark]:
        """The text in place of `${...}`, None after a problem, and where a problem with the whole is reported."""
        if match[1] is None:
            return "${", mark
        term = _TERM.fullmatch(match[1])
        if term is None or term[1] not in values:
            what = (
                f"{match[0]} is neither ${{name}} nor ${{name+2}}" if term is None else _no_parameter(term[1], values)
            )
            self._problems.append(node.problem(what))
            return None, mark
        value = values[term[1]]
        if value.text is None:
            if value.node.placeholders is None:
                self._problems.append(value.node.problem(f"{term[1]} stands in a text: it must be a text or a number"))
            return None, value.node.mark
        if not term[2]:
            return value.text, value.node.mark
        try:
            number = int(value.text, 0)
        except ValueError:
            self._problems.append(value.node.problem(f"{term[1]} is counted from: it must be a whole number"))
            return None, value.node.mark
        return str(number + int(f"{term[2]}{term[3]}")), value.node.mark


def _given(written: Node | None, problems: list[Problem]) -> dict[str, _Value]:
    if written is None:
        return {}
    if not isinstance(written.content, dict):
        problems.append(written.problem("must be parameters and their values, such as {host: 192.0.2.10}"))
        return {}
    return {name: _Value.of(node) for name, node in written.content.items()}


def _values(parameters: Node | None, given: Mapping[str, _Value], where: Node, problems: list[Problem]) -> Values:
    """The value of each parameter: as given, else its default; a missing one is a problem where it should be given."""
    known = {} if parameters is None else parameters.content
    if not isinstance(known, dict):
        assert parameters is not None
        problems.append(parameters.problem("must be names and defaults, such as {host: null, unit: 1}"))
        return given
    problems += [value.node.problem(_no_parameter(name, known)) for name, value in given.items() if name not in known]
    found = {}
    for name, default in known.items():
        if not _NAME.fullmatch(name):
            problems.append(default.problem("the name of a parameter has letters, digits and underscores only"))
        found[name] = given.get(name, _Value.of(default))
        if found[name].node.content is None:
            problems.append(where.problem(f"the parameter {name} is missing, and has no default"))
            found[name] = _Value(_missing(where.mark, where.path), None)
    return found


def _no_parameter(name: str, known: Collection[str]) -> str:
    return f"no parameter is called {name!r}; {messages.choices(name, known) if known else 'there are none'}"


def _missing(mark: Mark, path: str) -> Node:
    """In place of a value that is wrong, so that one mistake is one problem."""
    first, *others = PLACEHOLDERS
    return Node(first, mark, path, placeholders=[*others])


def _overlay(below: Node, above: Node) -> Node:
    """What is written above, over what is below it: keys over keys, and items with a name over those of that name."""
    if isinstance(below.content, dict) and isinstance(above.content, dict):
        content = {key: node for key, node in above.content.items() if key not in below.content}
        for key, node in below.content.items():
            content[key] = node if (own := above[key]) is None else _overlay(node, own)
        return replace(above, content=content, keys={**below.keys, **above.keys}, dropped=below.dropped | above.dropped)
    if (
        below.items
        and above.items
        and None not in (names := [_identity(item) for item in [*below.items, *above.items]])
    ):
        items = dict(zip(names, below.items, strict=False))
        for item in above.items:
            name = _identity(item)
            items[name] = _overlay(items[name], item) if name in items else item
        return replace(above, content=list(items.values()))
    return above


def _identity(item: Node) -> str | None:
    """By which an item of a list is known: its name, or a scan group's interval."""
    found = item["name"] or item["every"]
    return None if found is None else str(found.content)


def _copy(node: Node, content: Any) -> Node:
    return replace(node, content=content, keys=dict(node.keys), dropped=set(node.dropped))


def _with_content(node: Node, key: str, below: Node) -> Node:
    assert isinstance(node.content, dict)
    return replace(node, content={**node.content, key: below})


def _without_keys(node: Node, *keys: str) -> Node:
    if not isinstance(node.content, dict):
        return node
    return replace(node, content={key: below for key, below in node.content.items() if key not in keys})


def _set(node: Node, keys: Sequence[str], value: Node) -> None:
    """Write a value at a path of keys."""
    assert isinstance(node.content, dict)
    node.keys.setdefault(keys[0], value.mark)
    if len(keys) == 1:
        node.content[keys[0]] = value
    else:
        below = node.content.setdefault(keys[0], Node({}, value.mark, keys[0]))
        if isinstance(below.content, dict):
            _set(below, keys[1:], value)


def _keys(node: Node | None) -> Sequence[str]:
    return tuple(node.content) if node is not None and isinstance(node.content, dict) else ()


def _tags(groups: Node) -> Iterator[Node]:
    for group in groups.items:
        if (tags := group["tags"]) is not None:
            yield from tags.items


def _name(node: Node) -> str:
    name = node["name"]
    return "" if name is None or name.content is None else str(name.content)


def _unknown_keys(node: Node, known: tuple[str, ...]) -> Iterator[Problem]:
    for key in _keys(node):
        if key not in known:
            yield problem_at(node.keys[key], messages.unknown_key(key, known), node.inside(key))
