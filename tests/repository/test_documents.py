"""Pages are true: links lead somewhere, commands exist, generated pages are current."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import tomllib
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

import click
import pytest
from click.testing import CliRunner
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from bench.documented import undocumented
from edge.cli import cli
from edge.gateway.audit import EventKind
from tests.support.field.page import page as field_cases

ROOT = Path(__file__).parents[2]
COMMANDS = cli.list_commands(click.Context(cli))
FORBIDDEN = ("TO" + "DO", "FIX" + "ME", "X" + "XX", "HA" + "CK")


def tracked() -> list[str]:
    """Files of this clone, or of the tree it was copied from."""
    ignored = {"__pycache__", ".git", ".venv", "build", "dist", "node_modules"}
    paths = (path.relative_to(ROOT) for path in ROOT.rglob("*") if path.is_file())
    return [
        str(path)
        for path in paths
        if not any(part in ignored or part.endswith((".egg-info", "_cache")) for part in path.parts)
    ]


PAGES = sorted(
    ROOT / name
    for name in tracked()
    if name.endswith(".md") and ("/" not in name or name.startswith("docs/") or name.endswith("/README.md"))
)


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not target.startswith(("http:", "https:", "mailto:", "#")):
            yield target


@pytest.mark.parametrize("page", dict.fromkeys(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = [target for target in links(page) if not (page.parent / target.split("#")[0]).exists()]

    assert broken == []


def headings(page: Path) -> set[str]:
    """The headings of a page as GitHub writes them behind # in a link."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    found = (re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", line) for line in re.findall(r"^#+ (.*)$", text, re.MULTILINE))
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in found}


