"""A regulated gateway takes a change into use that a second person has signed, and no other."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from edge.approval.sshsig import Signature
from edge.config.check import check
from edge.gateway.control import Request
from edge.seal import ConfigChange
from edge.seal.approval import Approval
from tests.faults.gateway.applying import DeadPort, asked, changes, ended, run
from tests.faults.gateway.site_under_test import Process, Site
from tests.support.approving import Person, Token

WHY = "change request 1207: a new pump"
NAMESPACE = "config@tidegate"


class Plant:
    """A regulated gateway with one device, and people."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.approvers = site.directory / "approvers"
        self.berta = Person(site.directory, "berta@plant.example")
        self.list(self.berta.line())
        site.settings["gateway"]["regulated"] = True
        site.settings["approval"] = {"allowed_signers": "approvers"}
        site.add_counter("a")
        self._edits = 0

    def list(self, *lines: str) -> None:
        self.approvers.write_text("# who may approve\n" + "".join(lines))

    def run(self) -> Process:
        gateway = self.site.gateway()
        self.site.wait_for_scans(1)
        return gateway

    def edit(self) -> Path:
        self._edits += 1
        self.site.settings["devices"][0]["retry"] = f"{150 + self._edits} ms"
        return self.site.write("gateway", self.site.settings)

    def propose(self, *options: str) -> Path:
        """An edit, as a text to sign."""
        self._edits += 1
        return self.proposed(self.edit(), *options)

    def proposed(self, path: Path, *options: str) -> Path:
        file = self.site.directory / f"{self._edits}-{time.monotonic_ns()}.change"
        ran = run("propose", path, "--why", WHY, "--to", file, *options)
        assert ran.exit_code == 0, ran.output
        return file

    def refused(self, reason: str) -> str:
        """Why the last change was refused, as it is on record."""

        def found() -> list[str]:
            events = self.site.told(self.site.buffered()).events("approval.refused")
            return [str(each.data["reason"]) for each in events if each.data["name"] == reason]

        return self.site.wait(found, f"a refusal by {reason} to be on record")[-1]


@pytest.fixture
def plant(site: Site, monkeypatch: pytest.MonkeyPatch) -> Plant:
    monkeypatch.delenv("SUDO_USER", raising=False)
    monkeypatch.delenv("DOAS_USER", raising=False)
    return Plant(site)


def apply(file: Path, *options: str, code: int = 0) -> Result:
    ran = run("apply", file, *options)
    assert ran.exit_code == code, ran.output
    return ran


@pytest.mark.requirement("REQ-CONF-05")
def test_a_change_is_proposed_signed_applied_and_shown_with_who_approved_it(plant: Plant, site: Site) -> None:
    gateway = plant.run()
    file = plant.propose()
    text = file.read_text()
    assert max(map(len, text.splitlines())) <= 72
    assert f"proposed by: {getuser()}\n" in text
    assert "- devices[a].retry" in text
    plant.berta.sign_file(file, NAMESPACE)

    shown = apply(file, "--dry-run").output
    said = apply(file).output

    assert "approved by berta@plant.example, Head of quality" in shown
    assert said.endswith("applied\n")
    first, second = changes(site)
    assert first.approval is None
    approval = Approval.from_bytes(second.approval or b"")
    assert approval is not None
    assert (approval.name, approval.role) == (plant.berta.name, "Head of quality")
    assert approval.fingerprint == plant.berta.fingerprint
    assert approval.text == file.read_bytes()
    assert second.why == WHY
    # Who has the record and the person's key needs nothing else to see it.
    signature = Signature.from_blob(approval.signature)
    signature.verify(signature.digest(approval.text), NAMESPACE)
    assert gateway.stop() == 0
    assert site.gateway().stop() == 0  # It starts with what was approved.
    assert len(changes(site)) == 2


