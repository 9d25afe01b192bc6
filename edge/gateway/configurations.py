"""Configurations on record: each that is taken into use, with who, why and what changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from edge.accounts import TEXT_LIMIT, account_name, seen
from edge.approval.sshsig import Refused
from edge.config.check_process import Site
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
from edge.files import replace_file
from edge.gateway.approvals import approved, list_on_record
from edge.health import ConfigurationStatus
from edge.logs import get_logger
from edge.recent import Recent
from edge.recorder import Recorder
from edge.seal import ConfigChange
from edge.seal.payloads import KeptPart

NEWEST = "configurations.json"
"""In the state directory: the newest configurations on record, for the status after the next start."""
_PART_BYTES = 40_000  # Of a configuration, in one record.

log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Author:
    """Who takes a configuration into use, in which role (start, apply, roll back), and why."""

    account: str
    role: str
    why: str
    approval: bytes | None = None
    """As the CONFIG record has it, where a second person approved it."""


class ConfigurationRecorder:
    """Seals CONFIG records, and keeps the configurations that they name in the state directory."""

    def __init__(
        self, settings: GatewaySettings, recorder: Recorder, recent: Recent, utc_ns: Callable[[], int]
    ) -> None:  # fmt: skip
        self._state, self._is_regulated = settings.gateway.state, settings.gateway.regulated
        self._recorder, self._recent = recorder, recent
        self._utc_ns = utc_ns

    async def record_start(self, digest: bytes, kept: KeptConfiguration | None, approval: bytes | None) -> None:
        """Record the configuration of this run where it is not that of the last one, or was not kept then.

        Raises:
            ConfigError: the gateway is regulated, and it cannot be put on record.
        """
        old = await asyncio.to_thread(digest_on_record, self._state)
        if old == digest and (kept is None or is_held(self._state, old)):
            return
        author = replace(await asyncio.to_thread(self._author_of_start, old, digest), approval=approval)
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
        size = _PART_BYTES - len(author.approval or b"")
        parts = [kept.packed[at : at + size] for at in range(0, len(kept.packed), size)]
        change = ConfigChange(
            at_ns=self._utc_ns(), account=author.account, role=author.role, why=author.why, old_hash=old,
            new_hash=digest, changes=kept.changes, approval=author.approval,
        )  # fmt: skip
        if not parts:
            yield change
        for number, part in enumerate(parts):
            of_it = KeptPart(number, len(parts), part, kept.count)
            yield replace(change, kept=of_it, changes=(), approval=None) if number else replace(change, kept=of_it)


def newest_configurations(state: Path) -> list[ConfigurationStatus]:
    """What an earlier run kept for the status; none where that cannot be read."""
    try:
        return [ConfigurationStatus(**{**each, "shown": tuple(map(str, each["shown"]))})
                for each in orjson.loads((state / NEWEST).read_bytes())]  # fmt: skip
    except (OSError, ValueError, TypeError, LookupError):
        return []


def check_reason(why: str, *, is_regulated: bool) -> None:
    """Raise ConfigError where this reason cannot be put on record."""
    if why != seen(why):
        raise ConfigError(f"the reason must be one line of at most {TEXT_LIMIT} characters, without characters that "
                          "cannot be seen or change the direction of writing")  # fmt: skip
    if is_regulated and sum(any(map(str.isalnum, word)) for word in why.split()) < 2:
        raise ConfigError("this gateway is regulated: give a reason of more than one word, such as "
                          '--why "change request 1207: new range of TT-101"')  # fmt: skip


def require_reason(site: Site, now_ns: int) -> bytes | None:
    """The approval of the configuration that is started, where it was changed and has one; `now_ns` is UTC.

    Raises:
        ConfigError: the gateway is regulated, and its configuration was changed without a reason, or an approval.
    """
    state, digest = site.settings.gateway.state, site.digest
    old = digest_on_record(state)
    if old in (b"", digest):
        return None
    was_regulated, file = list_on_record(site)
    asked, is_regulated = pending(state, digest), was_regulated or site.settings.gateway.regulated
    if asked is None and is_regulated:
        raise ConfigError("gateway.regulated: the files are not those on record, and nobody said why; run tidegate "
                          "apply with --why, and start again")  # fmt: skip
    if asked is None:
        return None
    check_reason(asked.why, is_regulated=is_regulated)  # It may have been left before the gateway was regulated.
    try:
        return approved(asked, site, old, file, now_ns, is_regulated=was_regulated)
    except Refused as error:
        raise ConfigError(f"approval: {error}") from error
