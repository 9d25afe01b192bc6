"""Structures read as a whole where that moves fewer bytes than their members one by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from drivers.ethernetip.address import Part, TagAddress
from drivers.ethernetip.cip import BOOL, INTEGERS, STRING, STRING_HANDLE, string_bytes
from drivers.ethernetip.plan import EtherNetIpPlan, Field, Read, base_name, scope_parts, structure_read, unchanged
from drivers.ethernetip.settings import EtherNetIpTag
from drivers.ethernetip.symbols import Directory, Kind, Member, Template, element_bytes

NumberedTag = tuple[int, EtherNetIpTag]


@dataclass(slots=True)
class _Node:
    """A tag or member that has members, and which tags of the plan are in it; its template if it may be read whole."""

    where: TagAddress
    template: Template | None
    tags: list[NumberedTag] = field(default_factory=list)
    below: dict[str, _Node] = field(default_factory=dict)

    def all_tags(self) -> Iterator[NumberedTag]:
        """Those in it and in what is below it."""
        yield from self.tags
        for node in self.below.values():
            yield from node.all_tags()


def lay_out(plan: EtherNetIpPlan, directory: Directory) -> list[Read]:
    """The reads of a plan with what is known of the controller's structures."""
    roots: dict[str, _Node] = {}
    others: list[NumberedTag] = []
    for number, tag in enumerate(plan.tags):
        if not _hang(number, tag, roots, directory):
            others.append((number, tag))
    reads = plan.singles(others)
    for node in roots.values():
        reads += _cheapest(node, plan, directory)
    reads = plan.merged(reads)
    if directory.counters is not None and any(read.is_whole for read in reads):
        reads.append(unchanged(directory.counters))
    return reads


def _hang(number: int, tag: EtherNetIpTag, roots: dict[str, _Node], directory: Directory) -> bool:
    """Put a tag into the tree of structures; False where it is in none."""
    where = tag.place
    if not isinstance(where, TagAddress):
        return False
    depth = scope_parts(where)
    symbol = directory.symbols.get(base_name(where))
    if symbol is None or depth >= len(where.parts):
        return False
    kind: Kind | None = symbol.kind
    nodes, node = roots, None
    while depth < len(where.parts):
        template = _structure(kind, where.parts[depth - 1], directory)
        here = TagAddress(where.parts[:depth])
        node = nodes.get(str(here).lower())
        if node is None:
            node = _Node(here, template if kind is not None and directory.is_plain(kind.template) else None)
            nodes[str(here).lower()] = node
        nodes = node.below
        member = template.members.get(where.parts[depth].name.lower()) if template else None
        kind = member.kind if member else None
        depth += 1
    assert node is not None
    node.tags.append((number, tag))
    return True


def _structure(kind: Kind | None, part: Part, directory: Directory) -> Template | None:
    """The layout of what a name means, if it is one structure."""
    if kind is None or not kind.is_structure or len(kind.dimensions) != len(part.indices):
        return None
    return directory.templates.get(kind.template)


def _cheapest(node: _Node, plan: EtherNetIpPlan, directory: Directory) -> list[Read]:
    """The node as a whole, or its members, whichever moves fewer bytes."""
    reads = plan.merged(plan.singles(node.tags))
    for below in node.below.values():
        reads += _cheapest(below, plan, directory)
    if node.template is None:
        return reads
    whole = _whole(node, node.template, reads, directory)
    if whole is None or whole.cost_bytes >= sum(read.cost_bytes for read in reads):
        return reads
    return [whole]


def _whole(node: _Node, template: Template, parts: Sequence[Read], directory: Directory) -> Read | None:
    """The node as one read; None where some tag is not where its type says."""
    fields: list[Field] = []
    for number, tag in node.all_tags():
        assert isinstance(tag.place, TagAddress)
        found = _locate(tag, tag.place.parts[len(node.where.parts) :], template, directory)
        if found is None:
            return None
        fields.append(replace(found, tag=number))
    return structure_read(node.where, template.handle, template.size, fields, parts)


def _locate(tag: EtherNetIpTag, parts: Sequence[Part], template: Template, directory: Directory) -> Field | None:
    """Where a tag is in a structure; None where there is no such thing of its type."""
    at = 0
    for part in parts[:-1]:
        member = template.members.get(part.name.lower())
        if member is None:
            return None
        inner = _structure(member.kind, part, directory)
        if inner is None or not _is_inside(member, part, inner.size, template):
            return None
        at += member.offset + sum(part.indices) * inner.size
        template = inner
    member = template.members.get(parts[-1].name.lower())
    return None if member is None else _value(tag, parts[-1], member, template, at, directory)


def _value(
    tag: EtherNetIpTag, part: Part, member: Member, template: Template, at: int, directory: Directory
) -> Field | None:
    assert isinstance(tag.place, TagAddress)
    kind, index, bit = member.kind, sum(part.indices), tag.place.bit
    found = Field(tag=0, at=at + member.offset, cip_type=tag.cip_type, characters=tag.characters, encoding=tag.encoding)
    if kind.is_bools and tag.is_bool and bit is None and len(part.indices) == 1:
        is_there = index < kind.counts[0] and member.offset + index // 8 < template.size
        return replace(found, at=found.at + index // 8, bit=index % 8) if is_there else None
    size = element_bytes(kind, directory.templates)
    if size is None or len(kind.dimensions) != len(part.indices) or not _is_inside(member, part, size, template):
        return None
    found = replace(found, at=found.at + index * size)
    if bit is not None:
        is_there = kind.code in INTEGERS and bit < 8 * size
        return replace(found, at=found.at + bit // 8, bit=bit % 8) if is_there else None
    if tag.cip_type is STRING:
        inner = directory.templates.get(kind.template) if kind.is_structure else None
        is_there = inner is not None and inner.characters is not None and _is_string_of(tag, inner)
        return replace(found, size=size) if is_there else None
    if kind.code != tag.cip_type.code:
        return None
    if kind.code == BOOL.code:
        bit = member.bit or 0
        return replace(found, at=found.at + bit // 8, bit=bit % 8)
    return found


def _is_string_of(tag: EtherNetIpTag, template: Template) -> bool:
    """Whether it would be taken for the tag's string type if it were read alone."""
    return template.handle == STRING_HANDLE if tag.length is None else template.size == string_bytes(tag.length)


def _is_inside(member: Member, part: Part, size: int, template: Template) -> bool:
    index = sum(part.indices)
    count = member.kind.dimensions[0] if member.kind.dimensions else 1
    bit = (member.bit or 0) // 8
    return index < count and member.offset + bit + (index + 1) * size <= template.size


def wanted(plan: EtherNetIpPlan, directory: Directory) -> frozenset[str]:
    """Names of tags whose structure is worth knowing and not known yet."""
    return plan.structured - directory.looked_for
