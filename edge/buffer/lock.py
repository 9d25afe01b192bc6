"""One writer and one sender per buffer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Literal

from edge.errors import ConfigError

Role = Literal["acquire", "forward"]


class DirectoryLock:
    """Holds one role on a buffer directory, until it is released or the process ends, however it ends."""

    def __init__(self, directory: Path, role: Role) -> None:
        """Take the role.

        Raises:
            ConfigError: another process has it, or the directory cannot be used.
        """
        self._fd: int | None = None
        try:
            # Two roles may be two users of one group: what others may do is for the umask to say.
            directory.mkdir(mode=0o770, parents=True, exist_ok=True)
            self._fd = os.open(directory / f"{role}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            if error.errno == errno.EROFS:  # Nobody else can write here either.
                return
            reason = f"the buffer {directory} cannot be used: {error.strerror}; see to its owner and mode"
            raise ConfigError(reason) from error
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(self._fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
            self.release()
            raise ConfigError(
                f"the buffer {directory} is in use by another gateway (role {role}, process {holder}); "
                "stop that one, or give this one a directory of its own"
            ) from error
        with contextlib.suppress(OSError):  # The number is for people; a full disk may refuse it.
            os.ftruncate(self._fd, 0)
            os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the role back."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> DirectoryLock:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
