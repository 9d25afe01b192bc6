"""Messages for problems in a configuration, in the terms of the configuration."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import lru_cache
from typing import Any

from pydantic_core import ErrorDetails

from edge.config.fields import Field
from edge.units import format_duration, format_size, parse_duration_ns, parse_size_bytes

_SHOWN = 60
_NAMES_SHOWN = 20
_QUOTED = re.compile(r"'([^']*)'")
_BETWEEN = re.compile(r", | or ")
_SENTENCE_END = re.compile(r"\.(\s|$)")
_KINDS = {
    "string": "text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "tuple": "a list",
    "list": "a list",
    "dict": "keys and values",
    "dataclass": "keys and values",
}
_COMMA = re.compile(r"got '([+-]?\d+),(\d+(?: ?[^\d\s,']+)?)'$")  # A decimal comma, perhaps with a unit.
_BETWEEN_LETTERS = re.compile(r"[\s_-]")
_WORDS = {
    "bit": ("bool",), "boolean": ("bool",), "byte": ("uint8",), "usint": ("uint8",), "sint": ("int8",),
    "sbyte": ("int8",), "int": ("int16",), "integer": ("int16",), "short": ("int16",), "uint": ("uint16",),
    "word": ("uint16",), "ushort": ("uint16",), "dint": ("int32",), "long": ("int32",), "udint": ("uint32",),
    "dword": ("uint32",), "ulong": ("uint32",), "lint": ("int64",), "ulint": ("uint64",), "lword": ("uint64",),
    "real": ("float32",), "float": ("float32",), "single": ("float32",), "lreal": ("float64",), "double": ("float64",),
    "string": ("text",), "str": ("text",), "char": ("text",), "bcd": ("bcd16",), "mod10k": ("mod10k32",),
    "mod10": ("mod10k32",), "datetime": ("datetime", "datetime64"), "rtuovertcp": ("rtu",),
    "register": ("address",), "datatype": ("type",), "interval": ("every",), "period": ("every",), "gain": ("divisor",),
}  # fmt: skip
"""What PLCs and manuals say, and what it is called here: the first that is known where it is written."""
_ORDERS = {
    "abcd": "word_order: big",
    "cdab": "word_order: little",
    "swapped": "word_order: little",
    "wordswap": "word_order: little",
    "badc": "byte_order: little",
    "byteswap": "byte_order: little",
    "dcba": "word_order: little and byte_order: little",
}
_KEYS = {
    **dict.fromkeys(("slave", "slaveid", "unitid", "station"), ("unit", "the unit identifier is unit of the device")),
    "delay": ("limits", "a pause after connecting is limits.connect_delay, one between requests limits.gap"),
}
"""Keys of others that no key replaces by itself: the key that shows that it could be meant, and what to write."""
_BOUNDS = {
    "greater_than": ("must be more than", "gt"),
    "greater_than_equal": ("must be at least", "ge"),
    "less_than": ("must be less than", "lt"),
    "less_than_equal": ("must be at most", "le"),
}


@lru_cache(maxsize=1024)
def did_you_mean(word: str, known: tuple[str, ...]) -> str:
    """The known word for one of PLCs and manuals, or the closest to a misspelled one; empty if none is close."""
    for meant in _WORDS.get(_letters(word), ()):
        if meant in known:
            return meant
    by_folded = {name.casefold(): name for name in known}
    close = get_close_matches(word.casefold()[:100], by_folded, n=1, cutoff=0.6)
    return by_folded[close[0]] if close else ""


def _letters(word: str) -> str:
    return _BETWEEN_LETTERS.sub("", word.casefold())


def unknown_key(key: str, known: tuple[str, ...]) -> str:
    """The message for an unknown key."""
    sign, instead = _KEYS.get(_letters(key), ("", ""))
    if sign in known:
        return f"unknown key; {instead}"
    if meant := did_you_mean(key, known):
        return f"unknown key; did you mean {meant}?"
    return f"unknown key; known are {', '.join(known)}" if known else "unknown key"


def choices(name: str, known: Iterable[str], verb: str = "there are") -> str:
    """What there is in place of an unknown name, to end a message about it with."""
    names = tuple(known)
    more = f" and {len(names) - _NAMES_SHOWN:,} more" if len(names) > _NAMES_SHOWN else ""
    meant = did_you_mean(name, names)
    return f"{verb} {', '.join(names[:_NAMES_SHOWN])}{more}" + (f"; did you mean {meant}?" if meant else "")


def missing(field: Field | None) -> str:
    """The message for a missing key."""
    return f"is missing: {_description(field)}" if _description(field) else "is missing"


def got(value: Any) -> str:
    """A value as it is written, shortened."""
    if isinstance(value, dict | list):
        return "keys and values" if isinstance(value, dict) else "a list"
    text = {None: "nothing", True: "true", False: "false"}.get(value) if isinstance(value, bool | None) else repr(value)
    assert text is not None
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def of_errors(errors: Sequence[ErrorDetails], field: Field | None, key: str) -> str:
    """One message for all errors of one value; a union reports one error for each branch."""
    message = _of_errors(errors, field, key)
    comma = _COMMA.search(message)
    return f"{message}; write {comma[1]}.{comma[2]}" if comma else message


def _of_errors(errors: Sequence[ErrorDetails], field: Field | None, key: str) -> str:
    for error in errors:
        if error["type"] in ("value_error", "assertion_error"):
            text = sentence(error)
            rest = text.removeprefix(f"{key} ")  # The path before the message already names the key.
            return text if rest.startswith(("and ", "or ")) else rest
    kinds = dict.fromkeys(kind for error in errors if (kind := _kind(error["type"])))
    if len(kinds) == len(errors):
        return f"must be {' or '.join(kinds)}, got {got(errors[0]['input'])}"
    return _of_error(errors[0], field)


def _of_error(error: ErrorDetails, field: Field | None) -> str:
    kind, context, value = error["type"], error.get("ctx", {}), error["input"]
    if kind in ("literal_error", "enum"):
        return _choice(
            value, _QUOTED.findall(context["expected"]) or _BETWEEN.split(context["expected"]), _description(field)
        )
    if kind in _BOUNDS:
        phrase, name = _BOUNDS[kind]
        return f"{phrase} {_bound(value, context[name])}, got {_unquoted(value)}"
    if kind in ("string_too_short", "too_short"):
        least = context["min_length"]
        return "must not be empty" if least == 1 else f"must have at least {least} items"
    if kind == "string_too_long":
        return f"is longer than {context['max_length']} characters"
    if kind == "too_long":
        return f"must have at most {context['max_length']} items, got {len(value)}"
    if kind == "missing":
        return f"must have more items, got {error['loc'][-1]}"
    if kind == "string_pattern_mismatch":
        return f"{got(value)} does not fit: {_description(field) or context['pattern']}"
    if kind == "finite_number":
        return f"must be a finite number, got {got(value)}"
    return f"{error['msg'][:1].lower()}{error['msg'][1:]}, got {got(value)}"


def _kind(error_type: str) -> str | None:
    noun, _, ending = error_type.partition("_")
    return _KINDS.get(noun) if ending in ("type", "parsing", "from_float", "attributes_type") else None


def _choice(value: Any, choices: Iterable[str], description: str) -> str:
    names = tuple(choices)
    if len(names) == 1:  # One branch of a union, whose other branches are no literals.
        return f"{got(value)} does not fit: {description}" if description else f"must be {names[0]}, got {got(value)}"
    meant = did_you_mean(value, names) if isinstance(value, str) else ""
    if "little" in names and (order := _ORDERS.get(_letters(str(value)))):
        return f"must be one of {', '.join(names)}, got {got(value)}; it is {order}"
    return f"must be one of {', '.join(names)}, got {got(value)}" + (f"; did you mean {meant}?" if meant else "")


def sentence(error: ErrorDetails) -> str:
    """The message of a ValueError that a settings class or constraint raised."""
    return str(error.get("ctx", {}).get("error", error["msg"]))


def _bound(value: Any, bound: Any) -> str:
    """A limit, with a unit if the value has one."""
    readers: tuple[tuple[Callable[[object], int], Callable[[int], str]], ...] = (
        (parse_duration_ns, format_duration),
        (parse_size_bytes, format_size),
    )
    for parse, show in readers:
        try:
            parse(value)
        except ValueError:
            continue
        if isinstance(value, str):
            return show(bound)
    return str(bound)


def _unquoted(value: Any) -> str:
    return value if isinstance(value, str) else got(value)


def _description(field: Field | None) -> str:
    """The first sentence of a field's description."""
    text = " ".join(field.description.split()) if field else ""
    return _SENTENCE_END.split(text, maxsplit=1)[0]
