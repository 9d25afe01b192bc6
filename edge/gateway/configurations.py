"""Configurations on record: each that is taken into use, with who, why and what changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import category

import orjson

from edge.config.kept import (
    KeptConfiguration,
    digest_on_record,
    is_held,
    keep_configuration,
    pending,
    put_on_record,
)
from edge.config.settings import GatewaySettings
from edge.errors import BufferFull, ConfigError
from edge.files import account_name, replace_file
from edge.health import ConfigurationStatus
from edge.logs import get_logger
from edge.recent import Recent
from edge.recorder import Recorder
from edge.seal import ConfigChange
from edge.seal.payloads import KeptPart

NEWEST = "configurations.json"
"""In the state directory: the newest configurations on record, for the status after the next start."""
WHY_LIMIT = 500
"""Most characters of a reason."""
_PART_BYTES = 40_000  # Of a configuration, in one record.
_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp")  # Categories of Unicode; Cf turns text around, or hides.

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who takes a configuration into use, in which role (start, apply, roll back), and why."""

    account: str
    role: str
    why: str


class ConfigurationRecorder:
    """Seals CONFIG records, and keeps the configurations that they name in the state directory."""

    def __init__(
        self, settings: GatewaySettings, recorder: Recorder, recent: Recent, utc_ns: Callable[[], int]
    ) -> None:  # fmt: skip
        self._state, self._is_regulated = settings.gateway.state, settings.gateway.regulated
        self._recorder, self._recent = recorder, recent
        self._utc_ns = utc_ns

    async def record_start(self, digest: bytes, kept: KeptConfiguration | None) -> None:
        """Record the configuration of this run where it is not that of the last one, or was not kept then.

        Raises:
            ConfigError: the gateway is regulated, and it cannot be put on record.
        """
        old = await asyncio.to_thread(digest_on_record, self._state)
        if old == digest and (kept is None or is_held(self._state, old)):
            return
        author = await asyncio.to_thread(self._author_of_start, old, digest)
        if old not in (b"", digest):
            log.info("configuration changed", old=old.hex(), new=digest.hex(), account=author.account)
        try:
            await self.record(digest, old, kept, author)
        except (OSError, BufferFull) as error:
            # A full disk does not prevent the start of others: the next one records the change again.
            if self._is_regulated and old != digest:
                raise ConfigError("gateway.regulated: this configuration cannot be put on record, so no device is "
                                  f"read: {error}; see to the disk, and start again") from error  # fmt: skip

    def _author_of_start(self, old: bytes, digest: bytes) -> Author:
        if (asked := pending(self._state, digest)) is not None:
            return Author(account=asked.account, role="apply", why=asked.why)
        why = "kept from now on" if old == digest else "found at the start" if old else "first start"
        return Author(account=account_name(os.getuid()), role="start", why=why)

    async def record(self, digest: bytes, old: bytes, kept: KeptConfiguration | None, author: Author) -> None:
        """Keep and record a configuration; returns when that is stored.

        Raises:
            OSError: the configuration cannot be kept; then nothing is recorded.
            BufferFull: the buffer takes no record.
        """
        # Going back takes no room: what ran before is kept already.
        if kept is not None and (kept.files or not await asyncio.to_thread(is_held, self._state, digest)):
            await asyncio.to_thread(keep_configuration, self._state, digest, kept)
        is_durable = True
        for change in self._records(digest, old, kept or KeptConfiguration(packed=b""), author):
            is_durable &= (await self._recorder.record(change)).is_durable
        if is_durable:  # Otherwise a power cut may lose the record, and the next start makes another.
            await asyncio.to_thread(self._note, digest)
        newest = orjson.dumps(self._recent.status().configurations)
        with suppress(OSError):  # It is for the status only: the records say it all.
            await asyncio.to_thread(replace_file, self._state / NEWEST, newest, 0o640)

    def _note(self, digest: bytes) -> None:
        """Note that it is on record; where that fails, the next start records it again."""
        try:
            put_on_record(self._state, digest)
        except OSError as error:
            log.warning("configuration on record not noted", reason=str(error))

    def _records(self, digest: bytes, old: bytes, kept: KeptConfiguration, author: Author) -> Iterator[ConfigChange]:
        """The change, with the first part of the configuration, and the further parts."""
        parts = [kept.packed[at : at + _PART_BYTES] for at in range(0, len(kept.packed), _PART_BYTES)]
        change = ConfigChange(
            at_ns=self._utc_ns(), account=author.account, role=author.role, why=author.why, old_hash=old,
            new_hash=digest, changes=kept.changes,
        )  # fmt: skip
        if not parts:
            yield change
        for number, part in enumerate(parts):
            of_it = KeptPart(number, len(parts), part, kept.count)
            yield replace(change, kept=of_it, changes=() if number else change.changes)


def newest_configurations(state: Path) -> list[ConfigurationStatus]:
    """What an earlier run kept for the status; none where that cannot be read."""
    try:
        return [ConfigurationStatus(**{**each, "shown": tuple(map(str, each["shown"]))})
                for each in orjson.loads((state / NEWEST).read_bytes())]  # fmt: skip
    except (OSError, ValueError, TypeError, LookupError):
        return []


def claimed_account(vouched: str, claimed: str) -> str:
    """Who asked: the account that is certain, and a name that is only claimed, marked as that."""
    return f"{vouched} (claims to be {claimed})" if claimed not in ("", vouched) else vouched


def seen(text: str) -> str:
    """A text of others as a reason: of that length, and what cannot be seen in it is a question mark."""
    return "".join("?" if category(each) in _UNSEEN else each for each in text[:WHY_LIMIT])


def check_reason(why: str, *, is_regulated: bool) -> None:
    """Raise ConfigError where this reason cannot be put on record."""
    if why != seen(why):
        raise ConfigError(f"the reason must be one line of at most {WHY_LIMIT} characters, without characters that "
                          "cannot be seen or change the direction of writing")  # fmt: skip
    if is_regulated and sum(any(map(str.isalnum, word)) for word in why.split()) < 2:
        raise ConfigError("this gateway is regulated: give a reason of more than one word, such as "
                          '--why "change request 1207: new range of TT-101"')  # fmt: skip


def require_reason(settings: GatewaySettings, digest: bytes) -> None:
    """Raise ConfigError where the gateway is regulated and its configuration was changed without a reason."""
    state = settings.gateway.state
    if not settings.gateway.regulated or digest_on_record(state) in (b"", digest):
        return
    if (asked := pending(state, digest)) is not None:
        check_reason(asked.why, is_regulated=True)  # It may have been left before the gateway was regulated.
    else:
        raise ConfigError("gateway.regulated: the files are not those on record, and nobody said why; run tidegate "
                          "apply with --why, and start again")  # fmt: skip
