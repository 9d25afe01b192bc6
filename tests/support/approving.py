"""People who sign with the real ssh-keygen, and tokens that sign as those of OpenSSH do."""

from __future__ import annotations

import base64
import hashlib
import subprocess
from collections.abc import Callable
from pathlib import Path

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat


def ssh_keygen(*arguments: object, code: int = 0) -> str:
    """What it says."""
    ran = subprocess.run(["ssh-keygen", *map(str, arguments)], capture_output=True, text=True, check=False)
    assert ran.returncode == code, ran.stderr
    return ran.stdout + ran.stderr


class Person:
    """Somebody with a key of OpenSSH."""

    def __init__(self, folder: Path, name: str, kind: str = "ed25519", bits: int = 0) -> None:
        self.name, self._file = name, folder / f"key-{name.replace('/', '-')}"
        size = ("-b", bits) if bits else ()
        ssh_keygen("-q", "-t", kind, *size, "-N", "", "-C", "", "-f", self._file)

    @property
    def key(self) -> str:
        """Kind and key, as lines of an allowed-signers file have them."""
        return self._file.with_suffix(self._file.suffix + ".pub").read_text().strip()

    @property
    def fingerprint(self) -> str:
        return ssh_keygen("-l", "-f", self._file).split()[1]

    def line(self, role: str = "Head of quality", options: str = "") -> str:
        """The person's line in an allowed-signers file."""
        return f"{self.name} {options}{' ' * bool(options)}{self.key} {role}\n"

    def sign(self, text: bytes, namespace: str, hash_name: str = "sha512") -> bytes:
        """A signature over a text."""
        file = self._file.with_name(f"{self._file.name}.text")
        file.write_bytes(text)
        self.sign_file(file, namespace, hash_name)
        signed = file.with_name(f"{file.name}.sig")
        armour = signed.read_bytes()
        signed.unlink()
        return armour

    def sign_file(self, file: Path, namespace: str, hash_name: str = "sha512") -> None:
        """Write FILE.sig beside a file."""
        ssh_keygen("-q", "-Y", "sign", "-n", namespace, "-O", f"hashalg={hash_name}", "-f", self._file, file)


def armoured(blob: bytes) -> bytes:
    """A signature as a .sig file has it."""
    lines = base64.encodebytes(blob).decode()
    return f"-----BEGIN SSH SIGNATURE-----\n{lines}-----END SSH SIGNATURE-----\n".encode()


def string(data: bytes) -> bytes:
    """Bytes as SSH has them on the wire."""
    return len(data).to_bytes(4, "big") + data


def number(value: int) -> bytes:
    """A number above zero, the same."""
    return string(value.to_bytes(value.bit_length() // 8 + 1, "big"))


class Token:
    """A FIDO key as OpenSSH has it: its key signs what the token saw, too."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        if kind.startswith("sk-ssh-ed25519"):
            key = ed25519.Ed25519PrivateKey.generate()
            point = string(key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw))
            self._sign: Callable[[bytes], bytes] = key.sign
        else:
            curve = ec.generate_private_key(ec.SECP256R1())
            point = string(b"nistp256") + string(
                curve.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
            )

            def sign(data: bytes) -> bytes:
                r, s = decode_dss_signature(curve.sign(data, ec.ECDSA(hashes.SHA256())))
                return number(r) + number(s)

            self._sign = sign
        self.key = string(kind.encode()) + point + string(b"ssh:")

    @property
    def line(self) -> str:
        """Kind and key, as lines of an allowed-signers file have them."""
        return f"{self.kind} {base64.b64encode(self.key).decode()}"

    def sign(self, text: bytes, flags: int, namespace: str = "config@tidegate") -> bytes:
        """A signature over a text, with the flags of what the token saw: 1 that it was touched."""
        parts = (namespace.encode(), b"", b"sha512", hashlib.sha512(text).digest())
        data = b"SSHSIG" + b"".join(map(string, parts))
        seen = bytes((flags,)) + (7).to_bytes(4, "big")
        signature = self._sign(hashlib.sha256(b"ssh:").digest() + seen + hashlib.sha256(data).digest())
        blob = string(self.kind.encode()) + string(signature) + seen
        return armoured(b"SSHSIG" + (1).to_bytes(4, "big") + b"".join(map(string, (self.key, *parts[:3], blob))))
