"""Structures read as a whole where that moves fewer bytes than their members one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from drivers.ethernetip import cip
from drivers.ethernetip.address import Part, TagAddress
from drivers.ethernetip.cip import BOOL, BY_CODE, INTEGERS, STRING, STRING_HANDLE, STRUCTURE, string_bytes
from drivers.ethernetip.plan import (
    EtherNetIpPlan,
    Read,
    ValueField,
    base_name,
    change_check,
    scope_parts,
)
from drivers.ethernetip.settings import EtherNetIpTag
from drivers.ethernetip.symbols import Member, SymbolTable, SymbolType, Template, element_bytes

NumberedTag = tuple[int, EtherNetIpTag]


@dataclass(slots=True)
class _Node:
    """A tag or member with members, and the tags of the plan in it; its template if it may be read as a whole."""

    where: TagAddress
    template: Template | None
    tags: list[NumberedTag] = field(default_factory=list)
    children: dict[str, _Node] = field(default_factory=dict)

    def all_tags(self) -> Iterator[NumberedTag]:
        """Those in it and in its children."""
        yield from self.tags
        for node in self.children.values():
            yield from node.all_tags()


def choose_reads(plan: EtherNetIpPlan, table: SymbolTable) -> list[Read]:
    """The reads of a plan with the fewest bytes, as far as the controller's structures are known."""
    roots: dict[str, _Node] = {}
    others: list[NumberedTag] = []
    for number, tag in enumerate(plan.tags):
        if not _insert(number, tag, roots, table):
            others.append((number, tag))
    reads = plan.singles(others)
    for node in roots.values():
        reads += _cheapest(node, plan, table)
    reads = plan.merged(reads)
    if table.counters is not None and any(read.is_structure_read for read in reads):
        reads.append(change_check(table.counters))
    return reads


def _insert(number: int, tag: EtherNetIpTag, roots: dict[str, _Node], table: SymbolTable) -> bool:
    """Put a tag into the tree of structures; False where it is in no structure."""
    where = tag.parsed_address
    if not isinstance(where, TagAddress):
        return False
    depth = scope_parts(where)
    symbol = table.symbols.get(base_name(where))
    if symbol is None or depth >= len(where.parts):
        return False
    kind: SymbolType | None = symbol.kind
    nodes, node = roots, None
    while depth < len(where.parts):
        template = _structure(kind, where.parts[depth - 1], table)
        here = TagAddress(where.parts[:depth])
        node = nodes.get(str(here).lower())
        if node is None:
            node = _Node(here, template if kind is not None and table.is_user_defined(kind.template) else None)
            nodes[str(here).lower()] = node
        nodes = node.children
        member = template.members.get(where.parts[depth].name.lower()) if template else None
        kind = member.kind if member else None
        depth += 1
    assert node is not None
    node.tags.append((number, tag))
    return True


def _structure(kind: SymbolType | None, part: Part, table: SymbolTable) -> Template | None:
    """The layout of what a name stands for; None where that is not a single structure."""
    if kind is None or not kind.is_structure or len(kind.dimensions) != len(part.indices):
        return None
    return table.templates.get(kind.template)


def _cheapest(node: _Node, plan: EtherNetIpPlan, table: SymbolTable) -> list[Read]:
    """The node as a whole or its members, whichever moves fewer bytes."""
    reads = plan.merged(plan.singles(node.tags))
    for child in node.children.values():
        reads += _cheapest(child, plan, table)
    if node.template is None:
        return reads
    whole = _whole(node, node.template, reads, table)
    if whole is None or whole.cost_bytes >= sum(read.cost_bytes for read in reads):
        return reads
    return [whole]


def _whole(node: _Node, template: Template, parts: Sequence[Read], table: SymbolTable) -> Read | None:
    """The node as one read; None where a tag does not match the layout."""
    fields: list[ValueField] = []
    for number, tag in node.all_tags():
        assert isinstance(tag.parsed_address, TagAddress)
        found = _locate(tag, tag.parsed_address.parts[len(node.where.parts) :], template, table)
        if found is None:
            return None
        fields.append(replace(found, tag=number))
    return Read(where=node.where, question=cip.read_tag(cip.symbolic_path(node.where.parts), 1),
                codes=frozenset((STRUCTURE,)), elements=1, element_bytes=template.size, data_bytes=template.size,
                fields=tuple(fields), handle=template.handle, parts=tuple(parts))  # fmt: skip


def _locate(tag: EtherNetIpTag, parts: Sequence[Part], template: Template, table: SymbolTable) -> ValueField | None:
    """Where a tag is in a structure; None where the structure has no such member of its type."""
    at = 0
    for part in parts[:-1]:
        member = template.members.get(part.name.lower())
        if member is None:
            return None
        inner = _structure(member.kind, part, table)
        if inner is None or not _is_inside(member, part, inner.size, template):
            return None
        at += member.offset + sum(part.indices) * inner.size
        template = inner
    member = template.members.get(parts[-1].name.lower())
    return None if member is None else _value(tag, parts[-1], member, template, at, table)


def _value(
    tag: EtherNetIpTag, part: Part, member: Member, template: Template, at: int, table: SymbolTable
) -> ValueField | None:
    assert isinstance(tag.parsed_address, TagAddress)
    kind, index, bit = member.kind, sum(part.indices), tag.parsed_address.bit
    found = ValueField(
        tag=0, at=at + member.offset, cip_type=tag.cip_type, characters=tag.characters, encoding=tag.encoding
    )
    if kind.is_bool_array and tag.is_bool and bit is None and len(part.indices) == 1:
        is_there = index < kind.counts[0] and member.offset + index // 8 < template.size
        return replace(found, at=found.at + index // 8, bit=index % 8) if is_there else None
    size = element_bytes(kind, table.templates)
    if size is None or len(kind.dimensions) != len(part.indices) or not _is_inside(member, part, size, template):
        return None
    found = replace(found, at=found.at + index * size)
    if bit is not None:
        is_there = kind.code in INTEGERS and bit < 8 * size
        return replace(found, at=found.at + bit // 8, bit=bit % 8) if is_there else None
    if tag.cip_type is STRING:
        inner = table.templates.get(kind.template) if kind.is_structure else None
        is_there = inner is not None and inner.characters is not None and _is_string_of(tag, inner)
        return replace(found, size=size) if is_there else None
    if kind.code not in tag.cip_type.codes:
        return None
    if tag.cip_type.time_kind:
        return replace(found, cip_type=BY_CODE[kind.code], size=size)
    if kind.code == BOOL.code:
        bit = member.bit or 0
        return replace(found, at=found.at + bit // 8, bit=bit % 8)
    return found


def _is_string_of(tag: EtherNetIpTag, template: Template) -> bool:
    """Whether a read of it alone would be accepted as the tag's string type."""
    return template.handle == STRING_HANDLE if tag.length is None else template.size == string_bytes(tag.length)


def _is_inside(member: Member, part: Part, size: int, template: Template) -> bool:
    index = sum(part.indices)
    count = member.kind.dimensions[0] if member.kind.dimensions else 1
    bit = (member.bit or 0) // 8
    return index < count and member.offset + bit + (index + 1) * size <= template.size
