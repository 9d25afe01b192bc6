from __future__ import annotations

import pytest

from edge.health import (
    BufferStatus,
    CertificateStatus,
    ChainStatus,
    ClockStatus,
    DeviceIdentity,
    DeviceStatus,
    GatewayStatus,
    GroupStatus,
    IssuerStatus,
    RefusedTopic,
    RelayStatus,
    SinkStatus,
    StatusSnapshot,
    TagStatus,
    UplinkStatus,
    ViewStatus,
)


@pytest.fixture
def snapshot() -> StatusSnapshot:
    """One with every part, as no role has it."""
    values = (TagStatus(tag="temperature", value=36.6, unit="Cel"), TagStatus(tag="lid", value=None, quality="BAD"),
              TagStatus(tag="mode", value=2, text="automatic"))  # fmt: skip
    group = GroupStatus(
        name="100 ms",
        every_ns=10**8,
        tags=2,
        due_scans=44,
        scans=41,
        skipped_scans=1,
        failed_scans=2,
        not_good_tags=1,
        last_scan_age_ns=5 * 10**7,
        last_scan_took_ns=3 * 10**6,
        values=values,
    )
    unread = GroupStatus(name="1 s", every_ns=10**9, tags=1)
    return StatusSnapshot(
        gateway=GatewayStatus(
            name="line-4",
            path="acme/basel/upstream/line-4",
            version="0.1.0",
            uptime_ns=61 * 10**9,
            disk_written_bytes=3 * 10**6,
            disk_bytes_per_day=42 * 10**8,
        ),
        clock=ClockStatus(utc_ns=1_700_000_000 * 10**9, source="CHRONY", state="SYNCHRONIZED", bound_ns=250_000),
        chain=ChainStatus(epoch="00" * 8, seq=12, records=13, readings=82, last_sealed_age_ns=10**7),
        buffer=BufferStatus(stored_bytes=4096, limit_bytes=10**9, undelivered_records=3, undelivered_bytes=900),
        uplink=UplinkStatus(
            broker="127.0.0.1:1883",
            state="refused",
            reason="broker 127.0.0.1:1883 is full",
            acknowledged=10,
            in_flight=2,
            refused_topics=(RefusedTopic(topic="t/r/data", reason_code=0x97, reason="is full"),),
        ),
        relay=RelayStatus(
            state="up",
            not_durable=6,
            behind_records=12,
            issuers=(IssuerStatus(issuer="urn:tidegate:line-4", missing=4, lag_ns=8 * 10**7),),
            view=ViewStatus(state="up", is_behind=True, waiting=5, oldest_age_ns=3 * 10**9, dropped=1_200),
            sinks=(SinkStatus(name="historian", address="tidegate at db:5432", state="up", records=7),),
        ),
        devices=(
            DeviceStatus(
                name="bioreactor-1",
                driver="modbus",
                state="up",
                identity=DeviceIdentity(vendor="Acme", serial="77", more={"revision": "B"}, since_ns=5),
                scan_groups=(group,),
            ),
            DeviceStatus(name="pump-2", driver="modbus", state="down", reason="no answer", scan_groups=(unread,)),
        ),
        certificates=(
            CertificateStatus(whose="ours", name="CN=line-4", expires_at_ns=1_800_000_000 * 10**9),
            CertificateStatus(whose="ours", name="CN=line-4", expires_at_ns=1_700_000_000 * 10**9),
            CertificateStatus(whose="the device's", name="CN=plc", device="pump-2", expires_at_ns=10**9),
        ),
    )