def altered(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def other_value(plant: Plant, file: Path) -> None:
    altered(file, " ms\n", " us\n")


def other_reason(plant: Plant, file: Path) -> None:
    altered(file, "a new pump", "an old pump")


def for_review(plant: Plant, file: Path) -> None:
    plant.berta.sign_file(file, "review@tidegate")


def by_a_retired_key(plant: Plant, file: Path) -> None:
    plant.list(plant.berta.line(options='valid-before="20200101Z"'))


def by_a_key_of_later(plant: Plant, file: Path) -> None:
    plant.list(plant.berta.line(options='valid-after="20990101Z"'))


def by_nobody_listed(plant: Plant, file: Path) -> None:
    plant.list(Person(plant.site.directory, "carla").line())


def by_a_broken_list(plant: Plant, file: Path) -> None:
    plant.list(plant.berta.line(), "anna ssh-ed25519 AAAA!\n")


def by_who_proposed(plant: Plant, file: Path) -> None:
    plant.list(plant.berta.line().replace("berta@", f"{getuser()}@"))


def by_a_key_of_who_proposed(plant: Plant, file: Path) -> None:
    plant.list(plant.berta.line(), plant.berta.line().replace("berta@plant.example", getuser()))


def for_another_gateway(plant: Plant, file: Path) -> None:
    altered(file, f"gateway: {plant.site.settings['gateway']['name']}\n", "gateway: line-9\n")
    sign_again(plant, file)


def on_an_older_base(plant: Plant, file: Path) -> None:
    old = next(line for line in file.read_text().splitlines() if line.startswith("old hash: "))
    text = file.read_text()
    begin = text.index(old)
    end = text.index("new hash: ")
    file.write_text(f"{text[:begin]}old hash: {'0' * 62}\n    00\n{text[end:]}")
    sign_again(plant, file)


def other_files(plant: Plant, file: Path) -> None:
    plant.edit()


def not_a_signature(plant: Plant, file: Path) -> None:
    Path(f"{file}.sig").write_text("approved by berta\n")


def by_a_token_nobody_touched(plant: Plant, file: Path) -> None:
    token = Token("sk-ssh-ed25519@openssh.com")
    plant.list(f"berta {token.line} Head of quality\n")
    Path(f"{file}.sig").write_bytes(token.sign(file.read_bytes(), 0x04))


def sign_again(plant: Plant, file: Path) -> None:
    Path(f"{file}.sig").unlink()
    plant.berta.sign_file(file, NAMESPACE)


REFUSALS: list[tuple[Callable[[Plant, Path], None], str, str]] = [
    (other_value, "altered", "says another difference than there is"),
    (other_reason, "altered", "the text was altered"),
    (for_review, "namespace", "is for 'review@tidegate', and not for 'config@tidegate'"),
    (by_a_retired_key, "expired", "was retired: it counted until 2020-01-01T00:00:00Z"),
    (by_a_key_of_later, "expired", "does not count yet"),
    (by_nobody_listed, "unknown", "is not in the file of allowed signers"),
    (by_a_broken_list, "signers", "approvers:3:18: the key is not base64"),
    (by_who_proposed, "self", "a second person has to approve it"),
    (by_a_key_of_who_proposed, "self", "a second person has to approve it"),
    (for_another_gateway, "gateway", "was proposed for gateway line-9"),
    (on_an_older_base, "base", "was proposed when configuration 00000000 ran"),
    (other_files, "files", "put those files back, or propose these"),
    (by_a_token_nobody_touched, "presence", "nobody touched the token"),
    (not_a_signature, "form", "the signature cannot be read"),
]  # fmt: skip


@pytest.mark.requirement("REQ-CONF-06")
def test_what_is_not_the_approval_of_exactly_this_is_refused_by_the_gateway_and_on_record(
    plant: Plant, site: Site
) -> None:
    plant.run()
    for do, reason, sentence in REFUSALS:
        plant.list(plant.berta.line())
        file = plant.propose()
        if do is not for_review:
            plant.berta.sign_file(file, NAMESPACE)
        do(plant, file)

        said = apply(file, code=1).output

        assert sentence in said, (do.__name__, said)
        assert "refused: nothing was changed" in said
        assert sentence in plant.refused(reason), do.__name__
    assert len(changes(site)) == 1
    assert len(site.told(site.buffered()).events("approvers.changed")) >= 2


@pytest.mark.requirement("REQ-TRAIL-04")
def test_a_changed_list_of_approvers_and_a_file_edited_by_hand_are_on_record(plant: Plant, site: Site) -> None:
    gateway = plant.run()

    def listed() -> list[tuple[Any, Any]]:
        found = site.told(site.buffered()).events("approvers.changed")
        return [(each.data["old"], each.data["new"]) for each in found]

    site.wait(lambda: len(listed()) == 1, "the list to be on record")
    plant.list(plant.berta.line(), Person(site.directory, "carla").line())
    site.wait(lambda: len(listed()) == 2, "the other list to be on record")
    assert gateway.stop() == 0
    plant.approvers.unlink()
    plant.run()
    site.wait(lambda: len(listed()) == 3, "its end to be on record")
    plant.edit()
    site.wait(lambda: site.told(site.buffered()).events("config.differs"), "the edit to be on record")
    shown = json.loads(run("status", site.directory / "gateway.yaml", "--json").output)
    [alarm] = [each for each in shown["problems"] if each["subject"] == "configuration"]
    assert (alarm["state"], alarm["code"]) == ("DEGRADED", "TG-F03")

    digests = listed()
    assert digests[0][0] == ""
    assert [old for old, _ in digests[1:]] == [new for _, new in digests[:-1]]
    assert digests[-1][1] == ""


def test_what_waits_for_the_start_is_judged_by_it_again(plant: Plant, site: Site) -> None:
    gateway = plant.run()
    site.settings["seal"] = {"key_period": "10 min"}
    file = plant.propose()
    plant.berta.sign_file(file, NAMESPACE)
    assert "the next start takes" in apply(file).output
    assert gateway.stop() == 0
    whole = plant.approvers.read_text()
    plant.approvers.write_text(Person(site.directory, "carla").line())

    refused = site.gateway(is_awaited=False)

    assert refused.wait() == 78
    assert "is not in the file of allowed signers" in refused.log()
    plant.approvers.write_text(whole)
    plant.run()
    last = changes(site)[-1]
    assert (last.role, last.why) == ("apply", WHY)
    assert Approval.from_bytes(last.approval or b"") is not None


def test_a_file_that_was_edited_by_hand_does_not_start_and_cannot_take_itself_out_of_the_rules(
    plant: Plant, site: Site
) -> None:
    assert plant.run().stop() == 0
    before = changes(site)
    site.settings["gateway"]["regulated"] = False
    del site.settings["approval"]
    path = plant.edit()

    assert "has to approve a change" in apply(path, "--why", WHY, code=1).output
    refused = site.gateway(is_awaited=False)

    assert refused.wait() == 78
    assert "nobody said why" in refused.log()
    file = plant.proposed(path)
    plant.berta.sign_file(file, NAMESPACE)
    assert "who and why are kept" in apply(file).output
    plant.run()
    assert len(changes(site)) == len(before) + 1


@pytest.mark.requirement("REQ-CONF-05")
def test_the_way_back_needs_an_approval_and_the_way_back_of_a_failure_none(plant: Plant, site: Site) -> None:
    plant.run()
    path = site.directory / "gateway.yaml"
    original = path.read_bytes()
    # Whatever a command says or leaves out, the gateway refuses.
    asked(site, Request(ask="apply", device="", digest=check(plant.edit()).digest.hex(), why=WHY))
    progress = site.wait(lambda: ended(site), "the apply to end")
    assert progress["state"] == "refused"
    assert "a second person has to approve a change: tidegate propose" in plant.refused("missing")
    first = plant.propose()
    plant.berta.sign_file(first, NAMESPACE)
    apply(first)
    site.add_device("dead", DeadPort())
    failing = plant.propose()
    plant.berta.sign_file(failing, NAMESPACE)

    assert "did not come up" in apply(failing, "--within", "1 s", code=1).output
    back = changes(site)[-1]
    assert (back.role, back.approval) == ("roll back", None)

    edited = path.read_bytes()
    assert "has to approve a change" in apply(path, "--previous", "2", "--why", WHY, code=1).output
    assert path.read_bytes() == edited
    before = plant.proposed(path, "--previous", "2")
    plant.berta.sign_file(before, NAMESPACE)
    apply(before, "--previous", "2")
    last: ConfigChange = changes(site)[-1]
    assert path.read_bytes() == original
    assert last.approval is not None
