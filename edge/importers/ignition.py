"""Tags that Ignition exported as JSON: folders, and instances of UDTs, whose parameters their paths have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from edge.driver import Origin, SourceTag
from edge.importers.found import Found, linear, number, one_line, unreadable
from edge.importers.tables import decode

_PARAMETER = re.compile(r"\{([^{}]+)\}")
_DEPTH = 32
_TYPES_FOLDER = "_types_"
_NOT_OPC = {"memory": "a memory tag", "expr": "an expression", "query": "a query", "derived": "derived from another",
            "reference": "a reference to another tag", "db": "a query"}  # fmt: skip


def is_json(data: bytes) -> bool:
    """Whether a file begins as JSON does."""
    return data[:64].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n").startswith((b"{", b"["))


def read(data: bytes, file: str, found: Found) -> None:
    """Add the tags of an export to what was found. Raises ConfigError."""
    try:
        root = json.loads(decode(data, file)[0])
    except json.JSONDecodeError as error:
        raise unreadable(file, f"row {error.lineno}, column {error.colno}: this is not JSON: {error.msg}") from error
    except RecursionError as error:
        raise unreadable(file, "it is nested too deeply") from error
    tags = root if isinstance(root, list) else [root]
    if not all(isinstance(each, dict) and ("tags" in each or "tagType" in each or "name" in each) for each in tags):
        raise unreadable(file, "it is JSON, and no export of tags of Ignition")
    _Export(file, found).read(tags)


class _Export:
    """One export.

    A UDT is found by its path below the folder _types_, or by its name.
    """

    def __init__(self, file: str, found: Found) -> None:
        self._found, self._origin = found, Origin(file)
        self._types: dict[str, Mapping[str, Any]] = {}

    def read(self, tags: Sequence[Mapping[str, Any]]) -> None:
        self._collect(tags, "", 0)
        for tag in tags:
            self._walk(tag, (), {}, 0)

    def _collect(self, tags: Sequence[Mapping[str, Any]], path: str, depth: int) -> None:
        for tag in tags:
            name = str(tag.get("name", ""))
            if tag.get("tagType") == "UdtType":
                self._types[f"{path}{name}"] = tag
            elif depth < _DEPTH:
                self._collect(_below(tag), "" if name in ("", _TYPES_FOLDER) else f"{path}{name}/", depth + 1)

    def _walk(self, tag: Mapping[str, Any], above: tuple[str, ...], parameters: Mapping[str, str], depth: int) -> None:
        name, kind = str(tag.get("name", "")), tag.get("tagType", "Folder" if "tags" in tag else "AtomicTag")
        if kind == "UdtType" or name == _TYPES_FOLDER:
            return
        levels = (*above, name) if name and kind != "Provider" else above
        if depth > _DEPTH:
            self._found.left_out(self._origin, f"it is nested deeper than {_DEPTH} levels", "/".join(levels))
        elif kind == "UdtInstance":
            self._instance(tag, levels, parameters, depth)
        elif kind in ("Folder", "Provider"):
            for each in _below(tag):
                self._walk(each, levels, parameters, depth + 1)
        else:
            self._tag(tag, levels, parameters)

    def _instance(self, tag: Mapping[str, Any], levels: tuple[str, ...], above: Mapping[str, str], depth: int) -> None:
        """A UDT with its members: those of its type, of the type's parents, and its own, the last word first."""
        chain = list(self._chain(str(tag.get("typeId", ""))))
        if not chain:
            message = f"its UDT {tag.get('typeId')!r} is not in the file: export it together with _types_"
            self._found.left_out(self._origin, message, "/".join(levels))
            return
        parameters = dict(above)
        for each in (*reversed(chain), tag):
            written_parameters = each.get("parameters")
            for key, value in written_parameters.items() if isinstance(written_parameters, dict) else ():
                written = value.get("value") if isinstance(value, dict) else value
                if written is not None:
                    parameters[key] = _filled(written, {**above, **parameters})
        own = levels[-1] if levels else ""
        parameters |= {
            "InstanceName": own, "PathToParentFolder": "/".join(levels[:-1]),
            "ParentInstanceName": above.get("InstanceName", own),
            "RootInstanceName": above.get("RootInstanceName", own),
        }  # fmt: skip
        members: dict[str, dict[str, Any]] = {}
        for each in (*reversed(chain), tag):
            for member in _below(each):
                members.setdefault(str(member.get("name", "")), {}).update(member)
        for member in members.values():
            self._walk(member, levels, parameters, depth + 1)

    def _chain(self, name: str) -> Sequence[Mapping[str, Any]]:
        """A type and those it inherits from."""
        chain: list[Mapping[str, Any]] = []
        while name and len(chain) < _DEPTH:
            name = name.removeprefix("[default]").removeprefix(f"{_TYPES_FOLDER}/")
            found = self._types.get(name) or next(
                (each for path, each in self._types.items() if path.rpartition("/")[2] == name), None
            )
            if found is None:
                break
            chain.append(found)
            name = str(found.get("typeId", ""))
        return chain

    def _tag(self, tag: Mapping[str, Any], levels: tuple[str, ...], parameters: Mapping[str, str]) -> None:
        name, source = "/".join(levels), str(tag.get("valueSource", "opc" if "opcItemPath" in tag else "memory"))
        try:
            if source != "opc":
                raise ValueError(f"it is {_NOT_OPC.get(source, source)}, which is in no device")  # noqa: TRY301
            if tag.get("enabled") is False:
                raise ValueError("it is disabled")  # noqa: TRY301
            address = _filled(tag.get("opcItemPath", ""), parameters)
            if missing := _PARAMETER.findall(address):
                raise ValueError(f"its path needs {missing[0]}, which has no value: {address}")  # noqa: TRY301
            keys = self._keys(tag, name, parameters)
        except ValueError as error:
            self._found.left_out(self._origin, str(error), name)
            return
        kind = str(tag.get("dataType", "Int4"))
        array, sizes = kind.endswith("Array"), ()
        if array:
            self._found.left_out(self._origin, "it is an array whose size is not in the file", name)
            return
        self._found.tags.append(SourceTag(origin=self._origin, levels=levels, notation="ignition", address=address,
                                          type=kind, sizes=sizes, keys=keys))  # fmt: skip

    def _keys(self, tag: Mapping[str, Any], name: str, parameters: Mapping[str, str]) -> dict[str, Any]:
        texts = [_filled(tag.get(key, ""), parameters) for key in ("documentation", "tooltip")]
        unit = _filled(tag.get("engUnit", ""), parameters)
        keys: dict[str, Any] = {"unit": unit, "description": one_line([next(filter(None, texts), "")])}
        low, high = tag.get("engLow"), tag.get("engHigh")
        if isinstance(low, int | float) and isinstance(high, int | float) and low < high:
            keys["range"] = [low, high]
        how = str(tag.get("scaleMode", "Off"))
        raw = number(str(tag.get("rawLow", 0))), number(str(tag.get("rawHigh", 10)))
        scaled = number(str(tag.get("scaledLow", 0))), number(str(tag.get("scaledHigh", 10)))
        if how == "Linear":
            keys |= linear(raw, scaled)
        elif how != "Off":
            meaning = f"{how} of {raw[0]:g}..{raw[1]:g} is {scaled[0]:g}..{scaled[1]:g} {unit}".strip()
            keys |= {"unit": "", "description": one_line([keys["description"], f"({meaning})"])}
            keys.pop("range", None)
            self._found.changed(self._origin, f"scaling is linear here, so it is the raw value: {meaning}", name)
        return keys


def _below(tag: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    """The tags in a folder or a type."""
    tags = tag.get("tags")
    return [each for each in tags if isinstance(each, dict)] if isinstance(tags, list) else ()


def _filled(value: object, parameters: Mapping[str, str]) -> str:
    """A property with its parameters; a bound one is an object with its binding."""
    if isinstance(value, dict):
        value = value.get("binding", value.get("value", ""))
    text = "" if value is None else str(value)
    for _ in range(_DEPTH):
        filled = _PARAMETER.sub(lambda match: parameters.get(match[1], match[0]), text)
        if filled == text or len(filled) > 10_000:
            break
        text = filled
    return text
