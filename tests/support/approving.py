"""People who sign with the real ssh-keygen."""

from __future__ import annotations

import subprocess
from pathlib import Path


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
