from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edge.config.check import WITH_DUCKDB, Checked, check, load, load_relay
from edge.config.settings import BufferSettings
from edge.driver import DriverKind
from edge.errors import ConfigError

Check = Callable[..., Checked]
Find = Callable[[str], DriverKind]

TWENTY = """\
gateway: {name: line 4, path: acme/basel}
colck: {require: bounded}
clock: {require: bound}
seal:
  commit_window: 20
  heartbeat: 4 min
  key_period: 1 min
buffer: {limit: 1 GB, limit: 2 GB, when_full: drop_newest}
uplink:
  mqtt: {prot: 8883, host: dmz.example, password: hunter2, tls: {ca: gone.pem}}
log: {level: 5}
devices:
  - name: one
    driver: toy
    host: 127.0.0.1
    limits: {forbidden: [7]}
    scan_groups:
      - every: 0.5 ms
        tags:
          - {name: a, address: -1}
          - {name: a, address: 6, deadbnd: 3}
          - {name: b, adress: 3}
          - {name: c, address: 7}
          - {name: d, address: 8, deadband: 2 %}
          - {name: e, address: 9, range: [5, 1]}
          - {name: f, address: 999}
"""


@pytest.mark.requirement("REQ-CONF-01")
def test_twenty_mistakes_are_twenty_problems_on_their_lines(checked: Check) -> None:
    result = checked(TWENTY)

    lines = [problem.line for problem in result.problems]
    assert lines == [1, 2, 3, 5, 6, 8, 8, 10, 10, 10, 11, 18, 20, 21, 21, 22, 23, 24, 25, 26]
    assert result.settings is None


def test_a_secret_written_out_is_refused_and_not_repeated(checked: Check) -> None:
    result = checked(TWENTY)

    assert "hunter2" not in "".join(map(str, result.problems))
    assert any("credential:NAME or file:PATH" in problem.message for problem in result.problems)


SITE = """\
gateway: {name: line-4, path: acme/basel, state: state}
uplink: {mqtt: {host: 127.0.0.1, tls: off}}
devices:
"""
DEVICE = """\
  - name: %s
    driver: toy
    host: %s
    scan_groups:
"""
ONE = SITE + DEVICE % ("one", "h")


def says(result: Checked) -> list[str]:
    return list(map(str, result.problems))


def test_a_file_without_mistakes_gives_settings(checked: Check) -> None:
    result = checked(ONE + "      - {every: 1 s, tags: [{name: a, address: 1, scale: 2}]}\n")

    settings = result.gateway()
    assert result.problems == ()
    assert settings.devices[0].scan_groups[0].tags[0].scale == 2.0
    assert settings.buffer_directory == Path("state/buffer")
    assert [(plan.device, plan.group, plan.cost.tags) for plan in result.plans] == [("one", "1 s", 1)]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "site.yaml: is empty; `tidegate schema` shows what belongs in it"),
        ("# nothing", "site.yaml: is empty; `tidegate schema` shows what belongs in it"),
        ("- a", "site.yaml:1:1: must be keys and values, such as gateway: {name: line-4, ...}"),
        ("just words", "site.yaml:1:1: must be keys and values, such as gateway: {name: line-4, ...}"),
    ],
)
def test_a_file_that_is_no_configuration_says_so(checked: Check, text: str, problem: str) -> None:
    assert says(checked(text)) == [problem]


