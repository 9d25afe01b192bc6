"""The broker, asked so that no session of a gateway or relay ends by it.

A broker ends the session of whoever comes again with the same name, whether that is a client id, a certificate or an
account, and a relay's session holds its queue. So nothing here introduces itself: with our certificate only the
handshake of TLS is made, which names nobody to MQTT; CONNECT is sent only without certificate and account, under a name
made by chance, and has to be refused. What the access list lets a gateway do is known to the running gateway.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator

from edge.config.settings import BrokerSettings
from edge.doctor.findings import Finding
from edge.errors import ConfigError, ErrorCode
from edge.mqtt.access import BrokerAccess
from edge.mqtt.codec import MalformedPacket, PacketType, Property, Splitter, encode_disconnect
from edge.mqtt.connect import decode_connack, encode_connect
from edge.references import tls_files
from edge.tls import TlsFiles, explain, load_context
from edge.units import is_loopback

_WITHIN_S = 5.0
_ALERT_WITHIN_S = 0.5
_CONNACK_BYTES = 16_384


def examine(broker: BrokerSettings, setting: str, *, is_running: bool) -> Iterator[Finding]:
    """Whether it is reached, whom it trusts, and that it lets in nobody without a name."""
    name = f"broker {broker.host}:{broker.port}"
    files: TlsFiles | None = None
    if broker.tls != "off":
        try:
            tls = broker.tls
            files = tls_files(tls.ca, tls.certificate, tls.key, tls.crl, settings=f"{setting}.tls", minimum="1.2")
            load_context(files)
        except ConfigError:  # Said with the certificates.
            yield Finding(severity="unseen", area="broker", text=f"{name}: its certificate files cannot be used here",
                          remedy="the running service says whether it gets in",
                          code=ErrorCode.BROKER_NOT_TRUSTED.id)  # fmt: skip
            return
    try:
        _shake_hands(broker, files)
    except ssl.SSLError as error:
        yield Finding(severity="critical", area="broker", text=f"{name}: {explain(error, files)}",
                      code=ErrorCode.BROKER_NOT_TRUSTED.id, remedy="see the certificates of both sides")  # fmt: skip
        return
    except OSError as error:
        why = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error.strerror or error)
        yield Finding(severity="critical", area="broker", text=f"{name} cannot be reached from this machine: {why}",
                      remedy="start the broker, or open the firewalls in between")  # fmt: skip
        return
    how = "in TLS" if files else "without TLS"
    yield Finding(severity="ok", area="broker", text=f"{name} is reached {how}")
    yield _without_name(broker, files, name)
    if not is_running:
        yield Finding(severity="unseen", area="broker", code=ErrorCode.NOT_RUNNING.id,
                      remedy="start it: its status names each refused topic",
                      text=f"the access list of {name}: only the running service knows what it may do, and a second "
                      "connection in its name would end its session")  # fmt: skip


def _open(broker: BrokerSettings, files: TlsFiles | None) -> socket.socket:
    plain = socket.create_connection((broker.host, broker.port), _WITHIN_S)
    if files is None:
        return plain
    try:
        return load_context(files).wrap_socket(plain, server_hostname=broker.host)
    except BaseException:
        plain.close()
        raise


def _shake_hands(broker: BrokerSettings, files: TlsFiles | None) -> None:
    """Connect, and wait for the alert with which TLS 1.3 refuses a certificate after the handshake."""
    with _open(broker, files) as connection:
        if files is None:
            return
        connection.settimeout(_ALERT_WITHIN_S)
        try:
            connection.recv(1)
        except TimeoutError:
            return


def _without_name(broker: BrokerSettings, files: TlsFiles | None, name: str) -> Finding:
    if files is not None:
        files = TlsFiles(ca=files.ca, crl=files.crl, minimum=files.minimum, settings=files.settings)
    access = BrokerAccess(host=broker.host, port=broker.port, client_id=f"tidegate-doctor-{os.urandom(8).hex()}")
    try:
        with _open(broker, files) as connection:
            connection.sendall(encode_connect(access, {Property.SESSION_EXPIRY: 0}))
            is_let_in = _is_accepted(connection)
            if is_let_in:
                connection.sendall(encode_disconnect())
    except (OSError, MalformedPacket):
        is_let_in = False
    if not is_let_in:
        return Finding(severity="ok", area="broker", text=f"{name} refuses who has no certificate and no account")
    return Finding(
        severity="notice" if is_loopback(broker.host) else "critical", area="broker", code=ErrorCode.BROKER_OPEN.id,
        text=f"{name} lets in everybody, without certificate and account",
        remedy="set allow_anonymous false, require_certificate true and an access list, as in configs/dmz",
    )  # fmt: skip


def _is_accepted(connection: socket.socket) -> bool:
    splitter = Splitter(_CONNACK_BYTES)
    while data := connection.recv(_CONNACK_BYTES):
        for first_byte, body in splitter.feed(data):
            return first_byte >> 4 == PacketType.CONNACK and decode_connack(body).reason_code == 0
    return False
