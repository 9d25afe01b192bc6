from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from edge.errors import ConfigError
from edge.health import GatewayStatus, StatusSnapshot, disk_written_bytes, serve_metrics
from edge.health.families import FAMILIES, text_of


async def ask(at: tuple[str, int], request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection(*at)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


def samples(text: bytes) -> dict[tuple[str, tuple[str, ...]], float]:
    families = text_string_to_metric_families(text.decode())
    return {(s.name, tuple(s.labels.values())): s.value for family in families for s in family.samples}


async def test_the_page_tells_what_the_snapshot_says(snapshot: StatusSnapshot) -> None:
    async with serve_metrics("127.0.0.1:0", lambda: snapshot) as at:
        answer = await ask(at, b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    found = samples(body)

    assert head.startswith(b"HTTP/1.1 200 OK")
    assert found["tidegate_scans_total", ("bioreactor-1", "100 ms")] == 41
    assert found["tidegate_clock_bound_seconds", ()] == 0.00025
    assert found["tidegate_device_up", ("pump-2",)] == 0
    assert found["tidegate_uplink_up", ()] == 0
    assert found["tidegate_uplink_refused_topic", ("is full", "0x97", "t/r/data")] == 1
    assert found["tidegate_relay_missing_records", ("urn:tidegate:line-4",)] == 4
    assert found["tidegate_relay_archive_lag_seconds", ("urn:tidegate:line-4",)] == 0.08
    assert found["tidegate_relay_not_durable_messages", ()] == 6
    assert found["tidegate_relay_view_waiting_records", ()] == 5
    assert found["tidegate_relay_view_lag_seconds", ()] == 3
    assert found["tidegate_relay_view_up", ()] == 1
    assert found["tidegate_relay_view_behind", ()] == 1


async def test_every_question_is_answered_afresh(snapshot: StatusSnapshot) -> None:
    uptimes = iter((10**9, 2 * 10**9))

    def now() -> StatusSnapshot:
        return StatusSnapshot(gateway=GatewayStatus(name="line-4", uptime_ns=next(uptimes)))

    async with serve_metrics("127.0.0.1:0", now) as at:
        first, second = [await ask(at, b"GET /metrics HTTP/1.0\r\n\r\n") for _ in range(2)]

    assert b"tidegate_uptime_seconds 1.0" in first
    assert b"tidegate_uptime_seconds 2.0" in second


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", b"404"),
        (b"HEAD /metrics HTTP/1.1\r\n\r\n", b"200"),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 0\r\n\r\n", b"405"),
        (b"\x16\x03\x01\r\n\r\n", b"405"),
    ],
)
async def test_other_requests_get_a_plain_answer(snapshot: StatusSnapshot, request_bytes: bytes, status: bytes) -> None:
    async with serve_metrics("127.0.0.1:0", lambda: snapshot) as at:
        answer = await ask(at, request_bytes)

    assert answer.split(b" ")[1] == status


async def test_an_endless_request_is_cut_off(snapshot: StatusSnapshot) -> None:
    async with serve_metrics("127.0.0.1:0", lambda: snapshot) as at:
        try:
            answer = await ask(at, b"GET /metrics HTTP/1.1\r\n" + b"x" * 100_000)
        except ConnectionError:
            answer = b""

    assert answer == b""


@pytest.mark.parametrize("address", ["0.0.0.0:9464", "[::]:9464", "192.0.2.1:9464"])
async def test_other_machines_are_not_served_by_default(snapshot: StatusSnapshot, address: str) -> None:
    with pytest.raises(ConfigError, match=r"other machines can reach .*: add status[.]tls"):
        async with serve_metrics(address, lambda: snapshot):
            pass


@pytest.mark.parametrize("address", ["9464", "localhost:9464", "127.0.0.1:", "127.0.0.1:99999", "127.0.0.1:-1", ""])
async def test_an_address_that_is_none_is_explained(snapshot: StatusSnapshot, address: str) -> None:
    with pytest.raises(ConfigError, match=r"status[.]metrics: must be an address and a port"):
        async with serve_metrics(address, lambda: snapshot):
            pass


async def test_a_taken_port_is_explained(snapshot: StatusSnapshot) -> None:
    async with serve_metrics("127.0.0.1:0", lambda: snapshot) as (host, port):
        with pytest.raises(ConfigError, match=f"cannot listen on {host}:{port}"):
            async with serve_metrics(f"{host}:{port}", lambda: snapshot):
                pass


def test_every_metric_is_published_of_a_snapshot_with_every_part(snapshot: StatusSnapshot) -> None:
    found = {name for name, _ in samples(text_of(snapshot))}
    unknown = {"tidegate_uplink_last_acknowledged_age_seconds",
               "tidegate_relay_last_record_age_seconds", "tidegate_relay_archive_free_bytes"}  # fmt: skip

    assert found | unknown == {family.name for family in FAMILIES}


def test_of_certificates_with_the_same_name_the_first_to_expire_counts(snapshot: StatusSnapshot) -> None:
    """A chain may hold two of one name, and a page with the same sample twice is no page."""
    lines = [line for line in text_of(snapshot).decode().splitlines() if line.startswith("tidegate_certificate_")]

    assert lines == [
        'tidegate_certificate_expiry_timestamp_seconds{device="",name="CN=line-4",whose="ours"} 1.7e+09',
        'tidegate_certificate_expiry_timestamp_seconds{device="pump-2",name="CN=plc",whose="the device\'s"} 1.0',
    ]


def test_what_a_process_writes_is_counted_by_the_pages_that_a_disk_gets(tmp_path: Path) -> None:
    """A disk wears by them: a record of 300 bytes that is synced alone costs 4 KiB, and what is reserved nothing."""
    before = disk_written_bytes()
    with (tmp_path / "file").open("wb", buffering=0) as file:
        os.posix_fallocate(file.fileno(), 0, 1 << 20)
        os.fdatasync(file.fileno())
        reserved = disk_written_bytes()
        for number in range(50):
            os.pwrite(file.fileno(), bytes(300), 300 * number)
            os.fdatasync(file.fileno())
    after = disk_written_bytes()

    assert before is not None
    assert reserved is not None
    assert after is not None
    assert after - reserved >= 50 * 4096
    assert reserved - before < 1 << 20


def test_a_part_that_a_role_lacks_is_not_published() -> None:
    """A gateway that sends nothing must not look as if its uplink were down."""
    found = {name for name, _ in samples(text_of(StatusSnapshot(gateway=GatewayStatus(name="line-4"))))}

    assert found == {"tidegate_info", "tidegate_uptime_seconds", "tidegate_resident_bytes",
                    "tidegate_log_warnings_total", "tidegate_log_errors_total"}  # fmt: skip
