"""The configuration as it is written, for the record: as JSON, as differences, and as lines to read.

JSON is YAML too: all files and tables put together, as written, without comments. Settings name secrets by reference,
and only the reference is kept; what looks like a secret in a place where none belongs is left out.
"""

from __future__ import annotations

import gzip
import re
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import orjson

from edge.config.export import yaml
from edge.config.kept import Change, KeptConfiguration, file_of, unpack
from edge.config.yaml_tree import Node

NOT_KEPT = "(not kept)"
_TEXT_LIMIT = 200
_CHANGES_BYTES = 20_000  # A record has 65,535 bytes for them and a part of the configuration.
_INT64 = range(-(2**63), 2**64)
_REFERENCE = re.compile(r"(credential|file):.+")
_SECRET_KEYS = frozenset({"password", "passwd", "passphrase", "secret", "token", "key", "pin"})
_IN_URL = re.compile(r"(?<=://)[^/\s@]*@")


def keep(written: Mapping[str, Node], devices: Sequence[bytes]) -> bytes:
    """The configuration in gzip, of its sections and of its devices as `device_text` gives them."""
    sections = {key: clean(node.plain(), key) for key, node in written.items() if key != "devices"}
    text = orjson.dumps(sections)[:-1] + b',"devices":[' + b",".join(devices) + b"]}"
    return gzip.compress(text.replace(b"{,", b"{", 1), 6, mtime=0)


def device_text(device: Node) -> bytes:
    """A device with its tags, also those of tables, as JSON."""
    return orjson.dumps(clean(device.plain()))


def clean(value: Any, key: str = "") -> Any:
    """The value without secrets, and without what JSON cannot hold."""
    if isinstance(value, dict):
        # The rows of a table stand among the tags.
        return {name: clean(item, name) for name, item in value.items() if name != "tags_from"}
    if isinstance(value, list):
        return [clean(item, key) for item in value]
    if key.lower().rpartition("_")[2] in _SECRET_KEYS and value and not _REFERENCE.fullmatch(str(value)):
        return NOT_KEPT
    if isinstance(value, str):
        text = _IN_URL.sub(f"{NOT_KEPT}@", value.encode("utf-8", "replace").decode())
        return NOT_KEPT if "-----BEGIN" in text else text
    if isinstance(value, float) and value - value != 0:
        return yaml(value)
    return str(value) if type(value) is int and value not in _INT64 else value


def packed_files(folder: Path, names: Iterable[str]) -> bytes:
    """The files of a configuration as they are, in a compressed tar. Raises OSError."""
    archive = BytesIO()
    with gzip.GzipFile(fileobj=archive, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as tar:
        for name in names:
            data = (folder / name).read_bytes()
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, BytesIO(data))
    return archive.getvalue()


def unpacked_files(archive: bytes) -> dict[str, bytes]:
    """The files by their names. Raises ValueError where it is none."""
    try:
        with tarfile.open(fileobj=BytesIO(archive), mode="r:gz") as tar:
            read = {member.name: tar.extractfile(member) for member in tar}
            return {name: file.read() for name, file in read.items() if file is not None}
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise ValueError(f"not the files of a configuration: {error}") from error


def compare(packed: bytes, state: Path, old: bytes) -> KeptConfiguration:
    """What is kept of a configuration, with what changed since the one of the digest `old`."""
    before = configuration_of(state, old)
    if before is None:
        return KeptConfiguration(packed=packed)
    changes, count, size_bytes = [], 0, 0
    for change in differences(before, unpack(packed)):
        count += 1
        size_bytes += sum(len(text.encode()) + 3 for text in change)
        if size_bytes <= _CHANGES_BYTES:
            changes.append(change)
    return KeptConfiguration(packed=packed, changes=tuple(changes), count=count)


def configuration_of(state: Path, digest: bytes) -> Any:
    """A configuration that was on record, as it is kept; None where it is not."""
    with suppress(OSError, ValueError):
        return unpack(file_of(state, digest).read_bytes())
    return None


def differences(old: Any, new: Any, path: str = "", limit: int = _TEXT_LIMIT) -> Iterator[Change]:
    """Each value that is another, and each item that is new or gone, in the order of the new configuration.

    Values of more than `limit` characters are cut.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        dot = f"{path}." if path else ""
        pairs = {key: f"{dot}{key}" for key in (*new, *old)}
    elif _is_table(old) and _is_table(new):
        old, new = _paired(_by_name(old), _by_name(new))
        pairs = {name: f"{path}[{name}]" for name in (*new, *old)}
    else:
        if old != new:
            yield path, _text(old, limit), _text(new, limit)
        return
    for key, at in pairs.items():
        if key not in new:
            yield at, _text(old[key], limit), ""
        elif key not in old:
            yield at, "", _text(new[key], limit)
        else:
            yield from differences(old[key], new[key], at, limit)


def paths(value: Any, path: str = "") -> Iterator[str]:
    """The path of each value and item below one, as `differences` names them."""
    if isinstance(value, dict):
        items = {f"{path}.{key}" if path else key: item for key, item in value.items()}
    elif _is_table(value):
        items = {f"{path}[{name}]": item for name, item in _by_name(value).items()}
    else:
        return
    for at, item in items.items():
        yield at
        yield from paths(item, at)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, dict) for item in value)


def _by_name(items: list[dict[str, Any]]) -> dict[str, Any]:
    """Items by their name, a scan group without one by its interval; of the same, all but the first with a number."""
    seen: Counter[str] = Counter()
    named = {}
    for item in items:
        name = str(item.get("name") or item.get("every") or "")
        seen[name] += 1
        named[name if seen[name] == 1 else f"{name}#{seen[name]}"] = item
    return named


def _paired(old: dict[str, Any], new: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The same, where a scan group without a name that has another interval keeps the one it had as its name."""
    gone = [key for key, item in old.items() if key not in new and "name" not in item]
    come = [key for key, item in new.items() if key not in old and "name" not in item]
    renamed = dict(zip(come, gone, strict=False))
    return old, {renamed.get(key, key): item for key, item in new.items()}


def _text(value: Any, limit: int) -> str:
    text = yaml(value)
    return text if len(text) <= limit else f"{text[: limit - 1]}…"


def document(value: Any, indent: str = "") -> Iterator[str]:
    """A configuration as lines of YAML: keys on lines of their own, and what has no deeper parts in one line."""
    if isinstance(value, dict):
        for key, item in value.items():
            if _is_flat(item):
                yield f"{indent}{yaml(key)}: {yaml(item)}"
            else:
                yield f"{indent}{yaml(key)}:"
                yield from document(item, f"{indent}  ")
    elif isinstance(value, list):
        for item in value:
            if _is_flat(item):
                yield f"{indent}- {yaml(item)}"
            else:
                first, *rest = document(item, f"{indent}  ")
                yield f"{indent}- {first.strip()}"
                yield from rest


def _is_flat(value: Any) -> bool:
    items = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return not any(isinstance(item, dict | list) and item for item in items) or len(yaml(value)) <= _TEXT_LIMIT // 2
