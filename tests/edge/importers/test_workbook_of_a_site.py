"""A workbook of devices and tags: exported and imported it changes no byte; what a cell changes is all that changes."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from click.testing import CliRunner, Result
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge.cli import cli
from edge.config.check import check
from edge.config.yaml_tree import parse
from edge.tags.site import read_site

CONFIGS = Path(__file__).parents[3] / "configs"
SITES = sorted(path for path in CONFIGS.glob("*.yaml") if path.name != "relay.yaml")
SITE = """\
# Line 4, agreed with production on Monday
gateway: {name: line-4, path: acme/basel, state: state}

devices:
  - name: mixer            # in cabinet 3
    driver: modbus
    host: 192.0.2.10
    unit: 3  # as on its label
    limits: {gap: 2 ms, forbidden: ["holding 200-210", "holding 400"]}
    scan_groups:
      - name: process
        every: 200 ms
        tags:
          # the jacket, not the content
          - {name: temperature, address: "holding 100", type: float32, unit: "°C", range: [0, 120]}
          - name: speed
            address: "holding 104"   # from the manual, page 7
            type: uint16
            scale: 0.1
          - {name: serial, address: "4x00301", type: text, length: 4, serial: "007", description: "=1+1 \\"quoted\\""}
      - every: 1 s
        tags_from: mixer.csv  # by the vendor

  # bought second-hand
  - name: "4711"
    driver: modbus
    host: 192.0.2.11
    scan_groups:
      - {every: 1 s, tags: [{name: level, address: "input 0", type: int16}, {name: flow, address: "coil 1"}]}

uplink: {mqtt: {host: 127.0.0.1, tls: off}}  # the end
"""
TEMPERATURE = '          - {name: temperature, address: "holding 100", type: float32, unit: "°C", '
SLOW = '      - {every: 1 s, tags: [{name: level, address: "input 0", type: int16}'
TABLE = "name;address;type;scale;unit\nph;holding 1;int16;0.10;[pH]\n1E5;4x00010.10;;;\nlevel;holding 9 ;uint16;;m\n"


class Bench:
    """A site in a folder, its workbook, and the two commands."""

    def __init__(self, folder: Path, site: str = SITE, table: str = TABLE) -> None:
        self.folder, self.config, self.book = folder, folder / "site.yaml", folder / "site.xlsx"
        self.config.write_text(site)
        (folder / "mixer.csv").write_text(table)

    def files(self) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in sorted(self.folder.iterdir()) if path.suffix != ".xlsx"}

    def call(self, *words: str) -> Result:
        return CliRunner().invoke(cli, list(words))

    def export(self) -> None:
        self.book.unlink(missing_ok=True)
        assert self.call("workbook", str(self.config), str(self.book)).exit_code == 0

    def edit(self, change: Callable[[Any, Any], object]) -> None:
        """Export, and change the sheets of devices and tags."""
        self.export()
        made = openpyxl.load_workbook(self.book)
        change(made["Devices"], made["Tags"])
        made.save(self.book)

    def run(self, mode: str = "merge-overwrite", *options: str) -> tuple[int, dict[str, Any]]:
        result = self.call("import", str(self.config), str(self.book), "--mode", mode, "--json", *options)
        if not result.stdout:
            raise result.exception or AssertionError(result.output)
        return result.exit_code, json.loads(result.stdout)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def column(sheet: Any, key: str) -> int:
    return [cell.value for cell in sheet[1]].index(key) + 1 if key in {cell.value for cell in sheet[1]} else 0


def row(sheet: Any, *names: str) -> int:
    """The row of a device, or of a device's tag."""
    keys = ("name",) if len(names) == 1 else ("device", "name")
    for number in range(2, sheet.max_row + 1):
        if tuple(sheet.cell(number, column(sheet, key)).value for key in keys) == names:
            return number
    raise LookupError(names)


def put(sheet: Any, at: int, **values: Any) -> None:
    """Write cells of a row by their keys, a dot as two underscores; a key without a column gets one."""
    for key, value in values.items():
        heading = key.replace("__", ".")
        if not column(sheet, heading):
            sheet.cell(1, sheet.max_column + 1, heading)
        sheet.cell(at, column(sheet, heading)).value = value


