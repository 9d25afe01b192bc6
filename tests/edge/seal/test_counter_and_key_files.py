"""A state directory that cannot be used is a sentence for the engineer, not a traceback."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.seal import FileCounter, MemoryCounter, issuer_of, load_or_create_identity


def deny(monkeypatch: pytest.MonkeyPatch, method: str, number: int = errno.EACCES) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, method, refused)


def test_a_counter_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "open")

    with pytest.raises(ConfigError, match=r"identity\.counter.*Permission denied"):
        FileCounter(tmp_path / "identity.counter")


def test_a_counter_that_holds_no_number(tmp_path: Path) -> None:
    (tmp_path / "identity.counter").write_bytes(b"-7\xff")

    with pytest.raises(ConfigError, match="holds no number"):
        FileCounter(tmp_path / "identity.counter")


def test_a_key_in_a_directory_that_cannot_be_entered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deny(monkeypatch, "stat")

    with pytest.raises(ConfigError, match="Permission denied"):
        load_or_create_identity(tmp_path / "identity.pem", issuer=issuer_of("line-4"), counter=MemoryCounter())


def test_a_key_that_is_there_serves_although_its_public_half_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "identity.pem"
    made, _ = load_or_create_identity(path, issuer=issuer_of("line-4"), counter=MemoryCounter())
    path.with_suffix(".pub.pem").unlink()
    monkeypatch.setattr(os, "open", lambda *_a, **_k: (_ for _ in ()).throw(OSError(errno.EROFS, "read-only")))

    identity, is_new = load_or_create_identity(path, issuer=issuer_of("line-4"), counter=MemoryCounter())

    assert (identity.public, is_new) == (made.public, False)
