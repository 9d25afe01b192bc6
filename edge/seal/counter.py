"""The counter of identity signatures, in memory or in a file that notices when it is a copy.

Theory of operation.

A state directory that was restored or copied has a key that is trusted and a chain that looks as if it ended there. If
it went on, two histories would have the same places. So the file of the counter, which is written again after each
identity signature, says of itself:

    file       its own inode and the time at which that was made: a file that was copied, unpacked, or written over with
               the content of a backup has others
    disks      the serial numbers of the disks it is on: an image of a disk on another disk has others
    networks   the addresses of the network adapters: an image of a machine that runs as another one has others
    copy       where the number is kept a second time, on another disk

A start that finds another file, another disk, or none of the adapters begins a new chain. Nothing of that is different
where the same disk of the same machine is set back block by block: then only a number kept elsewhere is ahead of the
chain, and without it the chain goes on and the record shows a FORK.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from edge.errors import ConfigError
from edge.files import disk_numbers, file_identity, network_addresses, replace_file


class EpochCounter(Protocol):
    """Counts identity signatures; each number is given once.

    The number is in the record that was signed, and that record is durable before it is sent. So the counter
    itself need not be durable first: after a crash, `raise_to` takes over the number in the chain.
    """

    @property
    def doubt(self) -> str:
        """Why this may be a copy of an earlier time, so that its chain must not go on; empty where it is not."""
        ...

    @property
    def last(self) -> int:
        """The number given last; 0 before the first."""
        ...

    def next(self) -> int:
        """One more than the last."""
        ...

    def raise_to(self, number: int) -> None:
        """Continue after this number, which a record in the chain contains."""
        ...

    def save(self) -> None:
        """Make the last number durable; waits for the disk."""
        ...


class MemoryCounter:
    """A counter that starts over with the process, for tests and demonstrations."""

    doubt = ""

    def __init__(self, last: int = 0) -> None:
        self._last = last

    @property
    def last(self) -> int:
        """See `EpochCounter.last`."""
        return self._last

    def next(self) -> int:
        """See `EpochCounter.next`."""
        self._last += 1
        return self._last

    def raise_to(self, number: int) -> None:
        """See `EpochCounter.raise_to`."""
        self._last = max(self._last, number)

    def save(self) -> None:
        """See `EpochCounter.save`."""


class FileCounter(MemoryCounter):
    """A counter in a durable file. Where both file and chain are lost it starts over, and verifiers report it.

    Args:
        path: the file.
        copy: where the number is kept a second time.

    Raises:
        ConfigError: the file cannot be read, or holds no number.
    """

    def __init__(self, path: Path, copy: Path | None = None) -> None:
        self._path, self._copy = path, copy
        self._networks = network_addresses()
        kept, identity = _read(path)
        super().__init__(kept.get("number", 0))
        doubts = []
        if kept.keys() - {"number"}:  # An early version wrote no more.
            doubts += self._doubts(kept, identity, disk_numbers(path))
        if copy is not None:
            other, _ = _read(copy)
            if kept.get("copy") == str(copy) and not other:
                doubts.append(f"the second place of the identity counter, {copy}, is not there")
            self.raise_to(other.get("number", 0))
        self.doubt = "; ".join(doubts)

    def _doubts(self, kept: dict[str, Any], identity: Sequence[int], disks: Sequence[str]) -> list[str]:
        doubts = []
        if kept.get("file") != identity:
            doubts.append(f"{self._path} is not the file that was written here: the state was restored or copied")
        if disks and (there := kept.get("disks")) and there != disks:
            doubts.append(f"the state is on another disk: {', '.join(disks)} instead of {', '.join(there)}")
        here = self._networks
        if here and (there := kept.get("networks")) and not set(there) & set(here):
            doubts.append(f"the state is in another machine, with network adapter {here[0]} instead of {there[0]}")
        return doubts

    def save(self) -> None:
        """See `EpochCounter.save`."""
        failed: OSError | None = None
        if self._copy is not None:
            try:
                replace_file(self._copy, json.dumps({"number": self._last}).encode(), 0o600)
            except OSError as error:
                failed = error
        kept = {"number": self._last, "disks": disk_numbers(self._path.parent), "networks": self._networks,
                "copy": None if failed or self._copy is None else str(self._copy)}  # fmt: skip
        replace_file(self._path, lambda handle: json.dumps({**kept, "file": file_identity(handle)}).encode(), 0o600)
        if failed is not None:
            raise failed


def _read(path: Path) -> tuple[dict[str, Any], list[int]]:
    """What a counter's file says, and the identity of the file; nothing where there is none."""
    try:
        with path.open("rb") as file:
            kept, identity = json.loads(file.read()), file_identity(file.fileno())
    except FileNotFoundError:
        return {}, []
    except OSError as error:
        raise ConfigError(f"identity counter {path} cannot be read: {error.strerror}; check its owner") from error
    except ValueError:
        kept = None
    if isinstance(kept, int):  # Of an early version, which wrote no more.
        kept = {"number": kept}
    if not isinstance(kept, dict) or not isinstance(kept.get("number"), int):
        raise ConfigError(
            f"identity counter {path} holds no number; delete it, and the gateway begins a new chain"
        ) from None
    return kept, identity
