"""Addresses, settings and plans: errors are found offline, with a remedy."""

from __future__ import annotations

import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivers.opcua.address import NodeAddress, PathAddress, parse_address
from drivers.opcua.plan import OpcuaPlan
from drivers.opcua.settings import OpcuaDevice, OpcuaTag
from edge.config.tag_table import tags_of
from edge.config.validate import settings_from
from edge.model import DataType

URIS = (
    st.text(alphabet="abc:;%/.?# é", min_size=1, max_size=12)
    .map(lambda text: f"urn:{text}")
    .filter(lambda uri: not set("{}") & set(uri))
)
NODES = st.one_of(
    st.builds(NodeAddress, URIS, st.just("i"), st.integers(0, 2**32 - 1)),
    st.builds(NodeAddress, URIS, st.just("s"), st.text(min_size=1, max_size=12)),
    st.builds(NodeAddress, URIS, st.just("g"), st.uuids()),
    st.builds(NodeAddress, URIS, st.just("b"), st.binary(min_size=1, max_size=12)),
)
STEPS = st.tuples(URIS, st.text(alphabet="ab&/:{}. é", min_size=1, max_size=9))
PATHS = st.builds(PathAddress, st.lists(STEPS, min_size=1, max_size=4).map(tuple))


def device(**more: Any) -> OpcuaDevice:
    """The smallest configuration there is, and what a test adds to it."""
    tags = more.pop("tags", [{"name": "a", "address": "i=2258", "type": "datetime"}])
    settings = {"name": "line-4", "driver": "opcua", "url": "opc.tcp://plc.example:4840", "security": "none"}
    return settings_from(OpcuaDevice, settings | {"scan_groups": [{"every": "1 s", "tags": tags}]} | more)


@given(address=NODES | PATHS)
def test_an_address_is_read_as_it_is_shown(address: NodeAddress | PathAddress) -> None:
    """Addresses from `plan` and `browse` can be pasted into a configuration, whatever characters names have."""
    assert parse_address(str(address)) == address


@given(text=st.text(max_size=30) | st.text(alphabet="nsu=;ig/&:{}x0", max_size=30))
def test_any_other_text_is_a_sentence(text: str) -> None:
    """The check reports any text and goes on."""
    try:
        parse_address(text)
    except ValueError as error:
        assert repr(text) in str(error)  # noqa: PT017


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("ns=2;s=Line4.Temp", 'write its URI instead: "nsu=http://vendor.example/x;s=Line4.Temp"'),
        ("/Objects/2:Line4", "can be another one after a restart"),
        ("Line4.Temp", "is not the address of a node; write"),
        ("s=", "the identifier is empty"),
        ("nsu=;s=a", "names no namespace"),
        ("i=4294967296", "needs a number from 0 to 4294967295"),
        ("g=72962b91", "needs a GUID"),
        ("b=%%", "needs Base64"),
        ("/Objects//a", "empty or unfinished name after '/Objects'"),
        ("/Objects/{}a", "has empty braces"),
        ("/", "empty or unfinished name"),
    ],
)
def test_a_wrong_address_says_what_to_write(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        parse_address(text)

    assert repr(text) in str(caught.value)


def test_short_names_stand_for_namespaces_that_the_device_names() -> None:
    """The URI is written once; a typing error is found offline."""
    tags = [
        {"name": "a", "address": "nsu=x;s=Temp", "type": "float64"},
        {"name": "b", "address": "/Objects/x:Line/{urn:y}Temp", "type": "float64"},
    ]
    plan = OpcuaPlan(
        (checked := device(tags=tags, namespaces={"x": "http://vendor.example/x"})).scan_groups[0].tags, checked
    )

    assert [str(node.address) for node in plan.nodes] == [
        "nsu=http://vendor.example/x;s=Temp",
        "/Objects/{http://vendor.example/x}Line/{urn:y}Temp",
    ]
    with pytest.raises(ValueError, match="tag a: 'nsu=x;s=Temp': 'x' is neither a URI nor a short name"):
        device(tags=tags)


@pytest.mark.parametrize("address", ["nsu=KEPServerEX;s=a", "/Objects/KEPServerEX:a", "/Objects/{KEPServerEX}a"])
def test_a_namespace_that_is_no_uri_has_to_be_named_by_the_device(address: str) -> None:
    """Some servers have such ones; anywhere else it is a typing error."""
    tags = [{"name": "a", "address": address, "type": "float64"}]

    named = device(tags=tags, namespaces={"kep": "KEPServerEX"})

    shown = str(OpcuaPlan(named.scan_groups[0].tags, named).nodes[0].address)
    assert parse_address(shown) == parse_address(address)
    with pytest.raises(ValueError, match=r"say `namespaces: \{x: KEPServerEX\}`"):
        device(tags=tags)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"security": None}, "security"),
        ({"url": "http://plc.example"}, "is not the address of an OPC UA server"),
        ({"url": "opc.tcp://plc.example:99999"}, "has no valid port"),
        ({"url": "opc.tcp://user:secret@plc.example"}, "use `user`"),
        ({"namespaces": {"2": "urn:x"}}, "starts with a letter"),
        ({"security": {"policy": "Basic256Sha256"}}, "`certificates` is missing"),
        ({"security": {"policy": "Basic128Rsa15"}, "certificates": "pki"}, "Basic256Sha256"),
        ({"limits": {"gap": "1 ms", "in_flight": 2}}, "exclude each other"),
    ],
)
def test_wrong_settings_are_refused(change: dict[str, Any], says: str) -> None:
    """Security is always stated: there is no default."""
    with pytest.raises(ValueError, match=re.escape(says)) as caught:
        device(**change)

    assert "secret" not in str(caught.value.errors()[0]["msg"])  # type: ignore[attr-defined]


