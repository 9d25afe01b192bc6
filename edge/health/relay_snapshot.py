"""The state of a relay at one moment, as a part of the snapshot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from edge.units import format_utc


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerStatus:
    """One gateway as seen by a relay.

    Attributes:
        state: silent where it sent no record for longer than a few heartbeats, stopped where its last record says so.
        waiting: records that cannot be judged yet.
        rejected: records that failed verification, or name another gateway than their topic.
        missing: records that are neither archived nor declared lost.
        lag_ns: how old the newest value was when it became durable in the archive, by the relay's clock against the
            time that the gateway's clock gave it; None before the first since the start.
        clock_ahead_ns: how far the gateway's clock must be ahead of the relay's, as that age would be negative; the lag
            is 0 then, and not known.
    """

    issuer: str
    state: Literal["up", "silent", "stopped"] = "up"
    epoch: str = ""
    seq: int = 0
    records: int = 0
    authentic: int = 0
    duplicates: int = 0
    waiting: int = 0
    rejected: int = 0
    missing: int = 0
    declared_lost: int = 0
    lag_ns: int | None = None
    clock_ahead_ns: int = 0
    last_record_age_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ViewStatus:
    """How far a view is behind the archive.

    Attributes:
        state: up while its broker takes the values; else `reason` says why not.
        is_behind: of what waits only the newest value of each tag is shown.
        waiting: records archived and not shown yet.
        oldest_age_ns: time since the first of them arrived, or since the start where it did before; 0 where none waits.
        dropped: values never shown because the view was behind, and a newer one of their tag was there.
        skipped: records never shown.
    """

    state: Literal["up", "down", "refused"] = "down"
    reason: str = ""
    is_behind: bool = False
    waiting: int = 0
    oldest_age_ns: int = 0
    dropped: int = 0
    skipped: int = 0

    @property
    def left_out(self) -> str:
        """What is to be said of values that the view leaves out, or left out; empty where it shows them all."""
        if not self.is_behind and not self.dropped:
            return ""
        count = f"{self.dropped:,} values left out; the archive has them"
        return f"too far behind: shows only the newest value of each tag; {count}" if self.is_behind else count


@dataclass(frozen=True, slots=True, kw_only=True)
class SinkStatus:
    """How far a sink is behind the archive.

    Attributes:
        address: where it is.
        state: up while it takes what is archived; else `reason` says why not.
        code: what `tidegate explain` calls that reason.
        records: written since the start.
        refused: records that it refused for good since the start.
        skipped: records that no sink can take: damaged on disk, or their catalogue never came.
        waiting_bytes: how much is archived and not written in the sink.
        lag_ns: how long ago the sink had everything archived, or since the start; 0 while it has, also where some of it
            waits in memory for its file.
    """

    name: str
    address: str = ""
    state: Literal["up", "down"] = "down"
    reason: str = ""
    code: str = ""
    records: int = 0
    refused: int = 0
    skipped: int = 0
    waiting_bytes: int = 0
    lag_ns: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayStatus:
    """What a relay received, verified and archived.

    Attributes:
        code: what `tidegate explain` calls the reason why nothing is received.
        not_durable: messages received and not durable yet.
        behind_records: records in a worker's share of Kafka that it did not take yet; None of other relays.
        archived_records: durable, as are `archived_bytes`.
        bytes_per_day: what is archived, at the rate of the last hour; None in the first minute.
        free_bytes: on the disk of the archive; None where that is not known.
        unwritable_since_ns: UTC since the archive cannot be written, and `unwritable_reason` why; None while it can.
    """

    broker: str = ""
    state: Literal["up", "down", "refused"] = "down"
    reason: str = ""
    code: str = ""
    archive: str = ""
    not_durable: int = 0
    behind_records: int | None = None
    archived_records: int = 0
    archived_bytes: int = 0
    bytes_per_day: int | None = None
    free_bytes: int | None = None
    unwritable_since_ns: int | None = None
    unwritable_reason: str = ""
    issuers: tuple[IssuerStatus, ...] = ()
    view: ViewStatus | None = None
    sinks: tuple[SinkStatus, ...] = ()

    @property
    def is_intake(self) -> bool:
        """Whether it passes records on to Kafka and archives none."""
        return not self.archive and any(sink.name == "kafka" for sink in self.sinks)

    @property
    def unwritable(self) -> str:
        """What is to be said of an archive that cannot be written; empty while it can."""
        if self.unwritable_since_ns is None:
            return ""
        return (
            f"cannot be written since {format_utc(self.unwritable_since_ns)}: {self.unwritable_reason}; "
            "nothing is acknowledged until it can, and the broker keeps the rest"
        )
