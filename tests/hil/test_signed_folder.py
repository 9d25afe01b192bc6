"""The folder of a report: every change after the signature is found, by our command and by common ones."""

from __future__ import annotations

import html
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError
from hil import folder as report_folder
from hil.reading import report as report_command
from hil.reading import verify as verify_command
from tests.hil.conftest import FAILED, REPORT, Signed

CAUSES = {  # What is named, for a changed byte in each file.
    "report.json": "report.json was changed",
    "report.html": "report.html was changed",
    "SHA256SUMS": "SHA256SUMS was not signed with the key",
    "SHA256SUMS.sig": "SHA256SUMS was not signed with the key",
    "cable_pulled/witness.json": "cable_pulled/witness.json was changed",
    "cable_pulled/archive/2026-05-28.rec": "cable_pulled/archive/2026-05-28.rec was changed",
}


def problems(signed: Signed) -> str:
    return "\n".join(report_folder.check(signed.folder, signed.trust))


def test_a_report_is_accepted_as_it_was_signed(signed: Signed) -> None:
    found = CliRunner().invoke(verify_command, [str(signed.folder), "--trust", str(signed.trust)])

    assert found.exit_code == 0, found.output
    assert "intact: 2 files of evidence" in found.output
    assert f"tidegate verify {signed.folder}/cable_pulled/archive --trust" in found.output


def test_every_file_of_the_folder_is_under_test(signed: Signed) -> None:
    assert {str(each.relative_to(signed.folder)) for each in signed.folder.rglob("*") if each.is_file()} == set(CAUSES)


@given(file=st.sampled_from(sorted(CAUSES)), place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=200)
def test_a_changed_byte_in_any_file_is_found(signed: Signed, file: str, place: float, change: int) -> None:
    path = signed.folder / file
    good = path.read_bytes()
    at = int(place * len(good))
    try:
        path.write_bytes(good[:at] + bytes((good[at] ^ change,)) + good[at + 1 :])

        assert CAUSES[file] in problems(signed)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("file", CAUSES)
def test_a_file_that_is_cut_lengthened_or_gone_is_found(signed: Signed, file: str) -> None:
    path = signed.folder / file
    good = path.read_bytes()

    for bad in (good[:-1], good + b"\n", b""):
        path.write_bytes(bad)
        assert problems(signed)
    path.unlink()
    assert problems(signed)


def test_an_added_file_is_found(signed: Signed) -> None:
    (signed.folder / "cable_pulled" / "more.txt").write_text("x")

    assert problems(signed) == "cable_pulled/more.txt was added"


def test_an_added_link_to_a_folder_is_found(signed: Signed) -> None:
    (signed.folder / "more").symlink_to("/")

    assert problems(signed) == "more was added"


def test_evidence_that_is_elsewhere_is_missing(signed: Signed) -> None:
    """A link to a file outside of the folder holds the right bytes only today."""
    file = signed.folder / "cable_pulled" / "witness.json"
    elsewhere = file.rename(signed.folder.parent / "witness.json")
    file.symlink_to(elsewhere)

    assert "cable_pulled/witness.json is missing" in problems(signed)


def test_two_files_that_change_places_are_found(signed: Signed) -> None:
    one, two = (signed.folder / name for name in sorted(CAUSES) if name.startswith("cable_pulled/"))
    first, second = one.read_bytes(), two.read_bytes()
    one.write_bytes(second)
    two.write_bytes(first)

    assert problems(signed).count("was changed") == 2


def test_a_page_that_says_something_else_is_found_although_it_was_signed(signed: Signed, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(signed.folder, other)
    report_folder.write(other, replace(REPORT, scenarios=(FAILED,)), signed.signer)
    shutil.copy(signed.folder / "report.html", other / "report.html")
    sums = other / "SHA256SUMS"
    html_sum = subprocess.run(["sha256sum", "report.html"], cwd=other, check=True, capture_output=True).stdout
    sums.write_bytes(re.sub(rb"(?m)^.*  report\.html\n", html_sum, sums.read_bytes()))
    (other / "SHA256SUMS.sig").write_bytes(signed.signer.sign(sums.read_bytes()))

    assert report_folder.check(other, signed.trust) == ["report.html was not made from this report.json"]


def test_another_key_is_refused(signed: Signed, tmp_path: Path) -> None:
    other = tmp_path / "other.pub.pem"
    run = "openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 | openssl pkey -pubout"
    other.write_bytes(subprocess.run(["sh", "-c", run], check=True, capture_output=True).stdout)

    assert "was not signed with the key of" in "".join(report_folder.check(signed.folder, other))


def test_a_report_without_a_signature_is_named_so(signed: Signed) -> None:
    report_folder.write(signed.folder, REPORT, None)

    assert problems(signed) == "the report is not signed"


def test_a_trust_anchor_that_is_none_is_refused(signed: Signed) -> None:
    with pytest.raises(ConfigError, match=r"witness\.json is no public key in PEM form"):
        report_folder.check(signed.folder, signed.folder / "cable_pulled" / "witness.json")


def test_the_commands_on_the_page_accept_it_without_tidegate(signed: Signed) -> None:
    page = (signed.folder / "report.html").read_text()
    (commands,) = (each for each in re.findall(r"<pre>(.*?)</pre>", page, re.DOTALL) if "SHA256SUMS" in each)
    shutil.copy(signed.trust, signed.folder / "qa.pub.pem")

    def typed() -> int:
        return subprocess.run(["sh", "-euc", html.unescape(commands)], cwd=signed.folder, check=False).returncode

    assert typed() == 0
    (signed.folder / "report.html").write_text(page + " ")
    assert typed() == 1


def test_the_page_is_rendered_again_and_keeps_its_signature(signed: Signed) -> None:
    (signed.folder / "report.html").write_text("gone")

    found = CliRunner().invoke(report_command, [str(signed.folder)])

    assert found.exit_code == 0, found.output
    assert problems(signed) == ""


def test_rendering_again_does_not_make_changed_evidence_good(signed: Signed) -> None:
    (signed.folder / "cable_pulled" / "witness.json").write_text("changed")

    report_folder.render(signed.folder, signed.signer)

    assert problems(signed) == "cable_pulled/witness.json was changed"


def test_a_report_can_be_signed_later_and_by_another_person(signed: Signed) -> None:
    report_folder.write(signed.folder, REPORT, None)
    command = [str(signed.folder), "--sign", str(signed.trust.with_name("qa.pem"))]

    assert CliRunner().invoke(report_command, command).exit_code == 0
    assert problems(signed) == ""


def test_locks_and_sockets_of_ended_processes_are_no_evidence(signed: Signed) -> None:
    (signed.folder / "cable_pulled" / "archive" / ".lock").touch()

    report = report_folder.write(signed.folder, REPORT, signed.signer)

    assert [each.path for each in report.files] == sorted(set(CAUSES) - {"report.json", "report.html", "SHA256SUMS",
                                                                       "SHA256SUMS.sig"})  # fmt: skip
    assert problems(signed) == ""


@pytest.mark.parametrize("name", ["line\nbreak", "back\\slash"])
def test_a_name_that_the_sums_cannot_hold_is_no_evidence(signed: Signed, name: str) -> None:
    (signed.folder / name).touch()

    with pytest.raises(ConfigError, match="no plain file with a plain name"):
        report_folder.write(signed.folder, REPORT, signed.signer)
