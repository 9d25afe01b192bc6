"""The picture of the repository, drawn from its imports."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAP = (ROOT / "ARCHITECTURE.md").read_text()

HOMES = {
    "pymodbus": ["tests", "bench", "drivers/modbus/session.py", "hil/witness"],
    "pycomm3": ["tests", "bench", "hil/witness"],
    "cpppo": ["tests"],
    "asyncua": [
        "drivers/opcua",
        "tests/support",
        "tests/drivers/opcua",
        "tests/peers/opcua",
        "bench",
        "hil/devices.py",
        "hil/witness",
    ],
    "aiomqtt": ["tests"],
    "axe_core_python": ["tests"],
    "paho": ["tests", "bench"],
    "cryptography": [
        "edge/approval",
        "edge/seal",
        "edge/tls.py",
        "edge/verify",
        "edge/demo",
        "drivers/opcua",
        "docs/reference/verifiers",
        "tests",
        "bench",
        "hil",
    ],
    "uvloop": ["edge/cli", "edge/demo", "edge/testing/conformance", "tests", "bench", "hil"],
    "prometheus_client": ["edge/health/families.py", "tests"],
    "rich": [
        "edge/cli",
        "edge/demo",
        "edge/health/render.py",
        "edge/report/text.py",
        "edge/terminal.py",
        "docs",
        "tests",
    ],
    "click": ["edge/cli", "drivers/opcua/keys.py", "tests", "docs", "bench", "hil"],
    "ruamel": ["edge/config", "edge/qualify/requirements.py", "tests", "hil", "docs/generate.py"],
    "structlog": ["edge/logs.py", "tests"],
    "python_calamine": ["edge/importers/tables.py"],
    "openpyxl": ["edge/importers", "tests"],
    "defusedxml": ["edge/importers/markup.py"],
    "asyncpg": ["edge/relay/sinks", "tests", "bench"],
    "confluent_kafka": ["edge/kafka", "docs/examples", "tests", "bench"],
    "duckdb": ["edge/export/parquet.py", "edge/relay/sinks", "docs/examples", "tests", "bench"],
    "textual": ["edge/cli/watch_screen.py", "tests"],
    "zstandard": ["edge/seal", "tests", "bench"],
    "blockbuster": ["tests"],
    "hypothesis": ["tests"],
    "pytest": ["edge/testing/conformance", "tests"],
}
"""Each library that does input, output or presentation lives in one place: when it changes, that place changes."""

PROTOCOLS = ("modbus", "opcua", "asyncua", "pycomm3", "ethernetip", "cip")


def sources(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module in ("edge", "drivers"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module


def is_within(path: Path, places: list[str]) -> bool:
    return any(path.is_relative_to(ROOT / place) for place in places)


def allowed_imports() -> dict[str, set[str]]:
    """What each package may import of `edge`, from the table in ARCHITECTURE.md."""
    rows = re.findall(r"^\| `((?:edge|drivers)\.\S+)` \|.*\| (.*) \|$", MAP, re.MULTILINE)
    return {package: {f"edge.{name}" for name in re.findall(r"[a-z_]+", allowed)} for package, allowed in rows}


ALLOWED = allowed_imports()


def modules_of(package: str) -> Iterator[Path]:
    """Its files, without those that have a row of their own on the map."""
    place = ROOT / package.replace(".", "/")
    for file in sorted(place.rglob("*.py")) if place.is_dir() else [place.with_suffix(".py")]:
        module = ".".join(file.relative_to(ROOT).with_suffix("").parts)
        if module == package or module not in ALLOWED:
            yield file


def imported_packages(package: str) -> set[str]:
    """The other packages of `edge` and `drivers` that the modules of one import."""
    names = (name for file in modules_of(package) for name in imported(ast.parse(file.read_text())))
    found = {".".join(name.split(".")[:2]) for name in names if name.startswith(("edge.", "drivers."))}
    return found - {".".join(package.split(".")[:2])}


def packages_of(root: str) -> list[str]:
    places = (
        path for path in sorted((ROOT / root).iterdir()) if path.suffix == ".py" or (path / "__init__.py").exists()
    )
    return [f"{root}.{path.stem}" for path in places if not path.stem.startswith("__")]


@pytest.mark.parametrize("package", [*packages_of("edge"), "drivers.modbus.plant"])
def test_a_package_imports_exactly_what_the_map_allows(package: str) -> None:
    assert imported_packages(package) == ALLOWED[package]


@pytest.mark.parametrize("package", packages_of("drivers"))
def test_a_driver_imports_the_surface_for_driver_authors_only(package: str) -> None:
    assert imported_packages(package) <= ALLOWED["drivers.*"]


def test_every_file_on_the_map_exists() -> None:
    named = set(re.findall(r"`((?:edge|drivers|tests)/[\w./]+)`", MAP))

    assert {name for name in named if not (ROOT / name).exists()} == set()


def test_imports_point_down() -> None:
    """The contracts are in pyproject.toml."""
    program = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True))"

    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=False, capture_output=True, text=True)

    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("library", HOMES)
def test_a_library_has_one_home(library: str) -> None:
    strays = [
        str(path.relative_to(ROOT))
        for path in sources("edge", "drivers", "tests", "bench", "hil", "docs")
        if not is_within(path, HOMES[library])
        for name in imported(ast.parse(path.read_text()))
        if name.split(".")[0] == library
    ]

    assert strays == []


def test_asyncua_is_used_below_its_public_surface_in_one_module() -> None:
    """Only its data types, `asyncua.ua`, are public; the rest may change with any release, so the version is pinned."""
    adapter = ROOT / "drivers/opcua/channel.py"
    strays = [
        f"{path.name}: {ast.unparse(node)}"
        for path in sources("edge", "drivers")
        if path != adapter
        for node in ast.walk(ast.parse(path.read_text()))
        if is_below_surface(node)
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (pin,) = project["optional-dependencies"]["opcua"]

    assert strays == []
    assert f"\n{pin} " in (ROOT / "requirements.lock").read_text()


def test_the_witness_sees_no_driver() -> None:
    """It would agree with the gateway whatever that does, if both decoded with the same code."""
    strays = [
        f"{path.name}: {name}"
        for path in sources("hil/witness")
        for name in imported(ast.parse(path.read_text()))
        if name.startswith("drivers")
    ]

    assert strays == []


def is_below_surface(node: ast.AST) -> bool:
    """Whether a node imports anything of asyncua but `ua`, or takes something private of it or of its channel."""
    match node:
        case ast.ImportFrom(module="asyncua", names=names):
            return [name.name for name in names] != ["ua"]
        case ast.ImportFrom(module=str(module)):
            return module.startswith("asyncua.")
        case ast.Import(names=names):
            return any(name.name.split(".")[0] == "asyncua" for name in names)
        case ast.Attribute(value=ast.Name(id="ua"), attr=name):
            return name.startswith(("_", "ua_", "uaprotocol", "uatypes"))
        case ast.Attribute(value=ast.Name(id="channel") | ast.Attribute(attr="channel"), attr=name):
            return name.startswith("_")
    return False


def test_the_runtime_names_no_protocol() -> None:
    """Drivers are found by entry point: a new protocol is a folder under `drivers`, not an edit of `edge`.

    The demo is a plant of one protocol, and says which.
    """
    named = [
        f"{path.relative_to(ROOT)}: {node.value if isinstance(node, ast.Constant) else ast.dump(node)}"
        for path in sources("edge")
        if not is_within(path, ["edge/testing", "edge/demo", "edge/cli/demo.py"])
        for node in ast.walk(without_words_for_people(ast.parse(path.read_text())))
        if names_protocol(node)
    ]

    assert named == []


def without_words_for_people(tree: ast.Module) -> ast.Module:
    """The tree without docstrings, which may explain by example."""
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [  # type: ignore[attr-defined]
                line for line in body if not (isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant))
            ]
    return tree


def names_protocol(node: ast.AST) -> bool:
    match node:
        case ast.Name(id=text) | ast.Attribute(attr=text) | ast.Import(names=[ast.alias(name=text)]):
            words = text
        case ast.ImportFrom(module=str(text)):
            words = text
        case ast.Constant(value=str(text)):
            words = text
        case _:
            return False
    return any(protocol in words.lower().replace("_", " ").replace(".", " ").split() for protocol in PROTOCOLS)


def loaded_by(program: str) -> set[str]:
    script = f"{program}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", script], check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return set(json.loads(result.stdout))


@pytest.mark.parametrize(
    "program",
    [
        "import edge.cli.run, edge.gateway.daemon",
        "import edge.gateway.daemon; from edge.driver import load; load('modbus')",
        "import edge.gateway.daemon; from edge.driver import load; load('opcua').settings",
    ],
    ids=["daemon", "daemon with a driver", "daemon with a driver of a large library"],
)
def test_a_gateway_does_not_pay_for_what_it_does_not_use(program: str) -> None:
    spared = {"rich", "pymodbus", "aiomqtt", "paho", "prometheus_client", "asyncua", "asyncpg", "confluent_kafka",
              "duckdb", "pytest", "hypothesis", "edge.relay", "edge.demo", "edge.testing", "edge.health.render",
              "edge.health.families", "edge.terminal"}  # fmt: skip

    assert loaded_by(program) & spared == set()


def test_the_two_halves_do_not_know_each_other() -> None:
    """Whoever breaks in from the network side finds no line that could reach a device, and the other way round."""
    acquire, forward = loaded_by("import edge.gateway.acquire"), loaded_by("import edge.gateway.forward")

    assert acquire & {"edge.uplink", "edge.gateway.forward"} == set()
    assert forward & {"edge.scan", "edge.gateway.acquire", "drivers", "edge.gateway.supervise"} == set()
