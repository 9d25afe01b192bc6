from __future__ import annotations

import pytest

from edge.health import (
    BufferState,
    CertificateState,
    ChainState,
    ClockState,
    DeviceIdentity,
    DeviceState,
    GatewayState,
    GroupState,
    IssuerState,
    RelayState,
    Snapshot,
    TagState,
    UplinkState,
)


@pytest.fixture
def snapshot() -> Snapshot:
    """One with every part, as no role has it."""
    values = (TagState(tag="temperature", value=36.6, unit="Cel"), TagState(tag="lid", value=None, quality="BAD"),
              TagState(tag="mode", value=2, text="automatic"))  # fmt: skip
    group = GroupState(
        name="100 ms",
        interval_ns=10**8,
        tags=2,
        scans=41,
        skipped_scans=1,
        failed_scans=2,
        not_good_tags=1,
        last_scan_age_ns=5 * 10**7,
        last_scan_took_ns=3 * 10**6,
        tags_now=values,
    )
    unread = GroupState(name="1 s", interval_ns=10**9, tags=1)
    return Snapshot(
        gateway=GatewayState(name="line-4", path="acme/basel/upstream/line-4", version="0.1.0", uptime_ns=61 * 10**9),
        clock=ClockState(utc_ns=1_700_000_000 * 10**9, source="CHRONY", state="SYNCHRONIZED", bound_ns=250_000),
        chain=ChainState(epoch="00" * 8, seq=12, records=13, readings=82, last_sealed_age_ns=10**7),
        buffer=BufferState(stored_bytes=4096, limit_bytes=10**9, undelivered_records=3, undelivered_bytes=900),
        uplink=UplinkState(broker="127.0.0.1:1883", state="up", acknowledged=10, in_flight=2),
        relay=RelayState(state="up", issuers=(IssuerState(issuer="urn:tidegate:line-4", missing=4),)),
        devices=(
            DeviceState(
                name="bioreactor-1",
                driver="modbus",
                state="up",
                identity=DeviceIdentity(vendor="Acme", serial="77", more=(("revision", "B"),), since_ns=5),
                groups=(group,),
            ),
            DeviceState(name="pump-2", driver="modbus", state="down", reason="no answer", groups=(unread,)),
        ),
        certificates=(
            CertificateState(whose="ours", name="CN=line-4", expires_at_ns=1_800_000_000 * 10**9),
            CertificateState(whose="ours", name="CN=line-4", expires_at_ns=1_700_000_000 * 10**9),
            CertificateState(whose="the device's", name="CN=plc", device="pump-2", expires_at_ns=10**9),
        ),
    )
