"""Files of a configuration that take the place of others together, and give it back.

The new ones, and copies of the old ones, are written whole beside them first, which takes all the room that is needed.
From then on there are only changes of names: also on a full disk, all or none take place, and all can go back.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from edge.files import replace_like, sync_directory

_NEW, _OLD = ".put", ".before"


class PutFiles:
    """Files of a folder that were replaced."""

    def __init__(self, folder: Path, files: Mapping[str, bytes | None]) -> None:
        """Replace those that differ; what has no content goes. Raises OSError, and then nothing has changed."""
        self._files: dict[Path, tuple[bool, bool]] = {}  # By path: whether there was one, and is one.
        try:
            for name, data in files.items():
                path = (folder / name).resolve()
                before = path.read_bytes() if path.exists() else None
                if before == data:
                    continue
                self._files[path] = before is not None, data is not None
                if before is not None:
                    replace_like(_beside(path, _OLD), before, path)
                if data is not None:
                    replace_like(_beside(path, _NEW), data, folder if before is None else path)
            for path, (_, is_new) in self._files.items():
                _rename(path, _NEW if is_new else "")
        except OSError:
            with suppress(OSError):
                self.put_back()
            raise

    def put_back(self) -> None:
        """What there was before, as it was. Raises OSError."""
        for path, (was_there, _) in self._files.items():
            if not was_there:
                _rename(path, "")
            elif _beside(path, _OLD).exists():
                _rename(path, _OLD)
        self.keep()

    def keep(self) -> None:
        """What was put there stays."""
        for path in self._files:
            for ending in (_NEW, _OLD):
                with suppress(OSError):  # What is left over is untidy, and no more.
                    _beside(path, ending).unlink(missing_ok=True)
        self._files.clear()


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _rename(path: Path, ending: str) -> None:
    """Let the file beside it take the place of one, or nothing."""
    if ending:
        _beside(path, ending).rename(path)
    else:
        path.unlink(missing_ok=True)
    sync_directory(path.parent)
