"""Files for TLS that cannot be used, and what is said of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from edge.errors import ConfigError
from edge.tls import TlsFiles, load_context


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used: there is no such file"):
        load_context(TlsFiles(ca=tmp_path / "ca.pem"))


def test_a_ca_file_that_is_no_pem_is_named(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")

    with pytest.raises(ConfigError, match=r"ca\.pem cannot be used"):
        load_context(TlsFiles(ca=tmp_path / "ca.pem"))
