"""Where a relay's values go besides the archive: whether the database answers, and the directory of the lake is there.

A database is asked only whether it would speak TLS, which it answers before it knows who asks; with our certificate the
handshake of TLS follows, and no session begins. What its roles let the relay do is known to the running relay.
"""

from __future__ import annotations

import errno
import socket
import ssl
import struct
from collections.abc import Iterator
from pathlib import Path

from edge.accounts import account_name
from edge.config.settings import HistorianSettings, SinkSettings
from edge.doctor.findings import Finding
from edge.errors import ConfigError
from edge.references import tls_files
from edge.tls import TlsFiles, explain, load_context

_WITHIN_S = 5.0
_SSL_REQUEST = struct.pack(">ii", 8, 80_877_103)  # PostgreSQL, Message Formats.


def examine(sinks: SinkSettings, archive: Path | None) -> Iterator[Finding]:
    """Each sink that is set."""
    if sinks.historian is not None:
        yield _database(sinks.historian)
    if sinks.lake is not None:
        yield _directory(sinks.lake.directory, archive)


def _database(to: HistorianSettings) -> Finding:
    name = f"database at {to.host}:{to.port}"
    files: TlsFiles | None = None
    try:
        if to.tls != "off":
            where = "relay.sinks.historian.tls"
            files = tls_files(to.tls.ca, to.tls.certificate, to.tls.key, to.tls.crl, settings=where, minimum="1.2")
            load_context(files)
        _ask(to, files)
    except ConfigError:  # Said with the certificates.
        return Finding(severity="unseen", area="sinks", text=f"{name}: its certificate files cannot be used here",
                       remedy="the running relay says whether it gets in")  # fmt: skip
    except ssl.SSLError as error:
        return Finding(severity="critical", area="sinks", text=f"{name}: {explain(error, files)}",
                       remedy="see the certificates of both sides")  # fmt: skip
    except PermissionError as error:
        return Finding(severity="unseen", area="sinks", text=f"{name}: {error.strerror}", remedy="run it as root")
    except OSError as error:
        return Finding(severity="critical", area="sinks", text=f"{name} does not answer: {error.strerror or error}",
                       remedy="start PostgreSQL, or open the firewalls in between")  # fmt: skip
    return Finding(severity="ok", area="sinks", text=f"{name} answers" + (" in TLS" if files else ""))


def _ask(to: HistorianSettings, files: TlsFiles | None) -> None:
    with _connected(to) as plain:
        plain.sendall(_SSL_REQUEST)
        answer = plain.recv(1)
        if answer not in (b"S", b"N"):
            raise OSError(errno.EPROTO, "what answers is no PostgreSQL")
        if files is not None:
            if answer == b"N":
                raise OSError(errno.EPROTO, "it does not speak TLS: set ssl = on in its postgresql.conf")
            load_context(files).wrap_socket(plain, server_hostname=to.host).close()


def _connected(to: HistorianSettings) -> socket.socket:
    if not to.host.startswith("/"):
        return socket.create_connection((to.host, to.port), _WITHIN_S)
    local = socket.socket(socket.AF_UNIX)
    local.settimeout(_WITHIN_S)
    try:
        local.connect(f"{to.host}/.s.PGSQL.{to.port}")
    except OSError:
        local.close()
        raise
    return local


def _directory(directory: Path, archive: Path | None) -> Finding:
    """Whether it is there, and of the account that the archive is of."""
    try:
        if not directory.is_dir():
            return Finding(severity="critical", area="sinks", text=f"the lake's directory {directory} is not there",
                           remedy="mount it, or make it and give it to the relay's account")  # fmt: skip
        owner, expected = directory.stat().st_uid, archive.stat().st_uid if archive and archive.exists() else None
    except OSError as error:
        return Finding(severity="unseen", area="sinks", text=f"{directory}: {error.strerror}", remedy="run it as root")
    if expected not in (None, owner):
        return Finding(severity="notice", area="sinks", remedy="see whether the relay's account may write there",
                       text=f"the lake's directory {directory} belongs to {account_name(owner)}, the archive to "
                       f"{account_name(expected or 0)}")  # fmt: skip
    return Finding(severity="ok", area="sinks", text=f"the lake's directory {directory} is there")
