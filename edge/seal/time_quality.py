"""Time quality as a payload member."""

from __future__ import annotations

from edge.clock import TimeQuality, TimeSource, TimeState
from edge.seal.fields import I64, blob, choice, numbered, optional, whole


def time_to_cbor(time: TimeQuality) -> dict[int, object]:
    """The numbered members of a time quality."""
    return {
        1: int(time.source), 2: int(time.state), 3: time.bound_ns, 4: time.drift_ppb, 5: time.as_of_ns,
        6: time.offset_ns, 7: time.leap, 8: time.utc_tai_s, 9: time.reference, 10: time.stratum, 11: time.accuracy,
        12: time.boot_id,
    }  # fmt: skip


def time_from_cbor(value: object) -> TimeQuality:
    """The time quality that `time_to_cbor` was given, or Malformed."""
    f = numbered(value, 12)
    return TimeQuality(
        source=choice(TimeSource, f[1]), state=choice(TimeState, f[2]), bound_ns=optional(whole, f[3]),
        drift_ppb=whole(f[4]), as_of_ns=whole(f[5], I64), offset_ns=whole(f[6], I64), leap=whole(f[7]),
        utc_tai_s=optional(whole, f[8], I64), reference=blob(f[9]), stratum=whole(f[10]),
        accuracy=optional(whole, f[11]), boot_id=blob(f[12]),
    )  # fmt: skip
