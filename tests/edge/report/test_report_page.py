"""The page of a report: whole by itself, with plots that show the numbers, and a signature that openssl verifies."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass, field, replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from edge.clock import TimeState
from edge.report.plots import LEFT, RIGHT, WIDTH
from tests.edge.report.conftest import Site, utc
from tests.support.chains import BOOT_NS, TIME

_VOID = ("meta", "br")


@dataclass
class Node:
    name: str
    attributes: dict[str, str]
    words: list[str] = field(default_factory=list)


class Page(HTMLParser):
    """The elements of a page; it fails where they are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.nodes: list[Node] = []
        self._open: list[Node] = []
        self.feed(page)
        self.close()
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        node = Node(tag, {name: value or "" for name, value in attrs})
        self.nodes.append(node)
        if tag not in _VOID:
            self._open.append(node)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.nodes.append(Node(tag, {name: value or "" for name, value in attrs}))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop().name == tag

    def handle_data(self, data: str) -> None:
        for each in self._open:
            each.words.append(data)

    def of_class(self, name: str) -> list[Node]:
        return [node for node in self.nodes if node.attributes.get("class") == name]

    def text(self, name: str) -> str:
        return "".join(next(node for node in self.nodes if node.name == name).words)


def page_of(site: Site, first: float, last: float, *options: object) -> Page:
    file = site.folder.parent / "report.html"
    site.run("--from", utc(first), "--to", utc(last), "--html", file, *options)
    return Page(file.read_text("utf-8"))


def second(x: float, first: float, last: float) -> float:
    """The second that a place in a plot stands for."""
    return first + (x - LEFT) / (WIDTH - LEFT - RIGHT) * (last - first)


def test_the_page_needs_nothing_else_and_no_script(site: Site) -> None:
    """It is kept for years, and opened where there is no network."""
    site.write()

    page = page_of(site, 20, 30, "--tags")

    assert not {node.name for node in page.nodes} & {"script", "link", "img", "iframe", "object"}
    links = [value for node in page.nodes for name, value in node.attributes.items() if name in ("src", "href")]
    assert links == []
    policy = next(node.attributes["content"] for node in page.nodes if "http-equiv" in node.attributes)
    assert policy.startswith("default-src 'none'")


def test_the_answer_comes_first_and_the_facts_are_on_the_page(site: Site) -> None:
    """Someone from quality assurance reads it without help."""
    site.write(each.data for each in site.plant.records if each.seq != 25)

    page = page_of(site, 20, 30)

    assert page.text("h1") == "NOT COMPLETE"
    body = page.text("body")
    for each in json.loads(site.run("--json").stdout)["files"]:
        assert each["sha256"] in body
    assert site.plant.identity.fingerprint in body
    assert "seq 25" in body
    assert body.index("NOT COMPLETE") < body.index("Is every record as the gateway signed it?")
    assert {"Reviewed by: name", "Signature", "Date"} <= {"".join(node.words) for node in page.nodes}


def test_the_plot_of_coverage_shows_the_gap_where_it_was(site: Site) -> None:
    """From 60 to 71 s nothing was read; records of 20 s are missing."""
    site.gap(0, 60, 71, "connection closed")
    site.read(range(71, 101))
    site.write(each.data for each in site.plant.records if each.seq != 22)

    page = page_of(site, 10, 90)

    [declared, *_] = [node for node in page.of_class("declared") if node.attributes.get("height") == "14"]
    [missing, *_] = [node for node in page.of_class("missing") if node.attributes.get("height") == "14"]
    for node, begin, end in ((declared, 60, 71), (missing, 19, 21)):
        x, width = float(node.attributes["x"]), float(node.attributes["width"])
        assert second(x, 10, 90) == pytest.approx(begin, abs=80 / 600)
        assert second(x + width, 10, 90) == pytest.approx(end, abs=80 / 600)


def test_the_plot_of_the_clock_shows_its_bound_and_where_it_is_not_known(site: Site) -> None:
    """The bound grows with its age up to 60 s, and is not known from 61 to 80 s."""
    free = replace(TIME, state=TimeState.FREE_RUNNING, bound_ns=None)
    site.read(range(61, 81), time=free)
    site.write()

    page = page_of(site, 20, 80)

    [line] = page.of_class("bound")
    points = [tuple(map(float, point.split(","))) for point in line.attributes["points"].split()]
    top = max(points, key=lambda point: -point[1])
    assert second(points[0][0], 20, 80) == pytest.approx(20, abs=0.2)
    bottom, scale_ns = 92, 5_000_000
    assert (bottom - top[1]) / (bottom - 10) * scale_ns == pytest.approx(TIME.bound_at(BOOT_NS + 60 * 10**9), rel=0.01)
    [unknown] = [node for node in page.of_class("declared") if node.attributes.get("y") == "10"]
    assert second(float(unknown.attributes["x"]), 20, 80) == pytest.approx(61, abs=0.2)


