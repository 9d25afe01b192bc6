"""Statements of what retention removed from an archive, each signed by its relay, and what becomes of their ranges.

Beside a day file that was removed lies `DAY.removed.json`, and its signature as `DAY.removed.json.sig`. A statement
counts if a trusted key of that relay signed it and no record contradicts it; otherwise its records stay missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from edge.seal.record import ISSUER_PREFIX
from edge.verify import Trust, Verifier

SUFFIX = ".removed.json"
_VERSION = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedRange:
    """Places of a chain whose records were removed; `hash` is the SHA-256 of the last of them."""

    epoch: str
    first: int
    last: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """What was removed from one day file.

    Attributes:
        relay: whose key signed this.
        file: the name of the day file; `size_bytes` and `sha256` are those that it had.
        removed_at: UTC.
        rule: the rule by which it was due.
        kept: how many of its records stay in the file, so that the chain can still be verified.
    """

    version: int = _VERSION
    relay: str
    gateway: str
    file: str
    size_bytes: int
    sha256: str
    removed_at: str
    rule: str
    records: int
    kept: int
    ranges: tuple[RemovedRange, ...]

    def encode(self) -> bytes:
        """The bytes that are signed."""
        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class BadStatement(ValueError):
    """A statement that does not count, and why."""


def statement_of(day_file: Path) -> Path:
    """Where the statement about a day file lies."""
    return day_file.with_suffix(SUFFIX)


def signature_of(statement: Path) -> Path:
    """Where its signature lies."""
    return statement.with_name(f"{statement.name}.sig")


def load(path: Path) -> Statement:
    """What a statement says, whoever signed it. Raises BadStatement."""
    try:
        said = orjson.loads(path.read_bytes())
        ranges = tuple(RemovedRange(**each) for each in said.pop("ranges"))
        statement = Statement(**said, ranges=ranges)
        for each in ranges:
            if len(bytes.fromhex(each.epoch)) != 8 or not 0 <= each.first <= each.last or len(each.hash) != 64:
                raise BadStatement("a range in it is none")
    except OSError as error:
        raise BadStatement(f"it cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise BadStatement("it is no statement of removal that this version knows") from error
    if statement.version != _VERSION or statement_of(path.with_name(statement.file)) != path:
        raise BadStatement("it is of another version or about another file")
    return statement


def check(path: Path, trust: Trust) -> Statement:
    """A statement that a trusted key of its relay signed. Raises BadStatement."""
    statement = load(path)
    if statement.gateway != path.parent.name:
        raise BadStatement(f"it is about gateway {statement.gateway}, and lies in the folder of {path.parent.name}")
    keys = trust.relay_keys(statement.relay)
    if not keys:
        raise BadStatement(f"no key of relay {statement.relay} is among the trust anchors; give its public key as one")
    try:
        signature = signature_of(path).read_bytes()
    except OSError:
        raise BadStatement("it is not signed") from None
    if not any(key.has_signed_file(signature, path.read_bytes()) for key in keys):
        raise BadStatement(f"its signature is not one of relay {statement.relay}")
    return statement


def statements_in(paths: Iterable[Path], gateway: str | None = None) -> Iterator[Path]:
    """The statements in archives and folders of gateways."""
    for path in paths:
        if path.is_dir():
            found = {*path.glob(f"*{SUFFIX}"), *path.glob(f"*/*{SUFFIX}")}
            yield from sorted(each for each in found if gateway in (None, each.parent.name))


@dataclass(frozen=True, slots=True, kw_only=True)
class RefusedStatement:
    """A statement that does not count, and why."""

    file: str
    reason: str


def apply_statements(
    verifier: Verifier, trust: Trust, paths: Iterable[Path]
) -> tuple[list[Statement], list[RefusedStatement]]:
    """Let a verifier, which has all records, know what was removed; returns what counted, and what did not."""
    counted, refused = [], []
    for path in paths:
        try:
            counted.append(_apply(verifier, check(path, trust)))
        except BadStatement as error:
            refused.append(RefusedStatement(file=str(path), reason=str(error)))
    return counted, refused


def _apply(verifier: Verifier, statement: Statement) -> Statement:
    issuer = ISSUER_PREFIX + statement.gateway
    for each in statement.ranges:
        if verifier.is_contradicted(issuer, bytes.fromhex(each.epoch), each.last, bytes.fromhex(each.hash)):
            raise BadStatement(f"the record after seq {each.last} names another one than it says")
    for each in statement.ranges:
        verifier.note_removed(issuer, bytes.fromhex(each.epoch), each.first, each.last)
    return statement
