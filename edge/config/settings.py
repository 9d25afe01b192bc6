"""All settings of gateway and relay, except those that a driver adds to its devices and tags.

Defaults suit an unknown plant. The reference page and the JSON Schema are generated from these classes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from edge.config.contexts import ContextSettings
from edge.config.sockets import SERVICES, asked_at
from edge.driver import DeviceSettings
from edge.references import Certificate, KeyFile, Location, Reference, Secret, Trusted, tls_files
from edge.settings import Check, Interval, Len, MaxLen, MinLen, Pattern, Settings
from edge.tls import TlsFiles
from edge.units import (
    DurationNs,
    Host,
    Share,
    SizeBytes,
    check_host,
    format_size,
    is_loopback,
    listening_address,
    server_address,
)

_MS = 10**6
_S = 10**9
_MIN = 60 * _S
_H = 60 * _MIN
_MIB = 2**20
_SEGMENTS_AT_LEAST = 4

Name = Annotated[str, Len(1, 64), Pattern(r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
ListeningAddress = Annotated[str, Check(listening_address)]
Port = Annotated[int, Interval(ge=1, le=65535)]


@dataclass(frozen=True, kw_only=True)
class GatewaySection(Settings):
    """Name and place of this gateway."""

    name: Name
    """Name of the gateway, unique on its broker: letters, digits, dots, dashes and underscores."""
    path: Annotated[str, MaxLen(300), Pattern(r"^[^/+#\s\x00-\x1f]+(/[^/+#\s\x00-\x1f]+)*$")]
    """ISA-95 path, enterprise/site/area/line: levels joined by slashes, without spaces, + or #."""
    regulated: bool = False
    """Whether a changed configuration needs a reason: without one from `tidegate apply`, the gateway does not start."""
    state: Location = Path("/var/lib/tidegate")
    """Directory for what the gateway keeps: its key and, unless said otherwise, buffer and status socket."""

    @property
    def control_socket(self) -> Path:
        """Where commands ask the running gateway what they would ask a device otherwise."""
        return asked_at("gateway", self.name, "control", self.state / "control.sock")

    @property
    def live_socket(self) -> Path:
        """Where the running gateway gives the values that scans have brought."""
        return asked_at("gateway", self.name, "live", self.state / "live.sock")


@dataclass(frozen=True, kw_only=True)
class IdentitySettings(Settings):
    """The key that this gateway signs with."""

    key: KeyFile | None = None
    """Identity key in PEM, created on first start when it is a file; by default identity.pem in `gateway.state`."""
    certificate: Certificate | None = None
    """Certificate chain of that key in PEM, where the plant has a certification authority."""
    counter_copy: Location | None = None
    """A file on another disk that keeps the count of signatures too, so that an image of this disk is noticed."""


@dataclass(frozen=True, kw_only=True)
class ClockSettings(Settings):
    """What is expected of the system clock."""

    require: Literal["synchronized", "bounded", "any"] = "bounded"
    """Readings are UNCERTAIN until the clock is synchronized, or its error has a bound; `any` asks for neither."""
    chrony: Annotated[str, Pattern(r"^(off|/.+|(\[[0-9A-Fa-f:.]+\]|[^:\s/]+):[0-9]{1,5})$")] = "127.0.0.1:323"
    """Where chronyd answers: host:port, the path of its socket, or off."""
    ptp: Annotated[str, Pattern(r"^(off|/.+)$")] = "off"
    """Where ptp4l answers: the path of its socket, such as /run/ptp4lro, or off. It is asked before chronyd."""
    ptp_clock: Annotated[str, Pattern(r"^(system|/dev/ptp[0-9]+)$")] | None = None
    """What stamps PTP packets: /dev/ptp0, or system. Needed at /run/ptp4lro, where ptp4l does not say."""
    ptp_domain: Annotated[int, Interval(ge=0, le=255)] = 0
    """ptp4l's domainNumber."""
    ptp_asymmetry: DurationNs | None = None
    """Most error by a path that is slower one way than the other; by default the whole mean path delay."""
    ptp_boundary_clock: DurationNs | None = None
    """How far each boundary clock may be off its master; without it there is no bound behind one."""
    smear: Annotated[DurationNs, Interval(ge=_H, le=24 * _H)] | None = None
    """Over how long the time servers smear a leap second, half of it before: 24 h where they do from noon to noon.

    Around the end of June and of December the stated bound is half a second larger for so long.
    """
    poll: Annotated[DurationNs, Interval(ge=100 * _MS, le=_MIN)] = _S
    """How often the clock's source is asked."""


