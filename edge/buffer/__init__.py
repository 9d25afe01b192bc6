"""The buffer on disk: the only queue between acquisition and delivery."""

from edge.buffer.cursor import Cursor
from edge.buffer.disk import CURSOR, DirectoryLock, Disk, File, PosixDisk
from edge.buffer.pending import PendingRecords
from edge.buffer.reader import Reader
from edge.buffer.segment import Damage, Storable
from edge.buffer.space import BufferLimits, Drop, RecordRun
from edge.buffer.store import BufferEvent, Store, Usage
from edge.buffer.writer import BufferWriter, WriteResult

__all__ = [
    "CURSOR",
    "BufferEvent",
    "BufferLimits",
    "BufferWriter",
    "Cursor",
    "Damage",
    "DirectoryLock",
    "Disk",
    "Drop",
    "File",
    "PendingRecords",
    "PosixDisk",
    "Reader",
    "RecordRun",
    "Storable",
    "Store",
    "Usage",
    "WriteResult",
]
