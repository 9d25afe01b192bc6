"""A damaged file gives tags and findings, or one sentence: never a traceback."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st

from edge.config.devices import tag_model
from edge.driver import load
from edge.errors import ConfigError
from edge.importers.formats import read_file
from edge.tags.prepare import prepare
from tests.edge.importers.test_ignition import TYPES, opc
from tests.edge.importers.test_imported_sites import KEPWARE, L5X
from tests.edge.importers.test_logix import CSV
from tests.edge.importers.test_nodeset import NODES
from tests.edge.importers.test_tia import EDITOR, OPENNESS

IGNITION = json.dumps([TYPES, opc("a", "[PLC]HR1", scaleMode="Linear", rawLow=0, rawHigh=1, engLow=0, engHigh=9),
                       {"name": "P", "tagType": "UdtInstance", "typeId": "Motor",
                        "parameters": {"Number": 1}}])  # fmt: skip
OWN = "name;address;type;range;scale\na;holding 1;uint16;0..1;0,5\n"
SAMPLES = {
    "modbus": (OWN, KEPWARE, IGNITION), "ethernetip": (L5X, CSV, KEPWARE, IGNITION),
    "opcua": (NODES, OPENNESS, EDITOR, IGNITION),
}  # fmt: skip
ODD = ("", "x", "-1", "0", "99999999999999999999", "1.#INF", "nan", "[", "{", "{InstanceName}", "Motor", "null", "\x00",
       "ns=9;i=x", ";", '"', "1E+400", "Valve", "/", "²")  # fmt: skip
_WORD = re.compile(r"[\w.:=%-]+")


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_damaged_file_gives_tags_or_one_sentence(data: st.DataObject) -> None:
    driver = data.draw(st.sampled_from(sorted(SAMPLES)))
    text = data.draw(st.sampled_from(SAMPLES[driver]))
    for _ in range(data.draw(st.integers(1, 3))):
        words = list(_WORD.finditer(text))
        word = data.draw(st.sampled_from(words))
        text = text[: word.start()] + data.draw(st.sampled_from(ODD)) + text[word.end() :]
    kind = load(driver)
    model = tag_model(kind.settings)

    try:
        found = read_file(text.encode(), "list", model)
        tags = prepare(found, model, kind)
    except ConfigError as error:
        said = [str(error)]
    else:
        assert len({tag.settings.name for tag in tags}) == len(tags)
        said = [str(each) for each in found.findings]

    assert all(each.startswith("list") for each in said)