def test_a_missing_file_is_one_problem(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nothing\.yaml cannot be read: No such file"):
        load(tmp_path / "nothing.yaml")


@pytest.mark.parametrize(
    ("group", "problem"),
    [
        ("{every: 1 s, tags: []}", "28: {0}.tags: reads nothing: write its tags, or name a CSV file in tags_from"),
        ("{every: 1 s}", "9: {0}: reads nothing: write its tags, or name a CSV file in tags_from"),
        ("{every: 1, tags: [{name: a, address: 1}]}",
         '17: {0}.every: needs a number with a unit, such as "100 ms", got 1'),
        ("{every: 25 h, tags: [{name: a, address: 1}]}", "17: {0}.every: must be at most 1 d, got 25 h"),
        ("{every: 1 s, tags: [{name: a/+, address: 1}]}", "36: {0}.tags[0].name: 'a/+' does not fit: Name of the tag"),
        ("{every: 1 s, tags: [{name: a, address: '1'}]}", "48: {0}.tags[0].address: must be a whole number, got '1'"),
        ("{every: 1 s, tags: [{name: a, address: 1.5}]}", "48: {0}.tags[0].address: must be a whole number, got 1.5"),
        ("{every: 1 s, tags: [{name: a, address: 1, deadband: [1]}]}",
         "61: {0}.tags[0].deadband: must be text or a number, got a list"),
        ("{every: 1 s, tags: [{name: a, address: 1, range: [1]}]}",
         "58: {0}.tags[0].range: must have more items, got 1"),
        ("{every: 1 s, tags: [{name: a, address: 1, type: flaot32}]}",
         "57: {0}.tags[0].type: must be one of float32, uint16, got 'flaot32'; did you mean float32?"),
        ("{every: 1 s, urgent: yes, tags: [{name: a, address: 1}]}",
         "30: {0}.urgent: must be true or false, got 'yes'"),
        ("[]", "9: {0}: must be keys and values, got a list"),
    ],
)  # fmt: skip
def test_a_mistake_is_said_in_plain_words_at_its_place(checked: Check, group: str, problem: str) -> None:
    (said,) = says(checked(f"{ONE}      - {group}\n"))

    assert said.removeprefix("site.yaml:8:").startswith(problem.format("devices[0].scan_groups[0]"))


def test_a_misspelled_required_key_is_one_problem_and_not_two(checked: Check) -> None:
    group = "{every: 1 s, tags: [{name: a, address: 1}]}"
    result = checked(SITE + f"  - {{nmae: a, driver: toy, host: h, scan_groups: [{group}]}}")

    assert says(result) == ["site.yaml:4:6: devices[0].nmae: unknown key; did you mean name?"]


def test_an_unknown_driver_is_named_and_the_other_devices_are_checked(checked: Check) -> None:
    result = checked(
        SITE + DEVICE % ("one", "h") + "      - {every: 1 s, tags: [{name: a, address: -1}]}\n"
        "  - {name: two, driver: tyo, unit: 7}\n  - {name: three}\n"
    )

    assert [(problem.line, problem.path) for problem in result.problems] == [
        (8, "devices[0].scan_groups[0].tags[0].address"),
        (9, "devices[1].driver"),
        (10, "devices[2].driver"),
    ]


def test_names_used_twice_are_found_although_other_keys_are_wrong(checked: Check) -> None:
    result = checked(
        SITE
        + "  - {name: one, driver: toy, host: 1, scan_groups: [{every: 1 s, tags: [{name: a, address: x}]},\n"
        + "      {every: 1 s, tags: [{name: a, address: 1}]}]}\n"
        + "  - {name: one, driver: toy, host: h, scan_groups: [{every: 1 s, tags: [{name: a, address: 1}]}]}\n"
    )

    assert says(result) == [
        "site.yaml:4:36: devices[0].host: must be text, got 1",
        "site.yaml:4:92: devices[0].scan_groups[0].tags[0].address: must be a whole number, got 'x'",
        "site.yaml:5:15: devices[0].scan_groups[1].every: a scan group of 1 s has no name, as on line 4; name one",
        "site.yaml:5:34: devices[0].scan_groups[1].tags[0].name: 'a' is already used on line 4",
        "site.yaml:6:12: devices[1].name: 'one' is already used on line 4",
    ]


def test_a_tag_that_is_also_a_branch_is_a_warning(checked: Check) -> None:
    result = checked(ONE + "      - {every: 1 s, tags: [{name: a, address: 1}, {name: a/b/c, address: 2}]}\n")

    assert [(problem.line, problem.message) for problem in result.warnings] == [
        (8, "'a' is a tag on line 8; here it is a branch of the hierarchy too")
    ]
    assert result.settings is not None


def test_an_interval_that_the_plan_cannot_keep_is_a_warning_on_its_line(checked: Check) -> None:
    """Ten tags of 1 ms each take longer than 5 ms; over a shared connection the neighbour is late as well."""
    tags = ", ".join(f"{{name: t{n}, address: {n}}}" for n in range(10))
    slow = f"      - {{every: 5 ms, tags: [{tags}]}}\n"
    result = checked(
        SITE + DEVICE % ("one", "shared") + slow + DEVICE % ("two", "shared")
        + "      - {every: 8 ms, tags: [{name: a, address: 1}]}\n" + DEVICE % ("three", "alone")
        + "      - {every: 8 ms, tags: [{name: a, address: 1}]}\n"
    )  # fmt: skip

    assert [(problem.line, problem.severity) for problem in result.problems] == [(8, "warning"), (13, "warning")]
    assert "one scan takes about 10 ms" in result.problems[0].message
    assert "2 scan groups on this connection take about 11 ms together" in result.problems[1].message


def test_what_a_plan_refuses_has_the_line_of_the_tag(checked: Check) -> None:
    result = checked(
        SITE
        + "  - {name: one, driver: toy, host: h, limits: {forbidden: [2, 3]},\n"
        + "     scan_groups: [{every: wrong, tags: [{name: a, address: 1},\n"
        + "      {name: b, address: 2},\n      {name: c, address: 3}]}]}\n"
    )

    assert [(problem.line, problem.message) for problem in result.problems[1:]] == [
        (6, "2 is forbidden"),
        (7, "3 is forbidden"),
    ]


DEVICES = "devices: [{name: %s, driver: toy, host: %s, scan_groups: [{every: 1 s, tags_from: t.csv}]}]\n"


def test_a_directory_is_one_configuration_and_each_problem_names_its_file(tmp_path: Path, find: Find) -> None:
    (tmp_path / "a.yaml").write_text("gateway: {name: g, path: a/b}\nlog: {level: info}\n")
    (tmp_path / "b.yaml").write_text(DEVICES % ("a", 1))
    (tmp_path / "c.yml").write_text(DEVICES % ("a", "h") + "log: {}")
    (tmp_path / "t.csv").write_text("name,address\nx,1\n")
    (tmp_path / "notes.txt").write_text("{")

    result = check(tmp_path, find)

    places = [(Path(problem.file).name, problem.line, problem.path) for problem in result.errors]
    assert places == [("b.yaml", 1, "devices[0].host"), ("c.yml", 1, "devices[0].name"), ("c.yml", 2, "log")]


def test_an_empty_directory_says_so(tmp_path: Path) -> None:
    assert [problem.message for problem in check(tmp_path).problems] == ["no .yaml file is in this directory"]


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "big.yaml").write_bytes(b"#" * (5 * 2**20))

    assert "larger than 4 MiB" in check(tmp_path / "big.yaml").problems[0].message


