"""What a field case is: a kind of device, what Tidegate does with it, and the setting that it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldCase:
    """One kind of device.

    Attributes:
        id: unique, in words with dashes.
        device: the kind of device, as an engineer would say it, for the table of the page.
        does: what Tidegate does with it, one sentence for the page.
        start: opens the device; gives its keys and values in a configuration (`driver`, `host`, `port`,
            `scan_groups`, ...) without `name` and without what is in `needs`. The folder is empty, for its files.
        values: the value of each tag that the device gives when it is asked properly, or None where it changes.
        refused: the status of each tag that the device refuses.
        needs: the settings without which it cannot be read, merged into the device; empty: the defaults do.
        says: words that `tidegate read` and the log of `tidegate run` say without `needs`; they name the setting.
        helps: settings that are not needed and make it better, for the page: "`limits.connect_delay`".
    """

    id: str
    device: str
    does: str
    start: Callable[[Path], AbstractAsyncContextManager[Mapping[str, Any]]]
    values: Mapping[str, Any]
    refused: Mapping[str, int] = field(default_factory=dict)
    needs: Mapping[str, Any] = field(default_factory=dict)
    says: str = ""
    helps: str = ""
