"""Security events reach the system's log where there is one, and never hold anything up."""

from __future__ import annotations

import io
import re
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from edge import logs, tls
from edge.gateway.audit import EventKind
from edge.logs import get_logger, plain_sentence
from edge.relay.sinks.historian_session import _REMEDIES
from edge.syslog import SECURITY_EVENTS, Syslog, security_event
from tests.edge.test_log_lines import _as_before  # noqa: F401 - used by pytest

ROOT = Path(__file__).parents[2]
MESSAGE = re.compile(
    r"<(\d+)>\w{3} [ \d]\d \d\d:\d\d:\d\d tidegate\[\d+\]: (TG-S\d\d) \[tidegate ((?:[^\]\\]|\\.)*)\] (.*)", re.DOTALL
)


@pytest.fixture
def log_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
        log.bind(str(tmp_path / "log"))
        log.settimeout(5)
        yield log


@pytest.fixture
def syslog(tmp_path: Path) -> Iterator[Syslog]:
    log = Syslog(tmp_path / "log", "line-4", plain_sentence)
    yield log
    log.close()


def received(log: socket.socket) -> tuple[str, ...]:
    found = MESSAGE.fullmatch(log.recv(4096).decode())
    assert found is not None
    return found.groups()


def test_a_security_event_has_facility_severity_id_data_and_sentence(log_socket: socket.socket, syslog: Syslog) -> None:
    logs.configure("error", "json", io.StringIO(), send=syslog.take)

    get_logger().error("uplink.inbound", subject="uplink", reason='it "said" [x]', password="1234")
    get_logger().info("start", version="1.0")
    get_logger().info("device.up", subject="mixer")
    get_logger().info("stop")

    priority, id_, data, sentence = received(log_socket)
    assert (int(priority), id_) == (10 * 8 + 3, "TG-S04")
    assert data == (
        'gateway="line-4" event="uplink.inbound" subject="uplink" reason="it \\"said\\" [x\\]" password="[hidden\\]"'
    )
    assert sentence.startswith("uplink.inbound: it ")
    assert received(log_socket)[:2] == (str(10 * 8 + 5), "TG-S15")
    assert 'event="stop"' in received(log_socket)[2]


def test_the_log_itself_keeps_its_level_and_counts_what_it_writes(syslog: Syslog) -> None:
    stream, before = io.StringIO(), logs.counts.copy()
    logs.configure("warning", "json", stream, send=syslog.take)

    get_logger().info("start")
    get_logger().warning("time.step")

    assert [line.count("time.step") for line in stream.getvalue().splitlines()] == [1]
    assert logs.counts - before == {"warning": 1}


def test_without_a_syslog_nothing_happens_and_later_events_reach_one_that_came(tmp_path: Path, syslog: Syslog) -> None:
    syslog.take("info", "start", {})
    for _ in range(2):  # It is started again, too.
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as log:
            log.bind(str(tmp_path / "log"))
            log.settimeout(5)
            syslog.take("info", "stop", {})
            assert received(log)[1] == "TG-S15"
        (tmp_path / "log").unlink()


def test_a_syslog_that_takes_nothing_holds_nothing_up(log_socket: socket.socket, syslog: Syslog) -> None:
    for number in range(10_000):  # More than any socket holds.
        syslog.take("error", "uplink.inbound", {"number": number, "reason": "x" * 10_000})

    assert len(log_socket.recv(1 << 16)) <= 2000


@pytest.mark.parametrize(
    ("line", "data", "id_"),
    [
        ("uplink.refused", {"topic": "tidegate/v1/line-4/r/data", "reason": "not authorized"}, "TG-S02"),
        ("uplink.refused", {"reason": "its password is wrong"}, "TG-S03"),
        ("uplink.down", {"reason": "its certificate has expired; renew it"}, "TG-S01"),
        ("uplink.down", {"reason": "cannot be reached: timed out"}, None),
        ("broker lost", {"state": "refused", "reason": "bad password"}, "TG-S03"),
        ("broker lost", {"state": "down", "reason": "closed"}, None),
        ("sink lost", {"reason": "its certificate has been revoked by its authority"}, "TG-S01"),
        ("sink lost", {"reason": "the disk is full"}, None),
        ("sink lost", {"reason": f"no password; {_REMEDIES['28']}"}, "TG-S03"),
        ("sink lost", {"reason": "our account may not use records", "code": "TG-R10"}, "TG-S03"),
        ("sink lost", {"reason": "it cannot be reached", "code": "TG-R09"}, None),
        ("device.down", {"reason": "it refuses our certificate"}, "TG-S01"),
        ("device.down", {"reason": "timed out"}, None),
        ("record untrusted", {"reason": "x"}, "TG-S06"),
        ("records missing", {}, None),
    ],
)
def test_what_a_line_says_decides_which_event_it_is(line: str, data: Mapping[str, Any], id_: str | None) -> None:
    event = security_event(line, data)

    assert (event.id if event else None) == id_


def test_each_sentence_about_a_refused_certificate_is_that_event() -> None:
    sentences = [*tls._VERIFICATION.values(), *tls._ALERTS.values()]
    about_others = ("speak", "closed the connection", "key exchange")
    others = {text for text in sentences if any(words in text for words in about_others)}

    for text in set(sentences) - others:
        event = security_event("uplink.down", {"reason": text})
        assert event is not None, text
        assert event.id == "TG-S01"


def test_ids_are_in_order_and_each_line_is_logged_somewhere() -> None:
    kinds = {kind.label: kind.name for kind in EventKind}
    sources = "\n".join(
        path.read_text() for path in (ROOT / "edge").rglob("*.py") if path.name not in {"syslog.py", "log_sentences.py"}
    )
    written = sources.replace(
        'f"record {judgement.verdict.value.lower()}"',
        '"record altered" "record fork" "record garbage" "record untrusted"',
    )

    assert [each.id for each in SECURITY_EVENTS] == [
        f"TG-S{number:02}" for number in range(1, len(SECURITY_EVENTS) + 1)
    ]
    for line in {line.name for each in SECURITY_EVENTS for line in each.lines}:
        assert f'"{line}"' in written or f"EventKind.{kinds.get(line)}" in written, line
