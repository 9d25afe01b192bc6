"""The reference page of all settings, generated from their classes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args, get_origin

from edge.config.fields import Field, fields_of, settings_in
from edge.config.settings import GatewaySettings, RelaySettings
from edge.config.templates import KEYS
from edge.driver import DeviceSettings, DriverKind
from edge.references import Reference
from edge.settings import Settings
from edge.units import format_duration, format_size, parse_duration_ns, parse_share, parse_size_bytes

_HEAD = """\
# Settings

Made from the code by `python -m edge.config.reference > docs/reference/settings.md`; a test fails when it is not
current. Durations, sizes and shares are written with their unit: `100 ms`, `20 GB`, `50 %`. A path is meant beside the
configuration file. A reference is `credential:NAME` or `file:PATH`; a certificate may also be a plain path.
"""
_WORDS = {str: "text", int: "whole number", float: "number", bool: "true or false"}


def reference(drivers: Iterable[tuple[str, DriverKind[Any]]]) -> str:
    """The page, in Markdown."""
    lines = [_HEAD, "## Gateway", *_tables(GatewaySettings, "")]
    for name, kind in drivers:
        lines += [f"## Devices of the driver `{name}`", *_tables(kind.settings, "devices[]")]
    lines += ["## Relay", *_tables(RelaySettings, "")]
    lines += [
        "## Types and references",
        "\nDevices made of types: [describe a site](../how-to/configure.md#many-of-a-kind).\n",
    ]
    lines += ["| key | value | meaning |", "| --- | --- | --- |"]
    lines += [f"| `{key}` | {kind} | {meaning} |" for key, (kind, meaning) in KEYS.items()]
    return "\n".join(lines).rstrip() + "\n"


def _tables(model: type[Settings], path: str) -> Iterator[str]:
    """A table for a section, followed by one for each nested section."""
    inner: list[tuple[type[Settings], str]] = []
    rows: list[str] = []
    for name, field in fields_of(model).items():
        here = f"{path}.{name}" if path else name
        below = [found for found in settings_in(field.annotation) if found is not DeviceSettings]
        inner += [(found, here + "[]" * _is_list(field.annotation)) for found in below]
        rows.append(
            f"| `{name}` | {_kind(field, has_sections=bool(below))} | {_default(field)} | {_description(field)} |"
        )
    if path:
        yield f"\n### `{path}`\n"
        yield f"{(model.__doc__ or '').partition(chr(10))[0]}\n"
    else:
        yield ""
    yield "| key | value | default | meaning |"
    yield "| --- | --- | --- | --- |"
    yield from rows
    yield ""
    for found, here in inner:
        yield from _tables(found, here)


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingRow:
    """One setting as the page has it: its whole key, whose it is, what it takes, its default and its meaning."""

    key: str
    where: str
    kind: str
    default: str
    description: str


def settings_rows(drivers: Iterable[tuple[str, DriverKind[Any]]]) -> Iterator[SettingRow]:
    """Every setting of the page."""
    yield from _rows("the gateway", GatewaySettings, "")
    for name, kind in drivers:
        yield from _rows(f"devices of the driver {name}", kind.settings, "devices[].")
    yield from _rows("the relay", RelaySettings, "")
    for key, (takes, meaning) in KEYS.items():
        yield SettingRow(key=key, where="types and references", kind=takes, default="", description=meaning)


def _rows(where: str, model: type[Settings], above: str) -> Iterator[SettingRow]:
    for name, field in fields_of(model).items():
        below = [found for found in settings_in(field.annotation) if found is not DeviceSettings]
        yield SettingRow(
            key=above + name, where=where, kind=_kind(field, has_sections=bool(below)), default=_default(field),
            description=_description(field),
        )  # fmt: skip
        for found in below:
            yield from _rows(where, found, above + name + "[]" * _is_list(field.annotation) + ".")


def _is_list(annotation: Any) -> bool:
    origin = get_origin(annotation)
    if isinstance(origin, type) and issubclass(origin, Iterable):
        return True
    return any(_is_list(argument) for argument in get_args(annotation) if get_origin(argument) is not None)


def _exact_size(size_bytes: int) -> str:
    return f"{size_bytes >> 20} MiB" if size_bytes % 2**20 == 0 else format_size(size_bytes)


_QUANTITIES: dict[object, tuple[str, Callable[[Any], str]]] = {
    parse_duration_ns: ("duration", format_duration),
    parse_size_bytes: ("size", _exact_size),
    parse_share: ("share", lambda share: f"{100 * share:g} %"),
}


def _quantity(field: Field) -> tuple[str, Callable[[Any], str]] | None:
    """The name and the formatter of a field that is a duration, size or share."""
    found = (_QUANTITIES.get(getattr(item, "function", None)) for item in field.constraints)
    return next(filter(None, found), None)


def _kind(field: Field, *, has_sections: bool) -> str:
    if (quantity := _quantity(field)) is not None:
        return quantity[0]
    if has_sections:
        words = [word for word in _literals(field.annotation) if word != "None"]
        return " or ".join([*(f"`{word}`" for word in words), "list" if _is_list(field.annotation) else "section"])
    return " or ".join(dict.fromkeys(_words(field.annotation))) or "see below"


def _words(annotation: Any) -> Iterator[str]:
    origin = get_origin(annotation)
    if annotation in _WORDS:
        yield _WORDS[annotation]
    elif origin is Literal:
        yield from (f"`{value}`" for value in get_args(annotation))
    elif origin is Annotated:
        yield from _words(get_args(annotation)[0])
    elif _is_list(annotation):
        yield "list"
    elif annotation is Reference:
        yield "reference"
    elif get_args(annotation):
        for argument in get_args(annotation):
            yield from _words(argument)
    elif annotation is not type(None):
        yield "path"


def _literals(annotation: Any) -> Iterator[str]:
    if get_origin(annotation) is Literal:
        yield from map(str, get_args(annotation))
    else:
        for argument in get_args(annotation):
            yield from _literals(argument)


def _default(field: Field) -> str:
    value = field.default
    if field.is_required or value is None or value in ("", ()) or isinstance(value, Settings):
        return ""
    if (quantity := _quantity(field)) is not None:
        return f"`{quantity[1](value) if value else 0}`"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def _description(field: Field) -> str:
    text = " ".join(field.description.split())
    return ("**Required.** " if field.is_required else "") + text.replace("|", r"\|")


if __name__ == "__main__":
    import sys

    from edge.driver import installed, load

    sys.stdout.write(reference((name, load(name)) for name in installed()))