def test_the_digest_can_be_made_again_with_sha256sum(tmp_path: Path, find: Find) -> None:
    """An inspector needs no tool of ours to see which configuration was running."""
    (tmp_path / "b.yaml").write_text("gateway: {name: g, path: a/b}\n")
    (tmp_path / "a.yaml").write_text(DEVICES % ("a", "h"))
    (tmp_path / "t.csv").write_text("name,address\nx,1\n")

    listing = subprocess.run(["sha256sum", "a.yaml", "b.yaml", "t.csv"], cwd=tmp_path, capture_output=True, check=True)

    lines = sorted(listing.stdout.splitlines(keepends=True), key=lambda line: line.split()[1])
    assert check(tmp_path, find).digest == hashlib.sha256(b"".join(lines)).digest()


RELAY = "relay: {name: r, archive: archive, trust: [trust], mqtt: {host: 127.0.0.1, tls: off}}\n"


def test_a_relay_has_its_own_settings(tmp_path: Path) -> None:
    (tmp_path / "trust").mkdir()
    (tmp_path / "relay.yaml").write_text(RELAY.replace("[trust]", "[trust, line-4=trust]"))

    relay = load_relay(tmp_path / "relay.yaml").relay

    assert (relay.archive, relay.trust) == (
        tmp_path / "archive", ((tmp_path / "trust", None), (tmp_path / "trust", "line-4")),
    )  # fmt: skip
    with pytest.raises(ConfigError, match="configuration of a relay; start it with `tidegate relay`"):
        load(tmp_path / "relay.yaml")


def test_a_relay_that_trusts_what_is_not_there_is_refused(tmp_path: Path) -> None:
    (tmp_path / "relay.yaml").write_text(RELAY)

    (problem,) = check(tmp_path / "relay.yaml").problems

    assert (problem.path, problem.message) == ("relay.trust[0]", f"{tmp_path / 'trust'} does not exist")


