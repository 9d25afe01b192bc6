"""A certification authority as a plant runs one: OpenSSL's own commands in a directory."""

from __future__ import annotations

import ssl
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

_CONFIG = """
[ca]
default_ca = plant
[plant]
dir = {folder}
database = {folder}/index
serial = {folder}/serial
crlnumber = {folder}/crlnumber
new_certs_dir = {folder}
certificate = {folder}/ca.pem
private_key = {folder}/ca.key
default_md = sha256
policy = any
unique_subject = no
copy_extensions = copy
[any]
commonName = supplied
[req]
distinguished_name = name
[name]
"""
_NEW_KEY = {
    "P-256": ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"],
    "RSA-1024": ["-newkey", "rsa:1024"],
}


def openssl(*arguments: str | Path, text: str = "") -> str:
    """What the command says; it must succeed."""
    command = ["openssl", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, input=text or None)
    assert done.returncode == 0, (command, done.stderr)
    return done.stdout


def _at(days: float) -> str:
    return (datetime.now(UTC) + timedelta(days)).strftime("%Y%m%d%H%M%SZ")


class OpensslAuthority:
    """Issues NAME.pem with NAME.key, and revocation lists, into its folder; its own certificate is ca.pem."""

    def __init__(self, folder: Path, name: str = "plant authority", *, days: float = 3650) -> None:
        folder.mkdir(exist_ok=True)
        self.folder, self._config = folder, folder / "ca.cnf"
        self._config.write_text(_CONFIG.format(folder=folder))
        (folder / "index").touch()
        (folder / "serial").write_text("1000\n")
        (folder / "crlnumber").write_text("01\n")
        self._request("ca", f"/CN={name}", "P-256")
        usages = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n"
        self._sign("ca", usages, -3650, days, "-selfsign")
        self.path = folder / "ca.pem"

    def issue(
        self, name: str, *, use: str = "clientAuth", names: str = "IP:127.0.0.1", days: float = 30, since: float = -60,
        key: str = "P-256", digest: str = "sha256",
    ) -> tuple[Path, Path]:  # fmt: skip
        """A certificate with its key; `since` and `days` are counted from now."""
        self._request(name, f"/CN={name}", key)
        self._sign(name, f"extendedKeyUsage={use}\nsubjectAltName={names}\n", since, days, "-md", digest)
        return self.folder / f"{name}.pem", self.folder / f"{name}.key"

    def context_of(self, client: Path | None) -> ssl.SSLContext:
        """What a client connects with who trusts this authority, whatever the name of its server."""
        context = ssl.create_default_context(cafile=self.path)
        context.check_hostname = False
        if client is not None:
            context.load_cert_chain(client, client.with_suffix(".key"))
        return context

    def sign_request(self, request: Path, certificate: Path, *options: str | Path) -> None:
        """What an authority makes of a request, with the names that it asks for."""
        self._ca("-in", request, "-out", certificate, "-days", "365", *options)

    def revoke(self, certificate: Path) -> None:
        """Put a certificate into the lists from now on."""
        self._ca("-revoke", certificate)

    def write_list(self, name: str = "crl.pem", *, days: float = 7) -> Path:
        """A revocation list that is in force for so long; below 0 it was."""
        path = self.folder / name
        self._ca("-gencrl", "-out", path, "-crl_lastupdate", _at(-30), "-crl_nextupdate", _at(days))
        return path

    def _request(self, name: str, subject: str, key: str) -> None:
        files: list[str | Path] = ["-keyout", self.folder / f"{name}.key", "-out", self.folder / f"{name}.csr"]
        openssl("req", "-new", "-config", self._config, "-noenc", *_NEW_KEY[key], "-subj", subject, *files)

    def _sign(self, name: str, extensions: str, since: float, days: float, *options: str) -> None:
        (self.folder / "extensions").write_text(extensions)
        dates = ["-startdate", _at(since), "-enddate", _at(days)]
        files: list[str | Path] = ["-in", self.folder / f"{name}.csr", "-out", self.folder / f"{name}.pem"]
        self._ca("-extfile", self.folder / "extensions", *dates, *files, "-notext", *options)

    def _ca(self, *arguments: str | Path) -> None:
        openssl("ca", "-batch", "-config", self._config, *arguments)
