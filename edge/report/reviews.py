"""Reviews of an archive: written over a range of records, signed by a person, and compared with what is held later.

A review lies in ARCHIVE/GATEWAY/reviews, with its signature beside it. It has the hash of the last record of each chain
in the range. As each record has the hash of the one before it, that one hash fixes all of them: they are as they were
if it is the same, and as many of them are held and authentic.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path

from edge.approval.review import MEANING, NAMESPACE, Head, Review
from edge.approval.signers import Signers
from edge.approval.sshsig import LIMIT_BYTES, Refused, Signature
from edge.report.collect import Collector
from edge.report.facts import RangeReport, ReviewAnswer
from edge.seal import Data
from edge.seal.record import ISSUER_PREFIX
from edge.units import counted
from edge.verify import Judgement, Verdict
from edge.verify.window import Window

DIRECTORY, SUFFIX = "reviews", ".review"
_REVIEW_BYTES = 1 << 20


class ReviewedRecords:
    """Follows a collector, and keeps the hashes that reviews need: of the ends of a range, or of those they name."""

    def __init__(self, window: Window, wanted: Iterable[tuple[str, int]] = ()) -> None:
        """`wanted` are the last records that reviews name, by chain and seq."""
        self._window, self._wanted = window, frozenset(wanted)
        self._hashes: dict[tuple[str, int], bytes] = {}
        self._ends: dict[tuple[str, str], tuple[int, int, bytes]] = {}

    def note(self, path: Path, offset: int, size_bytes: int, judgements: list[Judgement]) -> None:  # noqa: ARG002
        """The verdicts on a record, as `Collector` gives them to its follower."""
        for each in judgements:
            place = each.epoch.hex(), each.seq
            if each.verdict is not Verdict.AUTHENTIC:
                continue
            if place in self._wanted:
                self._hashes[place] = each.hash
            data = each.content
            if isinstance(data, Data) and self._window.side(0, data.utc_ns, data.until_ns) == 0:
                key = each.issuer, place[0]
                first, last, digest = self._ends.get(key, (each.seq, each.seq, each.hash))
                digest = each.hash if each.seq >= last else digest
                self._ends[key] = min(first, each.seq), max(last, each.seq), digest

    def heads(self, issuer: str, collector: Collector) -> Iterator[Head]:
        """Those of the range, of each chain of a gateway."""
        for (of, epoch), (first, last, digest) in self._ends.items():
            if of == issuer:
                held = _held(collector, issuer, epoch, first, last)
                yield Head(epoch=epoch, first=first, last=last, held=held, hash=digest.hex())

    def altered(self, review: Review, collector: Collector) -> str:
        """Why the records are no longer those that were reviewed; empty where they are."""
        for head in review.heads:
            held = _held(collector, ISSUER_PREFIX + review.gateway, head.epoch, head.first, head.last)
            which = f"seq {head.first} to {head.last} of chain {head.epoch}"
            if held != head.held:
                return f"of {which}, {counted(head.held, 'record')} were reviewed, and {held:,} are held and authentic"
            if self._hashes.get((head.epoch, head.last), b"").hex() != head.hash:
                return f"the last record of {which} is another"
        return ""


def _held(collector: Collector, issuer: str, epoch: str, first: int, last: int) -> int:
    gateway = collector.gateways.get(issuer)
    if gateway is None or epoch not in gateway.places:
        return 0
    return sum(high - low + 1 for low, high in gateway.places[epoch].held.within(first, last))


def reviews_in(folders: Iterable[Path]) -> list[tuple[Path, Review | str]]:
    """The reviews beside the records in these folders; a sentence in place of one that is none."""
    found: list[tuple[Path, Review | str]] = []
    for folder in folders:
        for path in sorted((folder / DIRECTORY).glob(f"*{SUFFIX}")):
            try:
                with path.open("rb") as file:
                    found.append((path, Review.from_text(file.read(_REVIEW_BYTES).decode("utf-8", "replace"))))
            except Refused as error:
                found.append((path, str(error)))
            except OSError as error:
                found.append((path, f"it cannot be read: {error.strerror}"))
    return found


def wanted_by(reviews: Sequence[tuple[Path, Review | str]]) -> Iterator[tuple[str, int]]:
    """The last records that they name, by chain and seq."""
    for _, review in reviews:
        if isinstance(review, Review):
            yield from ((each.epoch, each.last) for each in review.heads)


def with_reviews(
    report: RangeReport, reviews: Sequence[tuple[Path, Review | str]], records: ReviewedRecords, collector: Collector,
    signers: Signers | None,
) -> RangeReport:  # fmt: skip
    """The report with what is to be said of each review."""
    found = list(_answers(reviews, records, collector, signers))
    return replace(report, gateways=tuple(
        replace(gateway, reviews=tuple(each for each in found if each.gateway == gateway.gateway))
        for gateway in report.gateways
    ))  # fmt: skip


def _answers(
    reviews: Sequence[tuple[Path, Review | str]], records: ReviewedRecords, collector: Collector,
    signers: Signers | None,
) -> Iterator[ReviewAnswer]:  # fmt: skip
    for path, review in reviews:
        if isinstance(review, str):
            yield ReviewAnswer(file=str(path), gateway=path.parent.parent.name, why_not=review)
            continue
        name, role, why_not = _signed(path, review, signers)
        yield ReviewAnswer(
            file=str(path), gateway=review.gateway, name=name, role=role, meaning=MEANING, written_by=review.by,
            at=review.at, begin=review.begin, end=review.end, answer=review.answer, note=review.note,
            why_not=why_not, altered=records.altered(review, collector),
        )  # fmt: skip


def _signed(path: Path, review: Review, signers: Signers | None) -> tuple[str, str, str]:
    """Name and role of who signed it, or why it does not count."""
    try:
        with path.with_name(f"{path.name}.sig").open("rb") as file:
            signature = Signature.from_armour(file.read(LIMIT_BYTES + 1))
        signature.verify(signature.digest(review.text.encode()), NAMESPACE)
        if signers is None:
            return "", "", f"signed with the key {signature.fingerprint}; --approvers FILE says whose that is"
        signer = signers.signer(signature, int(datetime.fromisoformat(review.at).timestamp()))
    except Refused as error:
        return "", "", str(error)
    except ValueError:
        return "", "", "its time is none"
    except OSError as error:
        return "", "", f"it is not signed: {path.name}.sig: {error.strerror}"
    return signer.name, signer.role, ""