def add(sheet: Any, **values: Any) -> None:
    put(sheet, sheet.max_row + 1, **values)


def said(answer: dict[str, Any], kind: str = "left out") -> list[str]:
    return [each["message"] for each in answer["findings"] if each["kind"] == kind]


def told(answer: dict[str, Any]) -> list[tuple[str, str, str, dict[str, tuple[str, str]]]]:
    return [(each["what"], each["device"], each["name"], {key["key"]: (key["old"], key["new"]) for key in each["keys"]})
            for each in answer["differences"]]  # fmt: skip


def changed_lines(before: bytes, after: bytes) -> list[str]:
    """The lines of a text that another one does not have at their place."""
    old, new = before.decode().splitlines(), after.decode().splitlines()
    assert len(old) == len(new)
    return [line for line, other in zip(new, old, strict=True) if line != other]


@pytest.mark.parametrize("mode", ["merge-safe", "merge-overwrite", "overwrite"])
@pytest.mark.parametrize("site", SITES, ids=lambda path: path.stem)
def test_export_then_import_leaves_every_byte_of_each_site(tmp_path: Path, site: Path, mode: str) -> None:
    folder = tmp_path / "configs"
    shutil.copytree(CONFIGS, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    config, book = str(folder / site.name), str(tmp_path / "site.xlsx")

    exported = CliRunner().invoke(cli, ["workbook", config, book])
    imported = CliRunner().invoke(cli, ["import", config, book, "--mode", mode, "--json"])

    answer = json.loads(imported.stdout)
    assert (exported.exit_code, imported.exit_code) == (0, 0)
    assert (answer["is_written"], answer["differences"], answer["findings"], answer["files"]) == (False, [], [], [])
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_the_odd_site_comes_back_too(tmp_path: Path, line_end: str, mark: str) -> None:
    bench = Bench(tmp_path)
    bench.config.write_bytes((mark + SITE.replace("\n", line_end)).encode())
    (tmp_path / "mixer.csv").write_bytes((mark + TABLE.replace("\n", line_end)).encode())
    before = bench.files()
    bench.export()

    code, answer = bench.run("overwrite")

    assert (code, answer["differences"], answer["unchanged"], said(answer)) == (0, [], 10, [])
    assert bench.files() == before


def test_what_a_person_sees(bench: Bench) -> None:
    bench.export()
    made = openpyxl.load_workbook(bench.book)
    devices, tags = made["Devices"], made["Tags"]

    assert made.sheetnames == ["Devices", "Tags"]
    assert [cell.value for cell in devices[1]] == [
        "name", "driver", "host", "port", "unit", "limits.forbidden", "limits.gap"]  # fmt: skip
    assert [cell.value for cell in devices[2]] == [
        "mixer", "modbus", "192.0.2.10", None, "3", "holding 200-210; holding 400", "2 ms"]  # fmt: skip
    assert [cell.value for cell in tags[1]][:7] == [
        "device", "scan_group", "name", "address", "type", "unit", "description"]  # fmt: skip
    assert {cell.value for cell in tags[1]} >= {"scale", "range", "length", "serial"}
    assert [cell.value for cell in tags[6]][:4] == ["mixer", "1 s", "1E5", "4x00010.10"]
    for sheet in (devices, tags):
        assert sheet.freeze_panes == "A2"
        assert all(cell.font.bold for cell in sheet[1])
        assert not sheet.cell(2, 1).font.bold
        assert all(8 <= each.width <= 50 for each in sheet.column_dimensions.values())
        assert {cell.number_format for cells in sheet.iter_rows() for cell in cells if cell.value} == {"@"}
        assert {cell.data_type for cells in sheet.iter_rows() for cell in cells if cell.value} == {"s"}


def test_a_changed_cell_of_a_device_changes_its_value_in_the_line(bench: Bench) -> None:
    bench.edit(lambda devices, _: put(devices, 2, host="192.0.2.99", limits__gap="5 ms"))
    before = bench.files()

    code, answer = bench.run()

    assert code == 0
    assert told(answer) == [
        ("changed", "", "mixer", {"host": ("192.0.2.10", "192.0.2.99"), "limits.gap": ("2 ms", "5 ms")})
    ]
    assert changed_lines(before["site.yaml"], bench.files()["site.yaml"]) == [
        "    host: 192.0.2.99",
        '    limits: {gap: 5 ms, forbidden: ["holding 200-210", "holding 400"]}',
    ]
    check(bench.config).gateway()


def test_new_keys_and_emptied_cells_of_a_device(bench: Bench) -> None:
    def change(devices: Any, _: Any) -> None:
        put(devices, 2, unit=None, limits__forbidden=None, port=1502)
        put(devices, 3, limits__timeout="2 s", limits__gap="3 ms")

    bench.edit(change)
    code, answer = bench.run()

    text = bench.config.read_text()
    assert (code, said(answer)) == (0, [])
    assert "    limits: {gap: 2 ms}\n    port: 1502\n    scan_groups:\n" in text
    assert "unit: 3" not in text
    assert "    host: 192.0.2.11\n    limits: {gap: 3 ms, timeout: 2 s}\n    scan_groups:\n" in text


def test_a_tag_is_changed_where_it_is_written(bench: Bench) -> None:
    def change(_: Any, tags: Any) -> None:
        put(tags, row(tags, "mixer", "temperature"), range="0; 150", deadband=0.5)
        put(tags, row(tags, "mixer", "speed"), address="holding 106", scale="0,2")
        put(tags, row(tags, "mixer", "ph"), unit="1")
        put(tags, row(tags, "4711", "flow"), description="of water, hot")

    bench.edit(change)
    before = bench.files()
    code, answer = bench.run()

    after = bench.files()
    assert (code, said(answer)) == (0, [])
    assert changed_lines(before["site.yaml"], after["site.yaml"]) == [
        TEMPERATURE + "range: [0, 150], deadband: 0.5}",
        '            address: "holding 106"   # from the manual, page 7',
        "            scale: 0.2",
        f'{SLOW}, {{name: flow, address: "coil 1", description: "of water, hot"}}]}}',
    ]
    assert changed_lines(before["mixer.csv"], after["mixer.csv"]) == ["ph;holding 1;int16;0.10;1"]


def test_a_new_device_gets_a_table_and_new_tags_go_where_their_scan_group_has_them(bench: Bench) -> None:
    def change(devices: Any, tags: Any) -> None:
        add(devices, name="pump", driver="modbus", host="192.0.2.12", limits__gap="1 ms")
        add(tags, device="pump", scan_group="2 s", name="pressure", address="holding 0", type="uint16", serial="007")
        add(tags, device="pump", scan_group="100 ms", name="runs", address="coil 0")
        add(tags, device="mixer", scan_group="process", name="power", address="holding 120", type="float32", unit="kW")
        add(tags, device="mixer", scan_group="1 s", name="hours", address="holding 130", type="uint32")
        add(tags, device="4711", name="ph", address="input 2", type="int16")

    bench.edit(change)
    code, answer = bench.run("merge-safe")

    after = bench.files()
    text = after["site.yaml"].decode()
    assert (code, said(answer)) == (0, [])
    assert [each[:3] for each in told(answer)] == [
        ("added", "mixer", "power"), ("added", "mixer", "hours"), ("added", "4711", "ph"), ("added", "", "pump"),
        ("added", "pump", "pressure"), ("added", "pump", "runs")]  # fmt: skip
    assert after["pump.csv"].decode() == (
        "name,address,type,serial,every\npressure,holding 0,uint16,007,\nruns,coil 0,,,100 ms\n")  # fmt: skip
    assert after["mixer.csv"].decode() == TABLE + "hours;holding 130;uint32;;\n"
    assert "          - {name: power, address: holding 120, type: float32, unit: kW}\n      - every: 1 s\n" in text
    assert '{name: flow, address: "coil 1"}, {name: ph, address: input 2, type: int16}]}\n\n  - name: pump\n' in text
    assert "      - every: 2 s\n        tags_from: pump.csv\n\nuplink:" in text
    assert len(check(bench.config).gateway().devices) == 3


def test_a_tag_moves_to_another_scan_group(bench: Bench) -> None:
    bench.edit(lambda _, tags: put(tags, row(tags, "mixer", "temperature"), scan_group="1 s"))
    _, answer = bench.run()

    assert told(answer) == [("changed", "mixer", "temperature", {"scan_group": ("process", "1 s")})]
    assert (bench.folder / "mixer.csv").read_text().splitlines() == [
        "name;address;type;scale;unit;range", "ph;holding 1;int16;0.10;[pH];", "1E5;4x00010.10;;;;",
        "level;holding 9 ;uint16;;m;", 'temperature;holding 100;float32;;°C;"0; 120"']  # fmt: skip
    assert "temperature" not in bench.config.read_text()


def test_overwriting_removes_what_the_sheets_do_not_have(bench: Bench) -> None:
    def change(devices: Any, tags: Any) -> None:
        devices.delete_rows(row(devices, "4711"))
        for name in ("level", "flow"):
            tags.delete_rows(row(tags, "4711", name))
        tags.delete_rows(row(tags, "mixer", "speed"))
        tags.delete_rows(row(tags, "mixer", "1E5"))

    bench.edit(change)
    shown = bench.call("import", str(bench.config), str(bench.book), "--mode", "overwrite", "--dry-run").output
    code, answer = bench.run("overwrite")

    after = bench.files()
    assert code == 0
    assert [each[:3] for each in told(answer)] == [
        ("removed", "mixer", "speed"), ("removed", "mixer", "1E5"), ("removed", "", "4711")]  # fmt: skip
    assert shown.splitlines() == [
        "-  mixer  speed  address holding 104, type uint16, scale 0.1, scan_group process",
        "-  mixer  1E5    address 4x00010.10, scan_group 1 s",
        "-  4711          driver modbus, host 192.0.2.11",
        f"{bench.config}: 3 removed, 5 unchanged; nothing was written yet",
    ]
    assert after["mixer.csv"].decode() == "".join(TABLE.splitlines(keepends=True)[at] for at in (0, 1, 3))
    begin, _, rest = SITE.partition("          - name: speed\n")
    _, _, rest = rest.partition("            scale: 0.1\n")
    rest, _, end = rest.partition('  - name: "4711"')
    _, _, end = end.partition("\n\n")
    assert after["site.yaml"].decode() == begin + rest + "\n" + end
    check(bench.config).gateway()


def test_deleting_takes_what_the_sheets_have(bench: Bench) -> None:
    def change(devices: Any, tags: Any) -> None:
        devices.delete_rows(row(devices, "mixer"))
        for number in range(tags.max_row, 1, -1):
            if tags.cell(number, column(tags, "name")).value != "ph":
                tags.delete_rows(number)

    bench.edit(change)
    code, answer = bench.run("delete")

    assert code == 0
    assert [each[:3] for each in told(answer)] == [("removed", "mixer", "ph"), ("removed", "", "4711")]


def test_merge_safe_changes_nothing_that_is_there(bench: Bench) -> None:
    before = bench.files()
    bench.edit(lambda devices, tags: (put(devices, 2, host="192.0.2.99"), put(tags, 2, unit="K")))
    code, answer = bench.run("merge-safe")

    assert (code, [each[0] for each in told(answer)]) == (0, ["kept", "kept"])
    assert bench.files() == before


def test_a_scan_group_is_never_left_without_tags(bench: Bench) -> None:
    before = bench.files()
    bench.edit(lambda _, tags: [tags.delete_rows(row(tags, "4711", name)) for name in ("level", "flow")])
    code, answer = bench.run("overwrite")

    assert code == 1
    assert [each["reason"] for each in answer["differences"] if each["what"] == "conflict"] == [
        "the scan group 1 s would have no tag; leave it one, or remove it from the configuration by hand"]  # fmt: skip
    assert bench.files() == before


def test_devices_of_types_and_their_tags_stay_and_are_said(tmp_path: Path) -> None:
    folder = tmp_path / "configs"
    shutil.copytree(CONFIGS, folder)
    config, book = folder / "fillers.yaml", tmp_path / "fillers.xlsx"
    exported = CliRunner().invoke(cli, ["workbook", str(config), str(book)])
    made = openpyxl.load_workbook(book)
    add(made["Devices"], name="filler-1", driver="modbus", host="192.0.2.99")
    add(made["Tags"], device="filler-2", name="level", address="holding 0")
    made.save(book)

    answer = json.loads(
        CliRunner().invoke(cli, ["import", str(config), str(book), "--mode", "overwrite", "--json"]).stdout
    )

    assert (
        "because they are made of a type or come from a reference, and are changed there: filler-1" in exported.output
    )
    assert said(answer) == [
        f"filler-1 is made of a type or comes from a reference, and is changed there: {config}:23",
        "filler-2 is made of a type or comes from a reference, and is changed there: fillers.csv:2",
    ]
    assert config.read_bytes() == (CONFIGS / "fillers.yaml").read_bytes()


def test_secrets_and_sections_in_lists_stay_in_the_file_and_are_said(tmp_path: Path) -> None:
    bench = Bench(
        tmp_path, SITE.replace("    unit: 3  # as on its label\n", '    tls: {ca: ca.pem, key: "file:k.pem"}\n')
    )
    for name in ("ca.pem", "k.pem"):
        (tmp_path / name).write_text("-")
    output = bench.call("workbook", str(bench.config), str(bench.book)).output
    made = openpyxl.load_workbook(bench.book)
    put(made["Devices"], 2, tls__key="file:other.pem", host="192.0.2.99")
    made.save(bench.book)
    _, answer = bench.run()

    assert "note: mixer: tls.key is not in the workbook and stays as it is: it leads to a secret" in output
    assert said(answer)[0] == "the column tls.key: it leads to a secret; write it into the configuration"
    assert 'tls: {ca: ca.pem, key: "file:k.pem"}' in bench.config.read_text()


def test_a_table_of_several_scan_groups_is_shown_and_not_changed(tmp_path: Path) -> None:
    site = re.sub(r"- {every: 1 s, tags: .*", "- {every: 1 s, tags_from: mixer.csv}", SITE)
    bench = Bench(tmp_path, site)
    before = bench.files()
    bench.export()
    assert bench.run("overwrite") == (0, bench.run("overwrite")[1])
    assert bench.run("overwrite")[1]["unchanged"] == 11
    bench.edit(lambda _, tags: put(tags, row(tags, "4711", "ph"), unit="1"))

    code, answer = bench.run()

    assert code == 1
    assert answer["differences"][0]["reason"] == (
        "it is in mixer.csv, which several scan groups name, already, which an import does not change")  # fmt: skip
    assert bench.files() == before


def test_what_several_places_share_is_not_changed_and_said(tmp_path: Path) -> None:
    site = SITE.replace("limits: {gap", "limits: &gentle {gap")
    site = site.replace("    host: 192.0.2.11\n", "    host: 192.0.2.11\n    limits: *gentle\n")
    bench = Bench(tmp_path, site)
    bench.edit(lambda devices, _: put(devices, 3, limits__gap="9 ms"))
    result = bench.call("import", str(bench.config), str(bench.book), "--mode", "merge-overwrite")

    assert "devices[mixer].limits.gap: cannot be changed in its text, because of an anchor" in str(result.exception)
    assert bench.config.read_text() == site


def test_a_workbook_that_is_there_is_not_written_over(bench: Bench) -> None:
    bench.book.write_bytes(b"mine")
    result = bench.call("workbook", str(bench.config), str(bench.book))

    assert (result.exit_code, bench.book.read_bytes()) == (1, b"mine")
    assert "is there already" in result.output


class TestBadWorkbooks:
    """What a person or a spreadsheet does to one is said with its place, and loses nothing."""

    @pytest.mark.parametrize(
        ("change", "sentence"),
        [
            (lambda devices, _: put(devices, 3, name="mixer"), "the name is taken by site.xlsx, sheet Devices, row 2"),
            (lambda _, tags: put(tags, 3, name="temperature"), "the name is taken by site.xlsx, sheet Tags, row 2"),
            (lambda devices, _: add(devices, name="new", driver="modbuss", host="h"), "did you mean modbus?"),
            (lambda devices, _: add(devices, name="new", host="h"), "driver is missing"),
            (lambda devices, _: add(devices, name="new", driver="modbus", host="h"), "no tag of it can be imported"),
            (lambda devices, _: add(devices, driver="modbus"), "it has no name"),
            (lambda devices, _: put(devices, 2, port="70000"), "port must be at most 65535"),
            (lambda devices, _: put(devices, 2, limits__gap="soon"), "limits.gap needs a number with a unit"),
            (lambda devices, _: put(devices, 2, limits__gapp="1 s"), "gapp: unknown key; did you mean limits.gap?"),
            (lambda devices, _: devices.row_dimensions.__getitem__(3).__setattr__("hidden", True), "the row is hidden"),
            (lambda _, tags: tags.row_dimensions.__getitem__(3).__setattr__("hidden", True), "the row is hidden"),
            (lambda _, tags: tags.merge_cells("A2:A4"), "device is merged with row 2, column 1"),
            (lambda _, tags: put(tags, 2, address="=A1"), "address holds a formula without a stored value"),
            (lambda _, tags: put(tags, 6, address=40001.1), "address is the number 40001.1"),
            (lambda _, tags: put(tags, 2, scan_group="fast"), "mixer has no scan group 'fast'"),
            (lambda _, tags: put(tags, 2, device="mixr"), "no device is called 'mixr'; there are mixer, 4711; "),
            (lambda _, tags: put(tags, 2, type="REAL"), "type must be one of"),
            (lambda _, tags: put(tags, 2, address="holding 200"), "lies in the forbidden range"),
            (lambda _, tags: put(tags, 2, every="5 s"), "an interval of its own needs a table"),
            (lambda _, tags: add(tags, device="mixer", name="x", address="coil 1"), "mixer has no scan group ''"),
        ],
    )  # fmt: skip
    def test_a_row_that_cannot_be_used_is_left_out_with_its_reason(
        self, bench: Bench, change: Callable[[Any, Any], object], sentence: str
    ) -> None:
        bench.edit(change)
        before = bench.files()

        _, answer = bench.run("merge-overwrite", "--dry-run")

        (finding, *_) = [each for each in answer["findings"] if sentence in each["message"]]
        assert finding["kind"] == "left out"
        assert finding["origin"]["sheet"] in ("Devices", "Tags")
        assert finding["origin"]["row"] > 0
        assert bench.files() == before

    def test_hidden_and_damaged_rows_are_not_missing_ones(self, bench: Bench) -> None:
        def change(devices: Any, tags: Any) -> None:
            devices.row_dimensions[3].hidden = True
            tags.row_dimensions[3].hidden = True
            put(tags, row(tags, "mixer", "ph"), type="REAL")

        bench.edit(change)
        before = bench.files()

        code, answer = bench.run("overwrite")

        assert (code, {each[0] for each in told(answer)}) == (0, {"kept"})
        assert bench.files() == before

    def test_names_that_differ_by_case_are_suspicious(self, bench: Bench) -> None:
        def change(devices: Any, tags: Any) -> None:
            add(devices, name="Mixer", driver="modbus", host="h")
            add(tags, device="Mixer", name="a", address="coil 1")
            add(tags, device="mixer", scan_group="process", name="Temperature", address="coil 2")

        bench.edit(change)
        _, answer = bench.run("merge-safe", "--dry-run")

        assert said(answer, "suspicious") == [
            "its name differs only by case from mixer of site.xlsx, sheet Devices, row 2, column 1",
            "its name differs only by case from temperature of site.xlsx, sheet Tags, row 2",
        ]

    def test_what_is_merged_or_without_a_value_does_not_empty_a_setting(self, bench: Bench) -> None:
        def change(devices: Any, tags: Any) -> None:
            devices.merge_cells("C2:C3")
            put(tags, 2, unit="=A1")

        bench.edit(change)
        code, answer = bench.run("overwrite")

        assert (code, answer["is_written"]) == (0, False)
        assert len(said(answer, "suspicious")) == 2

    @pytest.mark.parametrize(
        ("data", "sentence"),
        [
            (b"name,address\na,holding 1\n", "only a workbook of devices and tags names the devices of its tags"),
            (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16-le"), "protected with a password"),
            (b"PK\x03\x04 and nothing", "it cannot be read as a workbook"),
        ],
    )
    def test_another_file_is_refused(self, bench: Bench, data: bytes, sentence: str) -> None:
        bench.book.write_bytes(data)
        result = bench.call("import", str(bench.config), str(bench.book))

        assert sentence in str(result.exception)

    def test_sheets_without_their_columns_are_refused(self, bench: Bench) -> None:
        bench.edit(lambda devices, tags: (devices.delete_cols(2), tags.delete_cols(1)))
        result = bench.call("import", str(bench.config), str(bench.book))

        assert "no visible sheet has the headings name and driver, nor device and name" in str(result.exception)

    def test_one_device_does_not_take_the_tags_of_all(self, bench: Bench) -> None:
        bench.export()
        result = bench.call("import", str(bench.config), str(bench.book), "--device", "mixer")

        assert "sheet Devices holds devices; import the workbook without --device" in str(result.exception)

    def test_a_sheet_alone_says_nothing_of_the_other(self, bench: Bench) -> None:
        before = bench.files()
        bench.export()
        made = openpyxl.load_workbook(bench.book)
        del made["Devices"]
        made.save(bench.book)

        assert bench.run("overwrite")[0] == 0
        assert bench.files() == before


texts = (
    st.text(st.characters(min_codepoint=32, blacklist_categories=["Cs", "Cc"]), max_size=12)
    .map(str.strip)
    .filter(str.isprintable)
)
both = st.sampled_from(["mixer", "4711"])
edits = st.one_of(
    st.tuples(both, st.just(""), st.just("host"), st.integers(1, 99).map("192.0.2.{}".format)),
    st.tuples(both, st.just(""), st.just("limits.gap"), st.sampled_from(["", "7 ms"])),
    st.tuples(both, st.just(""), st.just("port"), st.sampled_from(["", "1502"])),
    st.tuples(
        st.just("mixer"), st.sampled_from(["temperature", "speed", "serial", "ph", "1E5", "level"]),
        st.sampled_from(["description", "serial", "instrument", "tolerance"]),
        st.one_of(texts, st.sampled_from(["007", "1E5", "40001.10", "=1+1", "#N/A", "_x0041_", "true", "a: b, {c}"])),
    ),
    st.tuples(
        st.just("4711"), st.sampled_from(["level", "flow"]), st.just("range"), st.sampled_from(["", "0; 5", "-1; 1.5"])
    ),
)  # fmt: skip


def settings_of_site(config: Path) -> Iterator[tuple[tuple[str, str, str], str]]:
    """Each setting that a sheet shows, by device, tag and key."""
    for device in read_site(config).devices.values():
        yield from (((device.name, "", key), text) for key, text in device.texts.items())
        for tag in device.tags:
            yield from (((device.name, tag.name, key), text) for key, text in device.row_of(tag).items() if text)


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=st.lists(edits, min_size=1, max_size=4))
def test_changed_cells_change_exactly_those_settings(tmp_path: Path, changes: list[tuple[str, str, str, str]]) -> None:
    bench = Bench(tmp_path)
    wanted = dict(settings_of_site(bench.config))
    comments = [line.partition("#")[2] for line in SITE.splitlines() if "  #" in line or line.startswith("#")]

    def change(devices: Any, tags: Any) -> None:
        for device, tag, key, text in changes:
            sheet, names = (tags, (device, tag)) if tag else (devices, (device,))
            put(sheet, row(sheet, *names), **{key.replace(".", "__"): None})
            cell = sheet.cell(row(sheet, *names), column(sheet, key))
            cell.value = text.replace("_x", "_x005F_x") or None
            if cell.value is not None:
                cell.data_type = "s"
            wanted[device, tag, key] = text

    bench.edit(change)
    code, answer = bench.run()

    assert (code, said(answer)) == (0, [])
    assert dict(settings_of_site(bench.config)) == {key: text for key, text in wanted.items() if text}
    text = bench.config.read_text()
    assert all(comment in text for comment in comments)
    assert not parse(text.encode(), "")[1]
    bench.export()
    assert bench.run("overwrite")[1]["differences"] == []
