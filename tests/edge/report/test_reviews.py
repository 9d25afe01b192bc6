"""A review says of a range that somebody has looked at it, and a report says whether the records are still those."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from edge.approval.review import Review
from edge.approval.sshsig import Refused
from edge.cli import cli
from tests.edge.report.conftest import Site, utc
from tests.support.approving import Person

NOTE = "gap at 08:12 is the planned stop, deviation 88"
NAMESPACE = "review@tidegate"


def review(site: Site, first: float, last: float, note: str = NOTE, code: int = 0) -> Result:
    ran = CliRunner().invoke(cli, ["review", str(site.folder), "--trust", str(site.anchor), "--from", utc(first),
                                   "--to", utc(last), "--text", note])  # fmt: skip
    assert ran.exit_code == code, ran.output
    return ran


@pytest.fixture
def berta(tmp_path: Path) -> Person:
    return Person(tmp_path, "berta@plant.example")


@pytest.fixture
def signed(site: Site, berta: Person) -> Path:
    """A signed review of seconds 10 to 20."""
    site.write()
    review(site, 10, 20)
    [file] = (site.folder / "line-4/reviews").glob("*.review")
    berta.sign_file(file, NAMESPACE)
    (site.folder.parent / "approvers").write_text(berta.line())
    return file


def reviews(site: Site, *options: str) -> list[dict[str, Any]]:
    approvers = ("--approvers", str(site.folder.parent / "approvers"))
    return list(site.gateway(0, 60, *approvers, *options)["reviews"])


@pytest.mark.requirement("REQ-CONF-08")
def test_a_report_shows_who_reviewed_what_and_that_nothing_changed_since(site: Site, signed: Path) -> None:
    text = signed.read_text()
    assert max(map(len, text.splitlines())) <= 80
    said = Review.from_text(text)
    assert (said.gateway, said.note) == ("line-4", NOTE)
    [head] = said.heads
    assert (head.first, head.last, head.held) == (12, 22, 11)

    [shown] = reviews(site)

    assert (shown["name"], shown["role"], shown["note"]) == ("berta@plant.example", "Head of quality", NOTE)
    assert (shown["why_not"], shown["altered"]) == ("", "")
    page = site.run("--from", utc(0), "--to", utc(60), "--approvers", site.folder.parent / "approvers").output
    assert "berta@plant.example, Head of quality (I have reviewed these records)" in " ".join(page.split())


@pytest.mark.requirement("REQ-CONF-08")
def test_records_that_were_altered_or_taken_out_since_are_said(site: Site, signed: Path) -> None:
    records = [each.data for each in site.plant.records]
    for number in (12, 17, 22):
        site.write([each for at, each in enumerate(records) if at != number])
        [shown] = reviews(site)
        assert "11 records were reviewed, and 10 are held and authentic" in shown["altered"], number
        other = bytearray(records[number])
        other[-10] ^= 1
        site.write([*records[:number], bytes(other), *records[number + 1 :]])
        [shown] = reviews(site)
        assert "11 records were reviewed, and 10 are held and authentic" in shown["altered"], number
    site.write([each for at, each in enumerate(records) if at != 30])
    assert reviews(site)[0]["altered"] == ""  # That is not in its range.


def test_what_is_not_the_signature_of_somebody_listed_is_not_confirmed(site: Site, signed: Path, berta: Person) -> None:
    def why() -> str:
        [shown] = reviews(site)
        assert shown["name"] == ""
        return str(shown["why_not"])

    signature = signed.with_name(f"{signed.name}.sig")
    approvers = site.folder.parent / "approvers"
    approvers.write_text(Person(site.folder.parent, "carla").line())
    assert "is not in the file of allowed signers" in why()
    approvers.write_text(berta.line(options='valid-before="20200101Z"'))
    assert "was retired" in why()
    approvers.write_text(berta.line())
    signature.unlink()
    berta.sign_file(signed, "config@tidegate")
    assert "and not for 'review@tidegate'" in why()
    signature.unlink()
    assert "it is not signed" in why()
    berta.sign_file(signed, NAMESPACE)
    signed.write_text(signed.read_text().replace("deviation 88", "deviation 99"))
    assert "the text was altered" in why()
    signed.write_text("reviewed\n")
    assert "it is not as tidegate review writes it" in why()


def test_without_approvers_only_the_key_is_known(site: Site, signed: Path, berta: Person) -> None:
    [shown] = site.gateway(0, 60)["reviews"]
    assert berta.fingerprint in shown["why_not"]


def test_where_nothing_is_held_there_is_nothing_to_review(site: Site) -> None:
    site.write()
    assert "there is nothing to review" in review(site, 1000, 2000, code=1).output


def test_a_note_of_any_characters_is_read_as_it_is_signed(site: Site) -> None:
    site.write()
    note = "a\nheld 0\u202e \\u{41} " + "x " * 200
    review(site, 10, 20, note)
    [file] = (site.folder / "line-4/reviews").glob("*.review")
    text = file.read_text()
    assert Review.from_text(text).note == note
    assert "\u202e" not in text
    for other in ("", text[:-1], text + " ", text.replace("held", "had"), text.replace("\n- ", "\n-  ")):
        with pytest.raises(Refused):
            Review.from_text(other)
