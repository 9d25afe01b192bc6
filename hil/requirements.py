"""The requirements that scenarios prove, by the ids that reports, pages and tests use."""

from __future__ import annotations

from collections.abc import Mapping

REQUIREMENTS: Mapping[str, str] = {
    "R1": "A power cut loses no record that was durable, and no record number is used twice.",
    "R2": "After a kill at any moment every durable record reaches the archive, and the chain continues.",
    "R3": "An outage of 72 hours loses nothing that the buffer can hold.",
    "R4": "Lost connections and lost acknowledgements lose no record; repeated ones are recognised.",
    "R5": "A record counts as delivered only when the broker has acknowledged it.",
    "R6": "With a disk that is full or fails, the gateway stays up, reads on, states the loss, and recovers by itself.",
    "R9": "After an unplugged cable, a restarted device or a half-open connection, data flows again by itself.",
    "R10": "Every value due is archived, declared lost or inside a gap, to the unit, for as long as the gateway runs.",
    "P8": "Under too much load memory is bounded, and every skipped scan is counted.",
    "P9": "After an outage the backlog drains at 50 times real time, or at the limit of the link.",
    "T1": "The true error of the clock is at most the stated bound.",
    "T2": "The loss of the clock's source is recognised, and the bound grows from the last update.",
    "T3": "A step of the clock is on record before the next reading is sealed.",
    "T4": "Of PTP, what happens to port, grandmaster, clock class and UTC offset gives the right state and bound.",
    "T5": "The true instant of sampling lies between the stated times of request and answer.",
    "21 CFR 11.10(a)": "Invalid and altered records are recognised.",
    "21 CFR 11.10(c)": "Records are protected for as long as they are kept.",
    "21 CFR 11.10(e)": "A time-stamped audit trail records what happened, and earlier values are kept.",
    "21 CFR 11.10(h)": "The source of the data is known and valid.",
    "21 CFR 11.30": "Records that cross an open system stay authentic and confidential.",
    "Annex 11": "The audit trail is locked, and changes of the clock are on record.",
    "ALCOA+ accurate": "Values are those that the device gave.",
    "ALCOA+ attributable": "Records name their gateway, device and account.",
    "ALCOA+ available": "Records can be read for as long as they are kept.",
    "ALCOA+ complete": "What could not be read or kept is on record as a gap or a loss.",
    "ALCOA+ contemporaneous": "Readings are stamped when they are made.",
    "ALCOA+ enduring": "Records outlive the failures of power, network and disk.",
    "ALCOA+ original": "Readings are kept as they were given, and never stamped again.",
    "IEC 62443-4-2": "Integrity, audit, time and resources hold under faults.",
}
