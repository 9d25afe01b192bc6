"""What librdkafka is told of a cluster, and what it says, in our words.

librdkafka retries by itself and in silence: a message that was not taken says that its time ran out, and the reason was
said before that, of the connection. `KafkaLink` keeps that reason, and puts it into the sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from confluent_kafka import KafkaError

from edge.errors import ErrorCode, TidegateError
from edge.logs import get_logger
from edge.tls import TlsFiles, explain, load_context

_log = get_logger(__name__)
_ALERT = re.compile(r"alert ([a-z ]+):")
_SAID_LATER = {KafkaError._ALL_BROKERS_DOWN, KafkaError._MSG_TIMED_OUT, KafkaError._TIMED_OUT}  # noqa: SLF001 - Its names.
_LOGIN = {KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED}  # noqa: SLF001
_MAY_NOT = {KafkaError.TOPIC_AUTHORIZATION_FAILED, KafkaError.GROUP_AUTHORIZATION_FAILED,
            KafkaError.CLUSTER_AUTHORIZATION_FAILED}  # fmt: skip
_NO_TOPIC = {KafkaError._UNKNOWN_TOPIC, KafkaError.UNKNOWN_TOPIC_OR_PART}  # noqa: SLF001
_NO_PARTITION = {KafkaError._UNKNOWN_PARTITION}  # noqa: SLF001

_FEW_COPIES = {KafkaError.NOT_ENOUGH_REPLICAS, KafkaError.NOT_ENOUGH_REPLICAS_AFTER_APPEND,
               KafkaError.KAFKA_STORAGE_ERROR}  # fmt: skip


class KafkaUnreachable(TidegateError):
    """Time or operations heal it: what was not taken is kept where it came from."""

    default_code = ErrorCode.KAFKA_UNREACHABLE


@dataclass(frozen=True, slots=True, kw_only=True)
class KafkaAccess:
    """Addresses of a cluster, and our identity there.

    Attributes:
        servers: HOST:PORT of some of its brokers; the others are learned from them.
        mechanism: how the account logs in; without one the certificate is the account.
        password: read anew for each client.
    """

    servers: tuple[str, ...]
    client_id: str
    tls: TlsFiles | None = None
    mechanism: Literal["SCRAM-SHA-256", "SCRAM-SHA-512", "PLAIN"] | None = None
    account: str = ""
    password: Callable[[], str] = field(default=str, repr=False)

    @property
    def name(self) -> str:
        """The cluster in messages."""
        return f"Kafka at {', '.join(self.servers)}"


class KafkaLink:
    """One client's settings, and the reason why it does not get on.

    Attributes:
        is_down: no broker could be reached since somebody set it back.
    """

    def __init__(self, access: KafkaAccess) -> None:
        self._access = access
        self._reason: KafkaError | None = None
        self.is_down = False

    def configuration(self, **more: Any) -> dict[str, Any]:
        """For a producer, consumer or administrator of confluent_kafka; `more` has underscores for dots.

        Reads files: not for the event loop.

        Raises:
            ConfigError: a TLS file or the password cannot be used.
        """
        access = self._access
        found: dict[str, Any] = {
            "bootstrap.servers": ",".join(access.servers), "client.id": access.client_id,
            "reconnect.backoff.ms": 500,
            "security.protocol": f"{'sasl_' if access.mechanism else ''}{'ssl' if access.tls else 'plaintext'}",
            "error_cb": self._keep, "logger": self,
        }  # fmt: skip
        if access.tls is not None:
            load_context(access.tls)  # Says what is wrong with a file, which librdkafka does not.
            files = {"ca": access.tls.ca, "certificate": access.tls.certificate, "crl": access.tls.crl,
                     "key": access.tls.key or access.tls.certificate}  # fmt: skip
            found |= {f"ssl.{name}.location": str(path) for name, path in files.items() if path is not None}
        if access.mechanism is not None:
            found |= {"sasl.mechanism": access.mechanism, "sasl.username": access.account,
                      "sasl.password": access.password()}  # fmt: skip
        return found | {name.replace("_", "."): value for name, value in more.items()}

    def failure(self, error: KafkaError, topic: str = "") -> KafkaUnreachable:
        """What kept a message or a request from being taken, as a sentence."""
        number, name = error.code(), self._access.name
        if (number in _SAID_LATER or number == KafkaError._TRANSPORT) and self._reason is not None:  # noqa: SLF001
            error = self._reason
            number = error.code()
        if number in _MAY_NOT:
            code, reason = (
                ErrorCode.KAFKA_REFUSED,
                f"our account may not use {topic or 'the group'}; add it to the access lists",
            )
        elif number in _NO_TOPIC:
            code, reason = ErrorCode.KAFKA_TOPIC, f"there is no topic {topic}; create it"
        elif number in _NO_PARTITION:
            code, reason = (
                ErrorCode.KAFKA_PARTITIONS,
                f"topic {topic} has fewer partitions than it had; is it that cluster?",
            )
        elif number == KafkaError.MSG_SIZE_TOO_LARGE:
            code, reason = (
                ErrorCode.KAFKA_TOO_LARGE,
                f"topic {topic} takes no message so large; raise max.message.bytes",
            )
        elif number in _FEW_COPIES:
            code, reason = (
                ErrorCode.KAFKA_UNREACHABLE,
                f"too few of its brokers keep topic {topic}; start the others, and look at their disks",
            )
        elif "fenced" in error.str():
            code, reason = ErrorCode.KAFKA_REFUSED, "another worker has the name of this one; give each its own"
        elif number == KafkaError.INCONSISTENT_GROUP_PROTOCOL:
            code, reason = ErrorCode.KAFKA_REFUSED, "another program uses our group; give it, or relay.kafka, another"
        else:
            code, reason = self._of_connection(error)
        return KafkaUnreachable(f"{name}: {reason}", code=code)

    def log(self, _level: int, form: str, *words: Any) -> None:
        """What librdkafka logs: each attempt, so it is for those who look for it."""
        _log.debug("Kafka's client said", reason=form % words)

    def _keep(self, error: KafkaError) -> None:
        self.is_down = self.is_down or error.code() == KafkaError._ALL_BROKERS_DOWN  # noqa: SLF001
        if error.code() not in _SAID_LATER:
            self._reason = error

    def _of_connection(self, error: KafkaError) -> tuple[ErrorCode, str]:
        text, tls = error.str(), self._access.tls
        away, refused = ErrorCode.KAFKA_UNREACHABLE, ErrorCode.KAFKA_REFUSED
        if error.code() in _LOGIN:
            offered = re.search(r"supported mechanisms: ([\w,-]+)", text)
            remedy = f"it offers {offered[1]}" if offered else "correct account and password, here or there"
            return refused, f"it does not let account {self._access.account} in; {remedy}"
        if alert := _ALERT.search(text):
            # Java says of a certificate that was not shown that it is bad.
            shown = tls is not None and tls.certificate is not None
            what = alert[1].replace(" ", "_") if shown else "certificate_required"
            return refused, explain(ConnectionError(what), tls)
        if "verify failed" in text:
            settings = tls.settings if tls else "tls"
            return (
                refused,
                f"its certificate is not trusted by our CA file, or is for another host; check {settings}.ca",
            )
        if "PLAINTEXT broker listener" in text:
            return away, "it does not speak TLS on this port"
        if "Connection refused" in text:
            return away, "it cannot be reached: Connection refused; is the port right, and does it run?"
        if error.code() == KafkaError._RESOLVE:  # noqa: SLF001
            return away, "it cannot be reached: its name is not known; is the name right?"
        return away, "it does not answer in time; can its host be reached, and is TLS set as it has it?"
