"""A report of a rig, with evidence on disk, signed by a key that exists."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edge.seal.signed_file import FileSigner
from hil.document import (
    ArchiveSeen,
    ClockSeen,
    Criterion,
    Figure,
    Line,
    Plot,
    Report,
    RigFacts,
    ScenarioResult,
    Span,
    StepTaken,
    Version,
    Wired,
)
from hil.folder import write
from hil.requirements import REQUIREMENTS

S = 10**9
BEGIN_NS = 1_780_000_000 * S
OUT = Span(from_ns=BEGIN_NS + 2 * S, to_ns=BEGIN_NS + 4 * S, text="cable pulled")
WAVE = tuple((BEGIN_NS + i * S // 10, None if 20 <= i < 40 else 37 + math.sin(i)) for i in range(100))
PLOT = Plot(
    title="mixer/temperature", unit="Cel", spans=(OUT,),
    lines=(Line(name="archived", points=WAVE), Line(name="true value", points=WAVE, kind="truth")),
)  # fmt: skip
PASSED = ScenarioResult(
    name="cable_pulled",
    title="Cable pulled",
    purpose="A cable is pulled and plugged in again.",
    requirements=("R9", "ALCOA+ complete"),
    started_ns=BEGIN_NS,
    ended_ns=BEGIN_NS + 10 * S,
    steps=(StepTaken(text="Pull the cable.", started_ns=BEGIN_NS, ended_ns=BEGIN_NS + S),),
    criteria=(Criterion(text="Data flows again within 60 s.", holds=True, found="after 2.1 s"),),
    figures=(Figure(name="recovered after", value=2.1, unit="s"),),
    plots=(PLOT,),
    configuration_sha256="ab" * 32,
    gateway_version="0.7.1",
    clock=ClockSeen(at_ns=BEGIN_NS, source="chrony", state="synchronized", bound_ns=1_200_000),
    archives=(ArchiveSeen(folder="cable_pulled/archive", trust="cable_pulled/gateway.pub.pem", identity="add3:7aa3",
                          records=12, last_seq=11, head_sha256="cd" * 32),),
    folder="cable_pulled",
)  # fmt: skip
FAILED = replace(
    PASSED, name="power_cycle", title="Device power cycle", deviations=("The switch took 12 s to turn.",),
    criteria=(Criterion(text="Data flows again.", holds=False, found="no value within 60 s"),),
)  # fmt: skip
SKIPPED = ScenarioResult(
    name="clock_step", title="Clock step", purpose="The clock steps.", requirements=("T3",),
    not_played="the rig names no switch for the clock",
)  # fmt: skip
REPORT = Report(
    made_at_ns=BEGIN_NS + 20 * S,
    rig=RigFacts(
        name="bench-2", place="Basel, laboratory 4", file="bench-2.yaml", sha256="12" * 32, is_simulated=False,
        wired=(Wired(role="device", name="mixer", vendor="Siemens", model="S7-1215C", firmware="V4.6"),),
    ),
    versions=(Version(name="Tidegate", version="0.1.0", sha256="34" * 32),),
    scenarios=(PASSED,),
    requirements=REQUIREMENTS,
)  # fmt: skip


class Signed(NamedTuple):
    """A folder with a report, and the keys of its signer."""

    folder: Path
    signer: FileSigner
    trust: Path


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    key = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "qa.pem").write_bytes(key)
    signer = FileSigner(key, "key")
    trust = tmp_path / "qa.pub.pem"
    trust.write_text(signer.public_pem)
    folder = tmp_path / "report"
    (folder / "cable_pulled" / "archive").mkdir(parents=True)
    (folder / "cable_pulled" / "archive" / "2026-05-28.rec").write_bytes(bytes(range(200)))
    (folder / "cable_pulled" / "witness.json").write_bytes(b"{}\n")
    write(folder, REPORT, signer)
    return Signed(folder, signer, trust)
