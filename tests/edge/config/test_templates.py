"""Types and references: what they expand to, what an instance may lay over them, and what is said of mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from edge.cli import cli
from edge.config.check import check
from edge.config.files import read_directory
from edge.config.kept import unpack
from edge.config.templates import expand
from edge.config.written import document
from edge.config.yaml_tree import parse

CONFIGS = Path(__file__).parents[3] / "configs"
TYPES = """
gateway: {name: g, path: a/b, state: ./state}
types:
  motor:
    parameters: {base: null, unit: A}
    tags:
      - {name: current, address: "holding ${base}", type: float32, unit: "${unit}"}
      - {name: hours, address: "holding ${base+2}", type: uint32}
  filler:
    parameters: {host: null, port: 502, offset: 100}
    device:
      driver: modbus
      host: ${host}
      port: ${port}
      scan_groups:
        - every: 1 s
          tags:
            - {name: level, address: "holding 10", type: float32}
            - {name: pump, of_type: motor, with: {base: "${offset+10}"}}
"""


def site(tmp_path: Path, devices: str, **files: str) -> Path:
    path = tmp_path / "site.yaml"
    path.write_text(TYPES + devices)
    for name, text in files.items():
        (tmp_path / f"{name}.csv").write_text(text)
    return path


def expanded(path: Path) -> dict[str, Any]:
    """The configuration as it runs."""
    checked = check(path)
    assert checked.errors == ()
    found: dict[str, Any] = unpack(checked.pack())
    return found


def tags(device: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {tag["name"]: tag for group in device["scan_groups"] for tag in group["tags"]}


def said(path: Path) -> list[str]:
    return [str(problem).removeprefix(f"{path.parent}/") for problem in check(path).errors]


def test_an_instance_is_its_type_with_its_values(tmp_path: Path) -> None:
    [device] = expanded(site(tmp_path, "devices: [{name: f1, of_type: filler, with: {host: 192.0.2.1}}]"))["devices"]

    assert (device["name"], device["host"], device["port"]) == ("f1", "192.0.2.1", 502)
    assert {name: tag["address"] for name, tag in tags(device).items()} == {
        "level": "holding 10", "pump/current": "holding 110", "pump/hours": "holding 112",
    }  # fmt: skip
    assert tags(device)["pump/current"]["unit"] == "A"


def test_what_an_instance_writes_is_laid_over_its_type(tmp_path: Path) -> None:
    """Keys over keys, tags over tags of that name; what is new is added, and `without` takes out."""
    [device] = expanded(site(tmp_path, """
devices:
  - name: f1
    of_type: filler
    with: {host: 192.0.2.1, port: 1502, offset: 200}
    limits: {timeout: 2 s}
    without: [pump/hours]
    scan_groups:
      - every: 1 s
        tags:
          - {name: pump/current, deadband: 0.5}
          - {name: extra, address: "holding 1", type: uint16}
          - {name: stirrer, of_type: motor, with: {base: 300}, without: [hours], tags: [{name: current, range: [0, 9]}]}
      - {every: 10 s, tags: [{name: slow, address: "holding 2", type: uint16}]}