def test_names_from_devices_cannot_add_to_the_page(site: Site) -> None:
    """A reason is text, whatever a device sent."""
    site.gap(0, 60, 71, '<script>alert("x")</script>\x1b[31m')
    site.read(range(71, 81))
    site.write()

    page = page_of(site, 50, 80)

    assert not [node for node in page.nodes if node.name == "script"]
    assert '<script>alert("x")</script>\N{REPLACEMENT CHARACTER}[31m' in page.text("body")


# Signatures


def make_key(folder: Path, *options: str) -> Path:
    path = folder / "qa.pem"
    subprocess.run(["openssl", "genpkey", "-out", path, *options], check=True, capture_output=True)
    return path


ED25519 = ("-algorithm", "ed25519")
P256 = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")


@pytest.mark.parametrize("kind", [ED25519, P256])
def test_openssl_verifies_the_signature_of_page_and_json(site: Site, tmp_path: Path, kind: tuple[str, ...]) -> None:
    """With the command and the public key that stand on the page; one changed byte is noticed."""
    site.write()
    key = make_key(tmp_path, *kind)

    page = page_of(site, 20, 30, "--sign", key, "--json-to", tmp_path / "report.json")

    commands, public = [node for node in page.nodes if node.name == "pre"]
    (tmp_path / "signer.pub.pem").write_text("".join(public.words))
    of_key, verify = "".join(commands.words).splitlines()
    digest = subprocess.run(of_key, shell=True, cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert digest.split()[-1] in page.text("body")
    assert subprocess.run(verify, shell=True, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    of_json = verify.replace("report.html", "report.json")
    assert subprocess.run(of_json, shell=True, cwd=tmp_path, check=False, capture_output=True).returncode == 0
    (tmp_path / "report.html").write_bytes(
        (tmp_path / "report.html").read_bytes().replace(b"COMPLETE", b"COMPLETE!", 1)
    )
    assert subprocess.run(verify, shell=True, cwd=tmp_path, check=False, capture_output=True).returncode != 0


def test_what_is_written_is_what_is_printed(site: Site, tmp_path: Path) -> None:
    """The JSON in a file has the members of the JSON on standard output."""
    site.write()

    printed = json.loads(site.run("--json", "--json-to", tmp_path / "report.json").stdout)

    assert json.loads((tmp_path / "report.json").read_text()) == printed


@pytest.mark.parametrize(("kind", "why"), [
    (("-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:1024"), "is of another kind"),
    ((*ED25519, "-aes256", "-pass", "pass:secret"), "has a passphrase"),
])  # fmt: skip
def test_a_key_that_cannot_sign_is_refused_before_anything_is_read(
    site: Site, tmp_path: Path, kind: tuple[str, ...], why: str
) -> None:
    """The sentence says what would help."""
    site.write()

    result = site.run("--sign", make_key(tmp_path, *kind), "--html", tmp_path / "report.html")

    assert (result.exit_code, why in result.stderr, "openssl genpkey" in result.stderr) == (2, True, True)
    assert not (tmp_path / "report.html").exists()


def test_a_public_key_does_not_sign(site: Site, tmp_path: Path) -> None:
    """It is the file beside the private one."""
    site.write()

    result = site.run("--sign", site.anchor, "--html", tmp_path / "report.html")

    assert (result.exit_code, "no private key" in result.stderr) == (2, True)


@pytest.mark.parametrize(("options", "why"), [
    (("--sign", "qa.pem"), "name it with --html FILE or --json-to FILE"),
    (("--html", "/nowhere/report.html"), "there is no directory /nowhere"),
])  # fmt: skip
def test_a_file_that_cannot_be_written_is_a_usage_error(site: Site, options: tuple[str, ...], why: str) -> None:
    """Before the archive is read, which may take minutes."""
    site.write()

    result = site.run(*options)

    assert (result.exit_code, why in result.stderr) == (2, True)