BROKER = "mqtt: {host: 127.0.0.1, tls: off}"
KAFKA = 'kafka: {servers: ["127.0.0.1:9092"], tls: off}'
ARCHIVE = "archive: archive, trust: [trust]"


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        (BROKER, "1:8: relay: archive, trust are missing: only an intake or a worker, with kafka, goes without"),
        (ARCHIVE, "1:8: relay: mqtt is missing: only an intake or a worker, with kafka, goes without"),
        (f"{BROKER}, {KAFKA}", ""),
        (f"{ARCHIVE}, {KAFKA}", ""),
        (f"{ARCHIVE}, {BROKER}, {KAFKA}", ""),
        (KAFKA, "1:8: relay: mqtt is missing: an intake takes records from there; a worker has an archive instead"),
        (
            f"{BROKER}, {KAFKA}, archive: archive",
            "1:110: relay.archive: archive and trust come together; only an intake goes without, and then without both",
        ),
        (
            f"{BROKER}, {KAFKA}, views: {{unified_namespace: {{}}}}",
            "1:8: relay: archive is missing: archive_keep, views and sinks need one, and trust",
        ),
        (
            f"{ARCHIVE}, {KAFKA}, views: {{unified_namespace: {{}}}}",
            "1:8: relay: mqtt is missing, here or in views.unified_namespace, to which values would be published",
        ),
        (f"{ARCHIVE}, {BROKER}, gateways: [line-4, line-5, line-4]", "1:97: relay.gateways: has line-4 twice"),
        (
            f"{ARCHIVE}, {BROKER}, gateways: [line-4, line/5]",
            (
                "1:106: relay.gateways[1]: 'line/5' does not fit: Only these gateways, by name: letters, digits, dots, "
                "dashes and underscores"
            ),
        ),
        (
            f"{BROKER}, kafka: {{servers: [kafka-1], tls: off}}",
            "1:71: relay.kafka.servers[0]: must be a host and a port, such as kafka-1:9093, got 'kafka-1'",
        ),
        (
            f"{BROKER}, kafka: {{servers: ['kafka-1:9092'], tls: off}}",
            "1:93: relay.kafka.tls: warning: readings and the password travel unprotected",
        ),
    ],
)
def test_what_a_relay_needs_depends_on_its_role(tmp_path: Path, written: str, problem: str) -> None:
    """An intake has no archive and trusts nothing, a worker has no broker, and every other relay has all."""
    (tmp_path / "trust").mkdir()
    (tmp_path / "relay.yaml").write_text(f"relay: {{name: r, {written}}}\n")

    found = [str(each).removeprefix(f"{tmp_path}/relay.yaml:") for each in check(tmp_path / "relay.yaml").problems]

    assert found == [problem] * bool(problem)


@pytest.mark.parametrize(
    ("library", "sink", "at", "remedy"),
    [
        ("asyncpg", "historian", "relay.yaml:4:16", "install tidegate[historian]"),
        ("duckdb", "lake", "relay.yaml:5:11", WITH_DUCKDB),
    ],
)
def test_a_sink_whose_library_is_not_installed_is_a_problem_with_its_line_beside_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, library: str, sink: str, at: str, remedy: str
) -> None:
    (tmp_path / "trust").mkdir()
    written = RELAY.removesuffix("}\n") + (
        ",\n  sinks: {\n\n"
        "    historian: {host: /run/postgresql, tls: off},\n"
        "    lake: {directory: lake, kepe: 2 d},\n"
        "  }}\n"
    )
    (tmp_path / "relay.yaml").write_text(written)
    monkeypatch.setitem(sys.modules, library, None)

    found = [str(each).removeprefix(f"{tmp_path}/") for each in check(tmp_path / "relay.yaml").errors]

    needs = f"{at}: relay.sinks.{sink}: needs {library}, which is not installed; {remedy}"
    assert found == [needs, "relay.yaml:5:29: relay.sinks.lake.kepe: unknown key; did you mean keep?"]


def test_kafka_without_its_library_is_a_problem_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "relay.yaml").write_text(f"relay: {{name: r, {BROKER}, {KAFKA}}}\n")
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)

    (problem,) = check(tmp_path / "relay.yaml").errors

    assert (problem.path, problem.line) == ("relay.kafka", 1)
    assert problem.message == "needs confluent-kafka, which is not installed; install 'tidegate[kafka]'"