"""))["devices"]  # fmt: skip

    assert (device["port"], device["limits"]) == (1502, {"timeout": "2 s"})
    assert [group["every"] for group in device["scan_groups"]] == ["1 s", "10 s"]
    assert list(tags(device)) == ["level", "pump/current", "extra", "stirrer/current", "slow"]
    current = {"name": "pump/current", "address": "holding 210", "type": "float32", "unit": "A", "deadband": 0.5}
    assert tags(device)["pump/current"] == current
    assert tags(device)["stirrer/current"]["range"] == [0, 9]


def test_a_table_gives_an_instance_a_row(tmp_path: Path) -> None:
    path = site(
        tmp_path, "devices: [{of_type: filler, instances: rows.csv, with: {port: 503}, limits: {gap: 5 ms}}]",
        rows="name;host;port;limits.timeout\nf1;192.0.2.1;;1 s\nf2;192.0.2.2;1502;\n",
    )  # fmt: skip

    first, second = expanded(path)["devices"]

    assert (first["name"], first["host"], first["port"]) == ("f1", "192.0.2.1", 503)
    assert first["limits"] == {"timeout": "1 s", "gap": "5 ms"}
    assert (second["port"], second["limits"]) == (1502, {"gap": "5 ms"})
    assert "rows.csv" in check(path).files, "the digest on record covers the table"


def test_a_table_keeps_what_a_number_would_lose(tmp_path: Path) -> None:
    """0042 in a text stays 0042, and 1.50 is not 1.5."""
    text = TYPES.replace("port: 502,", "port: 502, line: null,").replace("{name: level,", '{name: "${line}/level",')
    path = site(tmp_path, "devices: [{of_type: filler, instances: rows.csv}]",
                rows="name,host,line\nf1,192.0.2.1,0042\nf2,192.0.2.2,1.50\n")  # fmt: skip
    path.write_text(text + "devices: [{of_type: filler, instances: rows.csv}]")

    assert [next(iter(tags(device))) for device in expanded(path)["devices"]] == ["0042/level", "1.50/level"]


@pytest.mark.parametrize(
    ("devices", "message"),
    [
        ("{name: f1, of_type: fillr, with: {host: h}}",
         "devices[0].of_type: no type of devices is called 'fillr'; there are filler; did you mean filler?"),
        ("{name: f1, of_type: motor, with: {base: 1}}",
         "devices[0].of_type: no type of devices is called 'motor'; there are filler"),
        ("{name: f1, of_type: filler}", "devices[0]: the parameter host is missing, and has no default"),
        ("{name: f1, of_type: filler, with: {host: h, prt: 1}}",
         "devices[0].with.prt: no parameter is called 'prt'; there are host, port, offset; did you mean port?"),
        ("{name: f1, of_type: filler, with: {host: h, offset: x}}",
         "devices[0].with.offset: offset is counted from: it must be a whole number"),
        ("{name: f1, of_type: filler, with: {host: h}, without: [pump/hour]}",
         "devices[0].without[0]: no tag is called 'pump/hour'; there are level, pump/current, pump/hours"),
        ("{name: f1, of_type: filler, instances: none.csv}",
         "devices[0].instances: FOLDER/none.csv cannot be read: No such file or directory"),
        (("{name: f1, driver: modbus, host: h, with: {a: 1}, scan_groups: [{every: 1 s, tags: [{name: a, address: "
         '"holding 1", type: uint16}]}]}'),
         "devices[0].with: is for the instance of a type; name it in of_type"),
        (("{name: f1, of_type: filler, with: {host: h}, scan_groups: [{every: 1 s, tags: [{name: p, of_type: motor, "
         "with: {base: 1}, deadband: 1}]}]}"),
         "devices[0].scan_groups[0].tags[0].deadband: unknown key; known are name, of_type, with, without, tags"),
    ],
)  # fmt: skip
def test_a_mistake_of_an_instance_is_one_problem_where_it_is_written(
    tmp_path: Path, devices: str, message: str
) -> None:
    [problem] = said(site(tmp_path, f"devices:\n  - {devices}\n"))

    assert problem.startswith("site.yaml:")
    assert problem.partition(": ")[2].startswith(message.replace("FOLDER", str(tmp_path)))


def test_a_mistake_in_a_type_is_one_problem_for_all_its_instances(tmp_path: Path) -> None:
    path = site(tmp_path, "devices: [{of_type: filler, instances: rows.csv}]",
                rows="name,host\n" + "".join(f"f{number},192.0.2.{number}\n" for number in range(1, 9)))  # fmt: skip
    path.write_text(path.read_text().replace("uint32", "uint23").replace("${unit}", "${unti}"))

    assert [problem.partition(": ")[0] for problem in said(path)] == ["site.yaml:7:74", "site.yaml:8:59"]


def test_a_wrong_cell_is_named_by_row_and_column(tmp_path: Path) -> None:
    path = site(tmp_path, "devices: [{of_type: filler, instances: rows.csv}]",
                rows="name,host,port\nf1,192.0.2.1,\nf2,192.0.2.2,65536\nf3,,\n")  # fmt: skip

    assert [problem.partition(": ")[0] for problem in said(path)] == ["rows.csv:3:3", "rows.csv:4:1"]


@pytest.mark.parametrize(
    ("types", "message"),
    [
        ("[motor]", "types: must be types by name"),
        ("{a: {}}", "types.a: a type has either device or tags"),
        ("{a: {tags: [{name: b, of_type: c}]}}", "types.a.tags[0]: a type of tags holds no other type"),
        ("{a: {device: {of_type: b}}}", "types.a.device: must be a device that is not of a type itself"),
        ("{a: {tags: [], parameter: {}}}", "types.a.parameter: unknown key; did you mean parameters?"),
    ],
)
def test_a_type_that_is_none(tmp_path: Path, types: str, message: str) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(f"gateway: {{name: g, path: a/b}}\ntypes: {types}\ndevices: []\n")

    assert any(problem.partition(": ")[2].startswith(message) for problem in said(path)), said(path)


def test_a_literal_dollar_and_brace(tmp_path: Path) -> None:
    root, problems = parse(
        b"types: {t: {tags: [{name: 'a$${x}'}]}}\ndevices: [{scan_groups: [{tags: [{of_type: t}]}]}]", "f"
    )
    assert root is not None

    device = expand(root, lambda _: b"", problems)["devices"]

    assert problems == []
    assert device is not None
    assert device.plain()[0]["scan_groups"][0]["tags"] == [{"name": "a${x}"}]


def test_types_that_multiply_are_refused_before_they_fill_the_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge.config.templates._NODES", 1_000)
    rows = "".join(f"f{number},192.0.2.1\n" for number in range(50))
    path = site(tmp_path, "devices: [{of_type: filler, instances: rows.csv}]", rows=f"name,host\n{rows}")

    assert ["more than 1,000 values" in problem for problem in said(path)] == [True]


def test_a_site_is_laid_over_its_reference(tmp_path: Path) -> None:
    (tmp_path / "enterprise.yaml").write_text(
        "parameters: {site: null, broker: 127.0.0.1}\n"
        + TYPES.replace("{name: g, path: a/b,", '{name: "gw-${site}", path: "acme/${site}/line",')
        + 'uplink: {mqtt: {host: "${broker}", tls: off, in_flight: 10}}\n'
    )
    for name in ("basel", "kundl"):
        (tmp_path / f"{name}.yaml").write_text(
            f"reference: enterprise.yaml\nvalues: {{site: {name}}}\nuplink: {{mqtt: {{in_flight: 20}}}}\n"
            f"devices: [{{name: f1, of_type: filler, with: {{host: 192.0.2.1}}}}]\n"
        )

    basel = expanded(tmp_path / "basel.yaml")
    held = read_directory(tmp_path)
    differing = CliRunner().invoke(cli, ["diff", str(tmp_path / "basel.yaml"), str(tmp_path / "kundl.yaml")])

    assert (basel["gateway"]["name"], basel["gateway"]["path"]) == ("gw-basel", "acme/basel/line")
    assert basel["uplink"]["mqtt"] == {"host": "127.0.0.1", "tls": "off", "in_flight": 20}
    assert "enterprise.yaml" in check(tmp_path / "basel.yaml").files
    assert [source.names for source in held.configurations] == [("basel.yaml",), ("kundl.yaml",)]
    assert held.others == {"enterprise.yaml": "is a reference, from which configurations of sites are made"}
    assert (differing.exit_code, differing.stdout) == (1, (
        "gateway.name from gw-basel to gw-kundl\ngateway.path from acme/basel/line to acme/kundl/line\n2 differences\n"
    ))  # fmt: skip


@pytest.mark.parametrize(
    ("site_text", "reference", "message"),
    [
        ("reference: gone.yaml", "", "reference: FOLDER/gone.yaml cannot be read: No such file or directory"),
        ("values: {a: 1}\n", "", "values: are values for a reference; name its file in reference"),
        ("reference: r.yaml", "parameters: {a: null}", "reference: the parameter a is missing, and has no default"),
        ("reference: r.yaml", "parameters: {}\nreference: s.yaml", "reference: belongs into the file of a site"),
        ("reference: r.yaml", "- a", "reference: r.yaml holds no keys and values"),
        ("reference: r.yaml\nvalues: {b: 1}", "parameters: {a: 1}",
         "values.b: no parameter is called 'b'; there are a"),
    ],
)  # fmt: skip
def test_a_reference_that_does_not_fit(tmp_path: Path, site_text: str, reference: str, message: str) -> None:
    (tmp_path / "r.yaml").write_text(reference)
    path = tmp_path / "site.yaml"
    path.write_text(site_text + "\n")

    assert any(
        problem.partition(": ")[2].startswith(message.replace("FOLDER", str(tmp_path))) for problem in said(path)
    )


def test_what_plan_expanded_prints_is_the_same_configuration(tmp_path: Path) -> None:
    path = CONFIGS / "fillers.yaml"
    printed = CliRunner().invoke(cli, ["plan", str(path), "--expanded"])
    again = tmp_path / "again.yaml"
    again.write_text(printed.stdout)

    assert printed.exit_code == 0
    assert expanded(again) == expanded(path)
    assert CliRunner().invoke(cli, ["diff", str(path), str(again)]).stdout == "no differences\n"


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs", "Zl", "Zp"]), min_size=1, max_size=20)


@given(CELLS)
def test_a_value_arrives_as_it_was_given(value: str) -> None:
    """Also one that looks like a parameter itself."""
    text = yaml.safe_dump({
        "types": {"t": {"parameters": {"x": None}, "tags": [{"name": "${x}", "unit": "<${x}>"}]}},
        "devices": [{"scan_groups": [{"tags": [{"of_type": "t", "with": {"x": value}}]}]}],
    }, allow_unicode=True)  # fmt: skip
    root, problems = parse(text.encode(), "f")
    assert root is not None
    if problems:
        return  # Not a text of YAML.

    devices = expand(root, lambda _: b"", problems)["devices"]

    assert problems == []
    assert devices is not None
    [tag] = devices.plain()[0]["scan_groups"][0]["tags"]
    assert tag == {"name": value, "unit": f"<{value}>"}


def test_an_expanded_document_is_yaml(tmp_path: Path) -> None:
    """What people and other programs read of it."""
    found = expanded(CONFIGS / "fillers.yaml")

    assert yaml.safe_load("\n".join(document(found))) == found
