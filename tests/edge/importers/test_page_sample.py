"""The example of the page is what the command answers."""

from __future__ import annotations

import re
from pathlib import Path

import openpyxl
from click.testing import CliRunner

from edge.cli import cli

PAGE = (Path(__file__).parents[3] / "docs/how-to/import-tags.md").read_text()
SITE = """\
gateway: {name: line-4, path: acme/basel, state: state}
devices:
  - name: plc-4
    driver: modbus
    host: plc
"""


def sample(folder: Path, start: str) -> None:
    """One sample of the page is what the command answers."""
    samples = re.findall(r"```console\n\$ tidegate (.*?)\n(.*?)```", PAGE, re.DOTALL)
    [(command, shown)] = [each for each in samples if each[0].startswith(start)]
    files = (".yaml", ".csv", ".xlsx")
    arguments = [str(folder / word) if word.endswith(files) else word for word in command.split()]

    answer = CliRunner().invoke(cli, arguments).output.replace(f"{folder}/", "")

    pattern = re.escape(shown).replace(r"\.\.\.", ".*")
    assert re.fullmatch(pattern, answer, re.DOTALL), answer


def test_the_list_of_the_page_is_imported_as_it_says(tmp_path: Path) -> None:
    (table,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "line-4.yaml").write_text(SITE)
    (tmp_path / "tags.csv").write_text(table)

    sample(tmp_path, "import line-4.yaml tags.csv")
    CliRunner().invoke(
        cli, ["import", *(str(tmp_path / name) for name in ("line-4.yaml", "tags.csv")), "--device", "plc-4"]
    )
    sample(tmp_path, "workbook")
    book = openpyxl.load_workbook(tmp_path / "line-4.xlsx")
    book["Devices"]["C2"] = "192.0.2.14"
    tags = book["Tags"]
    tags.cell(1, tags.max_column + 1, "range")
    tags.cell(2, tags.max_column, "0; 120")
    tags.append(["plc-4", "1 s", "Line4/Torque", "holding 103", "int16"])
    book.save(tmp_path / "line-4.xlsx")
    sample(tmp_path, "import line-4.yaml line-4.xlsx")