def test_going_without_tls_beyond_this_machine_is_a_warning(checked: Check) -> None:
    text = ONE.replace("127.0.0.1", "192.0.2.1") + "      - {every: 1 s, tags: [{name: a, address: 1}]}\n"

    (warning,) = checked(text).warnings

    assert (warning.line, warning.path) == (2, "uplink.mqtt.tls")


def test_tls_is_certificates_or_a_written_off(checked: Check) -> None:
    text = ONE.replace("tls: off", "tls: on") + "      - {every: 1 s, tags: [{name: a, address: 1}]}\n"

    assert says(checked(text)) == [
        "site.yaml:2:39: uplink.mqtt.tls: 'on' does not fit: Certificates for TLS; off to go without"
    ]


def test_a_rule_about_one_tag_is_said_although_its_neighbours_were_taken_out(checked: Check) -> None:
    """The first tag of the list is wrong at once; the number in the second's sentence has nothing to do with it."""
    tags = "{name: 0, address: 1}, {name: a, address: 2, unti: bar, range: [5, 0]}"

    result = checked(ONE + f"      - {{every: 1 s, tags: [{tags}]}}\n")

    assert [problem.path.partition("tags")[2] for problem in result.problems] == ["[0].name", "[1].unti", "[1].range"]


def test_a_scan_that_fits_no_record_is_a_problem_with_its_line(checked: Check, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else it is found out by the first device that answers it, and ends the gateway."""
    monkeypatch.setattr("edge.config.devices.SCAN_BYTES", 10)
    rows = "name,address\n" + "".join(f"t{number},{number}\n" for number in range(20))

    (problem,) = checked(ONE + "      - {every: 1 s, tags_from: t.csv}\n", t_csv=rows).errors

    assert problem.line
    assert "a record holds a scan of 10, so make two groups" in problem.message


def test_a_description_that_fits_no_record_is_a_problem(checked: Check) -> None:
    text = ONE + "      - {every: 1 s, tags: [{name: a, address: 1, description: %s}]}\n" % ("x" * 70_000)

    assert checked(text).errors


@pytest.mark.parametrize(
    ("free_mb", "advice"),
    [
        (517, ""),
        (516, "set it to 448 MB or less, or free 52 MB"),
        (100, "set it to 32 MB or less, or free 468 MB"),
        (50, "for others: free 518 MB"),
    ],
)
def test_a_disk_without_room_for_a_segment_is_said_with_the_number_to_change(free_mb: int, advice: str) -> None:
    said = BufferSettings().lack_of_room(free_mb * 10**6)

    assert said.endswith(advice)
    assert bool(said) == bool(advice)


CONTEXTS = """\
gateway: {name: line-4, path: acme/basel}
contexts:
  - unit: R1
    members:
      batch: {device: one, tag: volume}
      phase: {device: one, tag: phase, texts: {x: HEAT}}
      state: {device: one, tag: slow}
      lot: {device: two, tag: phase}
    devices: [one/fast, one/fst, two]
  - unit: R1
    members: {}
    devices: [one]
  - unit: R2
    members: {phase: {device: one, tag: phas}}
    devices: [one]
devices:
  - name: one
    driver: simulator
    scan_groups:
      - name: fast
        every: 1 s
        tags:
          - {name: phase, signal: counter, type: int16, at_most_every: 10 s}
          - {name: volume, signal: walk}
      - every: 1 min
        tags: [{name: slow, signal: text, texts: [RUN]}]
"""


@pytest.mark.requirement("REQ-CONF-01")
def test_what_is_wrong_with_a_context_is_a_problem_on_its_line(tmp_path: Path) -> None:
    (tmp_path / "site.yaml").write_text(CONTEXTS)
    problems = check(tmp_path / "site.yaml").errors
    found = [(each.line, each.column, each.message.partition(":")[0].partition(";")[0]) for each in problems]
    assert found == [
        (5, 33, "'volume' is a float64"),
        (6, 33, "'phase' has at_most_every, which would hide a change of the context"),
        (6, 47, "the keys of texts are whole numbers, got 'x'"),
        (7, 33, "'slow' is read every 1 min"),
        (8, 21, "no device is called 'two'"),
        (9, 25, "one has no scan group 'fst'"),
        (9, 34, "no device is called 'two'"),
        (11, 14, "name at least one member, such as batch"),
        (14, 41, "one has no tag 'phas'"),
        (15, 15, "the scan group fast of one belongs to the unit R1 already"),
    ]
