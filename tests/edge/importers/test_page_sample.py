"""The example of the page is what the command answers."""

from __future__ import annotations

import re
from pathlib import Path

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


def test_the_list_of_the_page_is_imported_as_it_says(tmp_path: Path) -> None:
    (table,) = re.findall(r"```csv\n(.*?)```", PAGE, re.DOTALL)
    (command, shown), *_ = re.findall(r"```console\n\$ tidegate (.*?)\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "line-4.yaml").write_text(SITE)
    (tmp_path / "tags.csv").write_text(table)
    arguments = [str(tmp_path / word) if word.endswith((".yaml", ".csv")) else word for word in command.split()]

    answer = CliRunner().invoke(cli, arguments).output.replace(f"{tmp_path}/", "")

    pattern = re.escape(shown).replace(r"\.\.\.", ".*")
    assert re.fullmatch(pattern, answer, re.DOTALL), answer
