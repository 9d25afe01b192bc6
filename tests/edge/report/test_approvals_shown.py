"""Who approved a configuration is shown by every command that shows its record, and can be verified again."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from edge.approval.change import MEANING, Change
from edge.approval.sshsig import Signature
from edge.cli import cli
from edge.seal import ConfigChange
from edge.seal.approval import Approval
from tests.edge.report.conftest import Site, ns
from tests.support.approving import Person

CHANGE = Change(gateway="line-4", proposed_by="root (claims to be anna)", at="2023-11-14T22:00:00Z", why="CR 1207",
                files="/etc/tidegate/line-4.yaml", old=("a" * 64), new=("b" * 64))  # fmt: skip


@dataclass
class Approved:
    site: Site
    berta: Person

    def seal(self, alter: Callable[[Approval], Approval] = lambda each: each, new: str = CHANGE.new) -> None:
        """A CONFIG record with an approval by Berta, as the gateway writes it."""
        text = CHANGE.head.encode()
        signature = Signature.from_armour(self.berta.sign(text, "config@tidegate"))
        approval = Approval(
            name=self.berta.name, role="Head of quality", meaning=MEANING, fingerprint=signature.fingerprint,
            proposed_by=CHANGE.proposed_by, proposed_at=CHANGE.at, digest=signature.digest(text),
            signature=signature.blob, text=text,
        )  # fmt: skip
        self.site.seal(ConfigChange(
            at_ns=ns(30), account="root", role="apply", why="CR 1207", old_hash=bytes.fromhex(CHANGE.old),
            new_hash=bytes.fromhex(new), approval=alter(approval).to_bytes(),
        ))  # fmt: skip
        self.site.write()

    def run(self, command: str, *options: object) -> Result:
        site = self.site
        return CliRunner().invoke(cli, [command, str(site.folder), "--trust", str(site.anchor), *map(str, options)])


@pytest.fixture
def approved(site: Site, tmp_path: Path) -> Approved:
    berta = Person(tmp_path, "berta@plant.example")
    (tmp_path / "approvers").write_text(berta.line())
    return Approved(site, berta)


@pytest.mark.requirement("REQ-CONF-07")
@pytest.mark.parametrize("command", ["history", "verify", "report", "log"])
def test_name_role_meaning_and_time_are_shown(approved: Approved, command: str) -> None:
    approved.seal()

    said = " ".join(approved.run(command).output.split())

    assert f"by berta@plant.example, Head of quality ({MEANING})" in said
    assert "22:13:50" in said


@pytest.mark.requirement("REQ-CONF-07")
@pytest.mark.parametrize("command", ["history", "verify"])
def test_a_signature_on_record_is_verified_again(approved: Approved, tmp_path: Path, command: str) -> None:
    approved.seal()
    approvers = tmp_path / "approvers"

    assert approved.run(command, "--approvers", approvers).exit_code == 0
    approvers.write_text(Person(tmp_path, "carla").line())
    refused = approved.run(command, "--approvers", approvers)

    assert refused.exit_code == 1
    assert "is not in the file of allowed signers" in refused.output
    approvers.write_text("berta ssh-ed25519\n")
    broken = approved.run(command, "--approvers", approvers)
    assert f"{approvers}:1:18: the key, in base64, is missing" in str(broken.exception)


@pytest.mark.parametrize(("alter", "new", "why"), [
    (lambda each: replace(each, name="carla"), CHANGE.new, "it was signed by berta@plant.example"),
    (lambda each: replace(each, digest=bytes(64)), CHANGE.new, "is not one over this text"),
    (lambda each: replace(each, text=each.text + b" "), CHANGE.new, "is not the one that was signed"),
    (lambda each: replace(each, text=b"text"), CHANGE.new, "this is not the text of a proposed change"),
    (lambda each: each, "c" * 64, "it is the approval of another change"),
    (lambda each: replace(each, signature=b""), CHANGE.new, "the signature cannot be read"),
])  # fmt: skip
def test_an_approval_that_is_not_what_it_says_is_not_confirmed(
    approved: Approved, tmp_path: Path, alter: Callable[[Approval], Approval], new: str, why: str
) -> None:
    approved.seal(alter, new)

    ran = approved.run("verify", "--approvers", tmp_path / "approvers", "--json")

    [found] = json.loads(ran.output)["approved"]
    assert why in found["approval"]["check"]
    assert ran.exit_code == 1


def test_an_approval_of_a_later_form_is_not_known_and_no_fault_of_its_record(approved: Approved) -> None:
    approved.site.seal(ConfigChange(at_ns=ns(30), account="root", old_hash=b"a", new_hash=b"b", approval=b"later"))
    approved.site.write()

    for command in ("verify", "history", "report"):
        ran = approved.run(command)
        assert "that this version does not know" in " ".join(ran.output.split())
        assert ran.exit_code == 0, ran.output
