"""The content of a BatchProductionRecord, as far as Tidegate writes it, to check a record against.

Written down from BatchML-BatchProductionRecord.xsd of MESA International in V0701 and V0600, B2MML-CoreComponents.xsd
in V0701 and B2MML-Common.xsd in V0600: the order of the elements, how often each may stand, and its text. It is no
schema of MESA. The Business To Manufacturing Markup Language (B2MML) is used courtesy of MESA International.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.etree.ElementTree import Element

_MANY = 10**9
_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"

_ENTRY = (("EntryID", 1, 1), ("ObjectType", 1, 1), ("TimeStamp", 0, 1), ("ExternalReference", 0, 1),
          ("Description", 0, _MANY))  # fmt: skip
MODEL: dict[str, tuple[tuple[str, int, int], ...]] = {
    "BatchProductionRecord": (
        ("ID", 1, 1), *_ENTRY, ("EquipmentScope", 0, 1), ("PublishedDate", 0, 1), ("CreationDate", 0, 1),
        ("BatchID", 0, 1), ("BatchProductionRecordSpec", 0, 1), ("CampaignID", 0, 1), ("ChangeIndication", 0, 1),
        ("Delimiter", 0, 1), ("EquipmentID", 0, 1), ("ExpirationDate", 0, 1), ("Language", 0, 1),
        ("LastChangedDate", 0, 1), ("LotID", 0, 1), ("MaterialDefinitionID", 0, 1), ("PhysicalAssetID", 0, 1),
        ("RecordStatus", 0, 1), ("Version", 0, 1), ("ChangeHistory", 0, 1), ("Comments", 0, 1),
        ("ControlRecipes", 0, 1), ("DataSets", 0, 1), ("Events", 0, 1),
    ),
    "DataSets": (("DataSet", 0, _MANY),),
    "DataSet": (
        *_ENTRY, ("TrendSystemReference", 0, 1), ("StartTime", 0, 1), ("EndTime", 0, 1), ("TimeSpecification", 0, 1),
        ("TagSpecification", 1, _MANY), ("OrderedData", 1, _MANY),
    ),
    "TagSpecification": (
        ("TagIndex", 1, 1), ("DataType", 1, 1), ("UnitOfMeasure", 1, 1), ("DataSource", 0, _MANY),
        ("Alias", 0, _MANY), ("Description", 0, _MANY), ("EquipmentID", 0, _MANY),
    ),
    "OrderedData": (("OrderIndex", 0, 1), ("TimeValue", 0, 1), ("DataValue", 1, _MANY)),
    "DataValue": (("TagIndex", 0, 1), ("Value", 1, _MANY), ("Quality", 0, 1)),
    "Events": (("Event", 0, _MANY),),
    "Event": (
        *_ENTRY, ("EventType", 1, 1), ("EventSubType", 1, 1), ("EquipmentID", 0, _MANY), ("Value", 0, _MANY),
        ("PreviousValue", 0, _MANY), ("MessageText", 0, _MANY), ("PersonID", 0, _MANY),
    ),
}  # fmt: skip
_TIME = r"-?\d{4,}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:\d\d)?"
_DECIMAL = r"[+-]?(\d+(\.\d*)?|\.\d+)"
TEXTS = {
    "ObjectType": "Batch Production Record|Data Set|Event", "DataType": "string|long|double|boolean",
    "EventType": "Equipment|General|Operator|Procedural Execution",
    "EventSubType": "State Change|Status Change|System|Modification", "TagIndex": _DECIMAL, "OrderIndex": _DECIMAL,
    **dict.fromkeys(("TimeStamp", "CreationDate", "StartTime", "EndTime", "TimeValue"), _TIME),
}  # fmt: skip
_NILLABLE = ("DataType", "UnitOfMeasure", "EventSubType")


def problems(root: Element, namespace: str) -> list[str]:
    """What the schema would not allow in a record."""
    return list(_problems(root, f"{{{namespace}}}", "BatchProductionRecord"))


def _problems(element: Element, space: str, name: str) -> Iterator[str]:
    if element.tag != space + name:
        yield f"{element.tag} where {name} was expected"
        return
    model = MODEL.get(name)
    if model is None:
        yield from _leaf(element, name)
        return
    if (element.text or "").strip():
        yield f"{name} has text"
    children, at = list(element), 0
    for child, least, most in model:
        first = at
        while at < len(children) and children[at].tag == space + child:
            yield from _problems(children[at], space, child)
            at += 1
        if not least <= at - first <= most:
            yield f"{name} has {at - first} of {child}"
    if at < len(children):
        yield f"{children[at].tag} is not allowed at its place in {name}"


def _leaf(element: Element, name: str) -> Iterator[str]:
    if len(element):
        yield f"{name} has elements"
    if element.get(_NIL) == "true":
        if name not in _NILLABLE or element.text:
            yield f"{name} is nil"
    elif name in TEXTS and not re.fullmatch(TEXTS[name], element.text or ""):
        yield f"{name} is {element.text!r}"
