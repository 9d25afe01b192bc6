"""A buffer on disk of which one 4 KiB block after the other is overwritten, and started again."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from random import Random

from edge.buffer import BufferLimits, PosixDisk, Reader, Store
from edge.buffer.cursor import Cursor
from edge.buffer.space import RESERVE, SPARE

BLOCK_BYTES = 4096
_EPOCH = b"\x01\x02\x03\x04\x05\x06\x07\x08"
_LIMITS = BufferLimits(limit_bytes=64 << 20, segment_bytes=256 << 10, reserve_bytes=64 << 10)
_DELIVERED, _DECLARED = range(20), range(20, 25)


@dataclass(frozen=True, slots=True)
class _Stored:
    epoch: bytes
    seq: int
    data: bytes


class DamagedBuffer:
    """A buffer with segments, a cursor, declared losses, a reserve and a spare.

    Attributes:
        records: how many records it holds; the first are delivered or declared lost.
    """

    def __init__(self, directory: Path, records: int, seed: int) -> None:
        self._directory, self._random, self.records = directory, Random(seed), records
        self._disk = PosixDisk(directory)
        self._data = [self._random.randbytes(self._random.randrange(20, 600)) for _ in range(records)]
        with closing(Store(self._disk, _LIMITS)) as store:
            for seq, data in enumerate(self._data):
                store.append([_Stored(_EPOCH, seq, data)])
                if seq % 50 == 49 or seq == records - 1:
                    assert store.commit()
        cursor, declared = Cursor(self._disk), Cursor(self._disk, "declared")
        cursor.add(_DELIVERED[0], _DELIVERED[-1])
        cursor.save()
        declared.add(_DECLARED[0], _DECLARED[-1])
        declared.save()
        (directory / SPARE).write_bytes(bytes(_LIMITS.segment_bytes))
        self._whole = {path: path.read_bytes() for path in directory.iterdir()}
        assert (directory / RESERVE).exists()

    def blocks(self) -> list[tuple[str, int]]:
        """Name and offset of every block."""
        return [(path.name, offset) for path, data in sorted(self._whole.items())
                for offset in range(0, len(data), BLOCK_BYTES)]  # fmt: skip

    def problem_after_damage(self, name: str, offset: int) -> str:
        """What a start on the buffer with this block overwritten does not do as promised; empty if all is well."""
        self._restore()
        path = self._directory / name
        length = min(BLOCK_BYTES, len(self._whole[path]) - offset)
        noise = self._random.choice([bytes(length), (b"REC1" * BLOCK_BYTES)[:length], self._random.randbytes(length)])
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(noise)
        with closing(Store(self._disk, _LIMITS)) as store:
            damages = list(store.recovery.damages)
            for _ in list(store.recovery.unread):
                damages += store.check_next()
            end, is_tail_lost = store.recovery.end, store.recovery.is_tail_lost
        lost = [number for each in damages for number in range(each.first, each.last + 1)]
        held = self._read()
        # Damage to what was delivered or declared before needs no declaration.
        settled = set() if name in ("cursor", "declared") else {*_DELIVERED, *_DECLARED}
        absent = set(range(self.records)) - held.keys()
        if wrong := [number for number, data in held.items() if data != self._data[number]]:
            return f"records {wrong[:5]} are read back with another content"
        if set(lost) - absent or len(set(lost)) != len(lost):
            return f"records {sorted(set(lost) - absent)[:5]} are declared lost, and held or declared twice"
        if undeclared := absent - set(lost) - settled:
            return f"records {sorted(undeclared)[:5]} are lost and not declared"
        if end != self.records or is_tail_lost != (self.records - 1 in lost):
            return f"the next number is {end}, and the tail counts as {'lost' if is_tail_lost else 'held'}"
        return ""

    def _restore(self) -> None:
        for path in self._directory.iterdir():
            if path not in self._whole:
                path.unlink()
        for path, data in self._whole.items():
            if not path.exists() or path.stat().st_size != len(data) or path.read_bytes() != data:
                path.write_bytes(data)

    def _read(self) -> dict[int, bytes]:
        found: dict[int, bytes] = {}
        with closing(Reader(self._disk)) as reader:
            number = reader.oldest()
            while batch := reader.read(number, 1 << 20):
                found.update(batch)
                number = batch[-1][0] + 1
        return found