def test_a_server_that_is_away_is_looked_for_every_ten_seconds() -> None:
    """The minute of other protocols is for lines and old devices that an attempt disturbs."""
    assert device().retry_limit == 10 * 10**9


def test_security_must_be_said() -> None:
    """There is no default that could have been meant."""
    with pytest.raises(ValueError, match="security\n  Field required"):
        settings_from(OpcuaDevice, {"name": "a", "driver": "opcua", "url": "opc.tcp://a", "scan_groups": [{}]})


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"index": -1}, "counts from 0"),
        ({"index": []}, "needs a number"),
        ({"index": "0:9"}, "write 3, a range such as 0..9"),
        ({"index": ["0..1", "x"]}, "write 3, a range such as 0..9"),
        ({"index": "9..0"}, "ends before it begins"),
        ({"index": ["0..999", "0..999"]}, "has 1000000 elements"),
        ({"field": "a..b"}, "is no member of a structure"),
        ({"field": "a[x]"}, "is no member of a structure"),
        ({"type": "double"}, "float64"),
    ],
)
def test_a_wrong_part_of_a_value_is_refused(keys: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        settings_from(OpcuaTag, {"name": "a", "address": "i=1", "type": "float64", **keys})


def test_tags_of_a_table_have_elements_and_members_too() -> None:
    """A cell holds one index, or several for a matrix; a range is not two indices."""
    table = (
        b"name,address,type,index,field\na,i=1,int32,3,\nb,i=2,int32,1 2,\nc,i=3,float64,,Axes[2].Position\n"
        b"d,i=4,int32,0..1,\ne,i=5,int32,4; 0..1,\n"
    )

    rows, problems = tags_of(table, "tags.csv", OpcuaTag)
    tags = [settings_from(OpcuaTag, row.plain()) for row in rows]

    assert not problems
    assert tags[2].members == (("Axes", 2), ("Position", None))
    made = [tag for group in device(tags=[row.plain() for row in rows]).scan_groups for tag in group.tags]
    assert [(tag.name, tag.element, tag.address_text) for tag in made] == [
        ("a", (3,), "i=1[3]"),
        ("b", (1, 2), "i=2[1,2]"),
        ("c", None, "i=3.Axes[2].Position"),
        ("d[0]", (0,), "i=4[0]"),
        ("d[1]", (1,), "i=4[1]"),
        ("e[4,0]", (4, 0), "i=5[4,0]"),
        ("e[4,1]", (4, 1), "i=5[4,1]"),
    ]
    assert tags[3].value_bytes == sum(tag.value_bytes for tag in made[3:5])


def test_a_plan_reads_a_node_once_and_counts_what_it_costs() -> None:
    """However many of its elements are tags; dates and enumerations are numbers in a record."""
    tags = [
        {"name": f"t{number}", "address": f"nsu=urn:x;i={number // 2}", "type": "datetime", "index": number % 2}
        for number in range(10)
    ]
    checked = device(tags=tags, limits={"nodes_per_read": 3, "in_flight": 2})

    plan = OpcuaPlan(checked.scan_groups[0].tags, checked)

    assert [[selector.tag for selector in node.selectors] for node in plan.nodes] == [
        [n, n + 1] for n in range(0, 10, 2)
    ]
    assert plan.layout.types == (DataType.INT64,) * 10
    assert (plan.cost().tags, plan.cost().requests) == (10, 2)
    assert plan.describe() == [
        "Read nsu=urn:x;i=0 to nsu=urn:x;i=2 (3 nodes, 6 tags)",
        "Read nsu=urn:x;i=3 to nsu=urn:x;i=4 (2 nodes, 4 tags)",
    ]
