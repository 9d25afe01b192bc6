"""Scenarios as they are played: with the command, once for all that is asked of their report."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

ROOT = Path(__file__).parents[3]


class Played(NamedTuple):
    """What the command left behind."""

    code: int
    output: str
    report: Path
    trust: Path


def hil(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hil", *map(str, arguments)]
    return subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True)


@pytest.fixture(scope="session")
def played(tmp_path_factory: pytest.TempPathFactory) -> Played:
    folder = tmp_path_factory.mktemp("hil")
    key = ec.generate_private_key(ec.SECP256R1())
    secret, trust = folder / "qa.pem", folder / "qa.pub.pem"
    secret.touch(mode=0o600)
    secret.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )  # fmt: skip
    trust.write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    report = folder / "report"
    ran = hil("run", "hil/rigs/simulated.yaml", "commissioning", "broker_outage", "--seconds", "1", "--report", report,
              "--sign", secret)  # fmt: skip
    return Played(ran.returncode, ran.stdout + ran.stderr, report, trust)
