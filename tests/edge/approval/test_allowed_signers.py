"""The file of allowed signers: each mistake has its line and column, and who counts counts when OpenSSH says so."""

from __future__ import annotations

import calendar
import subprocess
import time
from pathlib import Path

import pytest

from edge.approval.signers import Signers
from edge.approval.sshsig import Refused, Signature
from edge.errors import ConfigError
from tests.support.approving import Person

NAMESPACE = "config@tidegate"
TEXT = b"text\n"


@pytest.fixture(scope="module")
def berta(tmp_path_factory: pytest.TempPathFactory) -> Person:
    return Person(tmp_path_factory.mktemp("keys"), "berta@plant.example")


def parse(text: str | bytes) -> Signers:
    return Signers.parse(text if isinstance(text, bytes) else text.encode(), "approvers")


def test_a_person_has_a_name_keys_and_a_role(berta: Person) -> None:
    found = parse(f"# who may approve\n\n{berta.line('Head of quality, Basel')}")

    [signer] = found.listed
    assert (signer.name, signer.role) == ("berta@plant.example", "Head of quality, Basel")
    assert found.signer(Signature.from_armour(berta.sign(TEXT, NAMESPACE)), 0) == signer


@pytest.mark.parametrize(("line", "column", "message"), [
    ("berta", 6, "the key is missing"),
    ("berta ssh-ed25519", 18, "the key, in base64, is missing"),
    ("berta ssh-ed25519 AAAA!", 19, "the key is not base64"),
    ("berta ssh-ed25519 AAAA QA", 19, "the key cannot be used: it ends too early"),
    ("berta certificate KEY QA", 7, "certificate is not accepted here"),
    ("berta ssh-rsa KEY QA", 15, "the key cannot be used: its key is of another kind than its name says"),
    ("berta ssh-ed25519 KEY", 0, "the role of berta is missing"),
    ("* ssh-ed25519 KEY QA", 1, "must be the name of one person"),
    ("anna,berta ssh-ed25519 KEY QA", 1, "must be the name of one person"),
    ('"anna b" ssh-ed25519 KEY QA', 1, "must be the name of one person"),
    ("an\u202ena ssh-ed25519 KEY QA", 1, "must be the name of one person"),
    ("berta cert-authority ssh-ed25519 KEY QA", 7, "authorities are not accepted"),
    ("berta cert-authority,valid-before=\"20280101\" ssh-ed25519 KEY QA", 7, "authorities are not accepted"),
    ("berta valid-before=20280101 ssh-ed25519 KEY QA", 7, "is no option"),
    ('berta valid-before="2028" ssh-ed25519 KEY QA', 7, "'2028' is no time"),
    ('berta namespaces="x",valid-after="20281332Z" ssh-ed25519 KEY QA', 22, "'20281332Z' is no time"),
    ('berta valid-after="20290101Z",valid-before="20280101Z" ssh-ed25519 KEY QA', 7, "lies before valid-after"),
    ('berta namespaces="*" ssh-ed25519 KEY QA', 7, "written out, without patterns"),
    ("berta no-touch-required ssh-ed25519 KEY QA", 7, "no-touch-required is not accepted here"),
    ("berta ssh-ed25519 KEY Q\u200bA", 0, "characters that cannot be seen"),
])  # fmt: skip
def test_each_mistake_is_named_with_its_place(berta: Person, line: str, column: int, message: str) -> None:
    text = line.replace("KEY", berta.key.split()[1])

    with pytest.raises(ConfigError) as raised:
        parse(f"# people\n{text}\n{berta.line()}{text}\n")

    assert [each.line for each in raised.value.problems] == [2, 4]
    first = raised.value.problems[0]
    assert message in first.message
    assert column in (0, first.column)


def test_bytes_that_are_no_text_and_a_file_that_names_nobody_are_told(berta: Person) -> None:
    with pytest.raises(ConfigError, match=r"approvers:2:7: is not UTF-8"):
        parse(berta.line().encode() + b"berta \xff\n")
    with pytest.raises(ConfigError, match="names nobody"):
        parse("# nobody yet\n")
    with pytest.raises(ConfigError, match="larger than 1 MiB"):
        parse(b"#" * 2**20 + b"\n\n")


@pytest.mark.parametrize("options", [
    "", 'valid-before="20280101Z"', 'valid-after="20280101Z"', 'valid-before="20280101"', 'valid-after="202801011200"',
    'valid-after="20270101Z",valid-before="20280101120001Z"', 'namespaces="config@tidegate"',
    'namespaces="review@tidegate"', 'namespaces="review@tidegate,config@tidegate"', 'VALID-BEFORE="20200101Z"',
])  # fmt: skip
def test_who_counts_when_is_as_openssh_has_it(berta: Person, tmp_path: Path, options: str) -> None:
    armour = berta.sign(TEXT, NAMESPACE)
    signers, signed = tmp_path / "signers", tmp_path / "sig"
    signers.write_text(berta.line("QA", options))
    signed.write_bytes(armour)
    found, signature = parse(signers.read_bytes()), Signature.from_armour(armour)
    for moment in ("20271231235959", "20280101000000", "20280101000001", "20280101120000", "20280101120002"):
        said = subprocess.run(
            ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", berta.name, "-n", NAMESPACE, "-s", signed,
             "-O", f"verify-time={moment}Z"], input=TEXT, capture_output=True, check=False,
        ).returncode == 0  # fmt: skip
        try:
            found.signer(signature, calendar.timegm(time.strptime(moment, "%Y%m%d%H%M%S")))
            ours = True
        except Refused:
            ours = False
        assert ours is said, moment


def test_a_key_that_nobody_has_and_one_that_was_retired_are_told_apart(berta: Person, tmp_path: Path) -> None:
    anna = Person(tmp_path, "anna")
    signature = Signature.from_armour(anna.sign(TEXT, NAMESPACE))

    with pytest.raises(Refused, match="is not in the file of allowed signers"):
        parse(berta.line()).signer(signature, 0)
    retired = parse(anna.line(options='valid-before="20200101Z"') + anna.line("QA", 'valid-after="20300101Z"'))
    with pytest.raises(Refused) as refused:
        retired.signer(signature, 1_800_000_000)
    assert refused.value.reason == "expired"
    with pytest.raises(Refused, match="the key of anna was retired: it counted until 2020-01-01T00:00:00Z"):
        parse(anna.line(options='valid-before="20200101Z"')).signer(signature, 1_800_000_000)


def test_a_key_of_two_people_is_of_both(berta: Person) -> None:
    text = berta.line() + berta.line().replace("berta@plant.example", "anna")
    key = Signature.from_armour(berta.sign(TEXT, NAMESPACE)).key

    assert parse(text).named(key) == {"anna", "berta@plant.example"}
