from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from drivers.opcua.certificates import application_uris, der, fingerprint
from drivers.opcua.trust import TrustList
from edge.cli import cli


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["keys", "opcua", *map(str, arguments)])


@pytest.fixture
def pki(tmp_path: Path) -> Path:
    assert run("create", tmp_path / "pki", "--name", "line-4", "--host", "gw", "--host", "192.0.2.4").exit_code == 0
    return tmp_path / "pki"


def test_create_makes_what_show_shows_and_overwrites_nothing(pki: Path) -> None:
    shown = run("show", pki)
    again = run("create", pki, "--name", "line-4")

    assert "urn:gw:tidegate:line-4" in shown.output
    assert "gw, 192.0.2.4" in shown.output
    assert again.exit_code == 1
    assert "is there already: it is not overwritten" in again.output


def test_create_prints_a_request_for_the_key_that_is_there(pki: Path) -> None:
    printed = run("create", pki, "--name", "line-4", "--host", "gw", "--request")

    request = x509.load_pem_x509_csr(printed.output.encode())
    names = request.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    (own,) = TrustList(pki).certificates_in("own")
    assert request.is_signature_valid
    assert request.public_key() == own.certificate.public_key()
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == application_uris(own.certificate)


def test_trust_takes_a_rejected_certificate_and_reject_gives_it_back(pki: Path, maker: Any) -> None:
    certificate = maker.make()
    TrustList(pki).add_rejected(certificate)
    begin = fingerprint(certificate)[:8]

    trusted, listed = run("trust", pki, begin), run("list", pki)
    rejected, relisted = run("reject", pki, begin), run("list", pki, "--json")

    assert (trusted.exit_code, rejected.exit_code) == (0, 0)
    assert f"trusted   {fingerprint(certificate)[:16]}" in listed.output
    assert "rejected  " not in listed.output
    assert [one["folder"] for one in json.loads(relisted.output)["certificates"]] == ["own", "rejected"]


def test_reject_finds_every_copy(pki: Path, maker: Any) -> None:
    """Otherwise a copy under another file name would stay trusted."""
    certificate = maker.make()
    TrustList(pki).trust(certificate)
    TrustList(pki).trust(certificate, "issuers")
    (pki / "trusted" / "plc-7.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    rejected = run("reject", pki, fingerprint(certificate)[:8])

    assert "in           rejected (" in rejected.output
    assert not [*TrustList(pki).certificates_in("trusted"), *TrustList(pki).certificates_in("issuers")]


@pytest.mark.parametrize("form", [serialization.Encoding.PEM, serialization.Encoding.DER])
def test_trust_takes_a_file(pki: Path, maker: Any, tmp_path: Path, form: serialization.Encoding) -> None:
    certificate = maker.authority()
    (tmp_path / "ca").write_bytes(certificate.public_bytes(form))

    shown = json.loads(run("trust", pki, tmp_path / "ca", "--issuer", "--json").output)

    assert shown["folder"] == "issuers"
    assert Path(shown["file"]).read_bytes() == der(certificate)
    assert shown["sha256"] == fingerprint(certificate)


@pytest.mark.parametrize("verb", ["trust", "reject", "show"])
def test_an_unknown_fingerprint_is_no_and_nonsense_is_usage(pki: Path, verb: str) -> None:
    unknown, nonsense = run(verb, pki, "0" * 16), run(verb, pki, "server")

    assert (unknown.exit_code, nonsense.exit_code) == (1, 2)
    assert "no certificate has that fingerprint" in unknown.output
    assert "write at least 8 of its hexadecimal digits" in nonsense.output


def test_show_without_a_certificate_says_how_to_make_one(tmp_path: Path) -> None:
    shown = run("show", tmp_path / "none")

    assert shown.exit_code == 1
    assert "tidegate keys opcua create" in shown.output


def test_every_command_has_an_example() -> None:
    for verb in ("create", "show", "list", "trust", "reject"):
        assert "Example" in run(verb, "--help").output
