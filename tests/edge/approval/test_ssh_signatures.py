"""Signatures of `ssh-keygen -Y sign`: what is accepted here the real ssh-keygen accepts, and nothing altered is."""

from __future__ import annotations

import base64
import subprocess
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.approval.sshsig import Refused, Signature
from tests.support.approving import Person, Token, armoured, ssh_keygen, string

TEXT = b"a change of configuration\n"
NAMESPACE = "config@tidegate"
KINDS = [("ed25519", 0), ("ecdsa", 256), ("ecdsa", 384), ("ecdsa", 521), ("rsa", 3072)]


def accepts(armour: bytes) -> bool:
    """Whether we do."""
    return not refusal(armour)


def refusal(armour: bytes, text: bytes = TEXT, namespace: str = NAMESPACE) -> str:
    """Why we do not."""
    try:
        signature = Signature.from_armour(armour)
        signature.verify(signature.digest(text), namespace)
    except Refused as error:
        return error.reason
    return ""


def real_accepts(folder: Path, key: str, armour: bytes, text: bytes = TEXT, namespace: str = NAMESPACE) -> bool:
    """Whether `ssh-keygen -Y verify` does, of this key."""
    signers, signed = folder / "signers", folder / "text.sig"
    signers.write_text(f"berta {key}\n")
    signed.write_bytes(armour)
    ran = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-f", signers, "-I", "berta", "-n", namespace, "-s", signed],
        input=text, capture_output=True, check=False,
    )  # fmt: skip
    return ran.returncode == 0


@pytest.mark.parametrize(("kind", "bits"), KINDS)
@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_what_the_real_one_signs_is_accepted_as_it_is_and_in_no_other_way(
    tmp_path: Path, kind: str, bits: int, hash_name: str
) -> None:
    person = Person(tmp_path, "berta", kind, bits)
    armour = person.sign(TEXT, NAMESPACE, hash_name)

    assert accepts(armour)
    assert real_accepts(tmp_path, person.key, armour)
    assert refusal(armour, TEXT + b" ") == "altered"
    assert refusal(armour, TEXT, "review@tidegate") == "namespace"
    assert Signature.from_armour(armour).fingerprint == person.fingerprint


@pytest.mark.requirement("REQ-CONF-06")
@pytest.mark.parametrize("kind", ["sk-ssh-ed25519@openssh.com", "sk-ecdsa-sha2-nistp256@openssh.com"])
def test_a_token_that_was_touched_is_accepted_and_one_that_was_not_is_refused(tmp_path: Path, kind: str) -> None:
    token = Token(kind)
    touched, verified, untouched = (token.sign(TEXT, flags) for flags in (0x01, 0x05, 0x04))

    for armour in (touched, verified):
        assert accepts(armour)
        assert real_accepts(tmp_path, token.line, armour)
    assert refusal(untouched) == "presence"
    flags_altered = armoured(
        base64.b64decode(b"".join(untouched.split(b"\n")[1:-2]))[:-5] + b"\1" + (7).to_bytes(4, "big")
    )
    assert refusal(flags_altered) == "altered"
    assert not real_accepts(tmp_path, token.line, flags_altered)


def test_keys_that_are_too_weak_are_refused(tmp_path: Path) -> None:
    weak = Person(tmp_path, "weak", "rsa", 1024)
    assert refusal(weak.sign(TEXT, NAMESPACE, "sha512")) == "form"
    blob = base64.b64decode(
        b"".join(Person(tmp_path, "old", "rsa", 2048).sign(TEXT, NAMESPACE, "sha512").split(b"\n")[1:-2])
    )
    assert refusal(armoured(blob.replace(string(b"rsa-sha2-512"), string(b"ssh-rsa")))) == "form"


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[str, bytes, Path]]:
    folder = tmp_path_factory.mktemp("signed")
    people = [Person(folder, f"p{number}", *kind) for number, kind in enumerate(KINDS)]
    tokens = [Token("sk-ssh-ed25519@openssh.com"), Token("sk-ecdsa-sha2-nistp256@openssh.com")]
    return [(each.key, each.sign(TEXT, NAMESPACE, "sha512"), folder) for each in people] + [
        (each.line, each.sign(TEXT, 1), folder) for each in tokens
    ]


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_whatever_is_done_to_a_signature_is_accepted_only_where_the_real_one_accepts_it(
    signed: list[tuple[str, bytes, Path]], data: st.DataObject
) -> None:
    key, armour, folder = data.draw(st.sampled_from(signed))
    blob = bytearray(base64.b64decode(b"".join(armour.split(b"\n")[1:-2])))
    match data.draw(st.sampled_from(["flip", "cut", "add", "insert"])):
        case "flip":
            blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
        case "cut":
            del blob[data.draw(st.integers(0, len(blob) - 1)) :]
        case "add":
            blob += data.draw(st.binary(min_size=1, max_size=8))
        case _:
            at = data.draw(st.integers(0, len(blob)))
            blob[at:at] = data.draw(st.binary(min_size=1, max_size=4))
    other = armoured(bytes(blob))

    if accepts(other):
        assert real_accepts(folder, key, other)


@pytest.mark.parametrize("armour", [
    b"", b"\xff\xfe", b"-----BEGIN SSH SIGNATURE-----\n-----END SSH SIGNATURE-----\n",
    b"-----BEGIN SSH SIGNATURE-----\n!!!!\n-----END SSH SIGNATURE-----\n", b"A" * 100_000, armoured(b"SSHSIG"),
    armoured(b"SSHSIG\0\0\0\2"), armoured(b"SSHSIG\0\0\0\1\xff\xff\xff\xff"),
])  # fmt: skip
def test_what_is_no_signature_is_refused_in_one_sentence(armour: bytes) -> None:
    with pytest.raises(Refused, match=r"^the signature cannot be read: [^\n]+; make it with ssh-keygen -Y sign$"):
        Signature.from_armour(armour)


def test_the_real_program_is_there() -> None:
    assert ssh_keygen("-?", code=1)
