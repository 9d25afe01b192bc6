"""The buffer on disk: the only queue between what was read and what was sent."""

from edge.buffer.cursor import CURSOR, Cursor
from edge.buffer.disk import Disk, File, PosixDisk
from edge.buffer.intervals import Intervals
from edge.buffer.lock import DirectoryLock
from edge.buffer.reader import Reader
from edge.buffer.recovery import Recovery, TailRecord
from edge.buffer.retention import Drop, Run
from edge.buffer.segment import Damage, Storable
from edge.buffer.shelf import Limits
from edge.buffer.store import BufferEvent, Store, Usage
from edge.buffer.waiting import PendingRecords
from edge.buffer.writer import BufferWriter, WriteResult

__all__ = [
    "CURSOR",
    "BufferEvent",
    "BufferWriter",
    "Cursor",
    "Damage",
    "DirectoryLock",
    "Disk",
    "Drop",
    "File",
    "Intervals",
    "Limits",
    "PendingRecords",
    "PosixDisk",
    "Reader",
    "Recovery",
    "Run",
    "Storable",
    "Store",
    "TailRecord",
    "Usage",
    "WriteResult",
]
