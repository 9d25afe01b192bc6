"""The text by which somebody says of a range of records that it was reviewed, and which is signed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NoReturn

from edge.approval.change import folded, unfolded, visible, written
from edge.approval.sshsig import Refused

NAMESPACE = "review@tidegate"
TITLE = "Tidegate review, form 1"
MEANING = "I have reviewed these records"
_FIELDS = ("gateway", "written by", "at", "from", "to", "answer", "note", "meaning")
_HEADS = "\n\nRecords, chains: "
_HOW = f"\n\nTo sign it: ssh-keygen -Y sign -n {NAMESPACE} -f KEY FILE\n"
_HEAD = re.compile(r"- ([0-9a-f]{16}) seq (\d{1,19}) to (\d{1,19}), held (\d{1,19}), head ([0-9a-f]{64})")


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """The records of a chain that were reviewed: how many were held, and the hash of the last, which fixes them all."""

    epoch: str
    first: int
    last: int
    held: int
    hash: str

    def __str__(self) -> str:
        return f"- {self.epoch} seq {self.first} to {self.last}, held {self.held}, head {self.hash}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Review:
    """What was reviewed. Times are UTC as RFC 3339; `answer` is what the report on the range said."""

    gateway: str
    by: str
    at: str
    begin: str
    end: str
    answer: str
    note: str
    heads: tuple[Head, ...]

    @property
    def text(self) -> str:
        """The text that is signed."""
        values = (self.gateway, self.by, self.at, self.begin, self.end, self.answer, self.note, MEANING)
        fields = [f"{name}: {visible(value)}" for name, value in zip(_FIELDS, values, strict=True)]
        return "\n".join([TITLE, "", *_folded(fields)]) + f"{_HEADS}{len(self.heads)}\n" + "\n".join(
            _folded(list(map(str, self.heads)))
        ) + _HOW  # fmt: skip

    @classmethod
    def from_text(cls, text: str) -> Review:
        """From the text. Raises Refused where it is not as `tidegate review` writes it."""
        said, _, heads = text.removesuffix(_HOW).partition(_HEADS)
        lines = [line.partition(": ") for line in unfolded(said.split("\n")[2:])]
        found = [_HEAD.fullmatch(line) for line in unfolded(heads.split("\n")[1:])]
        if tuple(name for name, _, _ in lines) != _FIELDS or None in found:
            _altered()
        values = [written(value) for _, _, value in lines]
        review = cls(gateway=values[0], by=values[1], at=values[2], begin=values[3], end=values[4], answer=values[5],
                     note=values[6], heads=tuple(Head(epoch=each[1], first=int(each[2]), last=int(each[3]),
                     held=int(each[4]), hash=each[5]) for each in found if each is not None))  # fmt: skip
        if review.text != text:
            _altered()
        return review


def _folded(lines: list[str]) -> Iterator[str]:
    return (each for line in lines for each in folded(line))


def _altered() -> NoReturn:
    raise Refused("altered", "it is not as tidegate review writes it")