@dataclass(frozen=True, kw_only=True)
class ScanningSettings(Settings):
    """When scans begin."""

    at_once: Annotated[int, Interval(ge=1, le=1000)] = 16
    """Most scans that begin together. More save CPU time, fewer begin closer to their due time."""


@dataclass(frozen=True, kw_only=True)
class SealSettings(Settings):
    """How readings become signed records."""

    commit_window: Annotated[DurationNs, Interval(ge=0, le=_S)] = 20 * _MS
    """How long readings are gathered for one signature and one write.

    Scans that are under way are waited for as well, for a twentieth of the interval at most. 0 for least latency, 100
    ms or more on SD cards.
    """
    heartbeat: Annotated[DurationNs, Interval(ge=_S, le=5 * _MIN)] = 10 * _S
    """Longest time without a record; after it an empty one is sealed."""
    checkpoint: Annotated[DurationNs, Interval(ge=_S, le=_H)] = _MIN
    """Interval of checkpoints, signed with the identity key."""
    key_period: Annotated[DurationNs, Interval(ge=10 * _S, le=24 * _H)] = 15 * _MIN
    """Longest life of a session key."""
    key_records: Annotated[int, Interval(ge=10, le=1_000_000)] = 2000
    """Most records that one session key signs."""
    compression: Literal["zstd", "zlib", "off"] = "zstd"
    """How the content of a record is compressed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.heartbeat > self.key_period:
            raise ValueError("heartbeat is longer than key_period: a key would pass without a record")


@dataclass(frozen=True, kw_only=True)
class BufferSettings(Settings):
    """What waits on disk to be sent, and what is kept to be sent again."""

    directory: Location | None = None
    """Where segments are kept; by default buffer in `gateway.state`."""
    limit: Annotated[SizeBytes, Interval(ge=64 * _MIB)] = 10 * 10**9
    """Most bytes on disk."""
    free_space: SizeBytes = 500 * 10**6
    """Bytes that are always left free on the disk. If no segment fits beside them, records are in memory only."""
    when_full: Literal["drop_oldest", "stop"] = "drop_oldest"
    """At the limit: drop the oldest records and declare the loss, or stop reading and declare the gap."""
    keep_delivered: DurationNs = 72 * _H
    """How long delivered records stay for `tidegate resend`, while there is room."""
    segment: Annotated[SizeBytes, Interval(ge=_MIB, le=1024 * _MIB)] = 16 * _MIB
    """Size of a segment file."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.limit < _SEGMENTS_AT_LEAST * self.segment:
            raise ValueError("limit must hold at least four segments; raise it or make segment smaller")

    def lack_of_room(self, free_bytes: int) -> str:
        """Why no segment fits on a disk with so much free, and which number to change; empty where one fits."""
        if free_bytes >= self.free_space + self.segment:
            return ""
        most_bytes = free_bytes - _SEGMENTS_AT_LEAST * self.segment
        missing_mb = -((most_bytes - self.free_space) // 10**6)
        change = f"set it to {most_bytes // 10**6} MB or less, or free" if most_bytes > 0 else "free"
        return (
            f"its disk has {format_size(free_bytes)} free, and buffer.free_space leaves {format_size(self.free_space)} "
            f"for others: {change} {missing_mb} MB"
        )


@dataclass(frozen=True, kw_only=True)
class TlsSettings(Settings):
    """TLS with certificates of both sides."""

    ca: Certificate
    """Certificate of the authority that signed the broker's, in PEM."""
    certificate: Certificate | None = None
    """The client's own certificate, in PEM."""
    key: Secret | None = None
    """The key of that certificate, in PEM."""
    crl: Certificate | None = None
    """Revocation lists in PEM, one of each authority above the broker's certificate; read at each connection.

    A certificate that is in one is refused, and so is any while a list is missing or out of date.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.certificate is None) != (self.key is None):
            raise ValueError("certificate and key come together, or not at all")


@dataclass(frozen=True, kw_only=True)
class BrokerSettings(Settings):
    """How a broker is reached."""

    host: Host
    """Host name or address of the broker."""
    port: Port = 8883
    """TCP port of the broker; usually 8883 with TLS and 1883 without."""
    tls: Literal["off"] | TlsSettings
    """Certificates for TLS; off to go without."""
    username: str | None = None
    """Account at the broker."""
    password: Secret | None = None
    """Where the password of that account is kept."""
    keep_alive: Annotated[DurationNs, Interval(ge=_S, le=18 * _H)] = 30 * _S
    """Longest silence before the connection is tested."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.password is not None and self.username is None:
            raise ValueError("password needs a username")


@dataclass(frozen=True, kw_only=True)
class MqttSettings(BrokerSettings):
    """The one-way exit through an MQTT 5 broker."""

    in_flight: Annotated[int, Interval(ge=1, le=65535)] = 64
    """Most unacknowledged records; the broker's own limit holds too."""
    order: Literal["live_first", "in_order"] = "live_first"
    """After an outage: send fresh records first and the backlog behind them, or everything in order."""
    backlog_share: Share = 0.5
    """Share of the link's rate given to the backlog while fresh records flow."""
    backlog_rate: Annotated[SizeBytes, Interval(ge=4096)] = 2 * 10**6
    """Most bytes of the backlog sent in a second, each record counted with at least 4 KiB.

    What all gateways together send faster than the relay takes it waits in the broker in front of fresh records.
    """
    resend_window: Annotated[DurationNs, Interval(ge=0, le=24 * _H)] = 60 * _S
    """Records acknowledged this long before a connection ended are sent again.

    The broker may not have had them on disk. At least the broker's save interval and the duration of one save.
    """
    no_subscriber: Literal["keep", "delivered"] = "keep"
    """Of a record that the broker has no subscriber for: keep it, or count it as delivered."""


@dataclass(frozen=True, kw_only=True)
class UplinkSettings(Settings):
    """Where records go."""

    mqtt: MqttSettings
    """The broker in the DMZ."""


@dataclass(frozen=True, kw_only=True)
class MetricsTlsSettings(Settings):
    """TLS for metrics that other machines read: each reader needs a certificate. The files are read at each request."""

    ca: Certificate
    """Certificate of the authority that signed those of the readers, in PEM."""
    certificate: Certificate
    """Certificate that this program shows to them, in PEM."""
    key: Secret
    """The key of that certificate, in PEM."""


@dataclass(frozen=True, kw_only=True)
class StatusSettings(Settings):
    """Status and metrics of the running program."""

    socket: Location | None = None
    """Socket for `tidegate status`; by default below /run/tidegate in a shipped unit.

    Otherwise it is status.sock in the state or archive directory. The role forward adds -forward to its name.
    """
    metrics: ListeningAddress | None = None
    """Where Prometheus metrics are served, such as 127.0.0.1:9464; by default nowhere.

    A gateway of two processes serves those of the role forward at the next port.
    """
    tls: MetricsTlsSettings | None = None
    """TLS for metrics; needed where other machines can reach them."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.metrics is not None and self.tls is None and not is_loopback(listening_address(self.metrics)[0]):
            raise ValueError(
                f"other machines can reach metrics at {self.metrics}: add tls, or choose 127.0.0.1 and a proxy there"
            )

    @property
    def metrics_files(self) -> TlsFiles | None:
        """The files behind `tls`. Raises ConfigError where one is a credential that systemd did not pass."""
        return tls_files(self.tls.ca, self.tls.certificate, self.tls.key, settings="status.tls") if self.tls else None


@dataclass(frozen=True, kw_only=True)
class LogSettings(Settings):
    """Log output for the operators."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe line that is written."""
    format: Literal["auto", "json", "console"] = "auto"
    """Lines for machines or for people; auto writes for people on a terminal."""
    syslog: Literal["off"] | Location = Path("/dev/log")
    """Where security events are sent besides, with ids that stay the same; off for nowhere."""


@dataclass(frozen=True, kw_only=True)
class ApprovalSettings(Settings):
    """Who approves changes of the configuration."""

    allowed_signers: Location
    """File of those whose signature approves a change, as OpenSSH's ALLOWED SIGNERS, with a role as the comment.

    With `gateway.regulated` a change without the approval of a second person is refused.
    """


TAKEN_WHILE_IT_RUNS = ("devices", "contexts")
"""The sections that `tidegate apply` takes into use; the others wait for a start."""


@dataclass(frozen=True, kw_only=True)
class GatewaySettings(Settings):
    """The configuration of a gateway."""

    gateway: GatewaySection
    """Name and place of this gateway."""
    identity: IdentitySettings = IdentitySettings()
    """The key that this gateway signs with."""
    clock: ClockSettings = ClockSettings()
    """What is expected of the system clock."""
    scanning: ScanningSettings = ScanningSettings()
    """When scans begin."""
    seal: SealSettings = SealSettings()
    """How readings become signed records."""
    buffer: BufferSettings = BufferSettings()
    """The queue on disk."""
    uplink: UplinkSettings | None = None
    """Where records go; without it they stay in the buffer."""
    status: StatusSettings = StatusSettings()
    """Status and metrics of the running gateway."""
    log: LogSettings = LogSettings()
    """Log output for the operators."""
    approval: ApprovalSettings | None = None
    """Who approves changes of the configuration; without it nobody has to."""
    devices: Annotated[Sequence[DeviceSettings], MinLen(1)]
    """What is read."""
    contexts: Sequence[ContextSettings] = ()
    """What units are doing (ISA-88): each reading of a unit names the context that it was sampled in."""

    @property
    def identity_key(self) -> Reference:
        """Where the identity key is stored; by default in the state directory."""
        return self.identity.key or Reference("file", str(self.gateway.state / "identity.pem"))

    @property
    def buffer_directory(self) -> Path:
        """Where segments are stored; by default in the state directory."""
        return self.buffer.directory or self.gateway.state / "buffer"

    @property
    def status_socket(self) -> Path:
        """Where `tidegate status` asks."""
        return self.status.socket or asked_at(
            "gateway", self.gateway.name, "status", self.gateway.state / "status.sock"
        )


@dataclass(frozen=True, kw_only=True)
class UnifiedNamespaceSettings(Settings):
    """Values as JSON, on a topic of each tag or of each scan group of a device."""

    mqtt: BrokerSettings | None = None
    """Broker and account for the values; by default those of the records.

    A broker that takes the name in a certificate as client id, as in configs/dmz, needs another certificate here.
    """
    prefix: Annotated[str, MaxLen(200), Pattern(r"^([^/+#\x00-\x1f]+(/[^/+#\x00-\x1f]+)*)?$")] = ""
    """Topic levels put before the gateway's path, joined by slashes, without + or #."""
    shape: Literal["tag", "device"] = "tag"
    """One message for each tag that moved, or one for each scan of a device."""
    qos: Literal[0, 1] = 1
    """1: the broker acknowledges each message. 0 costs less, but messages may be lost when a connection ends."""
    retain: bool = True
    """Whether the broker keeps the last message for those who subscribe later.

    With `shape: device` a retained message has all tags of the scan group, another one only those that moved.
    """
    waiting_records: Annotated[int, Interval(ge=100, le=50_000)] = 10_000
    """Most archived records that wait for the broker; of more, only the newest value of each tag is shown."""


@dataclass(frozen=True, kw_only=True)
class ViewSettings(Settings):
    """What verified records are shown as."""

    unified_namespace: UnifiedNamespaceSettings | None = None
    """Values as JSON, on a topic of each tag or of each scan group of a device."""


@dataclass(frozen=True, kw_only=True)
class SaslSettings(Settings):
    """An account at Kafka with a password; without it, the certificate of `tls` tells who we are."""

    mechanism: Literal["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"] = "SCRAM-SHA-512"
    """How the password is proven."""
    account: Annotated[str, MinLen(1)]
    """Account at the brokers."""
    password: Secret
    """Where the password of that account is kept."""


@dataclass(frozen=True, kw_only=True)
class KafkaSettings(Settings):
    """Kafka between intakes and workers, whose administrator makes the topics; needs the extra `kafka`."""

    servers: Annotated[Sequence[Annotated[str, Check(server_address)]], MinLen(1)]
    """Some of its brokers, each host:port; they name the others."""
    prefix: Annotated[str, MaxLen(200), Pattern(r"^[A-Za-z0-9._-]*$")] = "tidegate."
    """What the names of its topics begin with: letters, digits, dots, dashes and underscores."""
    partitions: Annotated[int, Interval(ge=1, le=10_000)] = 64
    """How many partitions the topic `records` has, from its creation on; with another number nothing is sent or read.

    A gateway belongs to one of them by its name: with another number it would be in two, one after the other.
    """
    group: Name = "relay"
    """Name of the consumer group, the same for all workers that share the gateways."""
    tls: Literal["off"] | TlsSettings
    """Certificates for TLS; off to go without."""
    sasl: SaslSettings | None = None
    """An account with a password; without it, the certificate of `tls` tells who we are."""


def _host_or_folder(text: str) -> None:
    if not text.startswith("/"):
        check_host(text)


@dataclass(frozen=True, kw_only=True)
class TagRenameSettings(Settings):
    """A tag that had another name: its history is that of one tag, and reads under the name that it has now."""

    gateway: Name
    """The gateway that reads it."""
    device: Annotated[str, MinLen(1)]
    """Its device now."""
    tag: Annotated[str, MinLen(1)]
    """Its name now."""
    was: Annotated[str, MinLen(1)]
    """The name that it had."""
    was_device: str = ""
    """The device that it had; by default the one of now."""


@dataclass(frozen=True, kw_only=True)
class HistorianSettings(Settings):
    """Rows in PostgreSQL 13 or newer; its administrator applies configs/historian/schema.sql first."""

    host: Annotated[str, MinLen(1), Check(_host_or_folder)]
    """Host name or address of the server, or the folder of its local socket, such as /run/postgresql."""
    port: Port = 5432
    """TCP port of the server."""
    database: Annotated[str, MinLen(1)] = "tidegate"
    """Name of the database."""
    account: Annotated[str, MinLen(1)] = "tidegate"
    """Account there, in the role tidegate_writer."""
    password: Secret | None = None
    """Where the password of that account is kept; without it, the certificate or the local socket tells who we are."""
    tls: Literal["off"] | TlsSettings
    """Certificates for TLS; off to go without."""
    keep: Annotated[DurationNs, Interval(ge=24 * _H)] | None = None
    """Drop days that ended longer ago, measured to the newest value; without it, none. The archive is not touched."""
    renames: Sequence[TagRenameSettings] = ()
    """Tags that had another name."""


@dataclass(frozen=True, kw_only=True)
class LakeSettings(Settings):
    """Parquet files of an hour each; needs the extra `lake`."""

    directory: Location
    """A directory that is there, on a local file system, for this relay alone."""
    keep: Annotated[DurationNs, Interval(ge=24 * _H)] | None = None
    """Remove days that ended longer ago, measured to the newest value; without it, none. The archive is not touched."""


@dataclass(frozen=True, kw_only=True)
class StreamSettings(Settings):
    """Messages in two topics of relay.kafka, values and events, which its administrator makes; `{}` is enough."""

    timeout: Annotated[DurationNs, Interval(ge=_S, le=_H)] = 30 * _S
    """How long its brokers may take for a message before the stream counts as down."""


@dataclass(frozen=True, kw_only=True)
class SinkSettings(Settings):
    """Where authentic values go besides the archive, which never waits for them."""

    historian: HistorianSettings | None = None
    """Rows in PostgreSQL."""
    lake: LakeSettings | None = None
    """Files of Parquet."""
    stream: StreamSettings | None = None
    """Messages of Kafka, for consumers that take values as they come."""


@dataclass(frozen=True, kw_only=True)
class ArchiveKeepSettings(Settings):
    """How long the archive keeps records. What was removed is stated in a signed file beside it."""

    key: Secret
    """Private key (Ed25519 or P-256, PEM) that signs the statements; its public key is a trust anchor for verifiers."""
    age: Annotated[DurationNs, Interval(ge=24 * _H)] | None = None
    """Remove files of days that ended longer ago, measured to the newest record of any gateway; without it, none."""
    size: Annotated[SizeBytes, Interval(ge=_MIB)] | None = None
    """Remove the oldest days while the records of all gateways take more; without it, none."""


@dataclass(frozen=True, kw_only=True)
class RelaySection(Settings):
    """Receives, verifies and archives, on the IT side."""

    name: Name
    """Name of the relay, unique on its broker: letters, digits, dots, dashes and underscores."""
    archive: Location | None = None
    """Directory for the records, exactly as they came; only an intake goes without."""
    trust: Annotated[tuple[Trusted, ...], MinLen(1)] = ()
    """Public keys, certificates of authorities and revocation lists that are trusted, or directories.

    GATEWAY=PATH binds a file to one gateway: a public key without a name, or an authority that uses common names.
    Only an intake goes without.
    """
    gateways: Sequence[Name] = ()
    """Only these gateways, by name: letters, digits, dots, dashes and underscores. Without it, all.

    Relays with lists share the gateways of a broker; a gateway in no list is received by none of them.
    """
    waiting_limit: Annotated[SizeBytes, Interval(ge=_MIB)] = 16 * _MIB
    """Most bytes of one gateway's records that wait, in memory and on disk, because their key is not known yet."""
    archive_keep: ArchiveKeepSettings | None = None
    """How long the archive keeps records; without it, for ever."""
    mqtt: BrokerSettings | None = None
    """The broker that records come from; only a worker goes without."""
    kafka: KafkaSettings | None = None
    """Kafka, to which intakes pass records on, from which workers take them, and to which sinks.stream writes."""
    quarantine: Location | None = None
    """Directory in which an intake keeps messages that it refuses; without it, none. Other relays use the archive."""
    views: ViewSettings = ViewSettings()
    """What verified records are shown as."""
    sinks: SinkSettings = SinkSettings()
    """Where authentic values go besides the archive, which never waits for them."""
    status: StatusSettings = StatusSettings()
    """Status and metrics of the running relay."""

    def __post_init__(self) -> None:
        super().__post_init__()
        missing = [key for key in ("archive", "trust", "mqtt") if not getattr(self, key)]
        if missing and self.kafka is None:
            are = f"{', '.join(missing)} {'is' if len(missing) == 1 else 'are'}"
            raise ValueError(f"{are} missing: only an intake or a worker, with kafka, goes without")
        if "mqtt" in missing and "archive" in missing:
            raise ValueError("mqtt is missing: an intake takes records from there; a worker has an archive instead")
        if ("archive" in missing) != ("trust" in missing):
            raise ValueError("archive and trust come together; only an intake goes without, and then without both")
        if "archive" in missing and (self.archive_keep or self.views != ViewSettings() or self.sinks != SinkSettings()):
            raise ValueError("archive is missing: archive_keep, views and sinks need one, and trust")
        if self.sinks.stream is not None and self.kafka is None:
            raise ValueError("kafka is missing: sinks.stream writes to it")
        if "mqtt" in missing and (view := self.views.unified_namespace) is not None and view.mqtt is None:
            raise ValueError("mqtt is missing, here or in views.unified_namespace, to which values would be published")
        if twice := next((name for name in self.gateways if list(self.gateways).count(name) > 1), ""):
            raise ValueError(f"gateways has {twice} twice")

    @property
    def own_socket(self) -> Path:
        """The status socket where neither a setting nor a unit says another."""
        return (self.archive or self.quarantine or SERVICES / "relay") / "status.sock"

    @property
    def status_socket(self) -> Path:
        """Where `tidegate status` asks."""
        return self.status.socket or asked_at("relay", self.name, "status", self.own_socket)


@dataclass(frozen=True, kw_only=True)
class RelaySettings(Settings):
    """The configuration of a relay."""

    relay: RelaySection
    """Receives, verifies and archives, on the IT side."""
    log: LogSettings = LogSettings()
    """Log output for the operators."""
