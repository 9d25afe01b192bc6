"""Five modes, and a configuration of which every byte stays that has nothing to do with the import."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openpyxl
import pytest
from click.testing import CliRunner

from edge.cli import cli
from edge.config.check import check

TABLE = "name;address;type;description\nkept;holding 1;uint16;as it is\nold;holding 2;uint16;\nother;holding 9;int16;\n"
LIST = (
    "name,address,type,description\nkept,holding 1,uint16,as it is\nold,holding 3,float32,moved\nnew,holding 5,int16,\n"
)


def differences(answer: dict[str, Any]) -> dict[str, str]:
    return {each["name"]: each["what"] for each in answer["differences"]}


@pytest.mark.parametrize(
    ("mode", "expected", "lines"),
    [
        ("merge-safe", {"old": "kept", "new": "added"},
         ["kept;holding 1;uint16;as it is", "old;holding 2;uint16;", "other;holding 9;int16;", "new;holding 5;int16;"]),
        ("merge-overwrite", {"old": "changed", "new": "added"},
         ["kept;holding 1;uint16;as it is", "old;holding 3;float32;moved", "other;holding 9;int16;",
          "new;holding 5;int16;"]),
        ("overwrite", {"old": "changed", "new": "added", "other": "removed"},
         ["kept;holding 1;uint16;as it is", "old;holding 3;float32;moved", "new;holding 5;int16;"]),
        ("delete", {"kept": "removed", "old": "removed"}, ["other;holding 9;int16;"]),
    ],
)  # fmt: skip
def test_a_mode_says_what_happens_to_each_tag(
    plant: Any, mode: str, expected: dict[str, str], lines: list[str]
) -> None:
    plant.table.write_text(TABLE)

    code, answer = plant.run(plant.file(LIST), "--mode", mode)

    assert (code, answer["is_written"], differences(answer)) == (0, True, expected)
    assert plant.table.read_text().splitlines() == [TABLE.splitlines()[0], *lines]
    check(plant.config).gateway()


def test_create_changes_nothing_where_a_tag_is_there(plant: Any) -> None:
    plant.table.write_text(TABLE)

    code, answer = plant.run(plant.file(LIST), "--mode", "create")

    assert (code, answer["is_written"]) == (1, False)
    assert differences(answer) == {"kept": "conflict", "old": "conflict", "new": "added"}
    assert plant.table.read_text() == TABLE


def test_create_adds_where_none_is_there(plant: Any) -> None:
    code, _ = plant.run(plant.file(LIST), "--mode", "create")

    assert (code, plant.table.read_text()) == (0, LIST)


def test_a_dry_run_shows_a_table_and_writes_nothing(plant: Any) -> None:
    plant.table.write_text(TABLE)

    shown = plant.text(plant.file(LIST), "--mode", "overwrite", "--dry-run")

    assert shown.splitlines() == [
        "~  old    address: holding 2 -> holding 3",
        "          type: uint16 -> float32",
        "          description: (none) -> moved",
        "+  new    address holding 5, type int16",
        "-  other  address holding 9, type int16",
        f"{plant.table}: 1 added, 1 changed, 1 removed, 1 unchanged; nothing was written yet",
    ]
    assert plant.table.read_text() == TABLE


@pytest.mark.parametrize("mode", ["merge-safe", "merge-overwrite", "overwrite"])
def test_importing_what_is_there_changes_no_byte(plant: Any, mode: str) -> None:
    plant.table.write_bytes(b"\xef\xbb\xbf" + TABLE.replace("\n", "\r\n").encode())
    before = {path: path.read_bytes() for path in plant.folder.iterdir()}

    code, answer = plant.run(plant.table, "--mode", mode)

    assert (code, answer["is_written"], answer["unchanged"]) == (0, False, 3)
    assert {path: path.read_bytes() for path in before} == before


def test_overwriting_does_not_remove_a_tag_whose_row_was_left_out(plant: Any) -> None:
    plant.table.write_text(TABLE)

    _, answer = plant.run(
        plant.file("name,address,type\nold,holding 2,REAL\nkept,holding 1,uint16\n"), "--mode", "overwrite"
    )

    assert differences(answer)["old"] == "kept"
    assert "old;holding 2;uint16;" in plant.table.read_text()


@pytest.mark.parametrize("mode", ["overwrite", "delete"])
def test_a_hidden_row_neither_changes_nor_removes_its_tag(plant: Any, mode: str) -> None:
    """A filter of a spreadsheet hides rows: what a person does not see is not what the person wants gone."""
    plant.table.write_text(TABLE)
    book = openpyxl.Workbook()
    for cells in (["name", "address", "type", "description"], ["old", "holding 9", "uint16", ""]):
        book.active.append(cells)
    book.active.row_dimensions[2].hidden = True
    book.active.append(["kept", "holding 1", "uint16", "as it is"])
    book.save(plant.folder / "list.xlsx")

    plant.run(plant.folder / "list.xlsx", "--mode", mode)

    assert "old;holding 2;uint16;" in plant.table.read_text()


def test_what_is_written_elsewhere_is_not_deleted_and_said(plant: Any) -> None:
    inline = "        tags_from: tags.csv\n        tags:\n          - {name: new, address: holding 7, type: uint16}\n"
    plant.config.write_text(plant.config.read_text().replace("        tags_from: tags.csv\n", inline))

    code, answer = plant.run(plant.file(LIST), "--mode", "delete")

    assert (code, differences(answer)) == (1, {"new": "conflict"})


def test_rows_that_do_not_change_keep_every_byte(plant: Any) -> None:
    """Also their spaces, quotes and empty lines, and where a column is added."""
    before = 'name;address;type\n"kept"; holding 1 ;"uint16"\n\nold;holding 2;uint16\nshort;holding 4\n'
    plant.table.write_text(before.replace("short;holding 4", "short;coil 4") + "last;coil 5;")

    plant.run(
        plant.file("name,address,type,unit\nold,holding 2,uint16,bar\nnew,holding 5,int16,\n"),
        "--mode",
        "merge-overwrite",
    )

    assert plant.table.read_text() == (
        'name;address;type;unit\n"kept"; holding 1 ;"uint16";\n\nold;holding 2;uint16;bar\nshort;coil 4;;\n'
        "last;coil 5;;\nnew;holding 5;int16;\n"
    )


BLOCK = "      - every: 1 s  # agreed with production\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BLOCK, BLOCK + "        tags_from: plc.csv\n"),
        ("      - {every: 1 s}  # flow\n", "      - {every: 1 s, tags_from: plc.csv}  # flow\n"),
        ("      -   name: fast\r\n          every: 1 s\r\n",
         "      -   name: fast\r\n          every: 1 s\r\n          tags_from: plc.csv\r\n"),
    ],
)  # fmt: skip
def test_a_scan_group_without_a_table_gets_one_line_and_keeps_every_other_byte(
    plant: Any, before: str, after: str
) -> None:
    text = plant.config.read_text().replace(BLOCK + "        tags_from: tags.csv\n", before)
    plant.config.write_bytes(text.encode())

    code, _ = plant.run(plant.file(LIST))

    assert code == 0
    assert plant.config.read_bytes().decode() == text.replace(before, after)
    assert (plant.folder / "plc.csv").read_text() == LIST
    check(plant.config).gateway()


def test_a_device_without_scan_groups_gets_one(plant: Any) -> None:
    text = plant.config.read_text().partition("    scan_groups:")[0]
    plant.config.write_text(text)

    plant.run(plant.file(LIST))

    assert plant.config.read_text() == f"{text}    scan_groups: [{{every: 1 s, tags_from: plc.csv}}]\n"
    check(plant.config).gateway()


def test_tags_that_are_written_elsewhere_are_in_conflict(plant: Any) -> None:
    inline = "        tags_from: tags.csv\n        tags:\n          - {name: new, address: holding 7, type: uint16}\n"
    plant.config.write_text(plant.config.read_text().replace("        tags_from: tags.csv\n", inline))

    code, answer = plant.run(plant.file(LIST))

    (conflict,) = [each for each in answer["differences"] if each["what"] == "conflict"]
    assert code == 1
    assert conflict["reason"] == f"it is in {plant.config}:12 already, which an import does not change"
    assert not plant.table.exists()


def test_several_scan_groups_need_a_choice(plant: Any) -> None:
    text = plant.config.read_text().replace(BLOCK, "      - every: 10 s\n        tags_from: slow.csv\n" + BLOCK)
    plant.config.write_text(text)
    arguments = ["import", str(plant.config), str(plant.file(LIST)), "--device", "plc"]

    unclear = CliRunner().invoke(cli, arguments)
    chosen = CliRunner().invoke(cli, [*arguments, "--group", "10 s"])

    assert unclear.exit_code == 2
    assert "plc has several scan groups; choose one with --group: 10 s, 1 s" in unclear.output
    assert chosen.exit_code == 0
    assert (plant.folder / "slow.csv").read_text() == LIST


def test_a_table_with_a_problem_is_not_changed(plant: Any) -> None:
    plant.table.write_text("name,address,type\na,holding 1,uint16\na,holding 2,uint16\n")
    result = CliRunner().invoke(cli, ["import", str(plant.config), str(plant.file(LIST)), "--device", "plc"])

    assert f"{plant.table}:3:1: a is on line 2 too; keep one of them" in str(result.exception)


def test_more_than_a_scan_group_holds_is_refused_whole(plant: Any) -> None:
    rows = "".join(f"t{number},holding {number},float64,\n" for number in range(8000))
    result = CliRunner().invoke(cli, ["import", str(plant.config), str(plant.file(LIST + rows)), "--device", "plc"])

    assert "8,003 tags of one interval take 64,008 bytes a scan, and a scan group holds" in str(result.exception)
    assert not plant.table.exists()


def test_only_names_that_match_are_imported(plant: Any) -> None:
    plant.run(plant.file(LIST), "--filter", "N*")

    assert plant.table.read_text() == "name,address,type\nnew,holding 5,int16\n"


def test_overwriting_removes_no_tag_that_was_not_looked_for(plant: Any) -> None:
    plant.table.write_text("name,address,type\nn1,holding 1,uint16\nother,holding 2,uint16\n")

    plant.run(plant.file(LIST), "--filter", "N*", "--mode", "overwrite")

    assert plant.table.read_text() == "name,address,type\nother,holding 2,uint16\nnew,holding 5,int16\n"


def test_what_a_driver_cannot_plan_is_left_out(plant: Any) -> None:
    text = plant.config.read_text().replace("host: 127.0.0.1", "host: 127.0.0.1\n    limits: {forbidden: [holding 5]}")
    plant.config.write_text(text)

    code, answer = plant.run(plant.file(LIST))

    assert (code, differences(answer)) == (0, {"kept": "added", "old": "added"})
    assert [each["message"] for each in answer["findings"]] == ["'holding 5' lies in the forbidden range holding 5"]


def test_intervals_of_a_list_are_kept(plant: Any) -> None:
    plant.run(plant.file("name,address,type,every\na,holding 1,uint16,100 ms\nb,holding 2,uint16,\n"))

    assert plant.table.read_text() == "name,address,type,every\na,holding 1,uint16,100 ms\nb,holding 2,uint16,\n"
    assert len(check(plant.config).plans) == 2


def test_mode_and_owner_of_the_files_stay(plant: Any) -> None:
    plant.table.write_text(TABLE)
    plant.table.chmod(0o640)

    plant.run(plant.file(LIST))

    assert plant.table.stat().st_mode & 0o777 == 0o640
    assert sorted(path.name for path in Path(plant.folder).iterdir()) == ["gateway.yaml", "list.csv", "tags.csv"]
