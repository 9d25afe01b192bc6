"""Files that are replaced whole, names that are made durable, and the accounts that own them."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def replace_file(path: Path, data: bytes, mode: int) -> None:
    """Make a file durable whole: after a crash there is the old one or the new one. Raises OSError."""
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_CREAT | os.O_EXCL | os.O_WRONLY, mode)
    with os.fdopen(handle, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(handle)
    draft.rename(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable. Raises OSError."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def account_name(user: int) -> str:
    """The name of an account by its user ID; a number where it has no name."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"uid {user}"


@contextmanager
def named_in_errors(path: Path) -> Iterator[None]:
    """Name the file in errors of reading it, which have no name where it could be opened."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise
