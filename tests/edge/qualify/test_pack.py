"""The pack: who signed it, when, of which build, and every change after the signature is found and named."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from cryptography.hazmat.primitives.asymmetric import ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from edge.cli import cli
from tests.edge.qualify.conftest import CONFIGURATION

PRIVATE = Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
PUBLIC = Encoding.PEM, PublicFormat.SubjectPublicKeyInfo


def run(*words: object) -> Result:
    return CliRunner().invoke(cli, list(map(str, words)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A signed pack of an installation, and the keys of its signer and of somebody else."""
    folder = tmp_path_factory.mktemp("qualified")
    (folder / "gateway.yaml").write_text(CONFIGURATION)
    for name in ("qa", "other"):
        key = ed25519.Ed25519PrivateKey.generate()
        (folder / f"{name}.pem").write_bytes(key.private_bytes(*PRIVATE))
        (folder / f"{name}.pub.pem").write_bytes(key.public_key().public_bytes(*PUBLIC))
    made = run(
        "qualify", folder / "gateway.yaml", "--out", folder / "pack", "--part", "iq", "--sign", folder / "qa.pem"
    )
    assert made.exit_code == 1, made.output  # No gateway runs.
    return folder


@pytest.fixture
def pack(folder: Path, tmp_path: Path) -> Path:
    """A copy to change."""
    shutil.copytree(folder / "pack", tmp_path / "pack")
    return tmp_path / "pack"


def verify(pack: Path, folder: Path, key: str = "qa") -> tuple[int, dict[str, object]]:
    ran = run("verify", pack, "--trust", folder / f"{key}.pub.pem", "--json")
    answer: dict[str, object] = json.loads(ran.stdout)
    return ran.exit_code, answer


@pytest.mark.requirement("REQ-PACK-02", "REQ-PACK-04")
def test_a_pack_is_accepted_as_it_was_signed_and_says_who_when_and_of_which_build(pack: Path, folder: Path) -> None:
    code, answer = verify(pack, folder)
    document = json.loads((pack / "qualification.json").read_text())
    words = run("verify", pack, "--trust", folder / "qa.pub.pem").output

    assert (code, answer["is_as_signed"], answer["problems"]) == (0, True, [])
    assert answer["signer"] == document["signer"]
    assert answer["build"] == document["build"]
    assert answer["made_at_ns"] == document["made_at_ns"] > 0
    assert "every file is as it was signed" in words
    assert f"line-4 on {document['host']}" in words
    assert {each["id"] for each in document["checks"]} >= {"IQ-01", "IQ-03", "IQ-08"}


def change(pack: Path) -> None:
    path = pack / "raw/IQ-01.txt"
    path.write_text(path.read_text() + " ")


def make_it_held(pack: Path) -> None:
    path = pack / "qualification.json"
    path.write_text(path.read_text().replace('"failed"', '"held"'))


def remove(pack: Path) -> None:
    (pack / "raw/IQ-07.txt").unlink()


def add(pack: Path) -> None:
    (pack / "raw/IQ-99.txt").write_text("all is well")


@pytest.mark.requirement("REQ-PACK-04")
@pytest.mark.parametrize(
    ("alter", "named"),
    [
        (change, "raw/IQ-01.txt was changed"),
        (make_it_held, "qualification.json was changed"),
        (remove, "raw/IQ-07.txt is missing"),
        (add, "raw/IQ-99.txt was added"),
    ],
)
def test_a_change_after_the_signature_is_named(
    pack: Path, folder: Path, alter: Callable[[Path], None], named: str
) -> None:
    alter(pack)

    code, answer = verify(pack, folder)

    assert (code, answer["problems"]) == (1, [named])


def test_sums_that_were_made_again_and_a_signature_of_somebody_else_do_not_count(pack: Path, folder: Path) -> None:
    code, answer = verify(pack, folder, "other")
    change(pack)
    with (pack / "SHA256SUMS").open("w") as sums:
        names = sorted(path.relative_to(pack) for path in pack.rglob("*") if path.is_file() and "SHA" not in path.name)
        subprocess.run(["sha256sum", *names], cwd=pack, stdout=sums, check=True)
    again, answered = verify(pack, folder)

    assert (code, answer["signer"]) == (1, "")
    assert again == 1
    assert answered["problems"] == ["SHA256SUMS was not signed with a key that --trust names, or was changed since"]


def test_common_programs_check_a_pack(pack: Path, folder: Path) -> None:
    subprocess.run(["sha256sum", "--check", "--quiet", "SHA256SUMS"], cwd=pack, check=True)
    check = ("openssl", "pkeyutl", "-verify", "-pubin", "-inkey", folder / "qa.pub.pem", "-rawin")
    said = subprocess.run([*check, "-in", "SHA256SUMS", "-sigfile", "SHA256SUMS.sig"], cwd=pack, check=True,
                          capture_output=True, text=True)  # fmt: skip

    assert "Verified Successfully" in said.stdout


def test_a_pack_without_signature_says_so_and_a_folder_with_files_is_refused(folder: Path, tmp_path: Path) -> None:
    run("qualify", folder / "gateway.yaml", "--out", tmp_path / "pack", "--part", "iq")
    code, answer = verify(tmp_path / "pack", folder)
    again = run("qualify", folder / "gateway.yaml", "--out", tmp_path / "pack", "--part", "iq")

    assert (code, answer["problems"]) == (1, ["the pack is not signed"])
    assert again.exit_code == 2
    assert "is not empty" in again.output