@pytest.mark.parametrize("page", dict.fromkeys(PAGES), ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_headings_that_exist(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    targets = [target.split("#") for target in re.findall(r"\]\(([^)\s:]*#[^)\s]+)\)", text)]
    lost = [
        f"{file}#{heading}"
        for file, heading in targets
        if file.endswith(".md") or not file
        if heading not in headings(page.parent / file if file else page)
    ]

    assert lost == []


def test_every_page_is_found_from_the_index() -> None:
    docs = ROOT / "docs"
    reached: set[Path] = set()
    ahead = [docs / "README.md"]
    while ahead:
        page = ahead.pop()
        reached.add(page)
        found = {(page.parent / target.split("#")[0]).resolve() for target in links(page)}
        ahead += [path for path in found if path.suffix == ".md" and path.is_relative_to(docs) and path not in reached]

    assert {str(page.relative_to(docs)) for page in set(docs.rglob("*.md")) - reached} == set()


def test_a_page_says_what_comes_next() -> None:
    """The pages are a path; a reader who has to go back to the list gets lost."""
    docs = ROOT / "docs"
    pages = [docs / "start.md", *(docs / "how-to").glob("*.md"), *(docs / "explanation").glob("*.md")]
    lost = [
        str(page.relative_to(docs))
        for page in pages
        if not re.search(r"^(?:## What comes n|N)ext", page.read_text(), re.MULTILINE)
    ]

    assert lost == []


def test_what_a_newcomer_makes_exists() -> None:
    makefile = (ROOT / "Makefile").read_text()
    pages = [(ROOT / page).read_text() for page in ("README.md", "CONTRIBUTING.md", "docs/start.md")]
    named = re.findall(r"^make ([a-z]+)", "\n".join(pages), re.MULTILINE)

    assert {"demo", "test"} <= set(named)
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in named)


@pytest.mark.parametrize("page", ["README.md", "docs/start.md", "docs/how-to/deploy-with-systemd.md"])
def test_a_page_names_only_commands_that_exist(page: str) -> None:
    named = set(
        re.findall(r"^(?:sudo )?(?:/opt/tidegate/bin/)?tidegate ([a-z]+)", (ROOT / page).read_text(), re.MULTILINE)
    )

    assert named <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_explains_itself_with_an_example(name: str) -> None:
    result = CliRunner().invoke(import_module(f"edge.cli.{name}").command, ["--help"], prog_name=f"tidegate {name}")

    assert result.exit_code == 0, result.output
    assert re.search(rf"^ *Examples?:\n +tidegate {name}", result.output, re.MULTILINE)
    assert re.search(r"Exit code \d+: ", " ".join(result.output.split()))


def pages_from_code() -> dict[str, Callable[[], str]]:
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs/generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return cast("dict[str, Callable[[], str]]", module.PAGES)


@pytest.mark.parametrize("name", pages_from_code())
def test_a_generated_page_is_current(name: str) -> None:
    written = (ROOT / "docs" / name).read_text()

    assert written == pages_from_code()[name](), "run: make docs"


def test_the_page_of_field_cases_is_current() -> None:
    assert (ROOT / "docs" / "reference" / "field-cases.md").read_text() == field_cases(), "run: make docs"


def test_the_reference_explains_everything_that_the_code_has() -> None:
    assert {kind: names for kind, (_, names) in undocumented().items() if names} == {}


@pytest.mark.requirement("REQ-TRAIL-01")
def test_every_kind_of_event_is_told_by_somebody() -> None:
    """A page that promises an event which never comes is worse than no page."""
    sources = [path.read_text() for path in (ROOT / "edge").rglob("*.py") if path.name != "audit.py"]
    silent = [
        kind.label
        for kind in EventKind
        if not any(f"EventKind.{kind.name}" in text or f'"{kind.label}"' in text for text in sources)
    ]

    assert silent == []


def test_the_list_of_changes_keeps_its_form() -> None:
    lines = (ROOT / "CHANGELOG.md").read_text().splitlines()
    headings = [line for line in lines if line.startswith("## ")]

    assert lines[0] == "# Changes"
    assert headings[0] == "## Unreleased"
    assert all(re.fullmatch(r"## \d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", line) for line in headings[1:])
    assert {line for line in lines if line.startswith("### ")} <= {
        "### Added", "### Changed", "### Fixed", "### Removed", "### Security"
    }  # fmt: skip


def test_nothing_is_left_for_later_in_the_text() -> None:
    """What is to be done is an issue; in the text it is forgotten."""
    found = [
        f"{name}: {word}"
        for name in tracked()
        if name.endswith((".py", ".md", ".toml", ".yaml", ".service", ".conf", ".c", "Makefile"))
        or name.startswith(".ci/")
        for word in FORBIDDEN
        if re.search(rf"\b{word}\b", (ROOT / name).read_text())
    ]

    assert found == []


def locked(file: str) -> dict[str, tuple[str, int]]:
    """Version and number of hashes by name."""
    text = (ROOT / file).read_text()
    entries = re.findall(r"^([a-z0-9._-]+)==(\S+)(.*?)(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL | re.IGNORECASE)
    return {name: (version, rest.count("--hash=sha256:")) for name, version, rest in entries}


@pytest.mark.parametrize(("file", "extra"), [("requirements.lock", "all"), ("requirements-test.lock", "test")])
def test_the_lock_covers_what_is_asked_for(file: str, extra: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lock, extras = locked(file), project["optional-dependencies"]
    wanted = [*project["dependencies"], *extras["fast"], *extras["relay"], *(extras["test"] if extra == "test" else [])]

    for requirement in map(Requirement, wanted):
        if requirement.name != "tidegate":
            version, hashes = lock[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), f"{requirement}: run make lock"
            assert hashes > 0


@pytest.mark.parametrize(
    "lock", ["requirements.lock", "requirements-core.lock", "requirements-lake.lock", "requirements-build.lock"]
)
def test_the_tests_run_on_the_versions_that_are_delivered(lock: str) -> None:
    delivered, tried = locked(lock), locked("requirements-test.lock")

    assert {name: tried.get(name) for name in delivered} == delivered


def test_without_opcua_nothing_under_the_lgpl_is_installed() -> None:
    assert "asyncua" in locked("requirements.lock")
    assert "asyncua" not in locked("requirements-core.lock")


def test_make_help_lists_every_target() -> None:
    result = subprocess.run(["make", "help"], cwd=ROOT, check=True, capture_output=True, text=True)
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)

    assert re.findall(r"^make ([a-z]+):", result.stdout, re.MULTILINE) == targets


def test_the_shell_scripts_are_well_formed() -> None:
    files = [path for path in sorted((ROOT / ".ci").rglob("*")) if path.is_file()]
    scripts = [path for path in files if path.read_text().startswith(("#!", "# Sourced"))]

    assert len(scripts) > 10
    for script in scripts:
        first = script.read_text().partition("\n")[0]
        shell = "sh" if first == "#!/bin/sh" else "bash"
        assert first.endswith("/python3") or subprocess.run([shell, "-n", script], check=False).returncode == 0, script
        # Debian's maintainer scripts become executable in their package.
        assert (script.stat().st_mode & 0o111 != 0) == (first == "#!/usr/bin/env bash"), script
