"""The text by which a change of a configuration is proposed, and which is signed to approve it.

It is made for eyes, in lines of at most 72 characters, and is the same byte for byte whenever it is made of the same:
the gateway makes it again from its own files, and what it does not find in them it does not accept. Characters that
cannot be seen, or that turn the direction of writing, are written as their numbers: what is read is what is signed.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NoReturn
from unicodedata import bidirectional, category

from edge.approval.sshsig import Refused

NAMESPACE = "config@tidegate"
TITLE = "Tidegate configuration change, form 1"
MEANING = "I have read this change, and approve that exactly this is made"
WIDTH = 72

_UNSEEN = ("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs", "Me")
_TO_THE_LEFT = ("R", "AL", "AN")
_FILLERS = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")  # Letters and marks without a shape.
_INDENT = "    "
_LEAST = 24  # Columns of a line that is broken at a space.
_CLAIMED = re.compile(r"(.+) \(claims to be (.+)\)")
_FIELDS = ("gateway", "proposed by", "at", "why", "files", "old hash", "new hash", "meaning")
_HOW = f"""\

To approve it, sign this file as it is, and hand back FILE.sig with it:

{_INDENT}ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE

It is applied with: tidegate apply FILE

"""


def visible(text: str) -> str:
    """The text with every character that cannot be seen, or turns the direction of writing, as its number."""
    return "".join(_shown(each) for each in text)


def _shown(character: str) -> str:
    if " " <= character <= "~" and character != "\\":
        return character
    if (
        character == "\\"
        or category(character) in _UNSEEN
        or bidirectional(character) in _TO_THE_LEFT
        or character in _FILLERS
        or 0xFE00 <= ord(character) <= 0xFE0F
        or 0xE0100 <= ord(character) <= 0xE01EF
    ):
        return f"\\u{{{ord(character):x}}}"
    return character


def folded(line: str) -> Iterator[str]:
    """The line in lines of at most `WIDTH` characters; further ones are indented, and none is lost."""
    indent = ""
    while len(indent) + len(line) > WIDTH:
        room = WIDTH - len(indent)
        cut = line.rfind(" ", _LEAST, room) + 1 or room
        yield indent + line[:cut]
        line, indent = line[cut:], _INDENT
    yield indent + line


def unfolded(lines: Iterable[str]) -> Iterator[str]:
    """The lines as they were before `folded`."""
    whole = ""
    for line in lines:
        if line.startswith(_INDENT):
            whole += line.removeprefix(_INDENT)
        else:
            if whole:
                yield whole
            whole = line
    yield whole


def body(differences: Iterable[str], plans: Iterable[str]) -> str:
    """What follows the head: the difference, and what the plan of the devices costs, in lines as commands show them."""
    found, costs = list(differences), list(plans)
    shown = [f"Difference, values: {len(found)}", *_listed(found)]
    shown += ["", f"Plan of the devices that differ, scan groups: {len(costs)}", *_listed(costs)]
    return "\n".join(shown) + "\n"


def _listed(items: Iterable[str]) -> Iterator[str]:
    return (line for each in items for line in folded(f"- {visible(each)}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What is proposed.

    Attributes:
        gateway: its name.
        proposed_by: the account, with a name that is only claimed marked as that.
        at: UTC as RFC 3339.
        files: path of the configuration.
        old: SHA-256 of the configuration that runs, in hexadecimal, and `new` of that at the path.
    """

    gateway: str
    proposed_by: str
    at: str
    why: str
    files: str
    old: str
    new: str

    @property
    def head(self) -> str:
        """The first part of the text."""
        values = (self.gateway, self.proposed_by, self.at, self.why, self.files, self.old, self.new, MEANING)
        lines = (f"{name}: {visible(value)}" for name, value in zip(_FIELDS, values, strict=True))
        return "\n".join([TITLE, "", *(each for line in lines for each in folded(line))]) + "\n" + _HOW

    @classmethod
    def from_head(cls, text: str) -> Change:
        """From the head, or the whole text. Raises Refused where it is not as `propose` writes it."""
        head, how, _ = text.partition(_HOW)
        title, _, rest = head.removesuffix("\n").partition("\n\n")
        if title != TITLE or not how:
            _altered("it is not as tidegate propose writes it")
        fields = [line.partition(": ") for line in unfolded(rest.split("\n"))]
        if tuple(name for name, _, _ in fields) != _FIELDS or fields[-1][2] != MEANING:
            _altered("a line of it is another")
        values = [written(value) for _, _, value in fields]
        change = cls(gateway=values[0], proposed_by=values[1], at=values[2], why=values[3], files=values[4],
                     old=values[5], new=values[6])  # fmt: skip
        if change.head != head + how:
            _altered("it is not written as tidegate propose writes it")
        return change

    @property
    def proposers(self) -> set[str]:
        """The names of who proposed it: the account, and the name it claims."""
        return names_of(self.proposed_by)


def names_of(account: str) -> set[str]:
    """The names in an account as it is on record: the certain one, and the claimed one."""
    claimed = _CLAIMED.fullmatch(account)
    return {*(claimed.groups() if claimed else (account,))}


def same_person(name: str, other: str) -> bool:
    """Whether two names may be of one person: the account alone counts, and not its domain."""
    return _account(name) == _account(other)


def _account(name: str) -> str:
    return name.rpartition("\\")[2].partition("@")[0].casefold()


def written(text: str) -> str:
    """The text as it was before `visible`."""
    return re.sub(r"\\u\{([0-9a-f]{1,6})\}", lambda found: _character(int(found[1], 16)), text)


def _character(number: int) -> str:
    return chr(number) if number <= 0x10FFFF else "\N{REPLACEMENT CHARACTER}"


def _altered(why: str) -> NoReturn:
    raise Refused("altered", f"this is not the text of a proposed change: {why}; propose it again")
